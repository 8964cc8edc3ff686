"""The demo graph's parameters, worked out instead of trained.

1. A first convolution compares the colour channels (R > G, R > B, ...); a pointwise one says whose colour that is.
2. Averages of 2x2 bring the colour masks to the grid of a feature map: the part of each cell that a class covers.
3. One-sided depthwise sums over the masks give the extents left, right, top and bottom of a cell's centre, in cells.
4. The rest is piecewise linear in these: offset of the box's centre, logarithm of its size, logit of each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_COMPARED = ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))  # R > G, R > B, G > R, G > B, B > R, B > G

COLOURS = {"red": (0, 1), "green": (2, 3), "blue": (4, 5), "yellow": (1, 3), "cyan": (2, 4), "magenta": (0, 5)}
"""Colours that a class can be -> the two of the comparisons R>G, R>B, G>R, G>B, B>R, B>G that hold for it."""

_FAINT = 0.31
"""Difference of two channels (of -1..1) where a comparison begins to hold; it holds fully at twice that."""

_KNOTS = np.array([1.0, 1.5, 2.0, 2.6, 3.3, 4.1, 5.0])
"""Object sizes, in cells, between which functions of the size are linear. A cell sees 2.5 cells to each side."""

_MEAN = np.outer([0.5, 0.5, 0.0], [0.5, 0.5, 0.0])
"""Mean of 2x2: with stride 2, SAME padding puts the kernel's first two rows on a pair of rows of an even map."""

_OPEN = 2.25
"""An extent from here on may go on out of sight."""

_X, _Y, _ENDS = slice(0, 2), slice(2, 4), slice(4, 8)
_WIDTH, _HEIGHT = slice(8, 14), slice(14, 20)
_FEATURES = 20
"""Channels of a feature map: left minus right, right minus left, top and bottom likewise (where positive), the four
open ends, hinges of width and of height at all knots but the last; from 20 on the masks."""


@dataclass(frozen=True)
class Block:
    """Depthwise convolution (kh, kw, c, 1), then pointwise (1, 1, c, out) plus offset (out,); Relu6 after each."""

    depthwise: Floats
    stride: int
    pointwise: Floats
    offset: Floats
    is_feature_map: bool = False


@dataclass(frozen=True)
class Predictor:
    """1x1 convolutions on a feature map: boxes (1, 1, c, anchors * 4), classes (1, 1, c, anchors * (1 + classes))."""

    boxes: Floats
    boxes_bias: Floats
    classes: Floats
    classes_bias: Floats


def first_convolution() -> tuple[Floats, Floats]:
    """(3, 3, 3, 6) weights and (6,) offset, stride 2: the six comparisons, 0..6, of RGB in -1..1."""
    compare = np.zeros((3, 6))
    for out, (more, less) in enumerate(_COMPARED):
        compare[more, out], compare[less, out] = 1, -1
    gain = 6 / _FAINT
    return _f32(gain * np.multiply.outer(_MEAN, compare)), _f32(np.full(6, -6.0))


def blocks(colours: Sequence[str]) -> list[Block]:
    """The blocks after the first convolution; feature maps at strides 8 and 16."""
    count = len(colours)
    which = np.zeros((len(_COMPARED), count))
    for out, colour in enumerate(colours):
        which[list(COLOURS[colour]), out] = 1
    alone = np.zeros((3, 3, len(_COMPARED)))
    alone[1, 1] = 1
    spread = np.hstack([np.ones((count, 4)), np.eye(count)])  # any colour, four times; then each class's
    return [
        _block(alone, 1, which, np.full(count, -6.0)),
        _block(_average(count), 2, np.eye(count) / 6),
        _block(_average(count), 2, spread),
        _feature_map(count),
        _block(_average(_FEATURES + count), 2, np.vstack([np.zeros((_FEATURES, 4 + count)), spread])),
        _feature_map(count),
    ]


def predictor(classes: int, anchors: Floats, scales: tuple[float, float, float, float]) -> Predictor:
    """The heads of one feature map.

    Parameters
    ----------
    anchors: (n, 2) height and width of a cell's anchors, in cells.
    scales: of the box coder: y, x, h, w.
    """
    rows, count = _FEATURES + classes, len(anchors)
    boxes, boxes_bias = np.zeros((rows, count, 4)), np.zeros((count, 4))
    logits, logits_bias = np.zeros((rows, count, 1 + classes)), np.zeros((count, 1 + classes))
    logits_bias[:, 0] = 1.0  # of the background, for softmax
    logits_bias[:, 1:] = 5.0 - 14.0
    logits[_FEATURES:, :, 1:] = 14.0 * np.eye(classes)[:, None]  # 5 where the class covers the cell,
    logits[:4, :, 1:] = -2.2  # less off the object's middle,
    logits[_ENDS, :, 1:] = -30.0  # nothing where an end is out of sight
    for axis, difference, size in ((0, _Y, _HEIGHT), (1, _X, _WIDTH)):
        logarithm = np.log(_KNOTS[:, None] / anchors[:, axis])
        boxes[difference, :, axis] = np.outer([-0.5, 0.5], scales[axis] / anchors[:, axis])
        boxes[size, :, 2 + axis], boxes_bias[:, 2 + axis] = _hinges(scales[2 + axis] * logarithm)
        fit, fit_bias = _hinges(-0.5 * abs(logarithm) - 6.0 * (_KNOTS[:, None] < 1.2))
        logits[size, :, 1:] = fit[..., None]
        logits_bias[:, 1:] += fit_bias[:, None]
    kernels = [_f32(value.reshape(1, 1, rows, -1)) for value in (boxes, logits)]
    return Predictor(kernels[0], _f32(boxes_bias.ravel()), kernels[1], _f32(logits_bias.ravel()))


def _feature_map(classes: int) -> Block:
    """From any colour's mask, four times, and each class's: a feature map."""
    sums = np.zeros((5, 5, 4 + classes))
    sums[2, 2] = [0.5] * 4 + [1.0] * classes
    sums[2, :2, 0] = sums[2, 3:, 1] = sums[:2, 2, 2] = sums[3:, 2, 3] = 1  # left, right, top, bottom
    out = np.zeros((4 + classes, _FEATURES + classes))
    out[:2, _X] = out[2:4, _Y] = [[1, -1], [-1, 1]]
    out[:4, _ENDS] = np.eye(4)
    out[:2, _WIDTH] = out[2:4, _HEIGHT] = 1
    out[4:, _FEATURES:] = np.eye(classes)
    offset = np.concatenate([np.zeros(4), np.full(4, -_OPEN), -_KNOTS[:-1], -_KNOTS[:-1], np.zeros(classes)])
    return _block(sums, 1, out, offset, is_feature_map=True)


def _hinges(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of the hinges max(0, size - knot) and the bias that interpolate `values` (knots, n) between the knots."""
    slopes = np.diff(values, axis=0) / np.diff(_KNOTS)[:, None]
    return np.diff(slopes, axis=0, prepend=0.0), values[0]


def _block(
    kernel: NDArray[np.float64],
    stride: int,
    pointwise: NDArray[np.float64],
    offset: NDArray[np.float64] | None = None,
    *,
    is_feature_map: bool = False,
) -> Block:
    offset = np.zeros(pointwise.shape[1]) if offset is None else offset
    return Block(_f32(kernel[..., None]), stride, _f32(pointwise[None, None]), _f32(offset), is_feature_map)


def _average(channels: int) -> NDArray[np.float64]:
    return np.repeat(_MEAN[..., None], channels, axis=2)


def _f32(values: NDArray[np.float64]) -> Floats:
    return values.astype(np.float32)
