"""Which TensorRT there is: `tensorrt` 8.6, 10.x or 11.x, else `tensorrt_rtx` 1.x, and what each of them is called.

Nothing is looked up by number: the values of flags moved between versions. What a version lacks is missing by name.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import threading
from dataclasses import dataclass, field
from typing import Any

from ssdrt.errors import MissingExtra, import_extra

log = logging.getLogger("ssdrt.tensorrt")

HINT = (
    "engine tensorrt needs TensorRT: pip install 'ssdrt[tensorrt]', on a PC with an RTX card 'ssdrt[rtx]'; on a Jetson "
    "it comes with JetPack, see docs/jetson.md"
)


@dataclass(frozen=True)
class Library:
    """api: the module; family: its name; version: as in "8.6.0"; logger: what all its objects report to."""

    api: Any
    family: str
    version: str
    logger: Any
    messages: Messages

    @property
    def typed(self) -> bool:
        """Whether tensors keep the types that the network gives them; 8.6 chooses types itself, under flags."""
        return hasattr(self.api.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT for RTX."""
        return self.family == "tensorrt_rtx"


@dataclass
class Messages:
    """What TensorRT complains about while somebody listens, in his thread or in those that it starts."""

    lines: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, line: str) -> None:
        """Keep an error; only the latest matter."""
        with self.lock:
            self.lines.append(line)
            del self.lines[:-20]

    def take(self) -> str:
        """The errors since the last call in one line, without source lines and without what follows from the first."""
        with self.lock:
            lines, self.lines[:] = list(self.lines), []
        told = list(dict.fromkeys(_plain(line) for line in lines))
        follows = ("cudaError", "CUDA initialization failure")
        kept = [line for line in told if not any(word in line for word in follows)] or told
        return "; ".join(kept[:3]) or "TensorRT gave no reason"


def _plain(line: str) -> str:
    """`[network.cpp::addInput::1600] Error Code 3: API Usage Error (reason)` without the place."""
    return " ".join(re.sub(r"^(\d+: )?\[[^\]]*\] ?", "", line).split())


@functools.lru_cache(maxsize=1)
def find_library() -> Library:
    """The library of this installation.

    Raises
    ------
    MissingExtra: there is none.
    """
    for family in ("tensorrt", "tensorrt_rtx"):
        with contextlib.suppress(MissingExtra):
            return open_library(import_extra(family, family, "engine tensorrt"), family)
    raise MissingExtra(HINT)


def open_library(api: Any, family: str) -> Library:
    """A library from its module."""
    messages = Messages()
    return Library(api, family, str(api.__version__), _logger(api, messages), messages)


def _logger(api: Any, messages: Messages) -> Any:
    severity = api.ILogger.Severity
    levels = {severity.WARNING: logging.INFO, severity.INFO: logging.DEBUG, severity.VERBOSE: 5}

    class Logger(api.ILogger):  # type: ignore[misc]
        """TensorRT's messages to Python's logging; its errors are kept, they become ours."""

        def __init__(self) -> None:
            api.ILogger.__init__(self)

        def log(self, level: Any, message: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                messages.add(message)
            log.log(levels.get(level, logging.INFO), "TensorRT: %s", message)

    return Logger()
