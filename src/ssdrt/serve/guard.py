"""Who may talk to the page: no foreign Host (DNS rebinding), no foreign Origin (CSRF), the token if one is needed."""

from __future__ import annotations

import hmac
import http.cookies
import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

OPEN = frozenset(("/", "/page.css", "/page.js", "/icon.svg", "/login"))
"""What everybody gets who may reach the port: the page without a picture, which asks for the token."""

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Sent with every answer."""

Scope = Mapping[str, Any]


@dataclass(frozen=True)
class Guard:
    """What is asked of a request.

    token: None when only this machine can reach the port. hosts: names under which the page is known.
    cookie: the name under which a browser keeps the token.
    """

    token: str | None
    hosts: frozenset[str]
    cookie: str

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and sentence for a request that is refused; None for one that is welcome."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if not self._known(host):
            return 403, "this page is not known under that name (Host header); open it by its address"
        origin = headers.get("origin")
        if scope["method"] != "GET" and origin is not None and origin.partition("://")[2] != host:
            return 403, "settings are changed from the page itself only"
        if scope["path"] in OPEN or self.token is None or any(map(self.is_token, self._offered(headers))):
            return None
        return 401, "a token is needed: the address that ssdrt printed ends with it"

    def is_token(self, text: str) -> bool:
        """Whether this is the token, in a time that does not tell how much of it is right."""
        return self.token is not None and hmac.compare_digest(text.encode(), self.token.encode())

    def _known(self, host: str) -> bool:
        """An address cannot be rebound, a name can: of names only our own are known."""
        parts = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]+))(?::\d*)?", host)
        if parts is None:
            return False
        name = parts[1] or parts[2]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.lower() in self.hosts
        return True

    def _offered(self, headers: Mapping[str, str]) -> Iterable[str]:
        """The tokens that a request brings."""
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            yield rest.strip()
        try:
            cookies = http.cookies.SimpleCookie(headers.get("cookie", ""))
        except http.cookies.CookieError:
            return
        if self.cookie in cookies:
            yield cookies[self.cookie].value


def known_names(host: str) -> frozenset[str]:
    """The names under which a page bound to `host` is known, in lower case."""
    own = socket.gethostname().lower()
    return frozenset(("localhost", host.lower(), own, f"{own}.local"))


def is_local(address: str) -> bool:
    """Whether only this machine can reach what listens at this address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
