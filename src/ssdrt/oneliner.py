"""`ssdrt.detect(model, picture)`: one line for one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections
from ssdrt.detector import Detector
from ssdrt.sources import open_source


def detect(
    model: str | Path, picture: str | Path | NDArray[Any], *, engine: str = "auto", **options: Any
) -> Detections:
    """Detect in one picture with a model that is opened for it and closed again.

    Parameters
    ----------
    model: a frozen graph, a bundle or a zoo name, as for `Detector.open`.
    picture: a path, an http(s) address, or (height, width, 3) uint8 RGB.
    options: as for `Detector.detect`.

    Raises
    ------
    SsdrtError: the model or the picture cannot be used.
    """
    with Detector.open(model, engine=engine) as detector:
        if isinstance(picture, np.ndarray):
            return detector.detect(picture, **options)
        return detector.detect(next(open_source(str(picture)).items).read().image, **options)
