"""`Analytics`: what happens to detections between the detector and whoever shows or writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ssdrt.detections import Detections
from ssdrt.sources.base import Frame
from ssdrt.track.blur import Blur
from ssdrt.track.bytetrack import WEAKEST, Tracker
from ssdrt.track.regions import LineCount, Region, ZoneCount, count_labels
from ssdrt.track.selection import of_classes, thresholds, wanted

Options = Mapping[str, Any]
"""The keyword arguments of `Detector.detect`."""


class Analytics:
    """Tracks, counts and blurs, a frame at a time, any number of sources at once. One thread at a time may use one.

    >>> analytics = Analytics(track=True)                                  # doctest: +SKIP
    >>> found = detector.detect(frame.image, **analytics.widen(options))   # doctest: +SKIP
    >>> frame, found = analytics(frame, found, options)                    # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        track: bool = False,
        zones: Sequence[Region] = (),
        lines: Sequence[Region] = (),
        blur: Sequence[str] = (),
    ) -> None:
        """What to do.

        Parameters
        ----------
        track: number the objects; `lines` do so in any case.
        zones, lines: of three points or more, and of two.
        blur: names or ids of the classes to cover.
        """
        self._track = track or bool(lines)
        self._zones, self._lines, self._blurred = tuple(zones), tuple(lines), tuple(blur)
        self._videos: dict[str, _Video] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._track or self._zones or self._blurred)

    def widen(self, options: Options) -> dict[str, Any]:
        """What to detect with so that `self` sees the weak detections which tracking and blurring need."""
        scores, classes = options["score_threshold"], options.get("classes")
        if not (self._track or self._blurred):
            return dict(options)
        lowest = min([WEAKEST, *(scores.values() if isinstance(scores, Mapping) else [scores])])
        if classes is not None:
            classes = [*classes, *self._blurred]
        return {**options, "score_threshold": lowest, "classes": classes, "max_total": None}

    def __call__(self, frame: Frame, found: Detections, options: Options) -> tuple[Frame, Detections]:
        """The frame with what must not be seen covered; what is wanted, with `track_ids` and `extra`.

        Parameters
        ----------
        found: what was detected with `widen(options)`.
        options: what is wanted now; they may change from frame to frame. With tracking, a detection below the threshold
            stays if its track was above it within the last two seconds.
        """
        if not self:
            return frame, found
        video = self._video(frame)
        if self._blurred:
            boxes_xyxy = found.boxes_xyxy[of_classes(found, self._blurred)]
            frame = replace(frame, pixels=video.blur.cover(frame.image, boxes_xyxy, frame.time))
        classes, most = options.get("classes"), options.get("max_total")
        shown = wanted(found, options["score_threshold"], classes)
        if self._track and frame.time is not None:
            found = found[of_classes(found, classes)]
            limits = thresholds(found, options["score_threshold"])
            track_ids = video.tracker.update(found, limits, frame.time)
            found, shown = replace(found, track_ids=track_ids), (found.scores > limits) | (track_ids > 0)
        found = found[np.flatnonzero(shown)[:most]]
        return frame, replace(found, extra=video.count(found))

    def _video(self, frame: Frame) -> _Video:
        """What is known of the frame's source; a photo has no past."""
        if frame.time is None:
            return _Video(self._zones, self._lines)
        if frame.source not in self._videos:
            self._videos[frame.source] = _Video(self._zones, self._lines)
        return self._videos[frame.source]


class _Video:
    """The state of one source."""

    def __init__(self, zones: Sequence[Region], lines: Sequence[Region]) -> None:
        self.tracker, self.blur = Tracker(), Blur()
        self._zones = {zone.name: ZoneCount(zone) for zone in zones}
        self._lines = {line.name: LineCount(line) for line in lines}

    def count(self, found: Detections) -> dict[str, Any]:
        """The frame's `extra`."""
        extra: dict[str, Any] = {"counts": count_labels(found)}
        events: list[dict[str, Any]] = []
        for key, regions in (("zones", self._zones), ("lines", self._lines)):
            if regions:
                records = {name: region.update(found) for name, region in regions.items()}
                extra[key] = {name: record for name, (record, _) in records.items()}
                events += [event for _, more in records.values() for event in more]
        return {**extra, "events": events} if self._zones or self._lines else extra
