"""Pictures through one engine: resize, network, box decoding, non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections
from ssdrt.engines.base import Engine, Found, does_detect
from ssdrt.errors import SourceError
from ssdrt.model import LabelMap, SsdModel
from ssdrt.postprocess import NmsParameters, decode_boxes, non_max_suppression
from ssdrt.preprocess import clip_window, to_network


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
    """`detect_pictures` of one."""
    return detect_pictures(model, engine, (image_rgb,), parameters, labels)[0]


def detect_pictures(
    model: SsdModel,
    engine: Engine,
    images_rgb: Sequence[NDArray[np.uint8]],
    parameters: NmsParameters,
    labels: LabelMap,
) -> list[Detections]:
    """What the graph itself would find, under other parameters perhaps.

    Boxes are the graph's normalised ones times the picture's size, as TensorFlow's users compute them.

    Parameters
    ----------
    model: for the input size that its resizer makes of these pictures.
    images_rgb: (height, width, 3) uint8 each; of those that lie on a GPU, for engines that take them, only the shape is
        looked at here.
    """
    if does_detect(engine):
        found = engine.detect(images_rgb, parameters)
    else:
        found = _through(model, engine, images_rgb, parameters)
    return [in_pixels(model, image.shape[:2], one, labels) for image, one in zip(images_rgb, found, strict=True)]


def _through(
    model: SsdModel, engine: Engine, images: Sequence[NDArray[np.uint8]], parameters: NmsParameters
) -> list[Found]:
    """Resize, network and NMS in turn; the network once for all."""
    pixels = [to_network(image, model.preprocessing.resizer.value)[None] for image in images]
    encodings, scores = engine.infer(pixels[0] if len(pixels) == 1 else np.concatenate(pixels))
    found = []
    for image, encoding, score in zip(images, encodings, scores, strict=True):
        boxes = decode_boxes(encoding, model.anchors.value, model.box_coder.scales.value)
        found.append(non_max_suppression(boxes, score, parameters, clip_window(model, *image.shape[:2])))
    return found


def in_pixels(model: SsdModel, size: tuple[int, ...], found: Found, labels: LabelMap) -> Detections:
    """What an engine found in a picture of (height, width), its boxes in pixels."""
    height, width = size
    boxes, scores, classes = found
    ids: Any = classes.astype(np.int64) + model.label_offset.value
    names = np.array([labels.name(i) for i in ids.tolist()], dtype=np.str_)
    scale = np.array([width, height, width, height], np.float32)
    return Detections(boxes[:, [1, 0, 3, 2]] * scale, scores, ids, names, width, height)
