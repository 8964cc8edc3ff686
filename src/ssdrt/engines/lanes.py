"""Lanes of a GPU engine: each runs one call at a time, and a call may be started long before its result is taken."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Generic, TypeVar

from ssdrt.errors import EngineError

L = TypeVar("L")
T = TypeVar("T")


class Started(Generic[T]):
    """A call that is under way, or over. Any number of threads may ask for its result, any number of times."""

    def __init__(self, finish: Callable[[], T]) -> None:
        self._lock = threading.Lock()
        self._finish: Callable[[], T] | None = finish
        self._outcome: T | Exception = EngineError("this call was broken off")

    def finish(self) -> None:
        """Wait until it is over, and keep what came of it."""
        with self._lock:
            finish, self._finish = self._finish, None
            if finish is not None:
                try:
                    self._outcome = finish()
                except Exception as error:  # whoever needs the lane, or closes it, must not hear what went wrong here
                    self._outcome = error

    def result(self) -> T:
        """What came of it, once it is over.

        Raises
        ------
        EngineError: it failed.
        """
        self.finish()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class Lanes(Generic[L]):
    """Some lanes, for any number of threads.

    Whoever wants a lane while all are taken waits for one; if calls that were started hold some, the oldest of them is
    finished instead, and its result kept: it may be that nobody else is there to ask for it.
    """

    def __init__(self, lanes: Sequence[L], using: Callable[[L], AbstractContextManager[object]]) -> None:
        """using: surrounds all that a thread does with a lane; of what is broken off nothing may be left behind."""
        self._using, self._count = using, len(lanes)
        self._free = deque(lanes)
        self._started: dict[int, Started[Any]] = {}  # by the lane's id, the oldest first
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[L]:
        """A lane for one call.

        Raises
        ------
        EngineError: they were closed.
        """
        lane = self._take()
        try:
            with self._using(lane):
                yield lane
        finally:
            self._give(lane)

    def start(self, begin: Callable[[L], None], finish: Callable[[L], T]) -> Started[T]:
        """`begin` on a lane now, `finish` on the same one when the result is asked for or the lane is needed; what
        fails in either is told by the result.

        Raises
        ------
        EngineError: they were closed.
        """
        lane = self._take()

        def end() -> T:
            try:
                with self._using(lane):
                    return finish(lane)
            finally:
                self._give(lane)

        begun = False
        try:
            with self._using(lane):
                begin(lane)
            begun = True
        except EngineError as error:
            return _failed(error)
        finally:
            if not begun:
                self._give(lane)
        started = Started(end)
        with self._lock:
            self._started[id(lane)] = started
            self._changed.notify()
        return started

    def close(self) -> bool:
        """Until every call that has a lane is over; those that wait for one fail. Whether they were open before."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            self._changed.notify_all()
        for _ in range(self._count):
            self._take(closing=True)
        return True

    def _take(self, closing: bool = False) -> L:
        while True:
            with self._lock:
                while not self._free and not self._started and (closing or not self._closed):
                    self._changed.wait()
                if self._closed and not closing:
                    raise EngineError("this engine was closed")
                if self._free:
                    return self._free.popleft()
                oldest = next(iter(self._started.values()))
            oldest.finish()

    def _give(self, lane: L) -> None:
        with self._lock:
            self._started.pop(id(lane), None)
            self._free.append(lane)
            self._changed.notify()


def _failed(error: EngineError) -> Started[T]:
    def fail() -> T:
        raise error

    return Started(fail)
