"""Annotated video: the frames of one source, their detections drawn in, at its time stamps; no sound."""

from __future__ import annotations

import re
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ssdrt.detections import Detections
from ssdrt.errors import SinkError, import_extra, shorten
from ssdrt.sinks.base import keep_input
from ssdrt.sinks.overlay import annotate_all
from ssdrt.sinks.recording import FORMATS, Recording
from ssdrt.sources.base import Frame

__all__ = ["FORMATS", "AnnotatedVideo"]

AHEAD = 8
"""Frames that may wait to be drawn and encoded while the next are detected in."""


class AnnotatedVideo:
    """Draws and encodes in a thread of its own: the caller goes on, and Ctrl-C cannot fall into the encoder."""

    def __init__(self, path: str, segment: float | None = None) -> None:
        """Open an output.

        Parameters
        ----------
        path: of the video; its suffix is one of `FORMATS`.
        segment: seconds after which the next file is begun, NAME_000.SUFFIX, NAME_001.SUFFIX, ... with time stamps from
            0; numbers go on after those of files that are there. None: one file, with the time stamps of the source.

        Raises
        ------
        MissingExtra: PyAV is not installed.
        """
        import_extra("av", "video", "writing a video")
        self._path, self._segment = Path(path), segment
        self._number = _next_number(self._path) if segment else 0
        self._source: str | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ssdrt-video")
        self._pending: deque[Future[None]] = deque()
        self._broken = False  # by a frame that failed
        self._recording: Recording | None = None
        self._begin = self._shift = self._last = 0.0

    def write(self, frame: Frame, found: Detections) -> None:
        """Take one frame; waits when several are not yet encoded.

        Raises
        ------
        SinkError: a photo, a frame of a second video, or an earlier frame could not be written; what was before plays.
        """
        if frame.time is None or self._source not in (None, frame.source):
            raise SinkError(f"{shorten(str(self._path))!r} holds one video; for photos or more videos give a folder")
        if self._source is None:
            keep_input(frame, self._path)
            self._source = frame.source
        if len(self._pending) >= AHEAD:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._add, frame, found))

    def close(self) -> None:
        """Finish the video; without a single frame there is none."""
        if self._source is None:
            return
        self._source = None
        with self._pool:
            last = self._pool.submit(self._finish)
            while self._pending:
                self._pending.popleft().result()
            last.result()

    def _add(self, frame: Frame, found: Detections) -> None:
        if self._broken:
            return
        self._broken = True
        time = self._steady(frame.time or 0.0)
        if self._recording is None or (self._segment and time - self._begin >= self._segment):
            if self._recording is not None:
                self._recording.finish()
            self._recording, self._begin = Recording(self._next_path()), time if self._segment else 0.0
        self._recording.add(annotate_all(frame.image, found), time - self._begin)
        self._broken = False

    def _finish(self) -> None:
        if self._recording is not None and not self._broken:
            self._recording.finish()

    def _steady(self, time: float) -> float:
        """The time of a frame; where a source's clock goes back, as when it was opened again, ours goes on."""
        if time + self._shift < self._last:
            self._shift = self._last - time
        self._last = time + self._shift
        return self._last

    def _next_path(self) -> Path:
        if not self._segment:
            return self._path
        path = self._path.with_name(f"{self._path.stem}_{self._number:03d}{self._path.suffix}")
        self._number += 1
        return path


def _next_number(path: Path) -> int:
    """The first number above those of all segments that are there, whole or not."""
    name = re.compile(rf"{re.escape(path.stem)}_(\d{{3,}}){re.escape(path.suffix)}(\.part)?")
    found = [name.fullmatch(other.name) for other in path.parent.iterdir()]
    return max((int(match[1]) + 1 for match in found if match), default=0)
