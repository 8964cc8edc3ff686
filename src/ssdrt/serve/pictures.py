"""Pictures for the page: each is drawn and encoded once, however many look at it, and not at all if nobody does.

A thread of its own watches the board; what it makes is handed to the event loop, where each viewer takes the newest.
"""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssdrt.adapters import to_json
from ssdrt.detections import Detections
from ssdrt.live.board import Board, Controls, Events, Settings, Snapshot
from ssdrt.live.view import shown
from ssdrt.sinks.draw import colour_of, draw_on
from ssdrt.sinks.overlay import annotate_all, draw_regions_on
from ssdrt.sources.base import Pixels

LONGEST_SIDE = 1920
"""Pictures of more pixels are shown at half their size, a third ...; snapshots are whole."""

MOST_FPS = 30
QUALITY, SNAPSHOT_QUALITY = 80, 92
IDLE = 0.2
"""Seconds after which changed settings, and a first viewer, are noticed when no frame comes."""

HEARTBEAT = 1.0
"""Seconds after which viewers hear that the connection stands, when there is nothing new."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """The newest of one source as viewers get it.

    number: of the source. version: of the snapshot. record: one line of JSON, without `events`, which `record_with`
    adds. events: the source's last.
    picture: the JPEG; None while nobody looks, and before the first frame. serial: another for every picture.
    """

    number: int
    version: int
    record: bytes
    picture: bytes | None = None
    serial: int = 0
    events: Events = ()

    def record_with(self, told: int) -> bytes:
        """The record with those of the events whose numbers are above `told`."""
        new = [event for event in self.events if event["number"] > told]
        return self.record[:-1] + b', "events": ' + json.dumps(new, default=str).encode() + b"}" if new else self.record

    @property
    def last_event(self) -> int:
        """The number of the newest event; 0 before the first."""
        return int(self.events[-1]["number"]) if self.events else 0


class Pictures:
    """Reads the board in a thread; everything else belongs to the event loop of `start`."""

    def __init__(self, board: Board, controls: Controls) -> None:
        self._board, self._controls = board, controls
        self._makers: dict[str, _Maker] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._stop = threading.Event()
        self.viewers = 0
        self.newest: dict[int, Shown] = {}

    def start(self) -> None:
        """Begin to watch, from the event loop's thread."""
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        threading.Thread(target=self._watch, name="ssdrt-page", daemon=True).start()

    def stop(self) -> None:
        """End the watching; any thread may call it."""
        self._stop.set()

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self._stop.is_set() or self._board.closed

    async def news(self) -> None:
        """Wait for anything new, or for `HEARTBEAT` seconds."""
        await self._news.wait()

    def snapshot(self, number: int) -> bytes | None:
        """The newest frame of a source at its full size as a JPEG, drawn now; None if there is none. Takes a while."""
        for _, snapshot in self._board.snapshots()[number : number + 1]:
            if snapshot.frame is not None:
                image, found = snapshot.frame.image, shown(snapshot, self._controls.settings)
                if found is not None:
                    image = annotate_all(image, found)
                return _jpeg(image, SNAPSHOT_QUALITY)
        return None

    def _watch(self) -> None:
        try:
            self._follow()
        finally:  # also when something surprised it: viewers must not wait for what will never come
            self._stop.set()
            self._publish([])

    def _follow(self) -> None:
        seen, wait, beat = 0, 0.0, 0.0
        while not self.ended:
            self._board.wait(seen, wait)
            wait, made = IDLE, list[Shown]()
            for number, (version, snapshot) in enumerate(self._board.snapshots()):
                seen = max(seen, version)
                maker = self._makers.setdefault(snapshot.source, _Maker(number))
                fresh, due = maker.make(version, snapshot, self._controls.settings, self.viewers > 0)
                wait = min(wait, due)
                made += [replace(fresh, events=self._board.events(snapshot.source))] if fresh else []
            # One timer for all viewers: one for each of them, at every picture, took a tenth of the page's time.
            if made or time.monotonic() - beat > HEARTBEAT:
                beat = time.monotonic()
                self._publish(made)

    def _publish(self, made: list[Shown]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._put_up, made)
            except RuntimeError:  # closed in between: the server has stopped
                self._stop.set()

    def _put_up(self, made: Iterable[Shown]) -> None:
        self.newest.update((one.number, one) for one in made)
        self._news.set()
        self._news = asyncio.Event()


class _Maker:
    """Makes what is shown of one source, with a canvas that is used again."""

    def __init__(self, number: int) -> None:
        self._last = Shown(number, 0, b"")
        self._drawn: tuple[Any, ...] = ()
        self._settings: Settings | None = None
        self._canvas: Pixels = np.empty((0, 0, 3), np.uint8)
        self._begun = 0.0

    def make(self, version: int, snapshot: Snapshot, settings: Settings, viewed: bool) -> tuple[Shown | None, float]:
        """What is new, if anything is, and in how many seconds to come again at the latest."""
        drawn = (snapshot.frame, snapshot.found, settings.score_threshold, settings.classes)
        if not viewed and self._last.picture is not None:  # whoever comes next must not begin with an old picture
            self._last, self._drawn = replace(self._last, picture=None), ()
        frame = snapshot.frame if viewed and _differ(drawn, self._drawn) else None
        due = self._begun + 1 / MOST_FPS - time.monotonic()
        if (frame is None or due > 0) and (version, settings) == (self._last.version, self._settings):
            return None, due if frame is not None else IDLE
        self._settings = settings
        found = shown(snapshot, settings)
        self._last = replace(self._last, version=version, record=record_of(self._last.number, snapshot, found))
        if frame is None or due > 0:
            return self._last, due if frame is not None else IDLE
        self._begun, self._drawn = time.monotonic(), drawn
        picture = _jpeg(self._draw(frame.image, found), QUALITY)
        self._last = replace(self._last, picture=picture, serial=self._last.serial + 1)
        return self._last, IDLE

    def _draw(self, image: Pixels, found: Detections | None) -> Pixels:
        """The picture in the canvas, made smaller if it is very large."""
        from PIL import Image

        factor = -(-max(image.shape[:2]) // LONGEST_SIDE)
        if factor > 1:
            image = np.asarray(Image.fromarray(image).reduce(factor))
        if self._canvas.shape != image.shape:
            self._canvas = np.empty(image.shape, np.uint8)
        np.copyto(self._canvas, image)
        if found is not None:
            draw_regions_on(self._canvas, found)
            draw_on(self._canvas, found)
        return self._canvas


def record_of(number: int, snapshot: Snapshot, found: Detections | None) -> bytes:
    """The snapshot as a line of JSON: that of the JSON lines files, and how the source is doing; without `events`."""
    frame, status = snapshot.frame, snapshot.status
    record: Json = {"source": snapshot.source}
    if frame is not None and found is not None:
        record = to_json(found, source=snapshot.source, index=frame.index, time=frame.time)
    record |= {
        "number": number,
        "state": status.state,
        "reason": status.reason,
        "capture_fps": round(status.capture_fps, 2),
        "detect_fps": round(snapshot.detect_fps, 2),
        "latency": round(snapshot.latency, 4),
        "age": round(time.monotonic() - snapshot.arrived, 4) if frame is not None else None,
        "dropped": status.dropped,
        "reconnects": status.reconnects,
        "counts": {} if found is None else dict(Counter(found.labels.tolist()).most_common()),
        **{name: value for name, value in snapshot.extra.items() if name not in ("counts", "events")},
    }
    return json.dumps(record, default=str).encode()


def css_colour(class_id: int) -> str:
    """The colour of a class's boxes as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of(class_id))


def _differ(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether two sets of what is drawn are unlike; frames and detections are compared by identity."""
    return len(a) != len(b) or a[0] is not b[0] or a[1] is not b[1] or a[2:] != b[2:]


def _jpeg(image: Pixels, quality: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()
