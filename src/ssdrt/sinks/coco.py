"""COCO results: one JSON array of {image_id, category_id, bbox, score}, as pycocotools' loadRes reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ssdrt.adapters import to_coco
from ssdrt.detections import Detections
from ssdrt.errors import SinkError, shorten
from ssdrt.sinks.base import whole_file
from ssdrt.sources.base import Frame

COCO_NAME = re.compile(r"(?:COCO_\w+_)?([0-9]{1,18})")


class CocoResults:
    """Collects rows and writes them when it is closed.

    A photo named by a number, as COCO's are (000000000139.jpg, COCO_val2014_000000000042.jpg), has it as its image_id;
    any other photo, and each frame of a video, gets the lowest positive number that is free.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._rows: list[str] = []
        self._taken: set[int] = set()
        self._next = 1

    def write(self, frame: Frame, found: Detections) -> None:
        """Take the rows of one frame.

        Raises
        ------
        SinkError: two photos have the same number for a name.
        """
        image_id = self._image_id(frame)
        self._rows += [json.dumps(row) for row in to_coco(found, image_id)]

    def close(self) -> None:
        """Write the file."""
        with whole_file(self._path) as file:
            file.write(("[" + ",\n".join(self._rows) + "]\n").encode())

    def _image_id(self, frame: Frame) -> int:
        number = COCO_NAME.fullmatch(Path(frame.source).stem) if frame.time is None else None
        if number is None:
            while self._next in self._taken:
                self._next += 1
        image_id = int(number[1]) if number else self._next
        if image_id in self._taken:
            name = shorten(frame.source)
            raise SinkError(f"{name!r}: image_id {image_id} is taken by an earlier picture; give each its own number")
        self._taken.add(image_id)
        return image_id
