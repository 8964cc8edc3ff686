"""`LiveSource`: a stream that is kept alive. The newest frame when somebody wants one, and how the stream is doing."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from ssdrt.errors import SourceError
from ssdrt.sources.base import MAX_PIXELS, Frame
from ssdrt.sources.process import CaptureProcess
from ssdrt.sources.status import State, Status
from ssdrt.sources.stream import Stream


@dataclass(frozen=True)
class Patience:
    """How long a source may take, and how soon it is tried again; in seconds.

    opening: until the first frame. stale, silent: without a frame until the source counts as STALE, and until it is
    closed; or `gaps` (two numbers) times the longest usual time between its frames, if that is more.
    first_pause, longest_pause: before the next try, doubled each time. refused: the least after a wrong password, which
    cameras answer with a lock.
    settled: of frames without a break, after which the pauses begin anew.
    """

    opening: float = 15.0
    stale: float = 1.0
    silent: float = 10.0
    gaps: tuple[float, float] = (3.0, 6.0)
    first_pause: float = 1.0
    longest_pause: float = 30.0
    refused: float = 30.0
    settled: float = 5.0

    def after(self, frames: int) -> Patience:
        """The patience for the next try, when this one ended without an error after so many frames.

        One that was too short would never see a stream of minutes between its frames, or between its key frames.
        """
        if frames:
            return replace(self, silent=min(self.silent * 2, 300.0))
        return replace(self, opening=min(self.opening * 2, 120.0))

    def pause(self, failures: int, kind: str, chance: float) -> float:
        """Seconds before the next try.

        Parameters
        ----------
        failures: in a row, this one included. chance: 0 to 1, spreads the tries of many by a fifth to either side.
        """
        pause = min(self.first_pause * 2.0 ** min(failures - 1, 16), self.longest_pause)
        return max(pause * (0.8 + 0.4 * chance), self.refused if kind == "authentication" else 0.0)


GATHER = 0.02
"""Seconds for which `take_newest`, once it has a frame, waits for those that other sources have, too: for their pixels
to be converted and copied, not for a camera."""

YOUNG = 0.5
"""Age in seconds up to which a frame that came too late for one `take` is good for the next."""


@dataclass(frozen=True)
class Arrival:
    """A frame, and `time.monotonic()` when it came in."""

    frame: Frame
    arrived: float


class LiveSource:
    """Reads one stream in a process of its own, and again and again when that ends before its time.

    Frame times are seconds since the source was started, by the stream's own clock while it is steady, so that they go
    on when the stream is opened again. Nobody is ever given a frame that did not come.
    """

    def __init__(
        self,
        stream: Stream,
        on_change: Callable[[Status], None] = lambda _: None,
        patience: Patience | None = None,
        max_pixels: int = MAX_PIXELS,
        news: threading.Condition | None = None,
    ) -> None:
        """Nothing happens before `start`.

        Parameters
        ----------
        on_change: called, in a thread of the source, whenever the state or its reason changes.
        news: notified of frames and of the end; several sources may share one, to be waited for together.

        Raises
        ------
        SourceError: this is Windows.
        """
        if sys.platform == "win32":
            raise SourceError("cameras and streams are read on Linux and macOS only; on Windows in WSL")
        self.name = stream.name
        self._stream, self._on_change, self._max_pixels = stream, on_change, max_pixels
        self._patience = patience or Patience()
        self._news = news or threading.Condition()
        self._state: State = "OFFLINE"
        self._reason = "not opened yet"
        self._arrivals: deque[float] = deque(maxlen=60)
        self._came = self._before = self._seen = self._dropped = self._reconnects = 0
        self._arrival: Arrival | None = None
        self._asked = False
        self._ended = False
        self._error: str | None = None
        self._process: CaptureProcess | None = None
        self._wake, self._waker = os.pipe()
        self._clock = _Clock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"ssdrt {self.name}")
        self._future: Future[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to read."""
        self._future = self._pool.submit(self._run)
        self._future.add_done_callback(lambda _: self._no_more(None))

    @property
    def status(self) -> Status:
        """How it is doing now."""
        with self._news:
            return self._status()

    @property
    def ended(self) -> bool:
        """Whether no frame will come any more: the stream came to its end, or can never be read.

        The last may still be there to be taken: it is `fresh`.
        """
        return self._ended

    @property
    def error(self) -> SourceError | None:
        """Why the stream can never be read, if that is so."""
        return None if self._error is None else SourceError(f"{self.name}: {self._error}")

    @property
    def fresh(self) -> bool:
        """Whether there is a frame that was not taken."""
        return self._arrival is not None or (self._came > self._seen and not self._ended)

    def wait(self, seconds: float) -> bool:
        """Wait until there is a frame newer than the one taken last; False when none came in time."""
        with self._news:
            return self._news.wait_for(lambda: self._ended or self.fresh, seconds) and self.fresh

    def take(self, seconds: float = 1.0) -> Arrival | None:
        """The newest frame, which is none that was taken before; None when none came in time."""
        return take_newest([self], self._news, seconds)[0]

    def stop(self) -> None:
        """Have the process and the thread end, without waiting for it."""
        if not self._closed:
            os.write(self._waker, b"x")

    def close(self) -> None:
        """End the process and the thread; may be called more than once."""
        self.stop()
        self._pool.shutdown()
        if not self._closed:
            self._closed = True
            os.close(self._wake)
            os.close(self._waker)

    def check(self) -> None:
        """Raise what surprised the source's thread, which has ended by it."""
        if self._future is not None and self._future.done():
            self._future.result()

    # --- the source's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        chance = random.Random()
        patience = self._patience
        while True:
            self._change("OFFLINE", "opening")
            kind, text, frames, seconds = self._read_once(patience)
            if kind in ("end", "unusable", "closed by us"):
                self._end(text if kind == "unusable" else None)
                return
            failures = 1 if seconds > self._patience.settled else failures + 1
            patience = patience.after(frames) if kind == "timeout" and frames < 3 else self._patience
            pause = self._patience.pause(failures, kind, chance.random())
            self._change("OFFLINE", f"{text}; next try in {pause:.0f} s")
            if self._asleep(pause):
                self._end(None)
                return
            with self._news:
                self._reconnects += 1

    def _read_once(self, patience: Patience) -> tuple[str, str, int, float]:
        """One process from start to end: what kind of end, said in words, how many frames came, for how long."""
        try:
            process = CaptureProcess(self._stream, self._max_pixels)
        except OSError as error:  # no more processes, memory or descriptors: perhaps later
            return "other", f"no process can be started: {error.strerror or error}", 0, 0.0
        with self._news:
            self._process, self._before = process, self._came
            self._arrivals.clear()
            if self._asked:
                process.ask()
        self._clock.begin()
        try:
            return self._hear(process, patience)
        finally:
            with self._news:
                self._process, self._asked = None, False
                self._give_up()
                self._news.notify_all()
            process.close()

    def _hear(self, process: CaptureProcess, patience: Patience) -> tuple[str, str, int, float]:
        frames, first, last, longest, rate = 0, 0.0, time.monotonic(), 0.0, None
        while True:
            if not frames:
                limit, stale = patience.opening, False
            else:
                usual = max(longest, 1 / rate if rate else 0.0)
                silent = max(patience.silent, patience.gaps[1] * usual)
                stale = self._state == "ONLINE"
                limit = max(patience.stale, patience.gaps[0] * usual) if stale else silent
            message = process.hear(last + limit - time.monotonic(), self._wake)
            if message is None:
                if self._closing():
                    return "closed by us", "", frames, 0.0
                if stale:
                    self._change("STALE", f"no frame for {time.monotonic() - last:.1f} s")
                    continue
                silence = time.monotonic() - last
                return "timeout", f"no frame for {silence:.1f} s", frames, last - first
            if "tick" in message:
                at = message["at"]
                if frames:
                    longest = max(longest * 0.99, min(at - last, patience.silent))
                frames, first, last = frames + 1, first or at, at
                self._tick(at)
            elif "frame" in message:
                self._keep(process, message)
            elif "opened" in message:
                rate = message["rate"]
            elif "end" in message:
                if message["ends"]:
                    return "end", "", frames, 0.0
                return "closed", "the stream has ended", frames, last - first
            elif "error" in message:
                return message["error"], message["text"], frames, last - first if frames else 0.0

    def _tick(self, at: float) -> None:
        with self._news:
            self._came += 1
            self._arrivals.append(at)
            self._news.notify_all()
        self._change("ONLINE", "")

    def _keep(self, process: CaptureProcess, message: dict[str, Any]) -> None:
        """Take over the pixels of a frame."""
        image = process.pixels(message["width"], message["height"])
        image.flags.writeable = False
        with self._news:
            number = self._before + message["frame"]
            frame = Frame(image, self.name, number - 1, self._clock.time(message["stamp"], message["at"]))
            self._arrival = Arrival(frame, message["at"])
            self._dropped += max(number - self._seen - 1, -1)  # it comes after all when it had been given up
            self._seen, self._asked = max(number, self._seen), False
            self._news.notify_all()

    def _ask(self) -> CaptureProcess | None:
        """Have the newest frame sent, unless one is there that was; the process that was asked."""
        old = self._arrival is not None and time.monotonic() - self._arrival.arrived > YOUNG
        if old and not self._ended:
            self._arrival, self._dropped = None, self._dropped + 1
        if self._arrival is None:
            if self._process is not None and not self._asked:  # a second answer would be written while one is read
                self._process.ask()
            self._asked = True
        return self._process

    def _answered(self, asked: CaptureProcess | None) -> bool:
        """Whether there is a frame, or none will come from the process that was asked."""
        return self._ended or self._arrival is not None or asked not in (None, self._process)

    def _collect(self) -> Arrival | None:
        """The frame that was asked for; one that is not there by now is not waited for again."""
        if self._arrival is None:
            self._give_up()
        arrival, self._arrival = self._arrival, None
        return arrival

    def _give_up(self) -> None:
        """Count what came and was not taken as dropped."""
        self._dropped += self._came - self._seen
        self._seen = self._came

    def _change(self, state: State, reason: str) -> None:
        with self._news:
            if (state, reason) == (self._state, self._reason):
                return
            self._state, self._reason = state, reason
            status = self._status()
        self._on_change(status)

    def _status(self) -> Status:
        return Status(self._state, self._reason, self._rate(), self._dropped, self._reconnects)

    def _rate(self) -> float:
        """Frames a second over the last two seconds, or the last two frames of a slow stream."""
        if len(self._arrivals) < 2 or self._state == "OFFLINE":
            return 0.0
        end = self._arrivals[-1]
        lately = [at for at in self._arrivals if at >= end - 2.0]
        if len(lately) < 2:
            lately = [self._arrivals[-2], end]
        return (len(lately) - 1) / max(end - lately[0], 1e-3)

    def _end(self, error: str | None) -> None:
        self._no_more(error)
        self._change("OFFLINE", error or "ended")

    def _no_more(self, error: str | None) -> None:
        with self._news:
            self._ended, self._error = True, self._error or error
            self._news.notify_all()

    def _asleep(self, seconds: float) -> bool:
        """Sleep; True when woken by `close`."""
        import select

        poll = select.poll()  # select.select takes no descriptor above 1023
        poll.register(self._wake, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _closing(self) -> bool:
        return self._asleep(0)


def take_newest(sources: Sequence[LiveSource], news: threading.Condition, seconds: float = 1.0) -> list[Arrival | None]:
    """The newest frame of each source, none that was taken before; None of a source from which none came in time.

    Parameters
    ----------
    news: that of all these sources.
    seconds: to wait for the first frame; for the others it is `GATHER` more.
    """
    with news:
        asked = [(source, source._ask()) for source in sources]
        news.wait_for(lambda: any(source._answered(process) for source, process in asked), seconds)
        news.wait_for(lambda: all(source._answered(process) for source, process in asked), GATHER)
        return [source._collect() for source in sources]


class _Clock:
    """Turns a stream's time stamps into seconds since the start, through reconnects and jumps."""

    DRIFT = 1.0
    """Seconds that a stream's clock may differ from ours before it counts as a jump."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._offset: float | None = None
        self._last = -1.0

    def begin(self) -> None:
        """The stream was opened, perhaps again: its stamps begin anew."""
        self._offset = None

    def time(self, stamp: float | None, at: float) -> float:
        """Seconds of a frame that came in at monotonic time `at`; later than the one before."""
        now = at - self._start
        if stamp is None:
            moment = now
        else:
            if self._offset is None or abs(stamp + self._offset - now) > self.DRIFT:
                self._offset = now - stamp
            moment = stamp + self._offset
        self._last = max(moment, self._last + 1e-3)
        return self._last
