"""Crops: every detection as a picture of its own, in one folder a class."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ssdrt.detections import Detections
from ssdrt.errors import SinkError
from ssdrt.sinks.base import Stems, whole_file
from ssdrt.sources.base import Frame


class Crops:
    """Writes FOLDER/LABEL/STEM_N.png, N the place of the detection by score; a box outside the picture gives none."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._stems = Stems()

    def write(self, frame: Frame, found: Detections) -> None:
        """Write the crops of one frame: the pixels that each box touches."""
        from PIL import Image

        stem = self._stems.of(frame)
        limits = np.array([found.width, found.height] * 2)
        corners = np.concatenate([np.floor(found.boxes_xyxy[:, :2]), np.ceil(found.boxes_xyxy[:, 2:])], axis=1)
        boxes = np.clip(corners, 0, limits).astype(int)
        for number, ((x0, y0, x1, y1), label) in enumerate(zip(boxes, found.labels, strict=True)):
            if x1 > x0 and y1 > y0:
                with whole_file(self._class_folder(str(label)) / f"{stem}_{number}.png") as file:
                    Image.fromarray(frame.image[y0:y1, x0:x1]).save(file, "PNG", compress_level=1)

    def close(self) -> None:
        """Nothing is left to do: each file is finished when it is written."""

    def _class_folder(self, label: str) -> Path:
        folder = self._folder / (re.sub(r"[^\w-]+", "_", label)[:80] or "_")
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise SinkError(f"{str(folder)!r} cannot be made: {error.strerror}") from error
        return folder
