"""Ctrl-C and SIGTERM end a run with its outputs closed, and a second one does not break that off."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack

TERMINATED = 128 + signal.SIGTERM  # the exit code, as shells have it
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_on_signals(stack: ExitStack) -> None:
    """Have SIGTERM raise SystemExit, as Ctrl-C raises KeyboardInterrupt, until the stack is left."""
    for number in SIGNALS:
        stack.callback(signal.signal, number, signal.getsignal(number))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))


def ignore_signals() -> None:
    """Nothing must break off the closing, which begins now."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
