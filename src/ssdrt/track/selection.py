"""Which detections a user wants to see: by score and class, after detection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections

Scores = float | Mapping[str | int, float]


def of_classes(found: Detections, classes: Iterable[str | int] | None) -> NDArray[np.bool_]:
    """(n,) bool, the detections whose label or class id is among `classes`; None is all."""
    if classes is None:
        return np.ones(len(found), bool)
    names = {str(name) for name in classes}
    return np.isin(found.labels, list(names)) | np.isin(found.class_ids.astype(np.str_), list(names))


def thresholds(found: Detections, scores: Scores) -> NDArray[np.float32]:
    """(n,) float32, the score above which each detection counts.

    Parameters
    ----------
    scores: one number, or one for class names and ids, a name before an id; classes without one never count.
    """
    if not isinstance(scores, Mapping):
        return np.full(len(found), scores, np.float32)
    pairs = zip(found.labels.tolist(), found.class_ids.tolist(), strict=True)
    limits = [scores.get(label, scores.get(str(class_id), scores.get(class_id, np.inf))) for label, class_id in pairs]
    return np.array(limits, np.float32)


def wanted(found: Detections, scores: Scores, classes: Iterable[str | int] | None) -> NDArray[np.bool_]:
    """(n,) bool, the detections that `Detector.detect` would give for these options.

    Parameters
    ----------
    scores: as for `thresholds`.
    classes: names or ids of the only classes wanted; None is all.
    """
    return (found.scores > thresholds(found, scores)) & of_classes(found, classes)
