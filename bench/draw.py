"""Time of drawing 20 boxes with labels on 720p, against Pillow's drawing of the same picture.

    python bench/draw.py [RESULT.json]

The two take turns, picture by picture, on the same made-up detections ("in a row": pictures one after the other,
without what empties the caches between); Pillow draws the rectangles and labels anew in each picture, as ssdrt did at
first, and must come to the same pixels.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ssdrt.detections import Detections
from ssdrt.sinks.draw import DARK, annotate, colour_of, draw_on, layout
from ssdrt.sinks.fonts import font_for

WIDTH, HEIGHT, BOXES = 1280, 720, 20
NAMES = ("person", "bicycle", "car", "motorcycle", "bus", "truck", "traffic light", "dog")
PICTURES, ROUNDS = 100, 5


def detections(rng: np.random.Generator) -> Detections:
    """Boxes of 40 to 300 pixels anywhere, every score with two digits of its own."""
    centres, sizes = rng.uniform(0, 1, (BOXES, 2)) * (WIDTH, HEIGHT), rng.uniform(40, 300, (BOXES, 2))
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], 1).astype(np.float32)
    ids = rng.integers(1, len(NAMES) + 1, BOXES)
    scores = np.sort(rng.uniform(0.3, 1, BOXES).astype(np.float32))[::-1]
    return Detections(boxes, scores, ids, np.array([NAMES[i - 1] for i in ids]), WIDTH, HEIGHT)


def with_pillow(image: np.ndarray, found: Detections) -> np.ndarray:
    """The same picture by Pillow, from the same places."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    drawn = layout(found, WIDTH, HEIGHT)
    line, rim = drawn.line, drawn.rim
    for (x0, y0, x1, y1), colour in reversed(drawn.boxes):
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=DARK, width=line + 2 * rim)
        draw.rectangle((x0 + rim, y0 + rim, x1 - 1 - rim, y1 - 1 - rim), outline=colour, width=line)
    size = round((WIDTH * HEIGHT) ** 0.5 / 40)
    texts = [f"{name} {score:.0%}" for name, score in zip(found.labels, found.scores, strict=True)]
    for (left, top, label), text, class_id in zip(
        drawn.labels[::-1], texts[::-1], found.class_ids[::-1].tolist(), strict=True
    ):
        height, width = label.shape[:2]
        draw.rectangle((left, top, left + width - 1, top + height - 1), fill=colour_of(class_id), outline=DARK)
        draw.text((left + height // 5, top + height / 2), text, DARK, font_for(text, size), "lm")
    return np.asarray(picture)


def milliseconds(draw, *arguments) -> float:
    """How long one call takes."""
    begin = time.perf_counter()
    draw(*arguments)
    return (time.perf_counter() - begin) * 1e3


def main() -> None:
    """Measure, print, and write the result."""
    rng = np.random.default_rng(7)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    canvas, pictures = image.copy(), [detections(rng) for _ in range(PICTURES)]
    equal = all(np.array_equal(annotate(image, found), with_pillow(image, found)) for found in pictures)
    times: dict[str, list[float]] = {"in place": [], "in place, in a row": [], "copy": [], "pillow": []}
    for _ in range(ROUNDS):
        for found in pictures:
            np.copyto(canvas, image)
            times["in place, in a row"].append(milliseconds(draw_on, canvas, found))
        for found in pictures:
            np.copyto(canvas, image)  # as whoever draws in a buffer of its own does; not counted
            times["in place"].append(milliseconds(draw_on, canvas, found))
            times["copy"].append(milliseconds(annotate, image, found))
            times["pillow"].append(milliseconds(with_pillow, image, found))
    row = {
        name: {"median_ms": statistics.median(of), "p90_ms": statistics.quantiles(of, n=10)[-1]}
        for name, of in times.items()
    }
    ratio = statistics.median(b / a for a, b in zip(times["in place"], times["pillow"], strict=True))
    result = {
        "command": "python bench/draw.py",
        "machine": platform.machine(),
        "picture": [WIDTH, HEIGHT],
        "boxes": BOXES,
        "same_pixels": equal,
        "pillow_to_in_place": ratio,
        "times": row,
    }
    print(json.dumps(result, indent=2))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
