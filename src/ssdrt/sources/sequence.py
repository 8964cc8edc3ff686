"""Numbered pictures as a video: `frames/%04d.png?rate=25`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial

from ssdrt.errors import SourceError, shorten
from ssdrt.sources.base import Item
from ssdrt.sources.photo import read_photo
from ssdrt.sources.stream import parse_options

NUMBER = re.compile(r"%(0\d)?d")
FIRST = 10
"""Sequences may begin at any number below this."""


def is_sequence(text: str) -> bool:
    """Whether `text` has one %d or %04d and is no file itself."""
    return len(NUMBER.findall(text)) == 1 and not os.path.lexists(text)


def read_sequence(text: str, max_pixels: int) -> Iterator[Item]:
    """The pictures from the first number that there is to the last before one is missing, 25 a second or `?rate=`.

    Raises
    ------
    SourceError: there is none, or an option is wrong.
    """
    pattern, options = parse_options(text, text, "frames/%04d.png?rate=25")
    rate = float(options.get("rate", 25))
    first = next((number for number in range(FIRST) if os.path.exists(_name(pattern, number))), None)
    if first is None:
        raise SourceError(f"{shorten(text)!r}: there is no {shorten(_name(pattern, 0))!r} nor one up to {FIRST - 1}")
    index = 0
    while os.path.exists(path := _name(pattern, first + index)):
        yield Item(text, index, index / rate, partial(read_photo, path, max_pixels))
        index += 1


def _name(pattern: str, number: int) -> str:
    return NUMBER.sub(lambda match: f"{number:{match[1] or ''}d}", pattern)
