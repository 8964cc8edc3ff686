"""A thread that writes to one sink, so that detection waits for no disk; what it cannot keep up with is dropped."""

from __future__ import annotations

import queue
import threading
from typing import Protocol, runtime_checkable

from ssdrt.detections import Detections
from ssdrt.errors import SsdrtError
from ssdrt.sinks.base import Sink
from ssdrt.sources.base import Frame
from ssdrt.sources.status import Status

WAITING = 32
"""Frames that may wait for the sink: 85 MB of 1280 x 720, a second at 30 frames a second."""


@runtime_checkable
class TakesStatus(Protocol):
    """A sink that writes down how sources are doing, too."""

    def write_status(self, source: str, status: Status) -> None:
        """Take the new state of a source."""
        ...


class Writer:
    """Writes what is put, in order, until it is closed or the sink fails.

    dropped: frames that found the queue full. error: why the sink failed, after which nothing is written any more.
    """

    def __init__(self, sink: Sink) -> None:
        self.dropped = 0
        self.error: SsdrtError | None = None
        self._sink = sink
        self._queue: queue.Queue[tuple[Frame, Detections] | tuple[str, Status] | None] = queue.Queue()
        self._room = threading.Semaphore(WAITING)
        self._thread = threading.Thread(target=self._run, name="ssdrt writer", daemon=True)
        self._thread.start()

    def put(self, frame: Frame, found: Detections) -> None:
        """Have a frame written, if there is room for it to wait."""
        if self.error is None:
            if self._room.acquire(blocking=False):
                self._queue.put((frame, found))
            else:
                self.dropped += 1

    def put_status(self, source: str, status: Status) -> None:
        """Have a state written, if the sink takes states."""
        if self.error is None and isinstance(self._sink, TakesStatus):
            self._queue.put((source, status))

    def close(self) -> None:
        """Write what waits, and finish the sink."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (entry := self._queue.get()) is not None:
                self._write(entry)
        except SsdrtError as error:
            self.error = error
        try:
            self._sink.close()
        except SsdrtError as error:
            self.error = self.error or error

    def _write(self, entry: tuple[Frame, Detections] | tuple[str, Status]) -> None:
        match entry:
            case Frame() as frame, Detections() as found:
                self._room.release()
                self._sink.write(frame, found)
            case str() as source, Status() as status:
                if isinstance(self._sink, TakesStatus):
                    self._sink.write_status(source, status)
