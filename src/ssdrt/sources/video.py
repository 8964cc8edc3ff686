"""Video files, through PyAV: every frame in order, upright, with the container's time stamps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ssdrt.errors import SourceError, import_extra, shorten
from ssdrt.sources.base import Item, Pixels, broken, check_regular, check_size, reason
from ssdrt.sources.credentials import hide_credentials
from ssdrt.sources.paths import ADDRESS

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp",
     ".ogv", ".mjpeg", ".mjpg")
)  # fmt: skip


REMOTE = {"protocol_whitelist": "http,https,httpproxy,tcp,tls", "reconnect": "1", "reconnect_delay_max": "5"}
PATIENCE = 30.0  # seconds in which a server gives something


def count_frames(path: str) -> int | None:
    """How many frames the container says it has, or its duration and rate suggest; None when it tells neither.

    Raises
    ------
    SourceError: as `read_video`.
    MissingExtra: PyAV is not installed.
    """
    with _open(path) as (container, stream):
        if stream.frames or not (container.duration and stream.average_rate):
            return stream.frames or None
        return round(container.duration / 1_000_000 * stream.average_rate)


def read_video(path: str, max_pixels: int) -> Iterator[Item]:
    """Yield every frame of the first video stream, in the order of presentation; colour is converted in `Item.read`.

    `path` may be an http or https address of a video that has a length, too; a connection that breaks is made again.

    Time stamps are the container's, in seconds, and need not begin at 0; where it has none, index / average rate.
    Packets that cannot be decoded and frames that the decoder marks as damaged are counted, and reported by one last
    item that is broken.

    Raises
    ------
    SourceError: no regular file, no video that can be read, no video stream, or nothing in it can be decoded.
    MissingExtra: PyAV is not installed.
    """
    with _open(path) as (container, stream):
        yield from _items(container, stream, _shown(path), max_pixels)


def read_frames(file: Any, name: str, max_pixels: int, form: str) -> Iterator[Item]:
    """`read_video` of an open file, which need not be seekable, in one of FFmpeg's formats."""
    av = import_extra("av", "video", "reading a video")
    try:
        with av.open(file, format=form, metadata_errors="replace") as container:
            yield from _items(container, container.streams.video[0], name, max_pixels)
    except (av.FFmpegError, OSError) as error:  # whose own words are of the pipe, not of what came through it
        raise SourceError(f"{shorten(name)!r} cannot be read as a video: it is damaged, or no {form}") from error


def to_rgb(frame: VideoFrame, path: str, max_pixels: int) -> Pixels:
    """A decoded frame as (height, width, 3) uint8 RGB, upright; `path` is for the error.

    Raises
    ------
    SourceError: it has more than `max_pixels` pixels.
    """
    check_size(frame.width, frame.height, max_pixels, path)
    quarters = round(frame.rotation / 90)  # counter-clockwise, as the display matrix says
    # Said in full because PyAV up to at least 14.1 takes every frame for BT.601 of limited range.
    colours: dict[str, Any] = {
        "src_color_range": frame.color_range,
        "dst_color_range": "JPEG",
        "dst_colorspace": "ITU601",
        "threads": 1,  # frames are converted side by side, and one waits for no second thread
    }
    image = frame.to_ndarray(format="rgb24", **colours)
    return np.ascontiguousarray(np.rot90(cast("Pixels", image), quarters))


def _items(container: InputContainer, stream: VideoStream, path: str, max_pixels: int) -> Iterator[Item]:
    index = damaged = 0
    for frame in _frames(container, stream):
        if frame is None or frame.is_corrupt:
            damaged += 1
        if frame is not None:
            time = frame.time if frame.time is not None else _estimate(stream, index)
            yield Item(path, index, time, partial(to_rgb, frame, path, max_pixels))
            index += 1
    if damaged:
        message = f"{shorten(path)!r}: {damaged} damaged packets or frames beside {index} frames read"
        yield broken(path, SourceError(message), index)
    elif not index:
        raise SourceError(f"{shorten(path)!r} holds no video frame")


def _shown(path: str) -> str:
    """A file keeps its name, whatever it looks like."""
    return hide_credentials(path) if ADDRESS.match(path) else path


@contextmanager
def _open(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    av = import_extra("av", "video", "reading a video")
    remote = ADDRESS.match(path) is not None
    if not remote:
        check_regular(path)
    # Only the file itself: a playlist in disguise must not lead anywhere else.
    options = REMOTE if remote else {"protocol_whitelist": "file"}
    path, name = path if remote else os.path.abspath(path), _shown(path)
    try:
        with av.open(
            path, options=dict(options), metadata_errors="replace", timeout=PATIENCE if remote else None
        ) as container:
            if not container.streams.video:
                raise SourceError(f"{shorten(name)!r} holds no video, only {_kinds(container)}")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except (av.FFmpegError, OSError) as error:
        why = f"nothing came for {PATIENCE:.0f} s" if isinstance(error, av.error.ExitError) else reason(error)
        raise SourceError(f"{shorten(name)!r} cannot be read as a video: {why}") from error


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame | None]:
    """The decoded frames, None for each packet that could not be decoded."""
    for packet in container.demux(stream):
        yield from _decode(packet)


def _decode(packet: Packet[VideoStream]) -> list[VideoFrame] | list[None]:
    av = import_extra("av", "video", "reading a video")
    try:
        return packet.decode()
    except av.FFmpegError:
        return [None]


def _kinds(container: InputContainer) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _estimate(stream: VideoStream, index: int) -> float:
    return index / float(stream.average_rate or 25)
