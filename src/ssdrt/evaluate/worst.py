"""The pictures with most mistakes, on one sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ssdrt.evaluate.data_set import DataSet, Picture
from ssdrt.evaluate.row import Row
from ssdrt.sinks.draw import DARK, Colour
from ssdrt.sinks.fonts import font_for
from ssdrt.sources.photo import read_photo

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

RIGHT, FALSE, MISSED = "right", "false", "missed"
COLOURS: dict[str, Colour] = {MISSED: (255, 196, 0), FALSE: (255, 72, 60), RIGHT: (70, 220, 110)}
COLUMNS, ROWS = 4, 3
WIDTH, HEIGHT, CAPTION, HEAD = 380, 300, 30, 78  # of a tile, the line below it, and what stands above all, in pixels
GAP = 10


@dataclass
class Mistakes:
    """A picture's boxes: what each of them is, x0 y0 width height in pixels, and the name of its class."""

    picture: Picture
    boxes: list[tuple[str, Sequence[float], str]] = field(default_factory=list)

    def count(self, verdict: str) -> int:
        """How many boxes are right, false or missed."""
        return sum(box[0] == verdict for box in self.boxes)

    @property
    def total(self) -> int:
        """False detections and missed objects."""
        return self.count(FALSE) + self.count(MISSED)


def best_score(row: Row) -> float:
    """The score at which F1 of all detections together is best at an IoU of 0.5; 1 when nothing is right."""
    matches = row.judgement.matches
    rows = np.concatenate([one.row[one.counted[0]] for one in matches])
    hits = np.concatenate([one.hit[0][one.counted[0]] for one in matches])
    if not hits.any():
        return 1.0
    scores = np.array([row.results[number]["score"] for number in rows])
    order = np.argsort(-scores)
    objects = sum(int(one.objects.sum()) for one in matches)
    f1 = 2 * np.cumsum(hits[order]) / (np.arange(1, len(order) + 1) + objects)
    return float(scores[order][f1.argmax()])


def find_mistakes(data: DataSet, row: Row, score: float) -> list[Mistakes]:
    """What was right, false and missed in every judged picture, most mistakes first.

    A detection is right if it overlaps an object of its class that no better one has found by an IoU of at least 0.5.
    What scores below `score` is as good as not there.
    """
    found = {one.id: Mistakes(one) for one in data.pictures if one.id not in row.broken}
    for matches in row.judgement.matches:
        for number, hit, counted in zip(matches.row.tolist(), matches.hit[0], matches.counted[0], strict=True):
            result = row.results[number]
            if counted and result["score"] >= score:
                name = data.categories[result["category_id"]]
                found[result["image_id"]].boxes.append((RIGHT if hit else FALSE, result["bbox"], name))
    for number, one in enumerate(data.annotations):
        finder = row.judgement.finder.get(number)
        missed = finder is None or row.results[finder]["score"] < score
        if missed and not one.crowd and one.picture in found:
            found[one.picture].boxes.append((MISSED, one.box_xywh, data.categories[one.category]))
    return sorted(found.values(), key=lambda mistakes: -mistakes.total)


def contact_sheet(data: DataSet, row: Row) -> Image:
    """The pictures with most mistakes, at most 12, each with its boxes and what they are."""
    from PIL import Image, ImageDraw

    score = best_score(row)
    worst = [one for one in find_mistakes(data, row, score)[: COLUMNS * ROWS] if one.total]
    lines = max(1, -(-len(worst) // COLUMNS))
    size = (COLUMNS * (WIDTH + GAP) + GAP, HEAD + lines * (HEIGHT + CAPTION + GAP))
    sheet = Image.new("RGB", size, (24, 26, 30))
    draw = ImageDraw.Draw(sheet)
    _head(draw, f"{row.name}: most mistakes at a score of {score:.2f} (where F1 is best) and an IoU of 0.5")
    for (left, top), mistakes in zip(_places(), worst, strict=False):
        tile = _tile(mistakes)
        sheet.paste(tile, (left + (WIDTH - tile.width) // 2, top + (HEIGHT - tile.height) // 2))
        numbers = ", ".join(f"{mistakes.count(verdict)} {verdict}" for verdict in COLOURS)
        name = mistakes.picture.path.name
        text = f"{name if len(name) <= 24 else name[:10] + '...' + name[-10:]}: {numbers}"
        draw.text((left + WIDTH / 2, top + HEIGHT + 4), text, (225, 228, 232), font_for(text, 15), "ma")
    return sheet


def _head(draw: ImageDraw, title: str) -> None:
    draw.text((GAP, 10), title, (245, 245, 245), font_for(title, 20))
    left = float(GAP)
    for verdict, colour in COLOURS.items():
        text = {MISSED: "an object that was missed", FALSE: "a false detection", RIGHT: "a right one"}[verdict]
        draw.rectangle((left, 46, left + 16, 62), outline=colour, width=3)
        draw.text((left + 24, 54), text, (225, 228, 232), font_for(text, 15), "lm")
        left += 24 + font_for(text, 15).getlength(text) + 24


def _places() -> Iterator[tuple[int, int]]:
    for number in range(COLUMNS * ROWS):
        row, column = divmod(number, COLUMNS)
        yield GAP + column * (WIDTH + GAP), HEAD + row * (HEIGHT + CAPTION + GAP)


def _tile(mistakes: Mistakes) -> Image:
    """The picture as large as a tile allows; what is right lies below what is not."""
    from PIL import Image, ImageDraw

    photo = Image.fromarray(read_photo(mistakes.picture.path))
    scale = min(WIDTH / photo.width, HEIGHT / photo.height)
    tile = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    draw = ImageDraw.Draw(tile)
    for verdict in reversed(COLOURS):
        for kind, box_xywh, name in mistakes.boxes:
            if kind == verdict:
                _box(draw, tile.width, [value * scale for value in box_xywh], name, COLOURS[verdict])
    return tile


def _box(draw: ImageDraw, limit: int, box_xywh: list[float], name: str, colour: Colour) -> None:
    x0, y0, width, height = box_xywh
    x1, y1 = x0 + max(width, 2), y0 + max(height, 2)
    draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=DARK)
    draw.rectangle((x0, y0, x1, y1), outline=colour, width=2)
    font = font_for(name, 11)
    width = font.getlength(name) + 5
    left, top = max(0, min(x0, limit - width)), max(0, y0)
    draw.rectangle((left, top, left + width, top + 14), fill=colour)
    draw.text((left + 3, top + 7), name, DARK, font, "lm")
