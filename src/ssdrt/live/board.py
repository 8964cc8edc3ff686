"""What a live run shows, and what a viewer may change: the newest `Snapshot` of every source, and the `Controls`."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ssdrt.detections import Detections
from ssdrt.sources.base import Frame
from ssdrt.sources.status import State as State
from ssdrt.sources.status import Status as Status


@dataclass(frozen=True)
class Settings:
    """What viewers may change while it runs: least score, names or ids of the only classes wanted (None: all)."""

    score_threshold: float
    classes: tuple[str, ...] | None = None
    paused: bool = False


@dataclass(frozen=True)
class Snapshot:
    """The newest picture of one source with what was found in it; nothing of it changes afterwards.

    source: its name, without credentials. frame, found: None until the first frame came.
    arrived: `time.monotonic()` when the frame came in. latency: seconds from then to the end of detection.
    detect_fps: detections a second, lately. extra: what the tracker adds: counts, events, zones.
    settings: those that `found` was made under; None if viewers must apply the present ones themselves.
    """

    source: str
    status: Status
    frame: Frame | None = None
    found: Detections | None = None
    arrived: float = 0.0
    latency: float = 0.0
    detect_fps: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    settings: Settings | None = None


Events = tuple[Mapping[str, Any], ...]
"""What happened in a source, oldest first: the tracker's events, each with its running `number`, from 1 on."""

KEPT_EVENTS = 100


class Controls:
    """The settings in force; any thread may read and change them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()

    @property
    def settings(self) -> Settings:
        """The settings now; read once a frame."""
        return self._settings

    def change(self, **changes: Any) -> Settings:
        """Replace some fields of the settings; returns the new ones."""
        with self._lock:
            self._settings = replace(self._settings, **changes)
            return self._settings


class Board:
    """The newest snapshot of every source. Posting never waits; who is slow sees the newest only."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._newest: dict[str, tuple[int, Snapshot]] = {}
        self._events: dict[str, Events] = {}
        self._version = 0
        self._closed = False

    def post(self, snapshot: Snapshot) -> None:
        """Put up the newest snapshot of its source."""
        with self._news:
            self._version += 1
            _, last = self._newest.get(snapshot.source, (0, None))
            if last is None or snapshot.frame is not last.frame:  # a change of state shows the same frame again
                self._number(snapshot)
            self._newest[snapshot.source] = self._version, snapshot
            self._news.notify_all()

    def events(self, source: str) -> Events:
        """The last `KEPT_EVENTS` of a source, those of frames that a slow viewer never saw among them."""
        with self._news:
            return self._events.get(source, ())

    def _number(self, snapshot: Snapshot) -> None:
        before = self._events.get(snapshot.source, ())
        first = before[-1]["number"] + 1 if before else 1
        now = [{"number": number, **event} for number, event in enumerate(snapshot.extra.get("events", ()), first)]
        self._events[snapshot.source] = (*before, *now)[-KEPT_EVENTS:]

    def close(self) -> None:
        """End the run: everybody who waits returns."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    @property
    def closed(self) -> bool:
        """Whether the run has ended."""
        return self._closed

    def snapshots(self) -> list[tuple[int, Snapshot]]:
        """The newest of every source with their versions, in the order in which the sources first appeared."""
        with self._news:
            return list(self._newest.values())

    def wait(self, seen: int, seconds: float, source: str | None = None) -> tuple[int, Snapshot] | None:
        """The newest snapshot (of one source) with a version above `seen`; None when none came in time or it ended."""
        end = time.monotonic() + seconds
        with self._news:
            while True:
                fresh = [pair for name, pair in self._newest.items() if source in (None, name) and pair[0] > seen]
                if fresh:
                    return max(fresh, key=lambda pair: pair[0])
                left = end - time.monotonic()
                if self._closed or left <= 0:
                    return None
                self._news.wait(left)
