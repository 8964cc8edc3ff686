"""What a training shows of itself: a picture of its losses and accuracy, and pictures of what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ssdrt.sinks.base import whole_file
from ssdrt.sinks.draw import annotate, colour_of
from ssdrt.train.measure import detect_examples

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

    from ssdrt.model import SsdModel
    from ssdrt.train.data import Examples
    from ssdrt.train.network import Weights

State = dict[str, Any]

WIDTH, HEIGHT, MARGIN = 900, 320, 48  # of one panel, pixels
LOSSES = ("boxes", "classes", "faithfulness")
ROWS, COLUMNS, SIDE = 3, 4, 240  # of the grid of predictions
SHOWN = 0.3  # score from which a detection is drawn


def draw_history(history: State, steps: int, path: Path) -> None:
    """Write a PNG: losses, smoothed, on a logarithmic scale; below them AP50 by class where it was measured.

    Raises
    ------
    SinkError: it cannot be written.
    """
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (WIDTH, 2 * HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    losses = np.maximum(_smoothed(np.array(history["loss"], np.float64)), 1e-4)
    curves = {name: list(enumerate(np.log10(losses[:, k]).tolist(), 1)) for k, name in enumerate(LOSSES)}
    curves = {name: curve for name, curve in curves.items() if max(y for _, y in curve) > -4}
    low = min((y for curve in curves.values() for _, y in curve), default=-1.0)
    high = max((y for curve in curves.values() for _, y in curve), default=1.0)
    _panel(draw, 0, "loss", curves, steps, (low, max(high, low + 0.1)), lambda y: f"{10**y:.2g}")
    measured = {name for _, numbers in history["measured"] for name in numbers}
    scores = {
        name: [(step, numbers[name][1]) for step, numbers in history["measured"] if name in numbers]
        for name in sorted(measured)
    }
    _panel(draw, HEIGHT, "AP50", scores, steps, (0.0, 1.0), lambda y: f"{y:.1f}")
    with whole_file(path) as file:
        picture.save(file, "PNG")


def draw_predictions(model: SsdModel, weights: Weights, examples: Examples, path: Path) -> None:
    """Write a JPEG: what is found in the first pictures, as the network sees them.

    Raises
    ------
    SinkError: it cannot be written.
    """
    from PIL import Image

    count = min(ROWS * COLUMNS, len(examples.sizes))
    sheet = Image.new("RGB", (COLUMNS * SIDE, ROWS * SIDE), "white")
    step = len(examples.sizes) // count
    chosen = _every(examples, step)
    for place, found in enumerate(detect_examples(model, weights, chosen, count)):
        width, height = found.width, found.height
        pixels = chosen.pictures[place].permute(1, 2, 0).cpu().numpy()
        shown = np.asarray(Image.fromarray(pixels).resize((width, height)))
        drawn = Image.fromarray(annotate(shown, found[found.scores > SHOWN]))
        drawn.thumbnail((SIDE, SIDE))
        sheet.paste(drawn, (place % COLUMNS * SIDE, place // COLUMNS * SIDE))
    with whole_file(path) as file:
        sheet.save(file, "JPEG", quality=90)


def _every(examples: Examples, step: int) -> Examples:
    """Each step-th picture, so that the grid shows all parts of a sorted data set."""
    from dataclasses import replace

    return replace(examples, pictures=examples.pictures[::step], sizes=examples.sizes[::step])


def _smoothed(losses: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Running mean over a fiftieth of what there is."""
    window = max(1, len(losses) // 50)
    totals = np.cumsum(np.concatenate([np.repeat(losses[:1], window, 0), losses]), 0)
    means: np.ndarray[Any, np.dtype[np.float64]] = (totals[window:] - totals[:-window]) / window
    return means


def _panel(
    draw: ImageDraw,
    top: int,
    title: str,
    curves: dict[str, list[tuple[int, float]]],
    steps: int,
    span: tuple[float, float],
    word: Any,
) -> None:
    low, high = span
    left, right, upper, lower = MARGIN + 20, WIDTH - MARGIN, top + MARGIN, top + HEIGHT - MARGIN

    def place(step: float, y: float) -> tuple[float, float]:
        return left + step / steps * (right - left), lower - (y - low) / (high - low) * (lower - upper)

    for part in np.linspace(low, high, 6).tolist():
        draw.line([place(0, part), place(steps, part)], (220, 220, 220))
        draw.text((8, place(0, part)[1] - 6), word(part), "black")
    draw.text((left, top + 12), f"{title}, {steps} steps", "black", font_size=16)
    names: Sequence[str] = list(curves)
    for number, name in enumerate(names):
        colour = tuple(value * 3 // 4 for value in colour_of(number + 1))
        points = [place(step, y) for step, y in curves[name]]
        draw.line(points, colour, 2)
        for x, y in points if len(points) < 100 else ():
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
        draw.text((left + 220 + 120 * number, top + 14), name, colour, font_size=14)
