"""`Detections` in the shapes that others read: JSON, COCO results, supervision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections
from ssdrt.errors import import_extra

Json = dict[str, Any]


def to_json(found: Detections, *, source: str = "", index: int = 0, time: float | None = None) -> Json:
    """One record of the JSON lines schema; boxes [x0, y0, x1, y1] in pixels of the original picture.

    Numbers are the shortest decimals that give the same float32 back.

    Parameters
    ----------
    source: path or address of the picture or video.
    index: number of the frame in its source.
    time: time stamp of the frame in seconds, None for a photo.
    """
    rows: list[Json] = [
        {"box": box, "score": score, "class_id": int(class_id), "label": str(label)}
        for box, score, class_id, label in zip(
            _decimals(found.boxes_xyxy), _decimals(found.scores), found.class_ids, found.labels, strict=True
        )
    ]
    if found.track_ids is not None:
        for row, track in zip(rows, found.track_ids.tolist(), strict=True):
            row["track_id"] = track if track > 0 else None
    return {
        "source": source,
        "index": index,
        "time": time,
        "width": found.width,
        "height": found.height,
        "detections": rows,
        **found.extra,
    }


def to_coco(found: Detections, image_id: int) -> list[Json]:
    """Rows of a COCO results file; bbox [x, y, width, height] in pixels, category_id the class id."""
    boxes_xywh = np.concatenate([found.boxes_xyxy[:, :2], found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]], axis=1)
    return [
        {"image_id": image_id, "category_id": int(class_id), "bbox": bbox, "score": score}
        for class_id, bbox, score in zip(found.class_ids, _decimals(boxes_xywh), _decimals(found.scores), strict=True)
    ]


def to_supervision(found: Detections) -> Any:
    """A `supervision.Detections`, the names of the classes under `data["class_name"]`.

    Raises
    ------
    MissingExtra: supervision is not installed.
    """
    supervision = import_extra("supervision", "supervision", "to_supervision")
    return supervision.Detections(
        xyxy=found.boxes_xyxy,
        confidence=found.scores,
        class_id=found.class_ids,
        data={"class_name": found.labels},
        tracker_id=found.track_ids,
    )


def _decimals(values: NDArray[np.float32]) -> Any:
    """Nested lists of floats that print as short as float32 allows: 0.3, not 0.30000001192092896."""
    # One by one: when Ctrl-C comes in the middle of it, numpy's own conversion to strings swallows it.
    flat = np.array([float(str(value)) for value in values.astype(np.float32).ravel()])
    return flat.reshape(values.shape).tolist()
