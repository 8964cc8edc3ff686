"""Why a stream cannot be read: a few kinds, each in a sentence of our own, so that no address or password leaks."""

from __future__ import annotations

import errno
import re
from typing import Literal

Kind = Literal[
    "authentication", "not found", "refused", "unknown host", "timeout", "tls", "codec", "closed", "unusable", "other"
]

SENTENCES: dict[Kind, str] = {
    "authentication": "the user name or password is missing or wrong",
    "not found": "there is no such stream or device",
    "refused": "the connection was refused",
    "unknown host": "the host name is not known",
    "timeout": "no answer",
    "tls": "the TLS connection failed: certificate or protocol",
    "codec": "what comes cannot be decoded",
    "closed": "the connection was closed or broken",
}


class Failure(Exception):
    """A stream cannot be opened or no more be read.

    kind: "unusable" is what no further try can mend.
    """

    def __init__(self, kind: Kind, text: str = "") -> None:
        super().__init__(text or SENTENCES[kind])
        self.kind = kind


def classify(error: Exception, log: str) -> Failure:
    """The failure behind an error of PyAV or the system.

    Parameters
    ----------
    log: what FFmpeg wrote meanwhile, which tells what its error codes do not.
    """
    name, number = type(error).__name__, getattr(error, "errno", None)
    said = re.sub(r"\S*(://|/)\S*", "", log.lower())  # without addresses and paths, in which any word may stand
    if name in ("HTTPUnauthorizedError", "HTTPForbiddenError") or re.search(r"\b40[13] (unauthorized|forbidden)", said):
        return Failure("authentication")
    if re.search(r"failed to resolve|name or service not known|name resolution", said):
        return Failure("unknown host")
    if name != "ConnectionRefusedError" and re.search(r"\b(tls|ssl)\b|certificate|handshake", said):
        return Failure("tls")
    by_name: dict[str, Kind] = {
        "HTTPNotFoundError": "not found",
        "FileNotFoundError": "not found",
        "ConnectionRefusedError": "refused",
        "TimeoutError": "timeout",
        "InvalidDataError": "codec",
        "DecoderNotFoundError": "codec",
        "DemuxerNotFoundError": "codec",
        "StreamNotFoundError": "codec",
        "PatchWelcomeError": "codec",
        "EOFError": "closed",
        "ConnectionResetError": "closed",
        "BrokenPipeError": "closed",
    }
    by_number: dict[int | None, Kind] = {
        errno.ETIMEDOUT: "timeout", errno.ECONNREFUSED: "refused", errno.ENOENT: "not found", errno.ENODEV: "not found",
        errno.ENXIO: "not found", errno.ECONNRESET: "closed", errno.EPIPE: "closed", errno.EHOSTUNREACH: "timeout",
        errno.ENETUNREACH: "timeout", errno.EIO: "closed",
    }  # fmt: skip
    kind = by_name.get(name) or by_number.get(number)
    if kind is not None:
        return Failure(kind)
    return Failure("other", getattr(error, "strerror", None) or name)
