"""Drawing: boxes and their labels on a picture, readable at any size of picture."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ssdrt.detections import Detections
from ssdrt.sinks.fonts import draw_text, text_length
from ssdrt.sources.base import Pixels

Rect = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, x1 and y1 not included."""

Colour = tuple[int, int, int]
"""Red, green, blue, 0..255."""

Stamp = tuple[int, int, Pixels]
"""Left, top and the pixels of a label, all of it inside the picture; labels that say the same share their pixels."""

DARK = (16, 16, 16)
LONGEST_LABEL = 60  # characters


@dataclass(frozen=True)
class Layout:
    """What is drawn where in a picture, best first: it is drawn last, to be on top. All boxes go before all labels.

    boxes: each with its colour. line: how thick it is, in pixels, between two dark lines of `rim` pixels.
    """

    boxes: list[tuple[Rect, Colour]]
    labels: list[Stamp]
    line: int
    rim: int


def annotate(image: Pixels, found: Detections) -> Pixels:
    """A copy of `image` with the box, name and score of every detection drawn in, the best on top.

    Parameters
    ----------
    image: (height, width, 3) uint8 RGB.
    found: what was found in it, or in a larger or smaller version of it.
    """
    canvas = np.array(image, order="C")
    draw_on(canvas, found)
    return canvas


def draw_on(canvas: Pixels, found: Detections) -> None:
    """As `annotate`, in place.

    Parameters
    ----------
    canvas: (height, width, 3) uint8 RGB, in C order, writable.
    """
    height, width = canvas.shape[:2]
    drawn = layout(found, width, height)
    rows = canvas.reshape(height, -1)  # two axes are copied in less time than three
    for rect, colour in reversed(drawn.boxes):
        _draw_box(canvas, rows, rect, colour, drawn.line, drawn.rim)
    for left, top, label in reversed(drawn.labels):
        high, wide, _ = label.shape
        rows[top : top + high, 3 * left : 3 * (left + wide)] = label.reshape(high, -1)


def layout(found: Detections, width: int, height: int) -> Layout:
    """What there is to draw in a picture of this size.

    Parameters
    ----------
    found: boxes in pixels of the original picture, which may have another size.
    """
    side = math.sqrt(width * height)
    line, size = max(1, round(side / 250)), max(10, round(side / 40))
    rects = _visible(found, width, height)
    colours = [colour_of(class_id) for class_id in found.class_ids.tolist()]
    taken, labels = list[Rect](), list[Stamp]()
    for rect, colour, name, score in zip(rects, colours, _names(found), found.scores.tolist(), strict=True):
        label = _label(name, f"{score:.0%}", size, colour, width)
        if label is not None and label.shape[0] <= height:
            taken.append(_place(rect, label.shape[1], label.shape[0], width, height, taken))
            labels.append((*taken[-1][:2], label))
    return Layout(list(zip(rects, colours, strict=True)), labels, line, max(1, line // 4))


@lru_cache
def colour_of(class_id: int) -> Colour:
    """The colour of a class: the same in every picture, unlike those of near ids, light enough for dark text."""
    hue = (class_id * 0.618034 + 0.33) % 1  # steps of the golden ratio never come close to each other
    rgb = np.array(colorsys.hls_to_rgb(hue, (0.5, 0.62, 0.45)[class_id % 3], 0.9))
    luminance = rgb @ (0.299, 0.587, 0.114)
    whitened = rgb + (1 - rgb) * max(0.0, (0.5 - luminance) / (1 - luminance))
    red, green, blue = np.round(whitened * 255).astype(int).tolist()
    return red, green, blue


def _names(found: Detections) -> list[str]:
    """The labels, with the number of the track where there is one: `person #3`."""
    names: list[str] = found.labels.tolist()
    if found.track_ids is None:
        return names
    return [f"{name} #{track}" if track > 0 else name for name, track in zip(names, found.track_ids, strict=True)]


def _visible(found: Detections, width: int, height: int) -> list[Rect]:
    """The boxes rounded to whole pixels of a picture of this size, at least one pixel large."""
    if not len(found):
        return []
    limit = np.array([width, height], np.float32)
    corners = found.boxes_xyxy.reshape(-1, 2, 2) * (limit / (found.width, found.height)).astype(np.float32)
    low = np.floor(np.clip(corners[:, 0], 0, limit - 1)).astype(np.int64)
    high = np.maximum(np.ceil(np.clip(corners[:, 1], 1, limit)).astype(np.int64), low + 1)
    return [(*pair[:2], *pair[2:]) for pair in np.concatenate([low, high], 1).tolist()]


def _draw_box(canvas: Pixels, rows: Pixels, rect: Rect, colour: Colour, line: int, rim: int) -> None:
    """The box in its colour between two thin dark lines, so that it shows on any ground."""
    x0, y0, x1, y1 = rect
    thick = line + 2 * rim
    if min(x1 - x0, y1 - y0) <= 2 * thick:
        for inset, paint in ((0, DARK), (rim, colour), (rim + line, DARK)):
            canvas[y0 + inset : max(y1 - inset, 0), x0 + inset : max(x1 - inset, 0)] = paint
        return
    top, right, bottom, left = _sides(colour, line, rim, max(canvas.shape))
    across, down, deep, begin, end = 3 * (x1 - x0 - thick), y1 - y0 - thick, 3 * thick, 3 * x0, 3 * x1
    rows[y0 : y0 + thick, begin : end - deep] = top[:, :across]
    rows[y0 : y1 - thick, end - deep : end] = right[:down]
    rows[y1 - thick : y1, begin + deep : end] = bottom[:, -across:]
    rows[y0 + thick : y1, begin : begin + deep] = left[-down:]


@lru_cache(maxsize=64)
def _sides(colour: Colour, line: int, rim: int, length: int) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Top, right, bottom and left side of a large box, each with the corner where it begins, going clockwise; in rows
    of bytes.

    Copying these is several times as fast as having numpy repeat a single pixel.
    """
    across = np.array([DARK] * rim + [colour] * line + [DARK] * rim, np.uint8)
    depth = np.minimum(np.arange(len(across))[:, None], np.arange(length))  # how far inside the box a pixel is
    top = across[depth]
    right = np.ascontiguousarray(top.transpose(1, 0, 2)[:, ::-1])
    sides = top, right, top[::-1, ::-1], right[::-1, ::-1]
    return tuple(np.ascontiguousarray(side).reshape(len(side), -1) for side in sides)  # type: ignore[return-value]


@lru_cache(maxsize=1024)
def _label(name: str, score: str, size: int, colour: Colour, widest: int) -> Pixels | None:
    """The pixels of a label, its name cut as far as `widest` pixels need; None when not even the score has room.

    Parameters
    ----------
    size: of the letters, in pixels.
    """
    from PIL import Image, ImageDraw

    shown, height = " ".join(name.split())[:LONGEST_LABEL], round(size * 1.4)
    margin = height // 5
    text = _fit(shown, score, size, widest - 2 * margin)
    if not text:
        return None
    width = math.ceil(text_length(text, size)) + 2 * margin
    label = Image.new("RGB", (width, height), colour)
    draw = ImageDraw.Draw(label)
    draw.rectangle((0, 0, width - 1, height - 1), outline=DARK)
    draw_text(draw, margin, height / 2, text, size, DARK)
    pixels = np.array(label)
    pixels.flags.writeable = False
    return pixels


def _fit(label: str, score: str, size: int, width: int) -> str:
    """Label and score, the label cut as far as `width` pixels need; "" when not even the score has room."""
    cuts = (f"{label[:length].rstrip()}. {score}" for length in range(len(label) - 1, 0, -1))
    return next((text for text in (f"{label} {score}".strip(), *cuts, score) if text_length(text, size) <= width), "")


def _place(rect: Rect, width: int, height: int, right: int, bottom: int, taken: list[Rect]) -> Rect:
    """Where a label goes: above its box, inside at its top, below, or inside at its bottom; clear of others.

    Parameters
    ----------
    width, height: of the label. right, bottom: of the picture.
    """
    first: Rect | None = None
    for x in (rect[0], rect[2] - width):
        for y in (rect[1] - height, rect[1], rect[3], rect[3] - height):
            left, top = min(max(x, 0), right - width), min(max(y, 0), bottom - height)
            end, foot = left + width, top + height
            first = first or (left, top, end, foot)
            for x0, y0, x1, y1 in taken:
                if left < x1 and x0 < end and top < y1 and y0 < foot:
                    break
            else:
                return left, top, end, foot
    return first or rect
