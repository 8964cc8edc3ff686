"""The live loop: sources that never end, one detector, and viewers and files for which nobody waits."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Protocol

from ssdrt.detections import Detections
from ssdrt.live.board import Board, Controls, Settings, Snapshot
from ssdrt.live.writer import Writer
from ssdrt.sinks.base import Sink
from ssdrt.sources.base import MAX_PIXELS, Frame
from ssdrt.sources.live import LiveSource, Patience, take_newest
from ssdrt.sources.status import Status
from ssdrt.sources.stream import Stream

PAUSE = 0.1
"""Seconds between two looks at whether the pause has ended."""

LOOK = 0.5
"""Seconds between two looks at whether the run has ended, when no frame comes."""

PROMPT = 0.1
"""Seconds in which a source hands over the frame that it has: one that just stopped must not hold up the others.

A frame that takes longer is detected in next."""

MOST = 16
"""Frames detected in at once, of as many sources; of more sources those that have waited longest."""

DetectOne = Callable[[Frame, Settings], tuple[Frame, Detections]]
"""From a frame to what is shown of it, the frame itself perhaps changed."""

Detect = Callable[[Sequence[Frame], Settings], Sequence[tuple[Frame, Detections]]]
"""The same of one frame of each of several sources, of any sizes, in one call; results are in the frames' order."""


class Viewer(Protocol):
    """Shows what is on the board, in threads of its own. One that wants the run to end closes the board."""

    def close(self) -> None:
        """Stop; called once, after the board was closed."""
        ...


def run_live(
    streams: Sequence[Stream],
    detect: Detect,
    controls: Controls,
    *,
    viewers: Sequence[Callable[[Board, Controls], Viewer]] = (),
    sinks: Sequence[Sink] = (),
    on_status: Callable[[str, Status], None] = lambda _, __: None,
    on_failure: Callable[[Sink, BaseException], None] = lambda _, __: None,
    on_end: Callable[[LiveRun], None] = lambda _: None,
    wait: Callable[[Board], None] | None = None,
    patience: Patience | None = None,
    max_pixels: int = MAX_PIXELS,
) -> LiveRun:
    """Detect in the newest frames of all streams until they end or somebody closes the board.

    Whenever the detector is free it gets the newest frames of all sources that have one, in one call, and waits for no
    other source. Sinks are written and closed by threads of their own, through a queue that drops when it is full.

    Parameters
    ----------
    viewers: start a viewer each, before the first frame; each is closed at the end.
    wait: what the calling thread does meanwhile, returns when the board is closed; a window that needs the main thread
        runs here. None waits.
    on_status: called with the name of a source whenever its state changes.
    on_failure: called at once when a sink cannot be written, as the run goes on while others watch it.
    on_end: called when all is closed, also after Ctrl-C.
    max_pixels: the largest picture that is taken from a stream.

    Raises
    ------
    SsdrtError: the detector fails, all streams are unusable, or a sink cannot be written.
    KeyboardInterrupt: by Ctrl-C; viewers and sinks are closed before.
    """
    run = LiveRun(streams, detect, controls, sinks, on_status, patience, on_failure, max_pixels)
    with ExitStack() as stack:
        stack.callback(on_end, run)
        stack.callback(run.close)
        for viewer in viewers:
            stack.callback(viewer(run.board, controls).close)
        stack.callback(run.board.close)
        run.start(alone=not viewers)
        (wait or wait_until_closed)(run.board)
    run.check()
    return run


def wait_until_closed(board: Board) -> None:
    """Do nothing until the board is closed."""
    while not board.closed:
        board.wait(sys.maxsize, 3600)


def one_by_one(detect: DetectOne) -> Detect:
    """Detection in several frames by a function that takes one."""
    return lambda frames, settings: [detect(frame, settings) for frame in frames]


class LiveRun:
    """The threads of one run, and what they counted.

    calls: of the detector so far; `detected` / `calls` frames in each.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        detect: Detect,
        controls: Controls,
        sinks: Sequence[Sink] = (),
        on_status: Callable[[str, Status], None] = lambda _, __: None,
        patience: Patience | None = None,
        on_failure: Callable[[Sink, BaseException], None] = lambda _, __: None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Nothing is read before `start`."""
        self.board = Board()
        self.calls = 0
        self._detect, self._controls, self._on_status = detect, controls, on_status
        self._news = threading.Condition()
        self._feeds = [_Feed(self, stream, patience, max_pixels, self._news) for stream in streams]
        self.writers = [Writer(sink, partial(on_failure, sink)) for sink in sinks]
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ssdrt live")
        self._future: Future[None] | None = None
        self._alone = False

    @property
    def detected(self) -> int:
        """Frames detected in so far."""
        return sum(feed.detected for feed in self._feeds)

    @property
    def statuses(self) -> dict[str, Status]:
        """How every source is doing."""
        return {feed.source.name: feed.source.status for feed in self._feeds}

    def start(self, alone: bool = False) -> None:
        """Start all threads.

        Parameters
        ----------
        alone: nobody watches, so that the run ends when no sink can be written any more.
        """
        self._alone = alone
        for feed in self._feeds:
            feed.source.start()
        self._future = self._pool.submit(self._work)
        self._future.add_done_callback(lambda _: self.board.close())

    def close(self) -> None:
        """End all threads and processes, and finish the sinks; may be called more than once."""
        self.board.close()
        for feed in self._feeds:  # all at once: one that hangs takes a second or two to end
            feed.source.stop()
        self._pool.shutdown()
        for feed in self._feeds:
            feed.source.close()
        for writer in self.writers:
            writer.close()

    def check(self) -> None:
        """Raise what went wrong, after `close`."""
        if self._future is not None:
            self._future.result()
        for feed in self._feeds:
            feed.source.check()
        errors = [feed.source.error for feed in self._feeds if feed.source.error is not None]
        if errors and len(errors) == len(self._feeds):
            raise errors[0]
        for writer in self.writers:
            if writer.error is not None:
                raise writer.error

    def tell(self, feed: _Feed, status: Status) -> None:
        """Everybody hears of a source's new state."""
        self.board.post(feed.changed(status))
        for writer in self.writers:
            writer.put_status(feed.source.name, status)
        self._on_status(feed.source.name, status)

    # --- the thread that detects ------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not (self.board.closed or self._nobody_cares() or self._all_ended()):
            settings = self._controls.settings
            if settings.paused:
                self.board.wait(sys.maxsize, PAUSE)
                continue
            with self._news:
                self._news.wait_for(lambda: self._any_fresh() or self._all_ended(), LOOK)
            fresh = [feed for feed in self._feeds if feed.source.fresh]
            if fresh:
                self._detect_in(sorted(fresh, key=lambda feed: feed.served)[:MOST], settings)

    def _detect_in(self, feeds: Sequence[_Feed], settings: Settings) -> None:
        """One call of the detector, for what these have."""
        taken = take_newest([feed.source for feed in feeds], self._news, PROMPT)
        arrivals = [(feed, arrival) for feed, arrival in zip(feeds, taken, strict=True) if arrival is not None]
        if not arrivals:
            return
        results = self._detect([arrival.frame for _, arrival in arrivals], settings)
        self.calls += 1
        for (feed, arrival), (frame, found) in zip(arrivals, results, strict=True):
            self.board.post(feed.seen(frame, found, arrival.arrived, settings))
            for writer in self.writers:
                writer.put(frame, found)

    def _any_fresh(self) -> bool:
        return any(feed.source.fresh for feed in self._feeds)

    def _all_ended(self) -> bool:
        return all(feed.source.ended and not feed.source.fresh for feed in self._feeds)

    def _nobody_cares(self) -> bool:
        return self._alone and bool(self.writers) and all(writer.error for writer in self.writers)


class _Feed:
    """A source, and the newest snapshot of it."""

    def __init__(
        self, run: LiveRun, stream: Stream, patience: Patience | None, max_pixels: int, news: threading.Condition
    ) -> None:
        self.source = LiveSource(stream, lambda status: run.tell(self, status), patience, max_pixels, news)
        self.detected, self.served = 0, 0.0
        self._lock = threading.Lock()
        self._snapshot = Snapshot(self.source.name, self.source.status)
        self._moments: deque[float] = deque(maxlen=30)

    def seen(self, frame: Frame, found: Detections, arrived: float, settings: Settings) -> Snapshot:
        """The snapshot after a detection."""
        self.served = now = time.monotonic()
        self.detected += 1
        self._moments.append(now)
        span = self._moments[-1] - self._moments[0]
        rate = (len(self._moments) - 1) / span if span > 0 else 0.0
        with self._lock:
            self._snapshot = Snapshot(
                self.source.name, self.source.status, frame, found, arrived, now - arrived, rate, found.extra, settings
            )
            return self._snapshot

    def changed(self, status: Status) -> Snapshot:
        """The snapshot after a change of state: the picture stays, what is said of it does not."""
        with self._lock:
            self._snapshot = replace(self._snapshot, status=status)
            return self._snapshot
