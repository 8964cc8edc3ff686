"""Recovery: a frozen graph becomes an `SsdModel`. One file a fact, in the order below."""

from __future__ import annotations

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.graph import Graph
from ssdrt.labels import label_map_for
from ssdrt.model import Pair, Preprocessing, SsdModel
from ssdrt.preprocess import network_size
from ssdrt.recover.anchors import recover_anchors
from ssdrt.recover.backbone import recover_backbone
from ssdrt.recover.heads import recover_heads
from ssdrt.recover.nms import recover_nms
from ssdrt.recover.outline import outline
from ssdrt.recover.preprocessing import recover_preprocessing
from ssdrt.recover.scores import recover_scores

__all__ = ["recover"]

_TYPICAL_PICTURE = (480, 640)


@np.errstate(all="ignore")  # a graph may hold any number; what it leads to is checked, not how it came about
def recover(graph: Graph, picture_size: Pair | None = None) -> SsdModel:
    """Everything the graph says about its detector.

    Parameters
    ----------
    picture_size: (height, width) in pixels of the picture to come; it matters only where the graph's input size depends
        on it (keep_aspect_ratio, no resizer), and is 480x640 there when not given.

    Raises
    ------
    ModelError: the graph is no SSD (the message says what it seems to be), or a part is not understood (its node).
    """
    parts = outline(graph)
    preprocessing = recover_preprocessing(parts)
    input_size = _input_size(preprocessing, picture_size)
    backbone = recover_backbone(parts, input_size)
    heads, tail = recover_heads(parts, backbone, input_size)
    anchors, box_coder = recover_anchors(parts, tail)
    converter, num_classes = recover_scores(parts, tail)
    nms, label_offset = recover_nms(parts, num_classes.value)
    return SsdModel(
        graph.digest,
        input_size,
        preprocessing,
        backbone.layers,
        heads,
        anchors,
        box_coder,
        converter,
        num_classes,
        nms,
        label_offset,
        label_map_for(num_classes.value, label_offset.value),
    )


def _input_size(preprocessing: Preprocessing, picture_size: Pair | None) -> Pair:
    height, width = network_size(preprocessing.resizer.value, *(picture_size or _TYPICAL_PICTURE))
    if min(height, width) < 1 or max(height, width) > 8192:
        raise ModelError(f"a network input of {height}x{width} pixels", node=preprocessing.resizer.node)
    return height, width
