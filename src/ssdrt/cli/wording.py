"""Values of an `SsdModel` in words."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssdrt.model import LabelMap, Normalisation, Resizer

SIGNS = {"mul": "*", "div": "/", "add": "+", "sub": "-"}


def in_words(value: Any) -> str:
    """What the value of a `Fact` says, in one line."""
    match value:
        case Resizer():
            return resizer(value)
        case LabelMap():
            return labels(value)
        case (Normalisation(), *_):
            return normalisation(value)
        case np.ndarray():
            return " x ".join(map(str, value.shape))
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.9g}"  # enough for any float32
        case tuple():
            return ", ".join(map(in_words, value)) or "none"
        case None:
            return "any"
    return str(value)


def resizer(value: Resizer) -> str:
    """`fixed_shape to 300x300 (height x width), bilinear`."""
    if value.kind == "none":
        return "none: the picture is taken as it is"
    method = (
        value.method + ", corners aligned" * value.align_corners + ", half-pixel centres" * value.half_pixel_centers
    )
    if value.kind == "fixed_shape":
        return f"fixed_shape to {value.height}x{value.width} (height x width), {method}"
    padding = f", padded with {in_words(value.pad_value)} to {value.width}x{value.width}" if value.pad else ""
    return f"keep_aspect_ratio, short side {value.height}, long side at most {value.width}, {method}{padding}"


def normalisation(steps: tuple[Normalisation, ...]) -> str:
    """`RGB 0..255 * 0.00784313772 - 1`."""
    words = ["RGB 0..255"]
    for step in steps:
        operand = ", ".join(f"{value:.9g}" for value in step.operand.ravel().tolist())
        words.append(f"{SIGNS[step.operation]} {f'({operand})' if step.operand.size > 1 else operand}")
    return " ".join(words)


def labels(value: LabelMap) -> str:
    """How many names there are, and the first few."""
    names = list(value.names.values())
    return f"{len(names)} names: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}" if names else "none"


def count(number: int) -> str:
    """A large number in the unit that keeps it short: 6.80 M, 1.23 G."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.2f} {unit}"
    return str(number)
