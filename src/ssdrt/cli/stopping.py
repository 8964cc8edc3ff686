"""Ctrl-C and SIGTERM end every command with its outputs closed, and a second one does not break that off."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import ExitStack
from types import FrameType

TERMINATED = 128 + signal.SIGTERM  # the exit code, as shells have it
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LOCKING = (threading.Condition.__enter__.__code__, threading.Condition.__exit__.__code__)
"""Futures, events and semaphores take their locks by these."""

AGAIN = 0.001
"""Seconds."""


def end_on_signals(stack: ExitStack) -> None:
    """Have SIGTERM raise SystemExit, as Ctrl-C raises KeyboardInterrupt, until the stack is left; nothing in a thread
    that no signal reaches.

    Neither is raised where `threading` has just taken a lock: it would stay taken, and the threads that are waited for
    at the end would wait for it (a run in thousands hung so). A moment later it is raised elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        stack.callback(signal.signal, number, signal.getsignal(number))
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a job in the background may ignore it
        signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: FrameType | None) -> None:
    if frame is not None and frame.f_code in LOCKING and hasattr(signal, "setitimer"):  # not on Windows
        signal.signal(signal.SIGALRM, lambda _, later: _end(number, later))
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
    elif number == signal.SIGTERM:
        sys.exit(TERMINATED)
    else:
        raise KeyboardInterrupt


def ignore_signals() -> None:
    """Nothing must break off the closing, which begins now."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
