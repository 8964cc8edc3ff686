"""Where pictures come from: one file a kind, and `open_source`, which knows them by what the user typed."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from types import ModuleType

from ssdrt.errors import MissingExtra, SourceError
from ssdrt.sources import opencv, video
from ssdrt.sources.base import MAX_PIXELS, Item, Pixels, Source, broken
from ssdrt.sources.credentials import hide_credentials
from ssdrt.sources.paths import ADDRESS, expand
from ssdrt.sources.photo import decode_photo, read_photo
from ssdrt.sources.piped import Head, piped_video, raw_frames
from ssdrt.sources.sequence import is_sequence, read_sequence
from ssdrt.sources.stdin import read_stdin

RAW = ("rawvideo:", "-?")
"""How raw frames on standard input begin; a command line takes the second for an option unless -- stands before it."""

Name = str | Item | Iterator[Item]
"""An input that was looked at: a file or address, a picture, or frames."""


def open_source(*inputs: str, max_pixels: int = MAX_PIXELS) -> Source:
    """Open what a user names: photos, folders, globs, lists of paths, http(s) addresses, videos, or "-" for stdin.

    What each of them gives is said in `paths.expand`, `read_photo`, `video.read_video`, `url.fetch`
    and `stdin.read_stdin`. A file is a video by its suffix, and a photo otherwise.

    Parameters
    ----------
    max_pixels: width * height of the largest picture that is decoded.

    Raises
    ------
    SourceError: an input does not exist or names nothing; what fails later is an item that raises when it is read.
    MissingExtra: the one input is a video and PyAV is not installed.
    """
    names: list[Name] = []
    for text in inputs:
        if text == "-" or text.startswith(RAW):
            file = Head(sys.stdin.buffer)
            video_items = raw_frames(text, file, max_pixels) if text != "-" else piped_video(file, max_pixels)
            if video_items is not None:
                names.append(video_items)
                continue
        if is_sequence(text):
            names.append(read_sequence(text, max_pixels))
            continue
        if _is_video_address(text):
            names.append(_video_items(hide_credentials(text), video.read_video(text, max_pixels)))
            continue
        found = read_stdin(file) if text == "-" else expand(text)
        if isinstance(found, bytes):
            names.append(Item("-", 0, None, partial(decode_photo, io.BytesIO(found), "-", max_pixels)))
        else:
            names += found
    return Source(_items(names, max_pixels), _length(names))


def _length(names: Sequence[Name]) -> int | None:
    if any(isinstance(name, Iterator) for name in names):
        return None
    videos = [name for name in names if isinstance(name, str) and _is_video(name)]
    if not videos:
        return len(names)
    return _reader().count_frames(videos[0]) if len(names) == 1 else None


def _items(names: Sequence[Name], max_pixels: int) -> Iterator[Item]:
    for name in names:
        if isinstance(name, Item):
            yield name
        elif not isinstance(name, str):
            yield from _video_items("-", name)
        elif ADDRESS.match(name):
            yield Item(hide_credentials(name), 0, None, partial(_fetch_photo, name, max_pixels))
        elif _is_video(name):
            yield from _video_items(name, _reader().read_video(name, max_pixels))
        else:
            yield Item(name, 0, None, partial(read_photo, name, max_pixels), name)


def _video_items(path: str, items: Iterator[Item]) -> Iterator[Item]:
    try:
        yield from items
    except (SourceError, MissingExtra) as error:
        yield broken(path, error)


def _fetch_photo(url: str, max_pixels: int) -> Pixels:
    from ssdrt.sources.url import fetch  # brings urllib.request, a tenth of ssdrt's whole start

    return decode_photo(io.BytesIO(fetch(url)), hide_credentials(url), max_pixels)


def _is_video_address(text: str) -> bool:
    if not text.lower().startswith(("http://", "https://")):
        return False
    from ssdrt.sources.url import kind_of

    return kind_of(text) == "video"


def _reader() -> ModuleType:
    """What reads videos here."""
    return opencv if opencv.is_needed() else video


def _is_video(name: str) -> bool:
    return not ADDRESS.match(name) and os.path.splitext(name)[1].lower() in video.SUFFIXES
