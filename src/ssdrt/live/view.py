"""What a viewer shows of a snapshot: changed settings act at once, also on a picture that stands still."""

from __future__ import annotations

import numpy as np

from ssdrt.detections import Detections
from ssdrt.live.board import Settings, Snapshot
from ssdrt.track.selection import of_classes


def shown(snapshot: Snapshot, settings: Settings) -> Detections | None:
    """What was found, less what settings that have changed since do not let through; None before the first frame.

    A threshold that was lowered, and classes that were added, show with the next detection.
    """
    found, before = snapshot.found, snapshot.settings
    if found is None or settings == before:
        return found
    kept = np.ones(len(found), bool)
    if before is None or settings.score_threshold > before.score_threshold:
        kept &= found.scores > settings.score_threshold  # as in detection
    if settings.classes is not None and (before is None or settings.classes != before.classes):
        kept &= of_classes(found, settings.classes)
    return found[kept]
