"""Standard input: one encoded picture, or a list of paths and addresses."""

from __future__ import annotations

import io
import re
from typing import Protocol

from ssdrt.errors import SourceError
from ssdrt.sources.paths import split_list
from ssdrt.sources.photo import DAMAGE, FORMATS

MAX_BYTES = 100_000_000

CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1f]")


class Readable(Protocol):
    """Standard input, or what stands for it."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes."""
        ...


def read_stdin(file: Readable) -> bytes | list[str]:
    """Read standard input to its end: an encoded picture, or paths as in a list file.

    Raises
    ------
    SourceError: empty, more than `MAX_BYTES`, or neither picture nor list.
    """
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise SourceError(f"standard input is larger than {MAX_BYTES} bytes; give a file")
    if _is_picture(data):
        return data
    names = split_list(data)
    if not names or CONTROL.search(data, 0, 1 << 12):
        raise SourceError("standard input is neither a picture that is read nor a list of paths")
    return names


def _is_picture(data: bytes) -> bool:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS):
            return True
    except Image.DecompressionBombError:
        return True
    except DAMAGE:  # a list may begin like a picture: BMW.jpg
        return False
