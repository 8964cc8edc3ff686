"""The demo's picture: coloured discs and squares of two sizes on grey cloth, drawn with numpy, the same every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 480, 360  # pixels

Floats = NDArray[np.float64]

_PAINT = {
    "red": (206, 44, 40), "green": (44, 160, 60), "blue": (40, 70, 200),
    "yellow": (236, 204, 70), "white": (238, 236, 230), "black": (48, 46, 50),
}  # fmt: skip


@dataclass(frozen=True)
class DrawnShape:
    """One shape: its colour, kind, centre (x, y) and extent across, in pixels."""

    colour: str
    kind: Literal["disc", "square"]
    x: float
    y: float
    size: float

    @property
    def box_xyxy(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1) in pixels."""
        half = self.size / 2
        return self.x - half, self.y - half, self.x + half, self.y + half


SHAPES = (
    DrawnShape("blue", "disc", 150, 270, 150),
    DrawnShape("red", "square", 330, 90, 150),
    DrawnShape("green", "square", 55, 52, 80),
    DrawnShape("red", "disc", 50, 172, 84),
    DrawnShape("green", "disc", 360, 304, 84),
    DrawnShape("blue", "square", 436, 212, 76),
)
"""What there is to find. Nothing else of these colours lies in the rows or columns through a shape's middle, near it:
the demo graph takes one line of colour for one object."""

_DISTRACTORS = (
    DrawnShape("yellow", "disc", 176, 66, 64),
    DrawnShape("white", "square", 218, 150, 44),
    DrawnShape("black", "disc", 276, 232, 52),
    DrawnShape("white", "disc", 262, 322, 40),
)


def demo_picture() -> NDArray[np.uint8]:
    """(360, 480, 3) uint8 RGB: `SHAPES`, among shapes of colours that the demo graph has no class for."""
    y, x = np.mgrid[0.5:HEIGHT, 0.5:WIDTH]
    picture = _cloth(x, y)
    for shape in (*_DISTRACTORS, *SHAPES):
        shadow = np.clip(0.5 - _distance(shape, x - 5, y - 7) / 14, 0, 1)[..., None]
        picture *= 1 - 0.4 * shadow
        light = 1.08 - 0.16 * ((x - shape.x) + (y - shape.y)) / shape.size
        inside = np.clip(0.5 - _distance(shape, x, y), 0, 1)[..., None]
        picture += inside * (light[..., None] * _PAINT[shape.colour] - picture)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _cloth(x: Floats, y: Floats) -> Floats:
    """Grey weave that gets darker towards the corners."""
    weave = 5 * np.sin(x * 1.9) * np.sin(y * 1.7) + 4 * np.sin(0.31 * x + 0.11 * y) + 4 * np.sin(0.07 * x - 0.23 * y)
    corner = np.hypot(x / WIDTH - 0.5, y / HEIGHT - 0.5)
    light: Floats = 168 + weave - 70 * corner**2
    cloth: Floats = light[..., None] * np.array([1.0, 0.99, 0.97])
    return cloth


def _distance(shape: DrawnShape, x: Floats, y: Floats) -> Floats:
    """Pixels from the outline, negative inside."""
    dx, dy = abs(x - shape.x), abs(y - shape.y)
    distance: Floats = (np.hypot(dx, dy) if shape.kind == "disc" else np.maximum(dx, dy)) - shape.size / 2
    return distance
