"""The window of a live run: the newest picture of every source in a grid, boxes drawn at the window's resolution."""

from __future__ import annotations

import math
import time
from collections import deque
from pathlib import Path

import numpy as np

from ssdrt.detections import Detections
from ssdrt.errors import SinkError
from ssdrt.live.board import Board, Controls, Settings, Snapshot
from ssdrt.live.screen import WHITE, Screen, text_image
from ssdrt.live.view import shown
from ssdrt.sinks.base import Stems
from ssdrt.sinks.draw import DARK, Colour, Rect, layout
from ssdrt.sinks.overlay import draw_regions_on
from ssdrt.sinks.picture import save_annotated
from ssdrt.sources.base import Frame, Pixels

KEYS = "F full screen    Space pause    S save    + - threshold    H hide    Esc quit"
STEP = 0.05  # of the threshold, a press of a key
NOTICE = 3.0  # seconds for which one is seen
REFRESH = 0.5  # seconds for which figures stand still, to be read
LOOK = 0.02  # seconds between looks for keys when no picture comes
AMBER, RED = (255, 211, 120), (255, 150, 165)


def show(board: Board, controls: Controls, folder: str = ".") -> None:
    """Show the run until its end, or until the user closes the window; call it from the main thread.

    F full screen, Esc and Q quit, space pause, S save the frame to `folder`, + and - threshold, H hide the overlay.

    Raises
    ------
    SinkError: there is no display.
    MissingExtra: PySDL2 is not installed.
    """
    screen = Screen("ssdrt")
    try:
        _Window(screen, board, controls, Path(folder)).run()
    finally:
        screen.close()


class _Window:
    """What is seen now, and what the keys do."""

    def __init__(self, screen: Screen, board: Board, controls: Controls, folder: Path) -> None:
        self._screen, self._board, self._controls, self._folder = screen, board, controls, folder
        self._snapshots: list[Snapshot] = []
        self._figures: dict[str, _Figures] = {}
        self._notice, self._notice_end = KEYS, time.monotonic() + 2 * NOTICE
        self._bare = self._fitted = False
        self._stems = Stems()

    def run(self) -> None:
        """Draw whenever something is new."""
        seen, drawn, at = 0, None, 0.0
        while not self._board.closed:
            news = self._board.wait(seen, LOOK)
            events = list(self._screen.events())
            if any(event in ("quit", "q", "escape") for event in events):
                return
            for event in events:
                self._press(event)
            if news is not None:
                seen = news[0]
                self._take()
            state = self._controls.settings, self._bare, self._notice if self._noticed() else ""
            if news is not None or events or state != drawn or time.monotonic() - at > REFRESH:
                drawn, at = state, time.monotonic()
                self._draw(*state)

    def _take(self) -> None:
        """Take the newest of every source; while paused, the picture of each stays."""
        held = {one.source: one for one in self._snapshots} if self._controls.settings.paused else {}
        self._snapshots = [held.get(one.source, one) for _, one in self._board.snapshots()]
        frame = next((one.frame for one in self._snapshots if one.frame is not None), None)
        if frame is not None and not self._fitted:
            self._fitted = True
            columns, rows = _grid(len(self._snapshots))
            self._screen.fit(frame.image.shape[1] * columns, frame.image.shape[0] * rows)

    def _press(self, key: str) -> None:
        if key == "f":
            self._screen.toggle_full_screen()
        elif key == "h":
            self._bare = not self._bare
        elif key == "space":
            self._controls.change(paused=not self._controls.settings.paused)
        elif key == "s":
            self._save()
        elif key in ("+", "=", "keypad +", "-", "keypad -"):
            score = self._controls.settings.score_threshold + (-STEP if "-" in key else STEP)
            settings = self._controls.change(score_threshold=min(max(round(score, 2), 0.01), 0.99))
            self._say(f"threshold {settings.score_threshold:.0%}")

    def _save(self) -> None:
        """Write the frame of every source, whole and annotated, and say where."""
        names = []
        for one in self._snapshots:
            found = shown(one, self._controls.settings)
            if one.frame is None or found is None:
                continue
            path = self._folder / f"{self._stems.of(one.frame)}.png"
            while path.exists():
                path = self._folder / f"{self._stems.of(one.frame)}.png"
            try:
                save_annotated(path, one.frame, found)
            except SinkError as error:
                self._say(str(error))
                return
            names.append(str(path))
        self._say(f"saved {', '.join(names)}" if names else "there is no picture yet")

    def _say(self, text: str) -> None:
        self._notice, self._notice_end = text, time.monotonic() + NOTICE

    def _noticed(self) -> bool:
        return time.monotonic() < self._notice_end

    def _draw(self, settings: Settings, bare: bool, notice: str) -> None:
        screen = self._screen
        width, height = screen.size
        size = _letters(width, height)
        screen.clear()
        columns, rows = _grid(len(self._snapshots))
        for number, one in enumerate(self._snapshots):
            left, top = number % columns * width // columns, number // columns * height // rows
            right, bottom = (number % columns + 1) * width // columns, (number // columns + 1) * height // rows
            self._draw_source(one, (left, top, right, bottom), settings, bare)
        if not self._snapshots:
            self._centre("waiting for the first picture", (0, 0, width, height), size)
        if settings.paused:
            self._corner("paused", width - size, size, size, AMBER)
        if notice:
            plate = text_image(notice, size)
            screen.stamp((width - plate.shape[1]) // 2, size, plate)
        screen.present()

    def _draw_source(self, one: Snapshot, cell: Rect, settings: Settings, bare: bool) -> None:
        size = _letters(cell[2] - cell[0], cell[3] - cell[1])
        screen, figures = self._screen, self._figures.setdefault(one.source, _Figures())
        if one.frame is not None:
            place = _inside(one.frame, cell)
            screen.picture(one.source, figures.picture(one.frame, one.found), place)
            found = shown(one, settings)
            if found is not None:
                drawn = layout(found, place[2] - place[0], place[3] - place[1])
                for (x0, y0, x1, y1), colour in reversed(drawn.boxes):
                    rect = x0 + place[0], y0 + place[1], x1 + place[0], y1 + place[1]
                    screen.frame(rect, DARK, drawn.line + 2 * drawn.rim)
                    rim = drawn.rim
                    screen.frame((rect[0] + rim, rect[1] + rim, rect[2] - rim, rect[3] - rim), colour, drawn.line)
                for left, top, label in reversed(drawn.labels):
                    screen.stamp(left + place[0], top + place[1], label)
        if one.status.state != "ONLINE":
            screen.fill(cell, (0, 0, 0), 150)
            said, colour = {"STALE": ("no new picture", AMBER), "OFFLINE": ("offline", RED)}[one.status.state]
            self._centre("\n".join(filter(None, (said, one.status.reason))), cell, size, colour)
        if not bare:
            plate = text_image(figures.text(one, settings), size)
            screen.stamp(cell[0] + size // 2, cell[3] - plate.shape[0] - size // 2, plate)

    def _centre(self, text: str, cell: Rect, size: int, colour: Colour = WHITE) -> None:
        plate = text_image(text, size, colour)
        left = (cell[0] + cell[2] - plate.shape[1]) // 2
        self._screen.stamp(left, (cell[1] + cell[3] - plate.shape[0]) // 2, plate)

    def _corner(self, text: str, right: int, top: int, size: int, colour: Colour) -> None:
        plate = text_image(text, size, colour)
        self._screen.stamp(right - plate.shape[1], top, plate)


class _Figures:
    """What is kept of a source: its picture with zones and lines, and what the overlay says of it."""

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._picture: Pixels = np.empty((0, 0, 3), np.uint8)
        self._shown: deque[float] = deque(maxlen=240)  # when frames were shown first
        self._since, self._text = -math.inf, ""
        self._settings: Settings | None = None

    def picture(self, frame: Frame, found: Detections | None) -> Pixels:
        """What is shown of a frame, perhaps again: the same array then."""
        if frame is not self._frame:
            self._frame, self._picture = frame, frame.image
            self._shown.append(time.monotonic())
            if found is not None and ("zones" in found.extra or "lines" in found.extra):
                self._picture = np.array(frame.image, order="C")
                draw_regions_on(self._picture, found)
        return self._picture

    def text(self, one: Snapshot, settings: Settings) -> str:
        """Three lines; they change twice a second at most."""
        now, status = time.monotonic(), one.status
        if now - self._since >= REFRESH or settings != self._settings:
            self._settings = settings
            rate = sum(now - when < 2 for when in self._shown) / 2
            self._since, self._text = (
                now,
                (
                    f"{one.source}   {status.state}\n"
                    f"{status.capture_fps:.1f} captured   {one.detect_fps:.1f} detected   {rate:.1f} shown a second\n"
                    f"{one.latency * 1e3:.0f} ms latency   {status.dropped} dropped   "
                    f"threshold {settings.score_threshold:.0%}"
                ),
            )
        return self._text


def _letters(width: int, height: int) -> int:
    """The size of letters that can be read, and leave room, in a window or a cell of it."""
    return max(12, round(min(height / 38, width / 60)))


def _grid(count: int) -> tuple[int, int]:
    """Columns and rows for so many pictures."""
    columns = max(1, math.ceil(math.sqrt(count)))
    return columns, max(1, math.ceil(count / columns))


def _inside(frame: Frame, cell: Rect) -> Rect:
    """The largest rectangle of the picture's shape in the middle of a cell."""
    height, width = frame.image.shape[:2]
    scale = min((cell[2] - cell[0]) / width, (cell[3] - cell[1]) / height)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (cell[0] + cell[2] - wide) // 2, (cell[1] + cell[3] - high) // 2
    return left, top, left + wide, top + high
