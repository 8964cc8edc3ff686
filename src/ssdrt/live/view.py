"""What a viewer shows of a snapshot: threshold and classes act here too, at once and on a picture that stands still."""

from __future__ import annotations

import numpy as np

from ssdrt.detections import Detections
from ssdrt.live.board import Settings


def shown(found: Detections, settings: Settings) -> Detections:
    """Those of the detections that the settings let through."""
    kept = found.scores >= settings.score_threshold
    if settings.classes is not None:
        ids = found.class_ids.astype(np.str_)
        kept &= np.isin(found.labels, settings.classes) | np.isin(ids, settings.classes)
    return found[kept]
