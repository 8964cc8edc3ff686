"""`TrtSSD`: the class that a well-known Jetson demo's `trt_ssd.py` makes and calls, on whatever engine is there.

from ssdrt.compat import TrtSSD          # instead of: from utils.ssd import TrtSSD
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.detector import Detector
from ssdrt.errors import SsdrtError
from ssdrt.zoo import model_path

NAMES = {
    "ssd_mobilenet_v1_coco": "ssd_mobilenet_v1_coco_2018_01_28",
    "ssd_mobilenet_v2_coco": "ssd_mobilenet_v2_coco_2018_03_29",
    "ssd_inception_v2_coco": "ssd_inception_v2_coco_2018_01_28",
    "ssdlite_mobilenet_v2_coco": "ssdlite_mobilenet_v2_coco_2018_05_09",
}
"""That demo's names of COCO's models -> the zoo's; its others are files of the user's own."""


class TrtSSD:
    """Detects in pictures as OpenCV gives them."""

    def __init__(self, model: str | Path, input_shape: tuple[int, int] | None = None, cuda_ctx: Any = None) -> None:
        """Open a model.

        Parameters
        ----------
        model: a frozen graph, a bundle, a plan, a zoo name or the demo's of one; NAME.ssdrt and NAME.pb come first.
        input_shape: the network's (height, width). The model says it; another one is an error.
        cuda_ctx: not looked at. No context has to be made or passed around.

        Raises
        ------
        SsdrtError: the model cannot be opened, or has another input size.
        """
        self._detector = Detector.open(find_model(model))
        size = self._detector.model.input_size
        if input_shape is not None and tuple(input_shape) != size:
            raise SsdrtError(
                f"{model} takes {size[0]}x{size[1]} (height x width), not {tuple(input_shape)}; leave it out"
            )
        del cuda_ctx

    def detect(
        self, img: NDArray[np.uint8], conf_th: float = 0.3
    ) -> tuple[list[tuple[int, int, int, int]], list[float], list[int]]:
        """Detect in one picture (height, width, 3) uint8 BGR.

        Returns
        -------
        boxes (x0, y0, x1, y1) in whole pixels, scores above `conf_th`, and TensorFlow's class ids; best first.
        """
        found = self._detector.detect(img[:, :, ::-1], score_threshold=conf_th)
        corners = found.boxes_xyxy.astype(int).tolist()
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in corners], found.scores.tolist(), found.class_ids.tolist()


def find_model(model: str | Path) -> Path:
    """The file that a name stands for.

    Raises
    ------
    ZooError: there is no such file, and the zoo knows no such name.
    """
    own = next((path for path in (Path(f"{model}.ssdrt"), Path(f"{model}.pb")) if path.is_file()), None)
    return own or model_path(NAMES.get(str(model), model))
