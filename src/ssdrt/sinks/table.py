"""A csv table: one row a detection, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from ssdrt.adapters import to_json
from ssdrt.detections import Detections
from ssdrt.sinks.base import LineFile
from ssdrt.sources.base import Frame

COLUMNS = ("source", "index", "time", "width", "height", "x0", "y0", "x1", "y1", "score", "class_id", "label",
           "track_id")  # fmt: skip


class CsvTable:
    """Writes the rows of each frame as it comes; boxes in pixels of the original picture, no track_id is empty."""

    def __init__(self, path: str) -> None:
        self._lines = LineFile(path, COLUMNS[0])
        self._append([COLUMNS])

    def write(self, frame: Frame, found: Detections) -> None:
        """Append the rows of one frame; one in which nothing was found has none."""
        record = to_json(found, source=frame.source, index=frame.index, time=frame.time)
        about = [record[name] for name in COLUMNS[:5]]
        rows = [(*about, *row["box"], *(row.get(name) for name in COLUMNS[9:])) for row in record["detections"]]
        self._append(rows)

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def _append(self, rows: Iterable[tuple[object, ...]]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        self._lines.append(text.getvalue())
