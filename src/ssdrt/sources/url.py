"""Pictures behind http and https addresses; and whether there is a picture or a stream."""

from __future__ import annotations

import base64
import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from functools import lru_cache
from typing import Literal, cast

from ssdrt.errors import SourceError, shorten
from ssdrt.sources import photo
from ssdrt.sources.base import reason
from ssdrt.sources.credentials import hide_credentials

MAX_BYTES = 100_000_000
TIMEOUT = 60.0  # seconds, for connecting as for the whole body
CHUNK = 1 << 16

LIVE_SUFFIXES = (".m3u8", ".mjpg", ".mjpeg")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".ts", ".flv", ".mov")
LIVE_TYPES = re.compile(r"multipart/x-mixed-replace|application/(x-mpegurl|vnd\.apple\.mpegurl)|audio/x?-?mpegurl")

Kind = Literal["picture", "video", "stream"]


@lru_cache(maxsize=256)
def kind_of(url: str, timeout: float = 10.0) -> Kind:
    """What an address gives, by its suffix and what the server says of it: a "video" is one whose length it knows.

    What does not answer, or only to who has a password, is taken for a camera, a "stream", unless its suffix is a
    picture's: as a stream it is tried again, and says what is wrong. Asked once in a process.

    Raises
    ------
    SourceError: it is no address.
    """
    try:
        path = urllib.parse.urlsplit(url).path.lower()
    except ValueError as error:
        raise SourceError(f"{shorten(hide_credentials(url))!r} is no address: {error}") from error
    if path.endswith(LIVE_SUFFIXES):
        return "stream"
    if os.path.splitext(path)[1] in photo.SUFFIXES:
        return "picture"
    otherwise: Kind = "stream" if path.endswith(VIDEO_SUFFIXES) else "picture"
    try:
        with _open(url, "*/*", timeout) as response:
            said = response.headers.get("Content-Type", "").lower()
            if LIVE_TYPES.match(said):
                return "stream"
            if otherwise == "stream" or said.startswith("video/"):
                return "video" if "Content-Length" in response.headers else "stream"
            return "picture"
    except urllib.error.HTTPError as error:
        return "stream" if error.code == http.HTTPStatus.UNAUTHORIZED else otherwise
    except urllib.error.URLError as error:  # its reason is a text where the address is wrong
        unreachable = isinstance(error.reason, OSError) and not isinstance(error.reason, ssl.SSLError)
        return "stream" if unreachable else otherwise
    except OSError:
        return "stream"
    except (http.client.HTTPException, ValueError):
        return otherwise


def fetch(url: str, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT) -> bytes:
    """Download what an http or https address gives; redirections lead to nothing but http and https.

    Parameters
    ----------
    max_bytes: limit of the body.
    timeout: limit in seconds of each wait and of the body as a whole.

    Raises
    ------
    SourceError: no connection, an error status, too large or too slow.
    """
    shown = shorten(hide_credentials(url))
    try:
        with _open(url, "image/*", timeout) as response:
            return _read(response, shown, max_bytes, time.monotonic() + timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        inner = getattr(error, "reason", None)  # what urllib wraps, or a text
        why = reason(inner) if isinstance(inner, Exception) else inner if type(error) is urllib.error.URLError else None
        raise SourceError(f"{shown!r} cannot be fetched: {why or reason(error)}") from error


def _open(url: str, accept: str, timeout: float) -> http.client.HTTPResponse:
    quoted = urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")
    parts = urllib.parse.urlsplit(quoted)
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(
        parts._replace(netloc=host).geturl(), headers={"User-Agent": "ssdrt", "Accept": accept}
    )
    if user:
        name, _, password = user.partition(":")
        secret = f"{urllib.parse.unquote(name)}:{urllib.parse.unquote(password)}".encode()
        # Not sent to where a redirection leads, which may be another server.
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(secret).decode()}")
    return cast("http.client.HTTPResponse", _opener().open(request, timeout=timeout))


def _opener() -> urllib.request.OpenerDirector:
    """urllib's default opener, less its handlers of ftp:, file: and data:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _read(response: http.client.HTTPResponse, shown: str, max_bytes: int, deadline: float) -> bytes:
    body = bytearray()
    while chunk := response.read1(CHUNK):  # whatever has arrived, so that the deadline is looked at
        body += chunk
        if len(body) > max_bytes:
            raise SourceError(f"{shown!r} is larger than {max_bytes} bytes; download it and give the file")
        if time.monotonic() > deadline:
            raise SourceError(f"{shown!r} came too slowly; download it and give the file")
    return bytes(body)
