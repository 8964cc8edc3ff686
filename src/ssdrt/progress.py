"""Progress on standard error, when something takes longer than two seconds: a bar in a terminal, else some lines."""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ssdrt.errors import import_extra

log = logging.getLogger("ssdrt")

PATIENCE = 2.0  # seconds before anything is shown
INTERVAL = 10.0  # seconds between two lines

Advance = Callable[[int], None]
"""Takes the number of units that were done since the last call."""


@contextmanager
def progress(label: str, total: int | None, unit: str = "pictures", *, quiet: bool = False) -> Iterator[Advance]:
    """Show how far the body is; it calls what it is given with the number of units done.

    The bar needs rich (the extra `progress`).

    Parameters
    ----------
    label: what is being done.
    total: how many units there are, None when that is not known.
    unit: what they are; "bytes" are shown as MB.
    quiet: show nothing, as where the log of this package has errors alone (--quiet).
    """
    if quiet or not log.isEnabledFor(logging.WARNING):
        yield lambda _units: None
    elif sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
        with _bar(label, total, unit) as advance:
            yield advance
    else:
        yield _lines(label, total, unit)


def _lines(label: str, total: int | None, unit: str) -> Advance:
    begin, done = time.monotonic(), 0
    due = begin + PATIENCE

    def advance(units: int) -> None:
        nonlocal done, due
        done += units
        now = time.monotonic()
        if now >= due:
            due = now + INTERVAL
            print(f"{label}: {_describe(done, total, unit)}", file=sys.stderr, flush=True)

    return advance


@contextmanager
def _bar(label: str, total: int | None, unit: str) -> Iterator[Advance]:
    begin, done = time.monotonic(), 0
    bar: Any = None

    def advance(units: int) -> None:
        nonlocal done, bar
        done += units
        if bar is None and time.monotonic() - begin >= PATIENCE:
            bar = _start_bar(label, total)
        if bar is not None:
            bar.update(bar.task_ids[0], completed=done, count=_describe(done, total, unit))

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()


def _start_bar(label: str, total: int | None) -> Any:
    rich = import_extra("rich.progress", "progress", "a progress bar")
    console = import_extra("rich.console", "progress", "a progress bar").Console(stderr=True)
    columns = ("{task.description}", rich.BarColumn(), "{task.fields[count]}", rich.TimeRemainingColumn())
    # Standard output is left alone: it may be the JSON lines. What is printed to standard error goes above the bar.
    bar = rich.Progress(*columns, console=console, redirect_stdout=False)
    bar.add_task(label, total=total, count="")
    bar.start()
    return bar


def _describe(done: int, total: int | None, unit: str) -> str:
    """How much is done, as "120 of 5000 pictures" or "3.1 of 76.5 MB"."""
    counts = [str(count) if unit != "bytes" else f"{count / 1e6:.1f}" for count in (done, total) if count is not None]
    return f"{' of '.join(counts)} {unit if unit != 'bytes' else 'MB'}"
