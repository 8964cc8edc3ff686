"""The parent's end of a capture process: start it, ask it for frames, hear what it says, and be sure that it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from typing import Any

import numpy as np

from ssdrt.sources.base import Pixels
from ssdrt.sources.credentials import hide_credentials
from ssdrt.sources.stream import Stream

PROGRAM = "import sys; sys.path[:] = sys.argv[2].split('\\n'); from ssdrt.sources.capture import main; main()"
"""The same packages as here, wherever they come from; the current folder is not among them unless it is here too."""

PARTING = 2.0
"""Seconds after which a process that was told to end is killed. It kills itself after `capture.PARTING`."""


LAST_WORDS = 4000  # bytes of standard error that are kept


class CaptureProcess:
    """One run of `capture`. One thread reads; any thread may ask."""

    def __init__(self, stream: Stream, max_pixels: int) -> None:
        self._memory = os.memfd_create("ssdrt") if hasattr(os, "memfd_create") else _unlinked_file()
        self._map: mmap.mmap | None = None
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._lines: deque[bytes] = deque()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, json.dumps({"memory": self._memory, "max_pixels": max_pixels}),
                 "\n".join(path or os.getcwd() for path in sys.path)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[self._memory],
                start_new_session=True, bufsize=0,
            )  # fmt: skip
        except OSError:
            os.close(self._memory)
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._err: int | None = self._process.stderr.fileno()
        self._said = b""  # on standard error, the last of it
        with contextlib.suppress(OSError):
            self._send(json.dumps(dataclasses.asdict(stream)).encode() + b"\n")

    def ask(self) -> None:
        """Ask for the newest frame that was not given yet, or the next to come."""
        with self._lock, contextlib.suppress(OSError):
            if self._in >= 0:
                self._send(b"n")

    def hear(self, seconds: float, wake: int) -> dict[str, Any] | None:
        """The next thing it says; None when it says nothing for so long, or something can be read from `wake`.

        Its last word is an "error" or "end"; the one of a process that died is made up here.
        """
        poll = select.poll()
        poll.register(self._out, select.POLLIN | select.POLLHUP)
        poll.register(wake, select.POLLIN)
        if self._err is not None:
            poll.register(self._err, select.POLLIN | select.POLLHUP)
        end = time.monotonic() + seconds
        while not self._lines:
            ready = dict(poll.poll(max(end - time.monotonic(), 0) * 1000))
            if wake in ready or not ready:
                return None
            if self._err in ready:
                if not self._hear_complaint():
                    poll.unregister(self._err)
                    self._err = None
                continue
            data = os.read(self._out, 1 << 16)
            if not data:
                return {"error": "other", "text": self._cause_of_death()}
            *lines, rest = (bytes(self._buffer) + data).split(b"\n")
            self._lines.extend(lines)
            self._buffer[:] = rest
        try:
            message = json.loads(self._lines.popleft())
        except ValueError:
            message = None
        if not isinstance(message, dict):  # a library printed something between our lines
            return {"error": "other", "text": "the capture process said what is not understood"}
        return message

    def _hear_complaint(self) -> bool:
        """Read from its standard error; False at its end."""
        assert self._process.stderr is not None
        data = os.read(self._process.stderr.fileno(), 1 << 16)
        self._said = (self._said + data)[-LAST_WORDS:]
        return bool(data)

    def _cause_of_death(self) -> str:
        """Why it says nothing more, though it said no last word."""
        try:
            code = self._process.wait(PARTING)
        except subprocess.TimeoutExpired:
            return "the capture process says nothing more"
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it started
        how = f"exit code {code}"
        if code < 0:
            how = f"killed by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"signal {-code}"
        lines = hide_credentials(self._said.decode("utf-8", "replace")).split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"the capture process died: {how}{', ' * bool(last)}{last[:200]}"

    def pixels(self, width: int, height: int) -> Pixels:
        """The frame that it has just announced, (height, width, 3) uint8 RGB, copied."""
        size = width * height * 3
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self._memory, size, prot=mmap.PROT_READ)
        pixels: Pixels = np.frombuffer(self._map, np.uint8, size).reshape(height, width, 3).copy()
        return pixels

    def close(self) -> None:
        """End the process and all that it started, at the latest after `PARTING`."""
        with self._lock:
            self._in = -1
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._hear_the_end()
        if self._process.returncode is None:  # while it was not waited for, its number is nobody else's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for file in (self._process.stdout, self._process.stderr):
            assert file is not None
            file.close()
        if self._map is not None:
            self._map.close()
        os.close(self._memory)

    def _hear_the_end(self) -> None:
        """Wait until it says nothing more, as it has ended, or for `PARTING`."""
        poll, end = select.poll(), time.monotonic() + PARTING
        poll.register(self._out, select.POLLIN | select.POLLHUP)
        while poll.poll(max(end - time.monotonic(), 0) * 1000) and os.read(self._out, 1 << 16):
            pass

    def _send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._in, data) :]


def _unlinked_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
