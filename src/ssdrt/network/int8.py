"""Convolutions in int8: the scales of the values that they read, and their weights as whole numbers.

A scale is what one step of an int8 stands for; 127 of them are the largest magnitude that is kept. Zero stays zero.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import ModelError, shorten
from ssdrt.model import Conv, DepthwiseConv, Floats, SsdModel

MAX_BYTES = 10_000_000
MOST = 127
FLOAT32 = np.finfo(np.float32)

Scales = Mapping[str, float]
"""Name of a value, as the layers read it, to its scale."""


def read_scales(path: str | os.PathLike[str]) -> dict[str, float]:
    """A JSON object of the names of layers (or "image", the normalised network input) and the scales of their values.

    Raises
    ------
    ModelError: the file cannot be read, or holds something else.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        found = json.loads(data, parse_int=float) if len(data) <= MAX_BYTES else None
    except OSError as error:
        raise ModelError(f"{path}: these scales cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no JSON that can be read: {error}") from error
    if not found or not isinstance(found, dict) or not all(isinstance(scale, float) for scale in found.values()):
        raise ModelError(f'{path} holds no scales: they are one JSON object, {{"name of a layer": 0.02, ...}}')
    return found


def check_scales(model: SsdModel, scales: Scales) -> None:
    """Whether each belongs to a value that a convolution of the model reads.

    Raises
    ------
    ModelError: one does not, or is no float32 above 0; or there are none.
    """
    read = {layer.inputs[0] for layer in model.layers if isinstance(layer, (Conv, DepthwiseConv))}
    if not scales:
        raise ModelError("int8 needs the scales of the values that the convolutions read: ssdrt build --scales FILE")
    for name, scale in scales.items():
        if name not in read:
            raise ModelError(
                f"no convolution reads a value {shorten(name)!r}; they read, for example, {shorten(min(read))!r}: are "
                "these the scales of another model?"
            )
        if not float(FLOAT32.tiny) <= scale <= float(FLOAT32.max):
            raise ModelError(f"the scale {scale} is not a number above 0 that float32 holds; mend it", node=name)


def whole_weights(layer: Conv | DepthwiseConv) -> tuple[NDArray[np.int8], Floats]:
    """Weights in the layer's own layout as int8, and the scale of each output, (out,) or (channels, multiplier)."""
    axes = (0, 1, 2) if isinstance(layer, Conv) else (0, 1)
    scales = np.abs(layer.weights).max(axes) / np.float32(MOST)
    scales = np.where(scales > 0, scales, np.float32(1)).astype(np.float32)
    return np.rint(layer.weights / scales).astype(np.int8), scales


def whole_values(values: Floats, scale: float) -> Floats:
    """Values as they come back from int8: rounded to steps, half to even, and cut off at both ends."""
    step = np.float32(scale)
    kept: Floats = np.clip(np.rint(values / step), -MOST - 1, MOST) * step
    return kept
