"""Tracking after ByteTrack (Zhang et al., ECCV 2022): weak detections continue tracks, strong ones begin them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections
from ssdrt.track.assignment import assign
from ssdrt.track.motion import Array, Motion, overlaps

WEAKEST = 0.1
"""Least score of a detection that can continue a track."""

BEGIN = 0.1
"""How much a score must be above the threshold to begin a track (half of what there is, if that is less); ByteTrack's.
Doubles of an object, which come and go, seldom are."""

MEMORY = 1.0
"""Seconds that a track outlives its last detection; ByteTrack's 30 frames of 30 Hz. So tracking needs more than one
frame a second."""

FAITH = 2.0
"""Seconds that a track lives on weak detections alone."""

BY_SCORE, BY_PLACE = 0.8, 0.7
"""Highest costs of a pair: 1 - overlap * score for known tracks and strong detections, as in ByteTrack; 1 - overlap for
known tracks and what is left, and for tracks seen once. ByteTrack allows weak ones 0.5, and only for tracks seen in
the frame before: on the scenes of bench/tracking.py that misses objects in 16 to 19 % of frames, this in 13 to 15."""

OTHER_CLASS = 2.0
"""Cost above all limits."""


class Tracker:
    """The objects of one video. Those of one class are told apart by where they move; a class never becomes another."""

    def __init__(self) -> None:
        self._last_id = 0
        self._clear()

    def _clear(self) -> None:
        self._motion = Motion()
        self._ids, self._classes = np.zeros((2, 0), np.int64)
        self._strong_at, self._seen_at = np.zeros((2, 0))  # seconds
        self._time: float | None = None

    def update(self, found: Detections, thresholds: NDArray[np.float32], time: float) -> NDArray[np.int64]:
        """The track of every detection, (n,) int64, from 1; -1 for a weak one without, or one never seen before.

        An object has a number from its second strong detection on; those of the first frame at once.

        Parameters
        ----------
        thresholds: (n,) of each detection; above its own it is strong and would count without tracking, and a little
            above (`BEGIN`) it may begin a track.
        time: of the frame, in seconds; one that is not after the last begins a new video, of new numbers.
        """
        if self._time is not None and time <= self._time:
            self._clear()
        first, before = self._time is None, self._time
        self._keep((time - self._seen_at <= MEMORY) & (time - self._strong_at <= FAITH))
        if before is not None:
            self._motion.predict(time - before)
        self._time = time

        boxes_xyxy, strong = found.boxes_xyxy.astype(np.float64), found.scores > thresholds
        known = self._ids > 0
        usable = strong | (found.scores > WEAKEST)
        track_of = np.full(len(found), -1, np.int64)  # index of a track
        self._pair(found, boxes_xyxy, known, strong, BY_SCORE, track_of)
        self._pair(found, boxes_xyxy, known, usable, BY_PLACE, track_of)  # what is strong has no worse a chance
        self._pair(found, boxes_xyxy, ~known, strong, BY_PLACE, track_of)

        paired = np.flatnonzero(track_of >= 0)
        self._motion.correct(track_of[paired], boxes_xyxy[paired])
        self._seen_at[track_of[paired]] = time
        self._strong_at[track_of[paired[strong[paired]]]] = time
        for young in np.flatnonzero((self._ids < 0) & (self._seen_at == time)):
            self._ids[young] = self._next_id()

        can_begin = found.scores > np.minimum(thresholds + BEGIN, (1 + thresholds) / 2)
        new = np.flatnonzero(can_begin & (track_of < 0))
        track_of[new] = np.arange(len(self._ids), len(self._ids) + len(new))
        self._begin(found.class_ids[new], boxes_xyxy[new], time, first)
        ids = np.where(track_of >= 0, np.append(self._ids, -1)[track_of], -1)
        self._keep((self._ids > 0) | (self._seen_at == time))
        return ids

    def _pair(
        self,
        found: Detections,
        boxes_xyxy: Array,
        tracks: NDArray[np.bool_],
        detections: NDArray[np.bool_],
        limit: float,
        track_of: NDArray[np.int64],
    ) -> None:
        """Pair some of the tracks with some of the detections, those that have no partner yet."""
        free = np.ones(len(self._ids), bool)
        free[track_of[track_of >= 0]] = False
        rows, columns = np.flatnonzero(tracks & free), np.flatnonzero(detections & (track_of < 0))
        likeness = overlaps(self._motion.boxes_xyxy[rows], boxes_xyxy[columns])
        if limit == BY_SCORE:
            likeness *= found.scores[columns]
        costs = np.where(self._classes[rows, None] == found.class_ids[columns], 1 - likeness, OTHER_CLASS)
        picked_rows, picked_columns = assign(costs, limit)
        track_of[columns[picked_columns]] = rows[picked_rows]

    def _begin(self, class_ids: NDArray[np.int64], boxes_xyxy: Array, time: float, first: bool) -> None:
        self._motion.add(boxes_xyxy)
        ids = [self._next_id() if first else -1 for _ in class_ids]
        self._ids = np.concatenate([self._ids, np.array(ids, np.int64)])
        self._classes = np.concatenate([self._classes, class_ids])
        self._strong_at = np.concatenate([self._strong_at, np.full(len(ids), time)])
        self._seen_at = np.concatenate([self._seen_at, np.full(len(ids), time)])

    def _keep(self, which: NDArray[np.bool_]) -> None:
        """Forget the other tracks."""
        self._motion.keep(which)
        self._ids, self._classes = self._ids[which], self._classes[which]
        self._strong_at, self._seen_at = self._strong_at[which], self._seen_at[which]

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id
