"""JSON lines: one record a picture or frame, written here and read back here.

The record: {"source": str, "index": int, "time": float|null, "width": int, "height": int, "detections":
[{"box": [x0, y0, x1, y1], "score": float, "class_id": int, "label": str}]}; boxes in pixels of the original picture,
class ids as in the label map, best score first. With tracking each detection has "track_id": int|null; counts, zones,
lines and events are further fields of the record. Between them stand the states of live sources: {"source": str,
"state": str, "reason": str, "reconnects": int, "dropped": int, "at": seconds since 1970}.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ssdrt.adapters import to_json
from ssdrt.detections import Detections
from ssdrt.errors import SourceError, shorten
from ssdrt.sinks.base import LineFile
from ssdrt.sources.base import Frame, open_file
from ssdrt.sources.status import Status

FARTHEST = 1e6
"""Pixels within which zones and lines are; drawing takes as long as they are large."""

MAX_LINE = 16_000_000  # bytes: some 100,000 detections


class JsonLines:
    """Writes one line a frame, readable from the moment it is written."""

    def __init__(self, path: str) -> None:
        self._lines = LineFile(path, "{")

    def write(self, frame: Frame, found: Detections) -> None:
        """Append the record of one frame."""
        record = to_json(found, source=frame.source, index=frame.index, time=frame.time)
        self._lines.append(json.dumps(record) + "\n")

    def write_status(self, source: str, status: Status) -> None:
        """Append how a live source is doing."""
        record = {"source": source, "state": status.state, "reason": status.reason, "reconnects": status.reconnects,
                  "dropped": status.dropped, "at": round(time.time(), 3)}  # fmt: skip
        self._lines.append(json.dumps(record) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


@dataclass(frozen=True)
class Record:
    """One line read back: which frame (as in `Frame`), and what was found in it."""

    source: str
    index: int
    time: float | None
    found: Detections


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Read a JSON lines file of detections, a line at a time; what is beyond the schema is kept in `extra`.

    Raises
    ------
    SourceError: the file cannot be read, or a line is no record; the message says which line and why.
    """
    with open_file(path) as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            try:
                record = _parse(line)
            except (ValueError, OverflowError, RecursionError) as error:
                where = f"{shorten(os.fspath(path))!r}, line {number}"
                raise SourceError(f"{where} is no record of detections: {shorten(str(error))}") from error
            if record is not None:
                yield record


def _parse(line: bytes) -> Record | None:
    """The record in a line; None for the state of a source."""
    if len(line) > MAX_LINE:
        raise ValueError(f"longer than {MAX_LINE} bytes")
    match json.loads(line):
        case {
            "source": str(source),
            "index": int(index),
            "time": int() | float() | None as moment,
            "width": int(width),
            "height": int(height),
            "detections": list(rows),
            **extra,
        }:
            _check_regions(extra)
            return Record(source, index, moment, _detections(rows, width, height, cast("dict[str, Any]", extra)))
        case {"source": str(), "state": str()}:
            return None
    raise ValueError("source, index, time, width, height or detections is missing or of another type")


def _detections(rows: list[object], width: int, height: int, extra: Mapping[str, Any]) -> Detections:
    fields = [_fields(row) for row in rows]
    boxes, scores, class_ids, labels, tracks = zip(*fields, strict=True) if fields else ((),) * 5
    tracked = any(track is not None for track in tracks)
    with np.errstate(over="ignore"):
        found = Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(class_ids, np.int64),
            np.array(labels, np.str_),
            width,
            height,
            np.array([-1 if track is None else track for track in tracks], np.int64) if tracked else None,
            extra,
        )
    if not (np.isfinite(found.boxes_xyxy).all() and np.isfinite(found.scores).all()):
        raise ValueError("a box or score is not a finite number")
    return found


def _check_regions(extra: Mapping[Any, Any]) -> None:
    """Refuse zones and lines that could not be drawn."""
    for key, outline, least, counts in (
        ("zones", "polygon", 3, ("counts", "total")), ("lines", "line", 2, ("in", "out")),
    ):  # fmt: skip
        if not isinstance(regions := extra.get(key, {}), dict):
            raise ValueError(f"{key} is of another type")
        for name, region in regions.items():
            match region:
                case {**fields} if _is_outline(fields.get(outline), least) and all(
                    _are_counts(fields.get(count, {} if count == "total" else None)) for count in counts
                ):
                    continue
            raise ValueError(f"{name!r} in {key} is not {outline} and {', '.join(counts)}")


def _is_outline(points: object, least: int) -> bool:
    def is_point(point: object) -> bool:
        match point:
            case [int() | float() as x, int() | float() as y]:
                return abs(x) <= FARTHEST and abs(y) <= FARTHEST
        return False

    return isinstance(points, list) and len(points) >= least and all(map(is_point, points))


def _are_counts(counts: object) -> bool:
    return isinstance(counts, dict) and all(isinstance(count, int) for count in counts.values())


def _fields(row: object) -> tuple[list[float], float, int, str, int | None]:
    match row:
        case {
            "box": [int() | float(), int() | float(), int() | float(), int() | float()] as box,
            "score": int() | float() as score,
            "class_id": int(class_id),
            "label": str(label),
            **rest,
        } if isinstance(track := rest.get("track_id"), int | None):
            return box, score, class_id, label, track
    raise ValueError(f"not a detection: {row!r}")
