"""AdamW with two learning rates and a cosine schedule, and the moving average of the weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ssdrt.train.network import Weights, learned
from ssdrt.train.settings import Settings

if TYPE_CHECKING:
    from ssdrt.model import SsdModel

AVERAGED = 0.998  # of the average that a step leaves, once there were enough steps


def make_optimiser(model: SsdModel, weights: Weights, settings: Settings) -> Any:
    """torch's AdamW; group 0 holds the heads, group 1 the layers before them. Biases and scales do not decay."""
    import torch

    heads = {name for head in model.heads for name in (head.boxes, head.scores)}
    groups: dict[tuple[bool, bool], list[Any]] = {}
    for name in learned(weights):
        group = name.rpartition("/")[0] in heads, name.endswith("/weights")
        groups.setdefault(group, []).append(weights[name])
    return torch.optim.AdamW(
        [
            {
                "params": members,
                "highest": settings.rate * (1.0 if of_head else settings.body),
                "weight_decay": settings.decay if decays else 0.0,
            }
            for (of_head, decays), members in groups.items()
        ],
        lr=settings.rate,
        foreach=True,
    )


def set_rate(optimiser: Any, settings: Settings, step: int) -> None:
    """The learning rates of a step: linear up, then a cosine down to 0."""
    warm = max(1, round(settings.warm * settings.steps))
    part = (
        (step + 1) / warm
        if step < warm
        else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, settings.steps - warm)))
    )
    for group in optimiser.param_groups:
        group["lr"] = group["highest"] * part


def average(averaged: Weights, weights: Weights, step: int) -> None:
    """Move the average towards the weights, in place; the first steps, which are far off, are soon forgotten."""
    import torch

    kept = min(AVERAGED, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(averaged.values()), [weights[name].detach() for name in averaged], 1 - kept)
