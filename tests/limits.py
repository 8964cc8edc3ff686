"""Runs one untrusted input under the limits that ssdrt promises: time 1 s + 0.1 s/MB, memory 200 MB + 4x the file.

Time is CPU time of the processor that the limits were set on (`slowness`), so that neither a busy nor a slow machine
fails anything; memory is the growth of the process's peak (Linux; elsewhere it is not measured).
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ssdrt.errors import SsdrtError

SECONDS, SECONDS_PER_BYTE = 1.0, 0.1e-6
BYTES, BYTES_PER_BYTE = 200_000_000, 4
PACE = 0.014
"""CPU seconds of `_work` on the processor that the limits are meant for."""
HANG = 20.0
"""CPU seconds after which an input that does not come back is given up."""


class Hang(BaseException):
    """Raised in the middle of an input that does not come back; no handler of ssdrt's may catch it."""


@dataclass(frozen=True)
class Verdict:
    """kind: "loaded", "refused" (an SsdrtError), "slow", "large" (over the limits), "hang", or the name of an exception
    that should not have come out. detail: its message. seconds: CPU time. bytes: growth of the peak."""

    kind: str
    detail: str
    seconds: float
    bytes: int

    @property
    def good(self) -> bool:
        """Whether ssdrt kept its promise."""
        return self.kind in ("loaded", "refused")


def judge(work: Callable[[], object], size: int) -> Verdict:
    """Run `work` on an input of `size` bytes."""
    before = _reset_peak()
    start = time.process_time()
    kind, detail = "loaded", ""
    try:
        with _alarm(HANG):
            work()
    except SsdrtError as error:
        kind, detail = "refused", str(error)
    except Hang:
        kind = "hang"
    except Exception as error:  # what this module is there to find
        kind, detail = type(error).__name__, str(error)
    seconds, grown = time.process_time() - start, _peak() - before
    if kind in ("loaded", "refused"):
        limit = SECONDS + SECONDS_PER_BYTE * size
        if seconds > limit and seconds > limit * slowness():
            kind = "slow"
        elif grown > BYTES + BYTES_PER_BYTE * size:
            kind = "large"
    return Verdict(kind, detail, seconds, grown)


def slowness() -> float:
    """How many times as long as there plain Python takes here and now; 1 to 4, so that a hang stays one."""
    start = time.process_time()
    _work()
    return min(4.0, max(1.0, (time.process_time() - start) / PACE))


def _work() -> int:
    total = 0
    for number in range(300_000):
        total += number & 7 if number % 3 else len(str(number))
    return total


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(_: int, __: FrameType | None) -> None:
        raise Hang

    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return
    old = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def _reset_peak() -> int:
    """Start measuring the peak anew; the bytes in use now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """Largest resident size in bytes since `_reset_peak`; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
