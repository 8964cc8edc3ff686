"""Zones, lines and their counts, drawn on a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections
from ssdrt.sinks.draw import DARK, annotate, font_for
from ssdrt.sources.base import Pixels

Points = tuple[tuple[float, float], ...]

LIGHT = (245, 245, 245)
"""Red, green, blue of zones and lines; no class has it."""


def annotate_all(image: Pixels, found: Detections) -> Pixels:
    """A copy of `image`, (height, width, 3) uint8 RGB, with all that is known of it: zones, lines, boxes."""
    if not {"zones", "lines"} & found.extra.keys():
        return annotate(image, found)
    canvas = image.copy()
    draw_regions(canvas, found.extra)
    return annotate(canvas, found)


def draw_regions(canvas: Pixels, extra: Mapping[str, Any]) -> None:
    """Draw zones and lines with their counts into a picture.

    Parameters
    ----------
    canvas: (height, width, 3) uint8 RGB.
    extra: that of `Detections`; shapes in pixels of the canvas.
    """
    height, width = canvas.shape[:2]
    for points, closed, text in _regions(extra):
        rim, core = _outline(points, closed, width, height)
        canvas.reshape(-1, 3)[rim] = DARK
        canvas.reshape(-1, 3)[core] = LIGHT
        _put(canvas, points, _plate(text, max(10, round(math.sqrt(width * height) / 40))))


def _regions(extra: Mapping[str, Any]) -> Iterator[tuple[Points, bool, str]]:
    """Corners, whether the last is joined to the first, and what is written there."""
    for name, zone in extra.get("zones", {}).items():
        total = f" (of {sum(zone['total'].values())})" if "total" in zone else ""
        yield _points(zone["polygon"]), True, f"{name}: {_counts(zone['counts'])}{total}"
    for name, line in extra.get("lines", {}).items():
        yield _points(line["line"]), False, f"{name}: in {_counts(line['in'])}, out {_counts(line['out'])}"


def _points(corners: list[list[float]]) -> Points:
    return tuple((float(x), float(y)) for x, y in corners)


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


def _arrow(ends: Points, size: float) -> Points:
    """From the middle of a line to the side that is "in": the right hand, looking from its first end to its second."""
    (x0, y0), (x1, y1) = ends
    length = max(math.hypot(x1 - x0, y1 - y0), 1e-9)
    ax, ay = (x1 - x0) / length * size / 2, (y1 - y0) / length * size / 2  # along; (-ay, ax) is to the right
    mx, my = (x0 + x1) / 2, (y0 + y1) / 2
    tip = (mx - 2 * ay, my + 2 * ax)
    head = [(tip[0] - sign * ax + ay, tip[1] - sign * ay - ax) for sign in (1, -1)]
    return ((mx, my), tip, head[0], tip, head[1])


@lru_cache(maxsize=256)
def _plate(text: str, size: int) -> Pixels:
    """A text, light on dark, as a picture of its own; `size` of the letters in pixels."""
    from PIL import Image, ImageDraw

    font, height = font_for(text, size), round(size * 1.5)
    plate = Image.new("RGB", (math.ceil(font.getlength(text)) + 2 * (height // 4), height), DARK)
    ImageDraw.Draw(plate).text((height // 4, height / 2), text, fill=LIGHT, font=font, anchor="lm")
    return np.asarray(plate)


def _put(canvas: Pixels, points: Points, plate: Pixels) -> None:
    """Copy a plate to the first corner of its shape, moved and cut so that it stays in the picture."""
    height, width = canvas.shape[:2]
    plate = plate[:height, :width]
    left = min(max(round(points[0][0]), 0), width - plate.shape[1])
    top = min(max(round(points[0][1]), 0), height - plate.shape[0])
    canvas[top : top + plate.shape[0], left : left + plate.shape[1]] = plate
