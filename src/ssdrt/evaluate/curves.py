"""Precision-recall curves as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ssdrt.evaluate.row import Row
from ssdrt.sinks.draw import Colour
from ssdrt.sinks.fonts import font_for

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

PANELS = {"AP50": (0, "IoU 0.50"), "AP75": (5, "IoU 0.75")}
"""Number -> its place among the IoU thresholds, and what stands above its panel."""

COLOURS: tuple[Colour, ...] = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167), (86, 180, 233)
)  # fmt: skip
"""Okabe and Ito's, which the colour-blind can tell apart."""

INK, GREY, LIGHT, PAPER = (32, 32, 32), (110, 110, 110), (226, 226, 226), (255, 255, 255)
FINE = 2  # the picture is drawn this much larger, and then scaled down, for smooth lines
SIDE, LEFT, TOP, BOTTOM = 560, 70, 96, 64  # of a panel and its margins, in pixels of the finished picture


def draw_curves(rows: Sequence[Row]) -> Image:
    """Precision over recall at IoU 0.50 and 0.75: the mean of the classes for every row, and thinly each class of the
    first row. Curves that fall together show as stripes."""
    from PIL import Image, ImageDraw

    legend = 30 * len(rows)
    size = (len(PANELS) * (SIDE + LEFT) + 30, TOP + SIDE + BOTTOM + legend)
    picture = Image.new("RGB", (size[0] * FINE, size[1] * FINE), PAPER)
    draw = ImageDraw.Draw(picture)
    for place, (threshold, title) in enumerate(PANELS.values()):
        left = LEFT + place * (SIDE + LEFT)
        _axes(draw, left, title)
        _curves(draw, left, [row.judgement.precision[threshold] for row in rows])
    for number, row in enumerate(rows):
        _legend(draw, TOP + SIDE + BOTTOM + 30 * number, number, row)
    _text(draw, LEFT, 14, "Precision and recall: mean of the classes, thin lines each class", 22, INK)
    return picture.resize(size, Image.Resampling.LANCZOS)


def _axes(draw: ImageDraw, left: int, title: str) -> None:
    for step in range(11):
        x, y = left + SIDE * step / 10, TOP + SIDE * (1 - step / 10)
        _line(draw, [(x, TOP), (x, TOP + SIDE)], LIGHT, 1)
        _line(draw, [(left, y), (left + SIDE, y)], LIGHT, 1)
        if step % 2 == 0:
            _text(draw, x, TOP + SIDE + 8, f"{step / 10:.1f}", 15, GREY, "ma")
            _text(draw, left - 8, y, f"{step / 10:.1f}", 15, GREY, "rm")
    _line(draw, [(left, TOP), (left, TOP + SIDE), (left + SIDE, TOP + SIDE)], GREY, 2)
    _text(draw, left, TOP - 30, "precision", 15, GREY)
    _text(draw, left + SIDE / 2, TOP - 32, title, 18, INK, "ma")
    _text(draw, left + SIDE, TOP + SIDE + 30, "recall", 15, GREY, "ra")


def _curves(draw: ImageDraw, left: int, precisions: list[NDArray[np.float64]]) -> None:
    """precisions: (101, classes) of each row."""

    def points(values: NDArray[np.float64]) -> list[tuple[float, float]]:
        recalls = np.linspace(0, 1, len(values))
        return [(left + SIDE * r, TOP + SIDE * (1 - p)) for r, p in zip(recalls.tolist(), values.tolist(), strict=True)]

    known = [one[:, ~np.isnan(one).any(axis=0)] for one in precisions]
    for single in known[0].T if known[0].shape[1] > 1 else ():
        _line(draw, points(single), (205, 211, 218), 1)
    for number, one in enumerate(known):
        width = 3 + 3 * (len(known) - 1 - number)
        _line(draw, points(one.mean(axis=1)), COLOURS[number % len(COLOURS)], width)


def _legend(draw: ImageDraw, y: float, number: int, row: Row) -> None:
    numbers = "  ".join(f"{name} {row.judgement.numbers[name]:.3f}" for name in ("AP", *PANELS))
    _line(draw, [(LEFT, y + 10), (LEFT + 44, y + 10)], COLOURS[number % len(COLOURS)], 6)
    _text(draw, LEFT + 56, y + 10, f"{row.name}, score > {row.score:g}:  {numbers}", 17, INK, "lm")


def _line(draw: ImageDraw, points: list[tuple[float, float]], colour: Colour, width: int) -> None:
    draw.line([(x * FINE, y * FINE) for x, y in points], colour, width * FINE, joint="curve")


def _text(draw: ImageDraw, x: float, y: float, text: str, size: int, colour: Colour, anchor: str = "la") -> None:
    draw.text((x * FINE, y * FINE), text, colour, font_for(text, size * FINE), anchor)
