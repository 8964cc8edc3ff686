"""`Detections`: what was found in one picture, as parallel arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

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
    track_ids: (n,) int64, the same for the same object in every frame of a video, -1 for none (yet); None without
        tracking.
    extra: what is known of the picture as a whole, ready for JSON: counts, zones, lines, events (docs/json.md).
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    labels: NDArray[np.str_]
    width: int
    height: int
    track_ids: NDArray[np.int64] | None = None
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, which: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Detections:
        """The detections that a boolean mask, an index array or a slice picks: `found[found.scores > 0.5]`."""
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[which],
            scores=self.scores[which],
            class_ids=self.class_ids[which],
            labels=self.labels[which],
            track_ids=None if self.track_ids is None else self.track_ids[which],
        )
