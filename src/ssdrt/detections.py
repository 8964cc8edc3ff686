"""`Detections`: what was found in one picture, as parallel arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detections:
    """What was found in one picture, best first.

    boxes_xyxy: (n, 4) float32, (x0, y0, x1, y1) in pixels of the original picture.
    scores: (n,) float32, 0..1.
    class_ids: (n,) int64, as in the label map (TensorFlow's, usually 1-based).
    labels: (n,) str, the names of the class ids.
    width, height: of the original picture, in pixels.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    labels: NDArray[np.str_]
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Detections:
        """The detections that a boolean mask, an index array or a slice picks: `found[found.scores > 0.5]`."""
        return Detections(
            self.boxes_xyxy[which],
            self.scores[which],
            self.class_ids[which],
            self.labels[which],
            self.width,
            self.height,
        )
