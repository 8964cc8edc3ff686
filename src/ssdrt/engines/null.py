"""The null engine: right shapes, the same boxes and scores for every picture. For tests, which it makes quick."""

from __future__ import annotations

import numpy as np

from ssdrt.model import Floats, SsdModel


def unavailable() -> None:
    """It runs everywhere."""
    return


def precisions() -> tuple[str, ...]:
    """It computes nothing, exactly."""
    return ("fp32",)


def fingerprint() -> str:
    """There is no plan that could depend on anything."""
    return "null"


def build(model: SsdModel, precision: str) -> bytes:  # noqa: ARG001
    """There is nothing to prepare."""
    return b""


def load(model: SsdModel, plan: bytes, precision: str, streams: int) -> NullEngine:  # noqa: ARG001
    """The numbers of anchors and classes are all it takes."""
    return NullEngine(len(model.anchors.value), model.num_classes.value)


class NullEngine:
    """Finds every anchor as it stands: anchor k (from 0) as class index k modulo classes, with score 0.9 / (k + 1)."""

    def __init__(self, anchors: int, classes: int) -> None:
        self._scores = np.zeros((anchors, classes), np.float32)
        rows = np.arange(anchors)
        self._scores[rows, rows % classes] = 0.9 / (rows + 1)

    def infer(self, pixels: Floats) -> tuple[Floats, Floats]:
        """Box encodings (b, n, 4), all zero, and class scores (b, n, classes), see `engines.base.Engine`."""
        batch = len(pixels)
        return np.zeros((batch, len(self._scores), 4), np.float32), np.tile(self._scores, (batch, 1, 1))

    def close(self) -> None:
        """Nothing is held that needs freeing."""
