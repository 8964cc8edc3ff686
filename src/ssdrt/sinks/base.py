"""What every sink is, and how sinks write files: whole or not at all, or line by line."""

from __future__ import annotations

import os
import re
import sys
import urllib.parse
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from ssdrt.detections import Detections
from ssdrt.errors import SinkError, shorten
from ssdrt.sources.base import Frame

MAX_STEM_BYTES = 200  # leaves room for numbers, suffixes and ".part" in the 255 that file systems allow


class Sink(Protocol):
    """Takes the results of a run in order."""

    def write(self, frame: Frame, found: Detections) -> None:
        """Take one picture or video frame and what was found in it.

        Raises
        ------
        SinkError: it cannot be written.
        """
        ...

    def close(self) -> None:
        """Finish the output; also after an interrupted run, whose output then holds what was written so far.

        Raises
        ------
        SinkError: it cannot be finished.
        """
        ...


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when all of it is written, and not at all when that fails.

    Raises
    ------
    SinkError: the body or the file system raised an OSError, or there is a folder, pipe or device of that name.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise SinkError(f"{shorten(str(path))!r} is a folder, pipe or device; give the name of a file")
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise SinkError(f"{shorten(str(path))!r} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def keep_other(path: str, begin: str) -> None:
    """Refuse to write over a file that begins in another way than `begin`: it is not one of an earlier run.

    Raises
    ------
    SinkError: it does. OSError: it cannot be read.
    """
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if file.read(len(begin)) not in (b"", begin.encode()):
                raise SinkError(f"{shorten(path)!r} holds something else; remove it or give another name")


class LineFile:
    """A file to which whole lines are appended, each readable as soon as it is written; "-" is standard output."""

    def __init__(self, path: str, begin: str) -> None:
        """Open or empty the file.

        Parameters
        ----------
        begin: what such files begin with. One that begins in another way is kept: it is not one of an earlier run.

        Raises
        ------
        SinkError: it cannot be opened, or holds something else.
        """
        self._path = path
        self._size = 0
        try:
            keep_other(path, begin)
            self._file: BinaryIO = sys.stdout.buffer if path == "-" else open(path, "wb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._error(error) from error

    def append(self, lines: str) -> None:
        """Write whole lines; when the disk is full, cut the file back to the last whole one.

        Raises
        ------
        SinkError: not written.
        """
        data = memoryview(lines.encode("utf-8", "surrogateescape"))
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            self._file.flush()
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._size)
            raise self._error(error) from error
        self._size += len(data)

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._path != "-":
            self._file.close()

    def _error(self, error: OSError) -> SinkError:
        name = "standard output" if self._path == "-" else repr(shorten(self._path))
        return SinkError(f"{name} cannot be written: {error.strerror or error}")


class Stems:
    """File names without suffix, each given once; what is remembered grows with sources, not with frames of a video."""

    def __init__(self, *taken: str) -> None:
        self._taken = set(taken)
        self._numbered = set[str]()  # of photos named as frames of a video are, all before the number
        self._videos: dict[str, tuple[str, int]] = {}  # source -> how its names begin, and its last frame

    def of(self, frame: Frame) -> str:
        """For a frame: its source's name, and the frame's number if it is one of a video."""
        if frame.time is None:
            return self._new(stem_of(frame))
        begin, last = self._videos.get(frame.source, ("", -1))
        if frame.index <= last or not begin:
            begin = self._new(stem_of(frame), self._numbered)
        self._videos[frame.source] = begin, frame.index
        return f"{begin}_{frame.index:06d}"

    def _new(self, stem: str, numbered: Container[str] = ()) -> str:
        """This stem, with a number if it is taken or in `numbered`, or is how the frame of a video may be named."""
        free, number = stem, 1
        while free in numbered or {free, _without_number(free)} & self._taken:
            number += 1
            free = f"{stem}_{number}"
        self._taken.add(free)
        if _without_number(free) != free:
            self._numbered.add(_without_number(free))
        return free


def _without_number(stem: str) -> str:
    return re.sub(r"_\d{6,}$", "", stem)


def stem_of(frame: Frame) -> str:
    """The name of a frame's source, as it may stand in a file's name."""
    source = urllib.parse.urlsplit(frame.source).path if "://" in frame.source else frame.source
    stem = "stdin" if source == "-" else re.sub(r'[\\/:*?"<>|\x00-\x1f]', "_", Path(source).stem)
    return os.fsdecode(os.fsencode(stem or "picture")[:MAX_STEM_BYTES])


def keep_input(frame: Frame, path: Path) -> None:
    """Refuse to write over the picture or video that is being read.

    Raises
    ------
    SinkError: `path` is the frame's own file.
    """
    with suppress(OSError, ValueError):
        if os.path.samefile(frame.source, path):
            raise SinkError(f"{shorten(str(path))!r} is the input itself; give another output")
