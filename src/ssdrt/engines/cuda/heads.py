"""Where predictions stand: rows of anchors, and the channels of each map's convolutions in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.network import Network
from ssdrt.engines.cuda.plan import HeadLayout, View, padded
from ssdrt.errors import ModelError
from ssdrt.model import Conv, SsdModel


def heads_share(network: Network) -> bool:
    """Whether boxes and scores of every map can come from one product: two convolutions of the same window."""
    pairs = [(network.layers.get(head.boxes), network.layers.get(head.scores)) for head in network.model.heads]
    return all(isinstance(b, Conv) and isinstance(s, Conv) and _same_windows(b, s) for b, s in pairs)


def _same_windows(a: Conv, b: Conv) -> bool:
    kinds = [(c.inputs, c.weights.shape[:3], c.strides, c.pads, c.dilations) for c in (a, b)]
    return kinds[0] == kinds[1]


def head_layout(network: Network, buffers: list[int]) -> HeadLayout:
    """The layout of a network's heads; their buffers are appended."""
    model = network.model
    converter = model.score_converter
    background = converter.background.value
    softmax_first = converter.function.value == "softmax" and background == "sliced_after"
    columns = model.num_classes.value + softmax_first
    shared = heads_share(network)
    anchors = len(model.anchors.value)
    row = padded(columns + 4) if shared else padded(columns)
    buffers.append(anchors * row)
    logits = len(buffers) - 1
    if shared:
        return HeadLayout(anchors, columns, row, row, columns, logits, logits)
    buffers.append(anchors * 8)
    return HeadLayout(anchors, columns, row, 8, 0, logits, logits + 1)


def head_target(model: SsdModel, layout: HeadLayout, name: str) -> tuple[View, NDArray[np.int64], bool]:
    """(view of a map's rows in the head buffer, position of each channel of value `name` in it or -1, logits?)."""
    first_anchor = 0
    for head in model.heads:
        cells = head.height * head.width
        logits = head.scores == name
        if name in (head.boxes, head.scores):
            row = layout.row if logits else layout.box_row
            buffer = layout.logits_buffer if logits else layout.boxes_buffer
            width = head.anchors_per_cell * row
            view = View(buffer, head.height, head.width, width, width, first_anchor * row)
            per_anchor = model.logit_columns if logits else 4
            anchor, column = np.divmod(np.arange(head.anchors_per_cell * per_anchor), per_anchor)
            skipped = model.logit_columns - layout.columns if logits else 0
            column = column - skipped if logits else column + layout.box_offset
            return view, np.where(column >= 0, anchor * row + column, -1), logits
        first_anchor += cells * head.anchors_per_cell
    raise ModelError("the value is no head", node=name)
