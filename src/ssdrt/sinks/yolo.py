"""YOLO labels: a folder of text files, one a picture, with `class cx cy width height score` rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssdrt.detections import Detections
from ssdrt.model import LabelMap
from ssdrt.sinks.base import Stems, whole_file
from ssdrt.sources.base import Frame


class YoloLabels:
    """Writes STEM.txt for every picture, empty when nothing was found in it.

    class: class id - 1, the row of the name in classes.txt; box: centre and size divided by the picture's width
    and height.
    """

    def __init__(self, folder: str, labels: LabelMap) -> None:
        self._folder = Path(folder)
        self._stems = Stems("classes")
        names = [labels.name(class_id) for class_id in range(1, max(labels.names, default=0) + 1)]
        with whole_file(self._folder / "classes.txt") as file:
            file.write("".join(f"{name}\n" for name in names).encode())

    def write(self, frame: Frame, found: Detections) -> None:
        """Write the file of one picture or frame."""
        size = np.array([found.width, found.height], np.float32)
        centres = (found.boxes_xyxy[:, :2] + found.boxes_xyxy[:, 2:]) / 2 / size
        sizes = (found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]) / size
        rows = zip(found.class_ids - 1, np.concatenate([centres, sizes], axis=1), found.scores, strict=True)
        text = "".join(f"{index} {' '.join(f'{v:.6f}' for v in box)} {score:.6f}\n" for index, box, score in rows)
        with whole_file(self._folder / f"{self._stems.of(frame)}.txt") as file:
            file.write(text.encode())

    def close(self) -> None:
        """Nothing is left to do: each file is finished when it is written."""
