"""Weights in the order in which the kernels read them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.plan import Depthwise
from ssdrt.model import Floats

LARGEST = 65504.0  # finite number of fp16

COLUMN_TILE = 128
"""Packed columns fill up to the widest tile, so that no tile reads past the end."""


def filled(values: Floats, *sizes: int) -> Floats:
    """Cut or filled up with zeros along the last axes."""
    before = values.ndim - len(sizes)
    window = (slice(None),) * before + tuple(slice(size) for size in sizes)
    cut = values[window]
    widths = [(0, 0)] * before + [(0, size - have) for size, have in zip(sizes, cut.shape[before:], strict=True)]
    return np.pad(cut, widths)


def halves(values: Floats) -> NDArray[np.float16]:
    """In fp16, what is larger being as large as can be."""
    return np.clip(values, -LARGEST, LARGEST).astype(np.float16)


def pack_columns(columns: int) -> int:
    """How many columns are packed for so many."""
    return -(-columns // COLUMN_TILE) * COLUMN_TILE


def column_order(columns: int, group: int = 32) -> NDArray[np.int64]:
    """The channel that stands at each packed column.

    A thread of an mma has columns 2t and 2t + 1 of each 8. In each 32 they are dealt out so that its 8 are neighbours;
    in each 16, its 4.
    """
    at = np.arange(columns)
    tile, place = at % group // 8, at % 8
    order: NDArray[np.int64] = at // group * group + group // 4 * (place >> 1) + 2 * tile + (place & 1)
    return order


def pack_tiles(weights: Floats, tile: int) -> NDArray[np.float16]:
    """(kh, kw, in, out) as (column tiles, K steps, tile columns, 8 chunks, 8) fp16, chunk c of column n at place
    c ^ (n & 7); K steps are 64 channels of a place of the window: see hopper.cu."""
    channels, columns = (-(-size // of) * of for size, of in zip(weights.shape[2:], (64, tile), strict=True))
    flat = halves(filled(weights, channels, columns)).reshape(-1, columns)
    ordered = flat[:, column_order(columns)].reshape(-1, 8, 8, columns // tile, tile).transpose(3, 0, 4, 1, 2)
    column = np.arange(tile)[:, None]
    return np.ascontiguousarray(ordered[:, :, column, np.arange(8)[None] ^ (column & 7)])


def pack_weights(weights: Floats) -> NDArray[np.float16]:
    """(kh, kw, in, out) as (K steps, packed columns, 4 chunks, 8) fp16, chunks swizzled: see convolution.cu."""
    rows, width = weights.reshape(-1, weights.shape[3]), pack_columns(weights.shape[3])
    flat = halves(filled(rows, -(-len(rows) // 32) * 32, width))
    ordered = flat[:, column_order(width)].reshape(-1, 4, 8, width).transpose(0, 3, 1, 2)
    column = np.arange(width)[:, None]
    place = np.arange(4)[None] ^ ((column >> 1) & 3)  # the chunk that stands at each place
    return np.ascontiguousarray(ordered[:, column, place])


def pack_front(weights: Floats, tile: int) -> NDArray[np.float16]:
    """(kh, kw, 3 or more, out) as (K steps, pairs of 8 columns, 32 lanes, 2 columns, 2 halves of a step, 2) fp16: see
    front.cu. K is a row of the window after the other, each filled up to an even number."""
    height, width, _, columns = weights.shape
    rows = filled(weights[:, :, :3].reshape(height, width * 3, columns), width * 3 + width % 2, tile).reshape(-1, tile)
    flat = halves(filled(rows[:, column_order(tile, min(tile, 32))], -(-len(rows) // 16) * 16, tile))
    # a lane is (column of 8, pair of a half)
    ordered = flat.reshape(-1, 2, 4, 2, tile // 16, 2, 8).transpose(0, 4, 6, 2, 5, 1, 3)
    return np.ascontiguousarray(ordered.reshape(-1, tile // 16, 32, 2, 2, 2))


def fragments(values: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """(K, columns) as (tiles of 8 columns, pairs of steps of K, 32 lanes, 8) fp16: a lane's two pairs of each step."""
    steps, tiles = len(values) // 16, values.shape[1] // 8
    # a lane is (column of 8, pair of a half)
    ordered = values.astype(np.float16).reshape(steps // 2, 2, 2, 4, 2, tiles, 8).transpose(5, 0, 6, 3, 1, 2, 4)
    return np.ascontiguousarray(ordered)


def rows_of_window(
    step: Depthwise, channels: int, before: NDArray[np.floating[Any]], unit: float = 6
) -> NDArray[np.float16]:
    """(tiles of 8 channels, 4 pairs, 3 rows of the window, 4, 2) fp16: three weights, and where the sum starts, in
    units, or, in the other rows, the bias of the convolution before."""
    window = filled(step.weights.reshape(3, 3, -1), channels)
    behind = np.stack([filled(step.bias, channels) / unit, before, before])[:, None]
    rows = np.concatenate([window, behind], axis=1).astype(np.float16)  # (3, 4, channels)
    return np.ascontiguousarray(rows.reshape(3, 4, channels // 8, 4, 2).transpose(2, 3, 0, 1, 4))
