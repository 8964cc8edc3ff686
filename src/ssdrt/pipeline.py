"""One picture through one engine: resize, network, box decoding, non-maximum suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections
from ssdrt.engines.base import Engine
from ssdrt.errors import SourceError
from ssdrt.model import LabelMap, SsdModel
from ssdrt.postprocess import NmsParameters, decode_boxes, non_max_suppression
from ssdrt.preprocess import image_window, to_network

WHOLE = (0.0, 0.0, 1.0, 1.0)


def as_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """A picture of any usual kind as (height, width, 3) uint8.

    Parameters
    ----------
    image: (height, width) or (height, width, 1) grey, (height, width, 3) RGB or (height, width, 4) RGBA, whose alpha is
        ignored; uint8, or uint16, which is scaled down.

    Raises
    ------
    SourceError: another shape or dtype, or a picture without pixels.
    """
    shape = np.shape(image)
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16):
        raise SourceError(f"a picture is a uint8 array, not {getattr(image, 'dtype', type(image).__name__)}")
    if image.size == 0 or not (image.ndim == 2 or (image.ndim == 3 and shape[2] in (1, 3, 4))):
        raise SourceError(f"a picture is (height, width, 3), not {shape}")
    pixels = image if image.ndim == 3 else image[:, :, None]
    if pixels.dtype == np.uint16:
        pixels = pixels >> 8
    return np.broadcast_to(pixels[:, :, :3].astype(np.uint8, copy=False), (*shape[:2], 3))


def graph_parameters(model: SsdModel) -> NmsParameters:
    """The NMS as the graph holds it."""
    nms = model.nms
    return NmsParameters(
        nms.score_threshold.value,
        nms.iou_threshold.value,
        nms.max_per_class.value,
        nms.max_total.value,
        nms.class_agnostic.value,
        nms.soft_nms_sigma.value,
        nms.clip.value,
        nms.drop_zero_area.value,
        nms.change_coordinate_frame.value,
    )


def detect_picture(
    model: SsdModel, engine: Engine, image_rgb: NDArray[np.uint8], parameters: NmsParameters, labels: LabelMap
) -> Detections:
    """What the graph itself would find, under other parameters perhaps.

    Boxes are the graph's normalised ones times the picture's size, as TensorFlow's users compute them.

    Parameters
    ----------
    model: for the input size that its resizer makes of this picture.
    image_rgb: (height, width, 3) uint8.
    """
    height, width = image_rgb.shape[:2]
    resizer = model.preprocessing.resizer.value
    encodings, scores = engine.infer(to_network(image_rgb, resizer)[None])
    boxes = decode_boxes(encodings[0], model.anchors.value, model.box_coder.scales.value)
    window = image_window(resizer, height, width) if model.nms.clip_to_image.value else WHOLE
    boxes, kept, classes = non_max_suppression(boxes, scores[0], parameters, window)
    ids: Any = classes.astype(np.int64) + model.label_offset.value
    names = np.array([labels.name(int(i)) for i in ids], dtype=np.str_)
    scale = np.array([width, height, width, height], np.float32)
    return Detections(boxes[:, [1, 0, 3, 2]] * scale, kept, ids, names, width, height)
