"""Files for viewers: every frame in order, a video no faster than its time stamps, the next frames decoded ahead."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ssdrt.errors import SourceError
from ssdrt.live.board import Board, Controls, Snapshot
from ssdrt.live.loop import DetectOne
from ssdrt.sinks.base import Sink
from ssdrt.sources.base import Frame, Item
from ssdrt.sources.status import Status

AHEAD = 4  # frames decoded before they are needed
PHOTO = 2.0  # seconds for which a photo stays
LATELY = 30  # frames from which rates are taken


class Player:
    """Plays items to a board, in a thread of its own; detections are made under the settings of the moment.

    detected: frames so far. failed: those that could not be read.
    """

    def __init__(
        self,
        name: str,
        items: Iterator[Item],
        detect: DetectOne,
        sinks: Sequence[Sink] = (),
        on_failure: Callable[[SourceError], None] = lambda _: None,
    ) -> None:
        """Nothing is read before `start`.

        Parameters
        ----------
        name: under which all items are shown.
        sinks: get every frame; they are closed by whoever made them.
        """
        self.detected = self.failed = 0
        self._name, self._items, self._detect = name, items, detect
        self._sinks, self._on_failure = sinks, on_failure
        self._moments: deque[float] = deque(maxlen=LATELY)
        self._begin: float | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ssdrt player")
        self._future: Future[None] | None = None

    def start(self, board: Board, controls: Controls) -> None:
        """Begin to play. A video closes the board at its end; a photo stays until somebody else does."""
        self._future = self._pool.submit(self._play, board, controls)
        self._future.add_done_callback(lambda future: board.close() if future.exception() else None)

    def close(self) -> None:
        """Wait for the end, after the board was closed.

        Raises
        ------
        SsdrtError: the detector or a sink failed.
        """
        self._pool.shutdown()
        if self._future is not None:
            self._future.result()

    def _play(self, board: Board, controls: Controls) -> None:
        frame: Frame | None = None
        for read in _ahead(self._items):
            if isinstance(read, SourceError):
                self.failed += 1
                self._on_failure(read)
                continue
            frame = read
            self._keep_time(frame, board, controls)
            if board.closed:
                break
            self._show(frame, board, controls)
        if frame is None or frame.time is not None:
            board.close()

    def _show(self, frame: Frame, board: Board, controls: Controls) -> None:
        arrived, settings = time.monotonic(), controls.settings
        frame, found = self._detect(frame, settings)
        now = time.monotonic()
        self.detected += 1
        self._moments.append(now)
        span = now - self._moments[0]
        rate = (len(self._moments) - 1) / span if span else 0.0
        status = Status("ONLINE", capture_fps=rate)
        board.post(
            Snapshot(self._name, status, frame, found, arrived, now - arrived, rate, found.extra, settings=settings)
        )
        for sink in self._sinks:
            sink.write(frame, found)

    def _keep_time(self, frame: Frame, board: Board, controls: Controls) -> None:
        """Wait until it is the frame's turn."""
        while controls.settings.paused and not board.closed:
            board.wait(sys.maxsize, 0.05)
            self._begin = None
        now = time.monotonic()
        if frame.time is None:
            due = now if self._begin is None else self._begin + PHOTO
            self._begin = max(due, now)
        else:
            self._begin = now - frame.time if self._begin is None else max(self._begin, now - frame.time)
            due = self._begin + frame.time
        if due > now:
            board.wait(sys.maxsize, due - now)


def _ahead(items: Iterator[Item]) -> Iterator[Frame | SourceError]:
    """The items read in order, or why one could not be."""

    def read() -> Frame | SourceError | None:
        item = next(items, None)
        try:
            return None if item is None else item.read()
        except SourceError as error:
            return error

    with ThreadPoolExecutor(1, thread_name_prefix="ssdrt reader") as pool:
        waiting = deque(pool.submit(read) for _ in range(AHEAD))
        while (frame := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(read))
            yield frame
