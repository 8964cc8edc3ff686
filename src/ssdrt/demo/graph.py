"""The demo's SSD, as a model and as the frozen graph that the Object Detection API would have exported of it.

It finds discs and squares of a few plain colours. No weight of it is trained; `weights` says what each is for.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from ssdrt.demo.layers import demo_heads, demo_layers
from ssdrt.demo.options import DemoOptions, NmsOptions
from ssdrt.export import write_frozen_graph
from ssdrt.model import (
    BoxCoder,
    Fact,
    Floats,
    LabelMap,
    Nms,
    Normalisation,
    Preprocessing,
    Resizer,
    ScoreConverter,
    SsdModel,
)

T = TypeVar("T")


def build_demo_graph(options: DemoOptions | None = None) -> bytes:
    """A frozen_inference_graph.pb, from image_tensor (uint8 RGB) to detection_boxes and the other three outputs."""
    return write_frozen_graph(demo_model(options or DemoOptions()))


def demo_model(options: DemoOptions) -> SsdModel:
    """The detector; without a digest, as it comes from no file."""
    post = options.postprocessor
    normalisation = Normalisation("mul", np.array(2 / 255, np.float32)), Normalisation("sub", np.array(1, np.float32))
    return SsdModel(
        digest="",
        input_size=options.input_size,
        preprocessing=Preprocessing(
            _fact(options.placeholder_shape), _fact(Resizer("fixed_shape", *options.input_size)), _fact(normalisation)
        ),
        layers=demo_layers(options),
        heads=demo_heads(options),
        anchors=_fact(_anchors(options)),
        box_coder=BoxCoder(_fact(post.box_scales)),
        score_converter=ScoreConverter(_fact(post.score_converter), _fact(1.0), _fact("sliced_after")),
        num_classes=_fact(len(options.colours)),
        nms=_nms(post.nms),
        label_offset=_fact(1),
        labels=_fact(LabelMap(dict(enumerate(options.colours, 1)))),
    )


def _nms(options: NmsOptions) -> Nms:
    return Nms(
        score_threshold=_fact(options.score_threshold),
        iou_threshold=_fact(options.iou_threshold),
        max_per_class=_fact(options.max_per_class),
        max_total=_fact(options.max_total),
        class_agnostic=_fact(options.class_agnostic),
        soft_nms_sigma=_fact(options.soft_nms_sigma),
        clip=_fact(options.clip),
        clip_to_image=_fact(False),
        change_coordinate_frame=_fact(False),
        drop_zero_area=_fact(True),
    )


def _anchors(options: DemoOptions) -> Floats:
    """(n, 4) yxyx, rows by feature map, y, x, anchor, as MultipleGridAnchorGenerator makes them."""
    levels = []
    for head, cells in zip(demo_heads(options), options.cells, strict=True):
        y, x = (np.arange(head.height) + 0.5) / head.height, (np.arange(head.width) + 0.5) / head.width
        centres = np.stack(np.meshgrid(y, x, indexing="ij"), 2)[:, :, None]
        half = cells.sizes(options.input_size) / 2
        levels.append(np.concatenate([centres - half, centres + half], 3).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def _fact(value: T) -> Fact[T]:
    return Fact(value, "")
