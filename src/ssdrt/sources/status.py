"""How a source that never ends is doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ONLINE", "STALE", "OFFLINE"]
"""Frames come; none came for longer than the stream's own rate explains; it is closed and is opened again later."""


@dataclass(frozen=True)
class Status:
    """How a source is doing.

    reason: one sentence for a source that is not ONLINE, without credentials.
    capture_fps: frames that came in a second, lately. dropped: frames never detected in, as newer ones were there.
    reconnects: how often it was opened again.
    """

    state: State
    reason: str = ""
    capture_fps: float = 0.0
    dropped: int = 0
    reconnects: int = 0
