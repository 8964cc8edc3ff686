"""What the page's addresses answer.

GET  /                      the page: /page.css, /page.js, /icon.svg
POST /login                 {"token": ...}: a cookie for the browser
GET  /live                  for the page: records and pictures of all sources as they come, see `frame`
GET  /mjpeg/N               for other viewers: pictures of source N, multipart/x-mixed-replace
GET  /jsonl, /events        for programs: records as JSON lines, and as server-sent events
GET  /snapshot/N.jpg        the newest frame of source N, whole
GET  /state                 records, settings and classes
POST /settings              {"score_threshold": 0..1, "classes": [name or id, ...] or null, "paused": bool}: any of them
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import contextmanager
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from ssdrt.errors import import_extra
from ssdrt.live.board import Controls
from ssdrt.serve.guard import HEADERS, Guard
from ssdrt.serve.pictures import Pictures, Shown, css_colour

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.responses import Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

STATIC = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
MOST_VIEWERS = 100
MOST_SNAPSHOTS = 2  # made at a time
LARGEST_BODY = 64 * 1024
BODY_SECONDS = 5.0
BOUNDARY = b"ssdrt"


def application(pictures: Pictures, controls: Controls, labels: Mapping[int, str], guard: Guard) -> App:
    """The ASGI application.

    Parameters
    ----------
    labels: name of every class id that may be chosen.

    Raises
    ------
    MissingExtra: starlette is not installed.
    """
    Starlette = import_extra("starlette.applications", "web", "the live page").Starlette  # noqa: N806
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    page = _Page(pictures, controls, labels, guard)
    routes = [Route(path, partial(_static, *file)) for path, file in STATIC.items()]
    routes += [
        Route("/login", page.login, methods=["POST"]),
        Route("/live", page.live),
        Route("/mjpeg/{number:int}", page.mjpeg),
        Route("/jsonl", page.jsonl),
        Route("/events", page.events),
        Route("/snapshot/{number:int}.jpg", page.snapshot),
        Route("/state", page.state),
        Route("/settings", page.settings, methods=["POST"]),
    ]
    inner: App = Starlette(routes=routes)

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        refusal = guard.refusal(scope)
        app = inner if refusal is None else JSONResponse({"error": refusal[1]}, refusal[0])
        await app(scope, receive, send_with_headers)

    return guarded


def frame(shown: Shown | None, settings: bytes, with_picture: bool, told: int = 0) -> bytes:
    """One message of /live: two lengths as 4 bytes each, most significant first; a line of JSON; a JPEG or nothing.

    The line is {"settings": ..., "source": a record or null}, with the events whose numbers are above `told`.
    """
    record = b"null" if shown is None else shown.record_with(told)
    line = b'{"settings":' + settings + b',"source":' + record + b"}"
    picture = (shown.picture if shown is not None and with_picture else None) or b""
    return struct.pack(">II", len(line), len(picture)) + line + picture


async def _static(name: str, kind: str, _: Request) -> Response:
    from starlette.responses import Response

    return Response(resources.files("ssdrt.serve").joinpath("static").joinpath(name).read_bytes(), media_type=kind)


class _Page:
    """The answers that depend on the run."""

    def __init__(self, pictures: Pictures, controls: Controls, labels: Mapping[int, str], guard: Guard) -> None:
        self._pictures, self._controls, self._guard = pictures, controls, guard
        self._labels = dict(labels)
        self._classes = {*self._labels.values(), *map(str, self._labels)}
        self._streams = 0
        self._snapshots = asyncio.Semaphore(MOST_SNAPSHOTS)

    async def login(self, request: Request) -> Response:
        body = await _json(request)
        token = body.get("token") if isinstance(body, dict) else None
        if not isinstance(token, str) or not self._guard.is_token(token):
            return _error(403, "that is not the token; the address that ssdrt printed ends with it")
        from starlette.responses import Response

        answer = Response(status_code=204)
        answer.set_cookie(self._guard.cookie, token, max_age=30 * 86400, httponly=True, samesite="strict")
        return answer

    async def state(self, _: Request) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse(
            {
                "sources": [json.loads(one.record) for _, one in sorted(self._pictures.newest.items())],
                "settings": self._settings(),
                "classes": [
                    {"class_id": number, "label": label, "colour": css_colour(number)}
                    for number, label in self._labels.items()
                ],
            }
        )

    async def settings(self, request: Request) -> Response:
        body = await _json(request)
        if not isinstance(body, dict) or not body.keys() <= {"score_threshold", "classes", "paused"}:
            return _error(400, "give an object with score_threshold, classes, paused or some of them, as JSON")
        score, classes, paused = body.get("score_threshold", 0), body.get("classes"), body.get("paused", False)
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not 0 <= score <= 1:
            return _error(400, "score_threshold is a number from 0 to 1")
        if classes is not None and not (isinstance(classes, list) and all(isinstance(one, str) for one in classes)):
            return _error(400, "classes is a list of names or ids, or null for all of them")
        if unknown := [one for one in classes or () if one not in self._classes]:
            return _error(400, f"the model has no class {unknown[0][:60]!r}")
        if not isinstance(paused, bool):
            return _error(400, "paused is true or false")
        if classes is not None:
            body["classes"] = tuple(dict.fromkeys(classes))
        self._controls.change(**body)
        from starlette.responses import JSONResponse

        return JSONResponse(self._settings())

    async def snapshot(self, request: Request) -> Response:
        from starlette.responses import Response

        async with self._snapshots:
            number = request.path_params["number"]
            picture = await asyncio.to_thread(self._pictures.snapshot, number)
        if picture is None:
            return _error(404, "no picture has come from that source yet")
        headers = {"content-disposition": f'attachment; filename="ssdrt-{number}.jpg"'}
        return Response(picture, media_type="image/jpeg", headers=headers)

    async def live(self, _: Request) -> Response:
        return self._stream(self._live(), "application/octet-stream")

    async def mjpeg(self, request: Request) -> Response:
        boundary = BOUNDARY.decode()
        return self._stream(
            self._mjpeg(request.path_params["number"]), f"multipart/x-mixed-replace; boundary={boundary}"
        )

    async def jsonl(self, _: Request) -> Response:
        return self._stream(self._records(b"", b"\n"), "application/x-ndjson")

    async def events(self, _: Request) -> Response:
        return self._stream(self._records(b"data: ", b"\n\n"), "text/event-stream")

    def _settings(self) -> dict[str, Any]:
        now = self._controls.settings
        return {"score_threshold": now.score_threshold, "classes": now.classes, "paused": now.paused}

    def _stream(self, parts: AsyncIterator[bytes], kind: str) -> Response:
        """An answer without end, within the number of those there may be."""
        from starlette.responses import StreamingResponse

        if self._streams >= MOST_VIEWERS:
            return _error(503, f"{MOST_VIEWERS} viewers are connected, which is the most", {"retry-after": "5"})
        return StreamingResponse(self._counted(parts), media_type=kind)

    async def _counted(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            async for part in parts:
                yield part
        finally:
            self._streams -= 1

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """While this lasts, pictures are made."""
        self._pictures.viewers += 1
        try:
            yield
        finally:
            self._pictures.viewers -= 1

    async def _live(self) -> AsyncIterator[bytes]:
        sent = dict[int, Shown]()
        told = self._told()
        with self._watching():
            while not self._pictures.ended:
                yield b""  # returns when what was sent before is gone: only then is the newest chosen
                settings = json.dumps(self._settings()).encode()
                fresh = [one for one in self._pictures.newest.values() if sent.get(one.number) is not one]
                messages = [
                    frame(one, settings, _unseen(one, sent.get(one.number)), told.get(one.number, 0)) for one in fresh
                ]
                sent.update((one.number, one) for one in fresh)
                told.update((one.number, one.last_event) for one in fresh)
                yield b"".join(messages) or frame(None, settings, False)
                await self._pictures.news()

    async def _mjpeg(self, number: int) -> AsyncIterator[bytes]:
        last: Shown | None = None
        with self._watching():
            while not self._pictures.ended:
                yield b""
                one = self._pictures.newest.get(number)
                if one is not None and one.picture is not None and _unseen(one, last):
                    head = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                    yield head % (BOUNDARY, len(one.picture)) + one.picture + b"\r\n"
                    last = one
                await self._pictures.news()

    async def _records(self, before: bytes, after: bytes) -> AsyncIterator[bytes]:
        sent, told = dict[int, bytes](), self._told()
        while not self._pictures.ended:
            yield b""
            fresh = [one for one in self._pictures.newest.values() if sent.get(one.number) != one.record]
            sent.update((one.number, one.record) for one in fresh)
            parts = [before + one.record_with(told.get(one.number, 0)) + after for one in fresh]
            told.update((one.number, one.last_event) for one in fresh)
            yield b"".join(parts)
            await self._pictures.news()

    def _told(self) -> dict[int, int]:
        """Source -> the number of its newest event: a viewer hears of those that come after it."""
        return {number: one.last_event for number, one in self._pictures.newest.items()}


def _unseen(one: Shown, last: Shown | None) -> bool:
    return last is None or last.serial != one.serial or last.picture is None


async def _json(request: Request) -> Any:
    """The body of a request; None if it is no JSON, is too long or does not come in time."""
    try:
        return json.loads(await asyncio.wait_for(_body(request), BODY_SECONDS))
    except (ValueError, RecursionError, asyncio.TimeoutError):
        return None


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise ValueError("too long")
    return body


def _error(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": sentence}, status, headers)
