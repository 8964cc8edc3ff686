"""Video on standard input: YUV4MPEG2, JPEG after JPEG, or raw frames whose size is given."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

import numpy as np

from ssdrt.errors import SourceError
from ssdrt.sources.base import Item, Pixels, check_size
from ssdrt.sources.photo import decode_photo
from ssdrt.sources.stream import parse_options
from ssdrt.sources.video import read_frames

RATE = 25.0
"""Frames a second where nothing says how many."""

MAX_JPEG = 100_000_000  # bytes
STANDALONE = (0x01, *range(0xD0, 0xD9))
"""Markers of JPEG that no length follows."""


class Head:
    """A file of which the beginning was read already, and is read again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._head = file, b""

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, fewer at the end only; all when it is negative."""
        if size < 0:
            data, self._head = self._head + self._file.read(), b""
            return data
        while len(self._head) < size and (more := self._file.read(size - len(self._head))):
            self._head += more
        data, self._head = self._head[:size], self._head[size:]
        return data

    def unread(self, data: bytes) -> None:
        """Have `data` read next."""
        self._head = data + self._head


def raw_frames(text: str, file: Head, max_pixels: int) -> Iterator[Item]:
    """Frames of `rawvideo:?size=640x480&format=rgb24&rate=30`; the format is rgb24, bgr24 or gray.

    Raises
    ------
    SourceError: no size, or an option that is not understood.
    """
    _, options = parse_options(text, text, "rawvideo:?size=640x480&format=rgb24&rate=30")
    channels = {"rgb24": 3, "bgr24": 3, "gray": 1}.get(form := options.get("format", "rgb24"))
    if "size" not in options or channels is None:
        raise SourceError(f"{text!r}: raw frames need size=WIDTHxHEIGHT; format is rgb24, bgr24 or gray")
    width, height = map(int, options["size"].split("x"))
    check_size(width, height, max_pixels, "-")
    rate, size, index = float(options.get("rate", RATE)), width * height * channels, 0
    while len(data := file.read(size)) == size:
        yield Item("-", index, index / rate, partial(_unpacked, data, (height, width, channels), form))
        index += 1
    if data:
        raise SourceError(f"standard input ended in the middle of frame {index}: is its size {width} x {height}?")


def piped_video(file: Head, max_pixels: int) -> Iterator[Item] | None:
    """The frames of YUV4MPEG2 or of JPEGs one after the other; None for anything else, a single JPEG among it."""
    start = file.read(10)
    file.unread(start)
    if start.startswith(b"YUV4MPEG2 "):
        return read_frames(file, "-", max_pixels, "yuv4mpegpipe")
    if start.startswith(b"\xff\xd8\xff"):
        first = read_jpeg(file)
        after = file.read(2)
        file.unread(after)
        if after == b"\xff\xd8":
            return _jpegs(first, file, max_pixels)
        file.unread(first)
    return None


def read_jpeg(file: Head) -> bytes:
    """The bytes of one JPEG, up to where it ends; of a damaged one up to where that is seen, b"" at the end."""
    data = bytearray(file.read(2))
    while len(data) < MAX_JPEG and (marker := file.read(2)):
        data += marker
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] == 0xD9:
            break
        if marker[1] in STANDALONE:
            continue
        length = file.read(2)
        data += length + file.read(max(int.from_bytes(length, "big") - 2, 0))
        if marker[1] == 0xDA:
            data += _scan(file)
    return bytes(data)


def _scan(file: Head) -> bytes:
    """Compressed data, up to the next marker that is no restart."""
    data = bytearray()
    while chunk := file.read(1 << 14):
        chunk += file.read(1) if chunk.endswith(b"\xff") else b""
        end = re.search(rb"\xff[^\x00\xd0-\xd7\xff]", chunk)
        if end:
            file.unread(chunk[end.start() :])
            return bytes(data + chunk[: end.start()])
        data += chunk
        if len(data) > MAX_JPEG:
            break
    return bytes(data)


def _jpegs(data: bytes, file: Head, max_pixels: int) -> Iterator[Item]:
    index = 0
    while data:
        yield Item("-", index, index / RATE, partial(decode_photo, io.BytesIO(data), "-", max_pixels))
        data, index = read_jpeg(file), index + 1


def _unpacked(data: bytes, shape: tuple[int, int, int], form: str) -> Pixels:
    pixels: Pixels = np.frombuffer(data, np.uint8).reshape(shape)
    if form == "gray":
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, ::-1]) if form == "bgr24" else pixels
