"""Detections that were written down, joined with the frames of their video again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ssdrt.detections import Detections
from ssdrt.errors import LabelError, SourceError, shorten
from ssdrt.sinks.jsonl import Record, read_jsonl
from ssdrt.sources.base import Frame
from ssdrt.track.analytics import Analytics, Options
from ssdrt.track.regions import count_labels
from ssdrt.track.selection import wanted

EVERYTHING = -1.0
"""The score threshold that keeps whatever was written."""

SAME_TIME = 0.002
"""Seconds by which the times of a record and of its frame may differ: mkv rounds to milliseconds."""


SEGMENT = re.compile(r"_\d{3}$")
"""How the names of the first thousand files end that `AnnotatedVideo` makes one after the other."""


class Records:
    """The lines of a file that belong to one video, by time.

    names: class id -> name, of all classes in the file.
    """

    def __init__(self, path: str, video: str) -> None:
        """Read the file once, to know what is in it.

        Parameters
        ----------
        video: the path of the video, by which its lines are known if the file has those of several.

        Raises
        ------
        SourceError: the file cannot be read, which lines are the video's is not clear, or it is a part of a recording.
        """
        self._path, self.names = path, dict[int, str]()
        sources = dict[str, None]()
        for record in read_jsonl(path):
            sources[record.source] = None
            self.names.update(zip(record.found.class_ids.tolist(), record.found.labels.tolist(), strict=True))
        if not sources:
            raise SourceError(f"{shorten(path)!r} has no line of a picture")
        alike = [name for name in sources if Path(name).name == Path(video).name]
        chosen = list(sources) if len(sources) == 1 else [name for name in sources if name == video] or alike
        if len(chosen) != 1:
            told = ", ".join(shorten(name, 60) for name in list(sources)[:5])
            raise SourceError(
                f"{shorten(path)!r} has lines of {told}; which of them are those of {video!r} is not clear"
            )
        self._source = chosen[0]
        if self._source not in (video, *alike) and SEGMENT.search(Path(video).stem):
            raise SourceError(
                f"{shorten(video)!r} is named like a part of a recording (--segment), whose times begin at 0 again, so "
                "that its lines cannot be found; give the whole video, or another name if it is whole"
            )

    def check(self, classes: Iterable[str]) -> None:
        """Refuse classes that are in no line.

        Raises
        ------
        LabelError: there is one.
        """
        known = {*self.names.values(), *map(str, self.names)}
        for name in classes:
            if name not in known:
                told = ", ".join(sorted(set(self.names.values()))[:12])
                raise LabelError(f"no line of {shorten(self._path)!r} has the class {name!r}; they have {told}")

    def __iter__(self) -> Iterator[Record]:
        return (record for record in read_jsonl(self._path) if record.source == self._source)


class Replay:
    """Goes through the frames of a video and its records, both in the order of time.

    matched: how many frames had a record so far.
    """

    def __init__(self, records: Iterable[Record], analytics: Analytics) -> None:
        """Records of one video in the order of its frames, and what to do with them once more."""
        self._records = iter(records)
        self._next = next(self._records, None)
        self._analytics = analytics
        self.matched = 0

    def join(self, frame: Frame, options: Options) -> tuple[Frame, Detections]:
        """A frame with what of its record is wanted; later frames come in later calls.

        Parameters
        ----------
        options: `score_threshold` and `classes`, as for `Detector.detect`; `EVERYTHING` and None keep all as it is.
        """
        found = self._found(frame)
        if self._analytics:
            return self._analytics(frame, found, options)
        if options["classes"] is None and options["score_threshold"] == EVERYTHING:
            return frame, found
        kept = found[wanted(found, options["score_threshold"], options["classes"])]
        extra = {key: value for key, value in found.extra.items() if key not in ("zones", "lines", "events")}
        if "counts" in extra:  # those of zones and lines need the frames before: they are left out
            extra["counts"] = count_labels(kept)
        return frame, replace(kept, extra=extra)

    def _found(self, frame: Frame) -> Detections:
        """What was found in a frame; nothing, if it has no record."""
        when = frame.time or 0.0
        while self._next is not None and (self._next.time or 0.0) < when - SAME_TIME:
            self._next = next(self._records, None)
        if self._next is not None and (self._next.time or 0.0) <= when + SAME_TIME:
            self.matched += 1
            return self._next.found
        height, width = frame.image.shape[:2]
        none = np.zeros(0, np.float32)
        return Detections(none.reshape(0, 4), none, none.astype(np.int64), none.astype(np.str_), width, height)
