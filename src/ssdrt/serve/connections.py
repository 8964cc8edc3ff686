"""Connections with limits: how many, how long one may stay silent, and how far behind a viewer may fall."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from ssdrt.errors import import_extra

MOST_CONNECTIONS = 256

SILENCE = 10.0
"""Seconds within which a connection sends a whole request, or it is closed."""

STALL = 30.0
"""Seconds after which a viewer that takes nothing is cut off."""

SEND_BUFFER = 128 * 1024
"""Bytes that the system keeps for a viewer (Linux takes twice that): the more, the older is what a slow one sees."""


def limited_protocol() -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol within these limits.

    Raises
    ------
    MissingExtra: uvicorn is not installed.
    """
    base: Any = import_extra("uvicorn.protocols.http.h11_impl", "web", "the live page").H11Protocol

    class Limited(base):  # type: ignore[misc]
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > MOST_CONNECTIONS:
                transport.abort()
                return
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            self._give(SILENCE)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._give(None)
            elif self._timer is None:
                self._give(SILENCE)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._give(STALL)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._give(None)

        def connection_lost(self, exc: Exception | None) -> None:
            self._give(None)
            super().connection_lost(exc)

        def _give(self, seconds: float | None) -> None:
            """Close the connection in so many seconds; None: do not."""
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)

    return Limited
