"""Zones, lines and their counts, drawn on a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections
from ssdrt.sinks.draw import DARK, draw_on
from ssdrt.sinks.fonts import draw_text, text_length
from ssdrt.sources.base import Pixels

Points = tuple[tuple[float, float], ...]

LIGHT = (245, 245, 245)
"""Red, green, blue of zones and lines; no class has it."""


def annotate_all(image: Pixels, found: Detections) -> Pixels:
    """A copy of `image`, (height, width, 3) uint8 RGB, with all that is known of it: zones, lines, boxes."""
    canvas = np.array(image, order="C")
    draw_regions_on(canvas, found)
    draw_on(canvas, found)
    return canvas


def draw_regions_on(canvas: Pixels, found: Detections) -> None:
    """Draw zones and lines with their counts into a picture.

    Parameters
    ----------
    canvas: (height, width, 3) uint8 RGB, writable; the picture of `found` or a larger or smaller version of it.
    """
    height, width = canvas.shape[:2]
    for corners, closed, text in _regions(found.extra):
        points = tuple((x * width / found.width, y * height / found.height) for x, y in corners)
        rim, core = _outline(points, closed, width, height)
        canvas.reshape(-1, 3)[rim] = DARK
        canvas.reshape(-1, 3)[core] = LIGHT
        plate = _plate(text, max(10, round(math.sqrt(width * height) / 40)))
        _put(canvas, points[0] if closed else _beside(points, plate), plate)


def _regions(extra: Mapping[str, Any]) -> Iterator[tuple[list[list[float]], bool, str]]:
    """Corners, whether the last is joined to the first, and what is written there."""
    for name, zone in extra.get("zones", {}).items():
        total = f" (of {sum(zone['total'].values())})" if "total" in zone else ""
        yield zone["polygon"], True, f"{name}: {_counts(zone['counts'])}{total}"
    for name, line in extra.get("lines", {}).items():
        yield line["line"], False, f"{name}: in {_counts(line['in'])}, out {_counts(line['out'])}"


def _counts(counts: Mapping[str, int]) -> str:
    """`2 person 1 car`."""
    return " ".join(f"{count} {label}" for label, count in counts.items()) or "0"


@lru_cache(maxsize=256)
def _outline(points: Points, closed: bool, width: int, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which pixels, counted in rows, are the dark rim of an outline, and which its light core; a line has an arrow."""
    from PIL import Image, ImageDraw

    line = max(1, round(math.sqrt(width * height) / 300))
    pixels = []
    for thickness in (line + 2 * max(1, line // 3), line):
        mask = Image.new("1", (width, height))
        draw = ImageDraw.Draw(mask)
        draw.line(points + points[:1] if closed else points, fill=1, width=thickness, joint="curve")
        if not closed:
            draw.line(_arrow(points, 8 * line), fill=1, width=thickness, joint="curve")
        pixels.append(np.flatnonzero(np.asarray(mask)))
    return pixels[0], pixels[1]


def _along(ends: Points) -> tuple[float, float]:
    """The unit vector (x, y) from one end of a line to the other; (-y, x) is that to its right hand, which is "in"."""
    (x0, y0), (x1, y1) = ends
    length = max(math.hypot(x1 - x0, y1 - y0), 1e-9)
    return (x1 - x0) / length, (y1 - y0) / length


def _arrow(ends: Points, size: float) -> Points:
    """From the middle of a line to the side that is "in"."""
    (x, y), middle = _along(ends), ((ends[0][0] + ends[1][0]) / 2, (ends[0][1] + ends[1][1]) / 2)
    tip = (middle[0] - size * y, middle[1] + size * x)
    left, right = ((tip[0] + size / 2 * (y + sign * x), tip[1] + size / 2 * (sign * y - x)) for sign in (1, -1))
    return middle, tip, left, tip, right


def _beside(ends: Points, plate: Pixels) -> tuple[float, float]:
    """Where the top left corner of a plate goes, so that it is at a line's first end and not on the arrow's side."""
    (x, y), (height, width) = _along(ends), plate.shape[:2]
    return ends[0][0] + y * width * 0.6 - width / 2, ends[0][1] - x * height - height / 2


@lru_cache(maxsize=256)
def _plate(text: str, size: int) -> Pixels:
    """A text, light on dark, as a picture of its own; `size` of the letters in pixels."""
    from PIL import Image, ImageDraw

    height = round(size * 1.5)
    plate = Image.new("RGB", (math.ceil(text_length(text, size)) + 2 * (height // 4), height), DARK)
    draw_text(ImageDraw.Draw(plate), height // 4, height / 2, text, size, LIGHT)
    return np.asarray(plate)


def _put(canvas: Pixels, corner: tuple[float, float], plate: Pixels) -> None:
    """Copy a plate to where its top left corner belongs, moved and cut so that it stays in the picture."""
    height, width = canvas.shape[:2]
    plate = plate[:height, :width]
    left = min(max(round(corner[0]), 0), width - plate.shape[1])
    top = min(max(round(corner[1]), 0), height - plate.shape[0])
    canvas[top : top + plate.shape[0], left : left + plate.shape[1]] = plate
