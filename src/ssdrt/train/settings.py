"""`Settings`: what decides how a training goes, apart from its data and the model that it begins with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """steps: batches seen. batch: pictures in one. rate: highest learning rate, of the heads; body: that of the layers
    before them, as a part of it. keep: weight of faithfulness to the first model, for the classes that it knew; 0 is
    none. seed: of everything random. bf16: convolutions in bfloat16. every: steps between two evaluations, and two
    checkpoints."""

    steps: int = 2000
    batch: int = 32
    rate: float = 1e-3
    body: float = 0.1
    keep: float = 0.0
    seed: int = 0
    bf16: bool = False
    every: int = 250
    decay: float = 1e-4
    warm: float = 0.05  # of the steps, until the rate is at its highest
