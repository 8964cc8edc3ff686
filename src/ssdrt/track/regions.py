"""Zones and lines: what is in them, what goes in and out, and what crosses."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections

Json = dict[str, Any]

HYSTERESIS = 0.05
"""How far from a line, in sizes of its box (square root of the area), an object is clearly on one side."""

MOST_TRACKS = 1000
"""How many tracks a zone or line remembers; those of a second or more ago never come back."""

FARTHEST = 100_000
"""Pixels; drawing takes as long as a region is large."""

T = TypeVar("T")


@dataclass(frozen=True)
class Region:
    """A zone (three corners or more) or a line (two ends), as the user gave it.

    points: (x, y) from the top left corner; parts of the picture's width and height if none is above 1, else pixels.
    """

    name: str
    points: tuple[tuple[float, float], ...]

    def in_pixels(self, width: int, height: int) -> NDArray[np.float64]:
        """(n, 2) float64 corners in pixels of a picture."""
        points = np.array(self.points, np.float64)
        return points * (width, height) if (points <= 1).all() else points


def read_region(text: str, least: int, most: int | None = None) -> Region:
    """A region from `NAME=x0,y0,x1,y1,...` with `least` points or more, `most` at most.

    Raises
    ------
    ValueError: it is none, and the message says why.
    """
    name, equals, values = text.partition("=")
    try:
        numbers = [float(value) for value in values.split(",")]
    except ValueError:
        numbers = []
    count = len(numbers) // 2
    if not (name.strip() and equals and numbers) or len(numbers) % 2 or not all(0 <= n < math.inf for n in numbers):
        raise ValueError(f"{text!r} is not NAME=x0,y0,x1,y1,... in pixels, or in parts of the picture from 0 to 1")
    if count < least or (most is not None and count > most):
        needed = f"{least} points" if most == least else f"at least {least} points"
        raise ValueError(f"{text!r} has {count} point{'' if count == 1 else 's'} and needs {needed}")
    if max(numbers) > FARTHEST:
        raise ValueError(f"{text!r} has a point beyond {FARTHEST} pixels")
    points = np.array(numbers).reshape(-1, 2)
    if np.linalg.matrix_rank(points - points[0]) < min(least - 1, 2):
        raise ValueError(f"{text!r} has no {'area' if least > 2 else 'length'}")
    return Region(name.strip(), tuple(zip(numbers[::2], numbers[1::2], strict=True)))


def count_labels(found: Detections) -> dict[str, int]:
    """How many there are of each label, the most frequent first."""
    return dict(Counter(found.labels.tolist()).most_common())


def standing_points(found: Detections) -> NDArray[np.float64]:
    """(n, 2) float64: where the objects stand, the middles of the lower edges of their boxes, inside the picture."""
    x = (found.boxes_xyxy[:, 0] + found.boxes_xyxy[:, 2]) / 2
    points = np.stack([x, found.boxes_xyxy[:, 3]], axis=1).astype(np.float64)
    return np.clip(points, 0.5, np.array([found.width, found.height]) - 0.5)


def inside(points: NDArray[np.float64], polygon: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) bool: which of (n, 2) points a polygon of (m, 2) corners encloses, by the even-odd rule."""
    x, y = points[:, 0, None], points[:, 1, None]
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    spans = (y0 > y) != (y1 > y)
    crossing = x0 + (y - y0) * (x1 - x0) / np.where(y1 == y0, 1, y1 - y0)
    within: NDArray[np.bool_] = (spans & (x < crossing)).sum(axis=1) % 2 == 1
    return within


class ZoneCount:
    """One zone of one video: who is in it, and with tracking who has been."""

    def __init__(self, zone: Region) -> None:
        self._zone = zone
        self._is_in: dict[int, bool] = {}  # of the tracks that ever were
        self._total: Counter[str] = Counter()

    def update(self, found: Detections) -> tuple[Json, list[Json]]:
        """The zone's record of one frame, and who was seen to go in or out: {"zone", "kind": "enter" or "leave", ...}.

        A track that is lost in the zone does not leave it.
        """
        polygon = self._zone.in_pixels(found.width, found.height)
        within = inside(standing_points(found), polygon)
        record: Json = {"polygon": np.round(polygon, 2).tolist(), "counts": count_labels(found[within])}
        if found.track_ids is None:
            return record, []
        events = list[Json]()
        for track, label, is_in in zip(found.track_ids.tolist(), found.labels.tolist(), within.tolist(), strict=True):
            was_in = self._is_in.get(track)
            if track < 0 or not (is_in or was_in is not None):
                continue
            if is_in != bool(was_in):
                events.append(_event("zone", self._zone, "enter" if is_in else "leave", track, label))
            self._total[label] += was_in is None
            _remember(self._is_in, track, is_in)
        return {**record, "total": dict(self._total)}, events


class LineCount:
    """One line of one video: how many tracks crossed it.

    Looking from its first end to its second, "in" is from its left hand to its right: downwards over a line drawn from
    left to right.
    """

    def __init__(self, line: Region) -> None:
        self._line = line
        self._in: Counter[str] = Counter()
        self._out: Counter[str] = Counter()
        self._last: dict[int, tuple[float, NDArray[np.float64]]] = {}  # where a track was last clearly on one side

    def update(self, found: Detections) -> tuple[Json, list[Json]]:
        """The line's record of one frame, and who crossed it: {"line", "kind": "in" or "out", ...}."""
        start, end = self._line.in_pixels(found.width, found.height)
        along = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
        points, events = standing_points(found), list[Json]()
        sides = along[0] * (points[:, 1] - start[1]) - along[1] * (points[:, 0] - start[0])  # pixels, right is above 0
        sizes = np.sqrt(np.maximum((found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]).prod(axis=1), 1))
        tracks = [] if found.track_ids is None else found.track_ids.tolist()
        for track, label, point, side, size in zip(tracks, found.labels.tolist(), points, sides, sizes, strict=False):
            if track < 0 or abs(side) < HYSTERESIS * size:
                continue
            before = self._last.get(track)
            if before is not None and before[0] * side < 0 and _passes(before, (side, point), start, end):
                kind, count = ("in", self._in) if side > 0 else ("out", self._out)
                count[label] += 1
                events.append(_event("line", self._line, kind, track, label))
            _remember(self._last, track, (float(side), point))
        record = {"line": np.round([start, end], 2).tolist(), "in": dict(self._in), "out": dict(self._out)}
        return record, events


def _passes(
    before: tuple[float, NDArray[np.float64]],
    now: tuple[float, NDArray[np.float64]],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
) -> bool:
    """Whether the way between two points on both sides of an endless line leads between its ends."""
    crossing = before[1] + (now[1] - before[1]) * before[0] / (before[0] - now[0])
    return bool(0 <= (crossing - start) @ (end - start) <= (end - start) @ (end - start))


def _remember(about: dict[int, T], track: int, what: T) -> None:
    """Note what is known of a track; of the tracks not seen for the longest, nothing."""
    about.pop(track, None)
    about[track] = what
    if len(about) > MOST_TRACKS:
        about.pop(next(iter(about)))


def _event(what: str, region: Region, kind: str, track: int, label: str) -> Json:
    return {what: region.name, "kind": kind, "track_id": track, "label": label}
