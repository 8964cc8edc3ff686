"""What was found, for people: a line a picture, and the table of a single one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssdrt.cli.table import table

if TYPE_CHECKING:
    from ssdrt.detections import Detections
    from ssdrt.sources.base import Frame


class Printer:
    """A sink that is standard output."""

    def __init__(self, with_table: bool) -> None:
        self._with_table = with_table

    def write(self, frame: Frame, found: Detections) -> None:
        """Print one picture's line at once, so that a pipe's reader can follow."""
        print(f"{_place(frame)}: {_counts(found)}", flush=True)
        if self._with_table and len(found):
            print(_table(found))

    def close(self) -> None:
        """Nothing is left to do."""


def _place(frame: Frame) -> str:
    return frame.source if frame.time is None else f"{frame.source} frame {frame.index}, {frame.time:.2f} s"


def _counts(found: Detections) -> str:
    """`2 person, 1 dog`, the most frequent first."""
    from ssdrt.track.regions import count_labels  # brings numpy, which --help does without

    return ", ".join(f"{count} {label}" for label, count in count_labels(found).items()) or "nothing found"


def _table(found: Detections) -> str:
    rows = zip(found.boxes_xyxy.tolist(), found.scores.tolist(), found.class_ids.tolist(), found.labels, strict=True)
    cells = [
        (str(label), str(class_id), f"{score:.3f}", *(f"{value:.1f}" for value in box))
        for box, score, class_id, label in rows
    ]
    return table([("class", "id", "score", "x0", "y0", "x1", "y1"), *cells], "lrrrrrr")
