"""From a picture to the pixels that the network takes: TensorFlow's resize operations, to the last bit.

They are core/kernels/image/resize_{bilinear,nearest_neighbor,bicubic,area}_op.cc of TensorFlow's sources.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ssdrt.model import Pair, Resizer, SsdModel

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Taps = tuple[Ints, Floats]  # (taps, new_size) source indices and weights

BAND = 6_000
"""Pixels that the bilinear resize makes at once, so few that the C library keeps its working memory from call to call.
For 640x480 to 300x300, whole pictures meant 1,100 page faults and 2.5 ms each, this none and 0.8 ms.
"""


def network_size(resizer: Resizer, height: int, width: int) -> Pair:
    """(height, width) of the network input for a picture of height x width pixels."""
    return (resizer.width, resizer.width) if resizer.pad else resized_size(resizer, height, width)


def image_window(resizer: Resizer, height: int, width: int) -> tuple[float, float, float, float]:
    """The part of the network input that a picture of height x width pixels covers: (ymin, xmin, ymax, xmax), 0..1."""
    covered = np.array(resized_size(resizer, height, width), np.float32)
    ymax, xmax = covered / np.array(network_size(resizer, height, width), np.float32)
    return 0.0, 0.0, float(ymax), float(xmax)


def clip_window(model: SsdModel, height: int, width: int) -> tuple[float, float, float, float]:
    """What boxes of a picture of height x width pixels are clipped to, yxyx in the unit of the network input."""
    if not model.nms.clip_to_image.value:
        return 0.0, 0.0, 1.0, 1.0
    return image_window(model.preprocessing.resizer.value, height, width)


def to_network(image: Pixels, resizer: Resizer) -> Floats:
    """The network input (h, w, 3) float32, C order, RGB 0..255, of a picture (height, width, 3) uint8 RGB.

    (h, w) is network_size(resizer, height, width). Any number of threads may call this at once.
    """
    image = _contiguous(image)
    size = resized_size(resizer, *image.shape[:2])
    resized = image.astype(np.float32) if size == image.shape[:2] else _RESIZE[resizer.method](image, resizer, *size)
    if not resizer.pad:
        return resized
    padded = np.empty((resizer.width, resizer.width, 3), np.float32)
    padded[: size[0], : size[1]] = resized
    padded[: size[0], size[1] :] = resizer.pad_value
    padded[size[0] :] = resizer.pad_value
    return padded


def _contiguous(image: Pixels) -> Pixels:
    """The image in C order. A quarter of the time of np.ascontiguousarray for a BGR picture seen as RGB."""
    if image.flags.c_contiguous:
        return image
    copy = np.empty(image.shape, np.uint8)
    for channel in range(3):
        copy[:, :, channel] = image[:, :, channel]
    return copy


def resized_size(resizer: Resizer, height: int, width: int) -> Pair:
    """The size before padding, rounded as resize_images with preserve_aspect_ratio does (ops/image_ops_impl.py)."""
    if resizer.kind == "none":
        return height, width
    if resizer.kind == "fixed_shape":
        return resizer.height, resizer.width
    sides = np.array((height, width), np.float32)
    scale = min(np.float32(resizer.height) / sides.min(), np.float32(resizer.width) / sides.max())
    new_height, new_width = np.maximum(np.rint(scale * sides), 1)  # TensorFlow fails where a side becomes 0
    return int(new_height), int(new_width)


def _bilinear(image: Pixels, resizer: Resizer, height: int, width: int) -> Floats:
    """ResizeBilinear: along the rows first. On bytes for as long as possible, and once for every source row."""
    left, right, x_lerp = _bilinear_columns(resizer, image.shape[1], width)
    source = image.reshape(image.shape[0], -1)
    resized = np.empty((height, width * 3), np.float32)
    for band, rows, top, bottom, y_lerp in _bilinear_bands(resizer, image.shape[0], height, BAND // width + 1):
        lines = source[rows]
        start = np.take(lines, left, axis=1)
        blends = np.subtract(np.take(lines, right, axis=1), start, dtype=np.float32)
        blends *= x_lerp
        blends += start
        result = np.take(blends, top, axis=0, out=resized[band], mode="clip")  # the default mode would copy `out`
        step = np.take(blends, bottom, axis=0)
        step -= result
        step *= y_lerp
        result += step
    return resized.reshape(height, width, 3)


@lru_cache(maxsize=128)
def _bilinear_bands(
    resizer: Resizer, size: int, new_size: int, band_size: int
) -> list[tuple[slice, Ints, Ints, Ints, Floats]]:
    """Bands of new rows: which rows, the source rows in use, which of them lie above and below each new row, and how
    far it is down (band_size, 1)."""
    above, below, lerp = _neighbours(resizer, size, new_size)
    bands = []
    for start in range(0, new_size, band_size):
        band = slice(start, min(start + band_size, new_size))
        rows, places = np.unique(np.stack((above[band], below[band])), return_inverse=True)
        top, bottom = places.reshape(2, -1)
        bands.append((band, rows, top, bottom, lerp[band, None]))
    return bands


@lru_cache(maxsize=128)
def _bilinear_columns(resizer: Resizer, size: int, new_size: int) -> tuple[Ints, Ints, Floats]:
    """Bytes of a source row left and right of each byte of a new row, and how far right it is, all (new_size * 3,)."""
    left, right, lerp = _neighbours(resizer, size, new_size)
    channels = np.arange(3)
    return (left[:, None] * 3 + channels).ravel(), (right[:, None] * 3 + channels).ravel(), np.repeat(lerp, 3)


def _neighbours(resizer: Resizer, size: int, new_size: int) -> tuple[Ints, Ints, Floats]:
    """Source pixels before and after each new one, and how far it is from the first to the second, each (new_size,)."""
    positions = _positions(resizer, size, new_size)
    floor = np.floor(positions)
    upper = np.minimum(np.ceil(positions).astype(np.int64), size - 1)
    lower = np.minimum(np.maximum(floor.astype(np.int64), 0), upper)
    return lower, upper, positions - floor


def _positions(resizer: Resizer, size: int, new_size: int) -> Floats:
    """Source coordinate of each of the new_size pixels, float32 as in ImageResizerState."""
    new = np.arange(new_size, dtype=np.float32)
    scale = _scale(resizer, size, new_size)
    half = np.float32(0.5)
    return (new + half) * scale - half if resizer.half_pixel_centers else new * scale


def _scale(resizer: Resizer, size: int, new_size: int) -> np.float32:
    """Source pixels a new pixel."""
    corner = 1 if resizer.align_corners and new_size > 1 else 0
    scale: np.float32 = np.float32(size - corner) / np.float32(new_size - corner)
    return scale


def _nearest(image: Pixels, resizer: Resizer, height: int, width: int) -> Floats:
    """ResizeNearestNeighbor."""
    rows = _nearest_indices(resizer, image.shape[0], height)
    columns = _nearest_indices(resizer, image.shape[1], width)
    return image[rows[:, None], columns].astype(np.float32)


def _nearest_indices(resizer: Resizer, size: int, new_size: int) -> Ints:
    """The source pixel of each new one."""
    offset = np.float32(0.5 if resizer.half_pixel_centers else 0)
    positions = (np.arange(new_size, dtype=np.float32) + offset) * _scale(resizer, size, new_size)
    rounding = 0.5 if resizer.align_corners else 0.0  # to the nearest, else down
    indices: Ints = np.floor(positions.astype(np.float64) + rounding).astype(np.int64)
    return np.minimum(indices, size - 1)


def _bicubic(image: Pixels, resizer: Resizer, height: int, width: int) -> Floats:
    """ResizeBicubic: along the columns first."""
    lines = _weighted_sum(image, _bicubic_taps(resizer, image.shape[0], height), axis=0)
    return _weighted_sum(lines, _bicubic_taps(resizer, image.shape[1], width), axis=1)


def _bicubic_taps(resizer: Resizer, size: int, new_size: int) -> Taps:
    """Four neighbours, with weights from the kernel's table of 1024 steps: Keys' cubic with A = -0.75.

    With half_pixel_centers A is -0.5, and what lies outside the picture weighs nothing.
    """
    a = -0.5 if resizer.half_pixel_centers else -0.75
    positions = _positions(resizer, size, new_size)
    floor = np.floor(positions)
    steps = np.rint((positions - floor) * np.float32(1024)).astype(np.int64)
    near = (np.arange(1025) / 1024).astype(np.float32).astype(np.float64)
    far = (near + 1).astype(np.float32).astype(np.float64)
    near_weights = (((a + 2) * near - (a + 3)) * near * near + 1).astype(np.float32)
    far_weights = (((a * far - 5 * a) * far + 8 * a) * far - 4 * a).astype(np.float32)
    weights = np.stack((far_weights[steps], near_weights[steps], near_weights[1024 - steps], far_weights[1024 - steps]))
    wanted = floor.astype(np.int64) + np.arange(-1, 3)[:, None]
    indices = np.clip(wanted, 0, size - 1)
    if resizer.half_pixel_centers:
        weights[indices != wanted] = 0
        weights *= np.float32(1) / (weights[0] + weights[1] + weights[2] + weights[3])
    return indices, weights


def _area(image: Pixels, resizer: Resizer, height: int, width: int) -> Floats:
    """ResizeArea: along the rows first."""
    lines = _weighted_sum(image, _area_taps(resizer, image.shape[1], width), axis=1)
    total = _weighted_sum(lines, _area_taps(resizer, image.shape[0], height), axis=0)
    cell = _scale(resizer, image.shape[0], height) * _scale(resizer, image.shape[1], width)
    total *= np.float32(1 / np.float64(cell))
    return total


def _area_taps(resizer: Resizer, size: int, new_size: int) -> Taps:
    """What each source pixel has in common with the cell of a new one."""
    scale = _scale(resizer, size, new_size)
    edges = np.arange(new_size + 1, dtype=np.float32) * scale
    first, last = edges[:-1], edges[1:]
    starts, ends = np.floor(first), np.ceil(last)
    pixels = starts + np.arange(max(int((ends - starts).max()), 1), dtype=np.float32)[:, None]
    cut = pixels + 1 > last
    weights = np.where(
        pixels < first, np.where(cut, scale, pixels + 1 - first), np.where(cut, last - pixels, np.float32(1))
    )
    weights[pixels >= ends] = 0
    return np.clip(pixels.astype(np.int64), 0, size - 1), weights


def _weighted_sum(values: Pixels | Floats, taps: Taps, axis: int) -> Floats:
    """Sum over the taps, one after the other, of the values (h, w, 3) they pick along an axis times their weights."""
    indices, weights = taps
    shape = (-1, 1, 1) if axis == 0 else (-1, 1)
    total: Floats = np.take(values, indices[0], axis) * weights[0].reshape(shape)
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        total += np.take(values, index, axis) * weight.reshape(shape)
    return total


_RESIZE = {"bilinear": _bilinear, "nearest": _nearest, "bicubic": _bicubic, "area": _area}
