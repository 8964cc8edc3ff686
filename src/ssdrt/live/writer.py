"""A thread that writes to one sink, so that detection waits for no disk; what it cannot keep up with is dropped."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Protocol, runtime_checkable

from ssdrt.detections import Detections
from ssdrt.sinks.base import Sink
from ssdrt.sources.base import Frame
from ssdrt.sources.status import Status

WAITING = 32
"""Frames that may wait for the sink: a second at 30 frames a second."""

WAITING_BYTES = 100_000_000
"""Of their pixels: 36 frames of 1280 x 720, 16 of 1920 x 1080, 4 of 3840 x 2160. One may always wait."""


@runtime_checkable
class TakesStatus(Protocol):
    """A sink that writes down how sources are doing, too."""

    def write_status(self, source: str, status: Status) -> None:
        """Take the new state of a source."""
        ...


class Writer:
    """Writes what is put, in order, until it is closed or the sink fails.

    dropped: frames that found the queue full.
    """

    def __init__(self, sink: Sink, on_error: Callable[[BaseException], None] = lambda _: None) -> None:
        """The thread begins at once.

        Parameters
        ----------
        on_error: called, in the writer's thread, when the sink fails.
        """
        self.dropped = 0
        self._sink = sink
        self._queue: queue.Queue[tuple[Frame, Detections] | tuple[str, Status] | None] = queue.Queue()
        self._lock = threading.Lock()
        self._frames = self._bytes = 0  # that wait
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ssdrt writer")
        self._futures = [self._pool.submit(self._run), self._pool.submit(sink.close)]
        for future in self._futures:
            future.add_done_callback(partial(self._tell, on_error))

    @property
    def error(self) -> BaseException | None:
        """Why the sink failed, after which nothing is written any more."""
        return next((error for one in self._futures if one.done() and (error := one.exception())), None)

    def put(self, frame: Frame, found: Detections) -> None:
        """Have a frame written, if there is room for it to wait."""
        if self.error is None:
            with self._lock:
                size = frame.image.nbytes
                if self._frames and (self._frames == WAITING or self._bytes + size > WAITING_BYTES):
                    self.dropped += 1
                    return
                self._frames, self._bytes = self._frames + 1, self._bytes + size
            self._queue.put((frame, found))

    def put_status(self, source: str, status: Status) -> None:
        """Have a state written, if the sink takes states."""
        if self.error is None and isinstance(self._sink, TakesStatus):
            self._queue.put((source, status))

    def close(self) -> None:
        """Write what waits, and finish the sink."""
        self._queue.put(None)
        self._pool.shutdown()

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            self._write(entry)

    def _tell(self, on_error: Callable[[BaseException], None], future: Future[None]) -> None:
        error = future.exception()
        if error is not None and error is self.error:
            on_error(error)

    def _write(self, entry: tuple[Frame, Detections] | tuple[str, Status]) -> None:
        match entry:
            case Frame() as frame, Detections() as found:
                with self._lock:
                    self._frames, self._bytes = self._frames - 1, self._bytes - frame.image.nbytes
                self._sink.write(frame, found)
            case str() as source, Status() as status:
                if isinstance(self._sink, TakesStatus):
                    self._sink.write_status(source, status)
