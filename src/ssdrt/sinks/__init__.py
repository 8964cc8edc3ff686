"""Where results go: one file a kind, and `open_sink`, which knows them by what the user typed."""

from __future__ import annotations

import os
from collections.abc import Callable

from ssdrt.errors import SinkError, shorten
from ssdrt.model import LabelMap
from ssdrt.sinks import picture, video
from ssdrt.sinks.base import Sink
from ssdrt.sinks.coco import CocoResults
from ssdrt.sinks.crops import Crops
from ssdrt.sinks.jsonl import JsonLines
from ssdrt.sinks.picture import AnnotatedFolder, AnnotatedPicture
from ssdrt.sinks.table import CsvTable
from ssdrt.sinks.video import AnnotatedVideo
from ssdrt.sinks.yolo import YoloLabels

FILES: dict[str, Callable[[str], Sink]] = {
    "jsonl": JsonLines,
    "coco": CocoResults,
    "csv": CsvTable,
    "picture": AnnotatedPicture,
    "video": AnnotatedVideo,
}
"""Kinds that are one file."""
KINDS = ("jsonl", "coco", "csv", "folder", "crops", "yolo")

SUFFIXES = (
    {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "coco", ".csv": "csv"}
    | dict.fromkeys(picture.FORMATS, "picture")
    | dict.fromkeys(video.FORMATS, "video")
)


def open_sink(text: str, labels: LabelMap, segment: float | None = None, together: int = 1) -> Sink:
    """Open an output.

    Parameters
    ----------
    text: "KIND:PATH", or a path whose suffix tells the kind: .jsonl JSON lines, .json COCO results, .csv a table,
        .jpg, .png, ... an annotated picture, .mp4, .mkv, ... an annotated video; no suffix, a slash at the end or an
        existing folder: a folder of annotated pictures and videos; "-" JSON lines on standard output.
        The kinds are those of `KINDS`; `folder`, `crops` and `yolo` take a folder, which is made if need be.
    labels: the model's label map, for the names in the YOLO output.
    segment: seconds after which a video goes on in the next file; None: never.
    together: how many sources give their frames in turns; each has its own video in a folder.

    Raises
    ------
    SinkError: the suffix tells nothing, the output cannot be made there, or is one file for `together` videos.
    MissingExtra: a video, and PyAV is not installed.
    """
    kind, path = _kind(text)
    if not path:
        raise SinkError(f"{text!r} names no output")
    if kind in FILES:
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise SinkError(f"{shorten(path)!r}: there is no folder {shorten(folder)!r}; make it first")
        if kind != "video":
            return FILES[kind](path)
        if together > 1:
            raise SinkError(f"{shorten(path)!r} holds one video, and there are {together} sources; give a folder")
        return AnnotatedVideo(path, segment)
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{shorten(path)!r} cannot be made: {error.strerror}") from error
    if kind == "folder":
        return AnnotatedFolder(path, segment, together)
    return YoloLabels(path, labels) if kind == "yolo" else Crops(path)


def output_path(text: str) -> str:
    """The file or folder that an output names."""
    return _kind(text)[1]


def _kind(text: str) -> tuple[str, str]:
    """The kind of a sink, and its path."""
    kind, colon, path = text.partition(":")
    if colon and kind in KINDS:
        return kind, path
    if text == "-":
        return "jsonl", text
    suffix = os.path.splitext(text)[1].lower()
    if os.path.isdir(text) or text.endswith(("/", os.sep)) or not suffix:
        return "folder", text
    if suffix not in SUFFIXES:
        known = f"a folder, {', '.join(SUFFIXES)}, or KIND:PATH with {', '.join(KINDS)} for KIND"
        raise SinkError(f"{shorten(text)!r} does not say what to write; it can be {known}")
    return SUFFIXES[suffix], text
