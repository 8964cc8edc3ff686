"""COCO results: one JSON array of {image_id, category_id, bbox, score}, as pycocotools' loadRes reads it."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from ssdrt.adapters import to_coco
from ssdrt.detections import Detections
from ssdrt.errors import SinkError, shorten
from ssdrt.sinks.base import keep_other, whole_file
from ssdrt.sources.base import Frame

COCO_NAME = re.compile(r"(?:COCO_\w+_)?([0-9]{1,18})")


class CocoResults:
    """Writes rows as they come, to a file that gets its name when it is closed.

    A photo named by a number, as COCO's are (000000000139.jpg, COCO_val2014_000000000042.jpg), has it as its image_id;
    any other photo, and each frame of a video, gets the lowest positive number that is free.
    """

    def __init__(self, path: str) -> None:
        with suppress(OSError):  # a file that can be replaced need not be readable
            keep_other(path, "[")
        self._path = Path(path)
        self._opened = ExitStack()
        self._file: BinaryIO | None = None
        self._between, self._failed = b"[", False
        self._taken: set[int] = set()  # from `_next` on; below it all are
        self._next = 1

    def write(self, frame: Frame, found: Detections) -> None:
        """Take the rows of one frame.

        Raises
        ------
        SinkError: two photos have the same number for a name.
        """
        rows = [json.dumps(row).encode() for row in to_coco(found, self._image_id(frame))]
        if rows:
            self._append(self._between + b",\n".join(rows))
            self._between = b",\n"

    def close(self) -> None:
        """Finish the file."""
        if not self._failed:
            self._append((b"[" if self._between == b"[" else b"") + b"]\n")
            self._opened.close()
            self._failed = True  # nothing more is taken

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._file = self._opened.enter_context(whole_file(self._path))
        try:
            self._file.write(data)
        except OSError as error:
            self._failed = True
            self._opened.__exit__(type(error), error, error.__traceback__)  # raises a SinkError

    def _image_id(self, frame: Frame) -> int:
        number = COCO_NAME.fullmatch(Path(frame.source).stem) if frame.time is None else None
        while self._next in self._taken:
            self._taken.remove(self._next)
            self._next += 1
        image_id = int(number[1]) if number else self._next
        if image_id in self._taken or 0 < image_id < self._next:
            name = shorten(frame.source)
            raise SinkError(f"{name!r}: image_id {image_id} is taken by an earlier picture; give each its own number")
        self._taken.add(image_id)
        return image_id
