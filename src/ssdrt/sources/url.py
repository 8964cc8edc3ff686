"""Pictures behind http and https addresses."""

from __future__ import annotations

import http.client
import time
import urllib.parse
import urllib.request

from ssdrt.errors import SourceError, shorten
from ssdrt.sources.base import reason
from ssdrt.sources.paths import without_password

MAX_BYTES = 100_000_000
TIMEOUT = 60.0  # seconds, for connecting as for the whole body
CHUNK = 1 << 16


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
    shown = shorten(without_password(url))
    quoted = urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")
    try:
        request = urllib.request.Request(quoted, headers={"User-Agent": "ssdrt", "Accept": "image/*"})
        with _opener().open(request, timeout=timeout) as response:
            return _read(response, shown, max_bytes, time.monotonic() + timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SourceError(f"{shown!r} cannot be fetched: {reason(error)}") from error


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
