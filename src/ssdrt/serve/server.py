"""The server of the live page: its address, its thread, its end."""

from __future__ import annotations

import os
import re
import secrets
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from ssdrt.errors import SinkError, import_extra
from ssdrt.live.board import Board, Controls
from ssdrt.serve.app import application
from ssdrt.serve.connections import limited_protocol
from ssdrt.serve.guard import Guard, is_local, known_names
from ssdrt.serve.pictures import Pictures

TOKEN = "SSDRT_WEB_TOKEN"
"""Environment variable that gives the token, for one that stays the same from run to run; else it is drawn by lot."""

SHORTEST_TOKEN = 16


class LivePage:
    """Listens from its making and serves from its start, to its close; a context manager that closes.

    address: what to open in a browser; ends with the token where one was drawn. port: the one that was taken.
    """

    def __init__(self, labels: Mapping[int, str], host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen.

        Parameters
        ----------
        labels: name of every class id that may be chosen.
        port: 0 takes any that is free.

        Raises
        ------
        SinkError: the address cannot be listened at; the token is too short.
        MissingExtra: starlette or uvicorn is not installed.
        """
        self._uvicorn: Any = import_extra("uvicorn", "web", "the live page")
        import_extra("starlette", "web", "the live page")
        self._socket = _listen(host, port)
        bound, self.port = self._socket.getsockname()[:2]
        token = None if is_local(bound) else _token()
        told = None if os.environ.get(TOKEN) else token  # who gave it knows it, and it stays out of their logs
        self.address = _address(host, bound, self.port, told)
        self._guard = Guard(token, known_names(host), f"ssdrt_{self.port}")
        self._labels = labels
        self._pictures: Pictures | None = None
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def start(self, board: Board, controls: Controls) -> LivePage:
        """Serve what is on the board."""
        self._pictures = Pictures(board, controls)
        app = application(self._pictures, controls, self._labels, self._guard)
        options: dict[str, Any] = {"ws": "none", "lifespan": "off", "loop": "asyncio", "timeout_graceful_shutdown": 1}
        quiet: dict[str, Any] = {"log_config": None, "log_level": "critical", "access_log": False}
        lean: dict[str, Any] = {"server_header": False, "date_header": False, "h11_max_incomplete_event_size": 16384}
        config = self._uvicorn.Config(app, http=limited_protocol(), **options, **quiet, **lean)
        self._server = _server(self._uvicorn, config, self._pictures)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="ssdrt-web", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Say goodbye to every viewer and stop listening; may be called more than once."""
        if self._pictures is not None and self._thread is not None:
            self._pictures.stop()
            self._server.should_exit = True
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> LivePage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_address(text: str) -> tuple[str, int]:
    """Host and port from `[HOST:]PORT`; an IPv6 address stands in brackets.

    Raises
    ------
    ValueError: it is neither.
    """
    host, _, port = text.rpartition(":")
    known = port.isascii() and port.isdigit() and int(port) < 65536
    if not known or host.startswith("[") != host.endswith("]"):
        raise ValueError(f"{text!r} is not [HOST:]PORT, as 8080 or 0.0.0.0:8080")
    return host.strip("[]") or "127.0.0.1", int(port)


def _server(uvicorn: Any, config: Any, pictures: Pictures) -> Any:
    class Server(uvicorn.Server):  # type: ignore[misc]
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            pictures.start()
            await super().startup(sockets)

    return Server(config)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, UnicodeError) as error:  # the latter of a name that can be none
        why = getattr(error, "strerror", None) or error
        raise SinkError(f"the page cannot be put up at {host}:{port}: {why}") from error


def _token() -> str:
    token = os.environ.get(TOKEN) or secrets.token_urlsafe(16)
    if not re.fullmatch(rf"[A-Za-z0-9._~-]{{{SHORTEST_TOKEN},}}", token):  # as it is in addresses and cookies alike
        raise SinkError(f"{TOKEN} must hold {SHORTEST_TOKEN} or more characters, of A-Z a-z 0-9 . _ ~ - only")
    return token


def _address(host: str, bound: str, port: int, token: str | None) -> str:
    """What to type in a browser, on another machine if others may come; what follows # is never sent over the wire."""
    name = socket.gethostname() if bound in ("0.0.0.0", "::") else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"#{token}" if token else "")
