"""What every source gives: items in order, each of which becomes a frame when a worker reads it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import SourceError, shorten

Pixels = NDArray[np.uint8]
"""(height, width, 3) uint8 RGB, upright; may be read-only."""

MAX_PIXELS = 178_956_970
"""Width * height of the largest picture that is decoded unless the caller allows more: 512 MiB of RGB."""


@dataclass(frozen=True)
class Frame:
    """A photo or one frame of a video.

    pixels: the image, or what gives it when it is first asked for.
    source: the path or address it came from, "-" for standard input.
    index: number of the frame in its source, 0 for a photo.
    time: the container's time stamp in seconds; None for a photo.
    """

    pixels: Pixels | Callable[[], Pixels]
    source: str
    index: int
    time: float | None

    @cached_property
    def image(self) -> Pixels:
        """(height, width, 3) uint8 RGB, upright; may be read-only."""
        return self.pixels() if callable(self.pixels) else self.pixels


@dataclass(frozen=True)
class Item:
    """A frame before it is decoded; `read` may run in any thread, and items of one source at once.

    file: its path, where all of this file is one photo and `decode` does no more than decode it.
    """

    source: str
    index: int
    time: float | None
    decode: Callable[[], Pixels]
    file: str | None = None

    def read(self) -> Frame:
        """Do the work.

        Raises
        ------
        SourceError: this item cannot be decoded; the items after it can.
        """
        return self.frame(self.decode())

    def frame(self, pixels: Pixels | Callable[[], Pixels]) -> Frame:
        """The frame, of pixels that someone else decoded."""
        return Frame(pixels, self.source, self.index, self.time)


@dataclass(frozen=True)
class Source:
    """The items of one or more inputs, to be gone through once; iterating them raises no SourceError.

    length: how many there will be, None when that is not known; for some videos the container's estimate.
    """

    items: Iterator[Item]
    length: int | None


def broken(source: str, error: Exception, index: int = 0) -> Item:
    """An item that raises `error` when it is read, so that failures travel the same way as frames."""

    def fail() -> Pixels:
        raise error

    return Item(source, index, None, fail)


def check_size(width: int, height: int, max_pixels: int, name: str) -> None:
    """Refuse a picture by the size that its header claims.

    Raises
    ------
    SourceError: width * height is above `max_pixels`.
    """
    if width * height > max_pixels:
        raise SourceError(
            f"{shorten(name)!r} says it is {width} x {height} pixels, more than the {max_pixels} allowed; "
            "if it can be trusted, raise max_pixels (--max-pixels)"
        )


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what could block or never end: only a regular file passes.

    Raises
    ------
    SourceError: no such file, no access, or a folder, pipe or device.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise SourceError(f"{shorten(str(path))!r} cannot be read: {reason(error)}") from error
    if not stat.S_ISREG(mode):
        raise SourceError(f"{shorten(str(path))!r} is a folder, pipe or device where a file is needed")


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading.

    Raises
    ------
    SourceError: as `check_regular`, or the file may not be read.
    """
    check_regular(path)
    try:
        return open(path, "rb")
    except OSError as error:
        raise SourceError(f"{shorten(str(path))!r} cannot be read: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What an error says, without the error number and the path that the message around it names already."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
