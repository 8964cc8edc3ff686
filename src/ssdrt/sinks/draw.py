"""Drawing: boxes and their labels on a picture, readable at any size of picture."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections
from ssdrt.sources.base import Pixels

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Rect = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, x1 and y1 not included."""

Colour = tuple[int, int, int]
"""Red, green, blue, 0..255."""

DARK = (16, 16, 16)

FONTS = ("NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf", "NotoSansCJK-Regular.ttc",
         "msyh.ttc", "malgun.ttf", "NotoSansArabic-Regular.ttf", "NotoSansDevanagari-Regular.ttf",
         "Nirmala.ttf")  # fmt: skip
"""Looked for among the system's fonts when a label has characters that Pillow's built-in font (ASCII) lacks."""

NOT_A_CHARACTER = "\U0010ffff"
LONGEST_LABEL = 60  # characters


@dataclass(frozen=True)
class Label:
    """Where a label goes, and what it says in which font."""

    rect: Rect
    text: str
    font: FreeTypeFont


def annotate(image: Pixels, found: Detections) -> Pixels:
    """A copy of `image` with the box, name and score of every detection drawn in, the best on top.

    Parameters
    ----------
    image: (height, width, 3) uint8 RGB.
    found: boxes in pixels of `image`.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    side = math.sqrt(picture.width * picture.height)
    rects = [_visible(box_xyxy, picture.width, picture.height) for box_xyxy in found.boxes_xyxy]
    colours = [colour_of(class_id) for class_id in found.class_ids.tolist()]
    for rect, colour in zip(reversed(rects), reversed(colours), strict=True):
        _draw_box(draw, rect, colour, max(1, round(side / 250)))
    names = [(str(label), f"{score:.0%}") for label, score in zip(found.labels, found.scores, strict=True)]
    labels = _labels(rects, names, max(10, round(side / 40)), picture.size)
    for label, colour in zip(reversed(labels), reversed(colours), strict=True):
        if label is not None:
            _draw_label(draw, label, colour)
    return np.asarray(picture)


@lru_cache
def colour_of(class_id: int) -> Colour:
    """The colour of a class: the same in every picture, unlike those of near ids, light enough for dark text."""
    hue = (class_id * 0.618034 + 0.33) % 1  # steps of the golden ratio never come close to each other
    rgb = np.array(colorsys.hls_to_rgb(hue, (0.5, 0.62, 0.45)[class_id % 3], 0.9))
    luminance = rgb @ (0.299, 0.587, 0.114)
    whitened = rgb + (1 - rgb) * max(0.0, (0.5 - luminance) / (1 - luminance))
    red, green, blue = np.round(whitened * 255).astype(int).tolist()
    return red, green, blue


@lru_cache(maxsize=1024)
def font_for(label: str, size: int) -> FreeTypeFont:
    """Pillow's built-in font, or that one of the system's `FONTS` that has the most characters of `label`.

    Parameters
    ----------
    size: in pixels.
    """
    from PIL import ImageFont

    built_in = cast("FreeTypeFont", ImageFont.load_default(size))
    if label.isascii():
        return built_in
    return min((built_in, *_system_fonts(size)), key=lambda font: _missing(font, label))


def _system_fonts(size: int) -> Iterator[FreeTypeFont]:
    from PIL import ImageFont

    for name in FONTS:
        with suppress(OSError):  # not on this system
            yield ImageFont.truetype(name, size)


def _missing(font: FreeTypeFont, text: str) -> int:
    """How many characters of `text` the font shows as its "no such character" box."""
    box = bytes(font.getmask(NOT_A_CHARACTER))
    return sum(bytes(font.getmask(character)) == box for character in text)


def _visible(box_xyxy: NDArray[np.float32], width: int, height: int) -> Rect:
    """The box rounded to whole pixels of the picture, at least one pixel large."""
    x0, y0 = (int(min(max(v, 0), limit - 1)) for v, limit in zip(box_xyxy[:2], (width, height), strict=True))
    x1, y1 = (math.ceil(min(max(v, 1), limit)) for v, limit in zip(box_xyxy[2:], (width, height), strict=True))
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def _draw_box(draw: ImageDraw, rect: Rect, colour: Colour, line: int) -> None:
    """The box in its colour between two thin dark lines, so that it shows on any ground."""
    x0, y0, x1, y1 = rect[0], rect[1], rect[2] - 1, rect[3] - 1
    rim = max(1, line // 4)
    draw.rectangle((x0, y0, x1, y1), outline=DARK, width=line + 2 * rim)
    if x1 - x0 > 2 * rim and y1 - y0 > 2 * rim:
        draw.rectangle((x0 + rim, y0 + rim, x1 - rim, y1 - rim), outline=colour, width=line)


def _draw_label(draw: ImageDraw, label: Label, colour: Colour) -> None:
    x0, y0, x1, y1 = label.rect
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour, outline=DARK)
    draw.text((x0 + (y1 - y0) // 5, (y0 + y1) / 2), label.text, fill=DARK, font=label.font, anchor="lm")


def _labels(rects: list[Rect], names: list[tuple[str, str]], size: int, picture: tuple[int, int]) -> list[Label | None]:
    """The label of every box, best first so that the best get the best places; None where none fits the picture.

    Parameters
    ----------
    names: label and score as they are shown.
    size: of the letters, in pixels.
    picture: width and height.
    """
    height, taken = round(size * 1.4), list[Rect]()
    labels: list[Label | None] = []
    for rect, (name, score) in zip(rects, names, strict=True):
        shown = " ".join(name.split())[:LONGEST_LABEL]
        font = font_for(shown, size)
        text = _fit(shown, score, font, picture[0] - 2 * (height // 5))
        if not text or height > picture[1]:
            labels.append(None)
            continue
        taken.append(_place(rect, (math.ceil(font.getlength(text)) + 2 * (height // 5), height), picture, taken))
        labels.append(Label(taken[-1], text, font))
    return labels


def _fit(label: str, score: str, font: FreeTypeFont, width: int) -> str:
    """Label and score, the label cut as far as `width` pixels need; "" when not even the score has room."""
    cuts = (f"{label[:length].rstrip()}. {score}" for length in range(len(label) - 1, 0, -1))
    return next((text for text in (f"{label} {score}".strip(), *cuts, score) if font.getlength(text) <= width), "")


def _place(rect: Rect, label: tuple[int, int], picture: tuple[int, int], taken: list[Rect]) -> Rect:
    """Where a label goes: above its box, inside at its top, below, or inside at its bottom; clear of others."""
    lefts = (rect[0], rect[2] - label[0])
    tops = (rect[1] - label[1], rect[1], rect[3], rect[3] - label[1])
    corners = [
        (min(max(left, 0), picture[0] - label[0]), min(max(top, 0), picture[1] - label[1]))
        for left in lefts
        for top in tops
    ]
    places = [(left, top, left + label[0], top + label[1]) for left, top in corners]
    return next((place for place in places if not any(_overlap(place, other) for other in taken)), places[0])


def _overlap(a: Rect, b: Rect) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
