"""Where boxes will be: Kalman filters of constant velocity, for many boxes at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STEP = 1 / 30
"""Seconds in which a box moves by its velocity; the deviations below are those of ByteTrack, a step each."""

POSITION, VELOCITY = 1 / 20, 1 / 160
"""Standard deviations of position and velocity, in widths (of x and w) and heights (of y and h) of the box."""


class Motion:
    """State of n boxes: centre x, centre y, width, height, (n, 4) each, with their velocities and covariances.

    The four coordinates know nothing of each other, so each has a filter of two states of its own:
    R. E. Kalman, 1960, with the noise of Zhang et al., ByteTrack, ECCV 2022.
    """

    def __init__(self) -> None:
        self.place = np.zeros((0, 4))
        self.velocity = np.zeros((0, 4))
        self._pp, self._pv, self._vv = np.zeros((3, 0, 4))  # covariances: place, place with velocity, velocity

    @property
    def boxes_xyxy(self) -> Array:
        """(n, 4) float64, where the boxes are thought to be."""
        half = self.place[:, 2:] / 2
        return np.concatenate([self.place[:, :2] - half, self.place[:, :2] + half], axis=1)

    def predict(self, seconds: float) -> None:
        """Let the boxes move on."""
        steps = seconds / STEP
        size = self._size()
        self.place += steps * self.velocity
        self.place[:, 2:] = np.maximum(self.place[:, 2:], 1e-3)
        self._pp += steps * (2 * self._pv + steps * self._vv) + steps * (POSITION * size) ** 2
        self._pv += steps * self._vv
        self._vv += steps * (VELOCITY * size) ** 2

    def correct(self, which: NDArray[np.int64], boxes_xyxy: Array) -> None:
        """Take in where some of the boxes were seen: (k,) of them, (k, 4)."""
        noise = (POSITION * self._size()[which]) ** 2
        error = _places(boxes_xyxy) - self.place[which]
        pp, pv = self._pp[which], self._pv[which]
        gain, turn = pp / (pp + noise), pv / (pp + noise)
        self.place[which] += gain * error
        self.velocity[which] += turn * error
        self._vv[which] -= turn * pv
        self._pp[which], self._pv[which] = pp * (1 - gain), pv * (1 - gain)

    def add(self, boxes_xyxy: Array) -> None:
        """New boxes at the end, of unknown velocity."""
        place = _places(boxes_xyxy)
        size = np.tile(place[:, 2:], 2)
        self.place = np.concatenate([self.place, place])
        self.velocity = np.concatenate([self.velocity, np.zeros_like(place)])
        self._pp = np.concatenate([self._pp, (2 * POSITION * size) ** 2])
        self._pv = np.concatenate([self._pv, np.zeros_like(place)])
        self._vv = np.concatenate([self._vv, (10 * VELOCITY * size) ** 2])

    def keep(self, which: NDArray[np.bool_]) -> None:
        """Forget the others."""
        self.place, self.velocity = self.place[which], self.velocity[which]
        self._pp, self._pv, self._vv = self._pp[which], self._pv[which], self._vv[which]

    def _size(self) -> Array:
        """What the noise is measured in, for each coordinate: width, height, width, height."""
        return np.tile(np.maximum(self.place[:, 2:], 1.0), 2)


def overlaps(a_xyxy: Array, b_xyxy: Array) -> Array:
    """(n, m) intersection over union of (n, 4) and (m, 4) boxes; 0 for boxes without area."""
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    areas = [np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1) for boxes in (a_xyxy, b_xyxy)]
    union: Array = areas[0][:, None] + areas[1][None, :] - shared
    return np.where(union > 0, shared / np.where(union > 0, union, 1), 0.0)


def _places(boxes_xyxy: Array) -> Array:
    return np.concatenate([(boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1)
