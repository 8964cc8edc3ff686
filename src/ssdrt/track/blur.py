"""Privacy: the boxes of some classes as a coarse mosaic, before anything is drawn, written or shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssdrt.sources.base import Pixels
from ssdrt.track.motion import overlaps

MARGIN = 0.1
"""How far around a box is covered too, in parts of its width and height."""

BLOCKS = 8
"""Squares of the mosaic across the shorter side of a box: too few to know a face by."""

HOLD = 0.5
"""Seconds for which a place stays covered when the object in it is not found in some frames."""

SEEN_AGAIN = 0.3
"""Overlap from which a box takes the place of one that is held."""


class Blur:
    """Covers objects of one video; what is missed in a few frames stays covered where it was."""

    def __init__(self) -> None:
        self._held: list[tuple[float, NDArray[np.float64]]] = []  # when it was found, and its box

    def cover(self, image: Pixels, boxes_xyxy: NDArray[np.float32], time: float | None) -> Pixels:
        """The picture with these boxes covered, and those held; the original is left alone.

        Parameters
        ----------
        image: (height, width, 3) uint8 RGB.
        boxes_xyxy: (n, 4) in pixels.
        time: of the frame in seconds; None for a photo, which has nothing to do with the one before.
        """
        fresh = boxes_xyxy.astype(np.float64)
        held = [one for one in self._held if time is not None and 0 <= time - one[0] <= HOLD]
        if held and len(fresh):
            nearest = overlaps(np.array([box for _, box in held]), fresh).max(axis=1)
            held = [one for one, overlap in zip(held, nearest, strict=True) if overlap < SEEN_AGAIN]
        self._held = held + [(time, box) for box in fresh] if time is not None else []
        return pixelate(image, np.array([*fresh, *(box for _, box in held)]).reshape(-1, 4))


def pixelate(image: Pixels, boxes_xyxy: NDArray[np.float64]) -> Pixels:
    """A copy with a mosaic over every box and `MARGIN` around it; the picture itself if there is no box in it."""
    from PIL import Image

    height, width = image.shape[:2]
    margins = np.tile((boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) * MARGIN, 2) * (-1, -1, 1, 1)
    grown = np.clip(boxes_xyxy + margins, 0, (width, height, width, height))
    corners = np.concatenate([np.floor(grown[:, :2]), np.ceil(grown[:, 2:])], axis=1).astype(int)
    covered = image
    for x0, y0, x1, y1 in corners.tolist():
        if x1 <= x0 or y1 <= y0:
            continue
        if covered is image:
            covered = image.copy()
        block = max(4, -(-min(x1 - x0, y1 - y0) // BLOCKS))
        means = np.asarray(Image.fromarray(image[y0:y1, x0:x1]).reduce(block))
        mosaic = means.repeat(block, axis=0).repeat(block, axis=1)
        covered[y0:y1, x0:x1] = mosaic[: y1 - y0, : x1 - x0]
    return covered
