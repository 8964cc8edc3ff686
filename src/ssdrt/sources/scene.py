"""A synthetic moving scene, for trying everything that a camera is for without one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssdrt.sources.base import Pixels

COLOURS = ((206, 44, 40), (44, 160, 60), (40, 70, 200))
BITS = 32
"""The lowest bits of the frame's number, as black and white squares along the upper edge."""


def draw_scene(index: int, width: int, height: int) -> Pixels:
    """Frame `index`: red, green and blue discs and squares on their ways over a grey floor.

    The first row of squares is the number of the frame in binary, so that who sees a picture knows which one it is:
    `read_index`.

    Returns
    -------
    (height, width, 3) uint8 RGB.
    """
    y, x = np.ogrid[:height, :width]
    scene = np.empty((height, width, 3), np.uint8)
    scene[:] = (150 + 20 * np.sin(x / 37) * np.sin(y / 29)).astype(np.uint8)[:, :, None]
    extent = min(width, height) / 4
    for number, colour in enumerate(COLOURS * 2):
        centre_x = _there_and_back(index * (2 + number) + 97 * number, width - extent) + extent / 2
        centre_y = _there_and_back(index * (1 + number % 3) + 61 * number, height - extent) + extent / 2
        top, bottom = max(int(centre_y - extent / 2), 0), int(centre_y + extent / 2) + 1
        left, right = max(int(centre_x - extent / 2), 0), int(centre_x + extent / 2) + 1
        part = scene[top:bottom, left:right]
        if number % 2:
            part[:] = colour
        else:
            distance = np.hypot(x[:, left:right] - centre_x, y[top:bottom] - centre_y)
            part[distance[: part.shape[0], : part.shape[1]] <= extent / 2] = colour
    side = max(width // BITS, 1)
    bits = (index >> np.arange(width // side)[:BITS]) & 1
    scene[:side, : side * len(bits)] = np.repeat(bits * 255, side).astype(np.uint8)[None, :, None]
    return scene


def read_index(image_rgb: NDArray[np.uint8]) -> int:
    """The number that `draw_scene` wrote into a picture, which may have been encoded and scaled since."""
    side = max(image_rgb.shape[1] // BITS, 1)
    centres = side // 2 + side * np.arange(min(BITS, image_rgb.shape[1] // side))
    return sum(1 << bit for bit, value in enumerate(image_rgb[side // 2, centres, 1].tolist()) if value > 127)


def _there_and_back(way: float, length: float) -> float:
    """Where one is that walks to and fro on a length."""
    return float(length - abs(way % (2 * length) - length)) if length > 0 else 0.0
