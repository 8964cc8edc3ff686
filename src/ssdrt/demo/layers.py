"""The demo's layers: a MobileNet v1 of six blocks, with a head on each of two feature maps."""

from __future__ import annotations

import numpy as np

from ssdrt.demo.options import DemoOptions
from ssdrt.demo.weights import blocks, first_convolution, predictor
from ssdrt.export.layers import same_pads
from ssdrt.model import IMAGE, Activation, Conv, DepthwiseConv, Floats, Head, Layer, Pair

_STRIDES = (8, 16)  # of the two feature maps
_SCOPE = "FeatureExtractor/MobilenetV1"


def demo_heads(options: DemoOptions) -> tuple[Head, ...]:
    """The predictions of both feature maps, finest first."""
    heads = []
    for level, (stride, cells) in enumerate(zip(_STRIDES, options.cells, strict=True)):
        boxes, scores = (f"BoxPredictor_{level}/{part}" for part in ("BoxEncodingPredictor", "ClassPredictor"))
        heads.append(Head(boxes, scores, *_strided(options.input_size, stride), len(cells.scales)))
    return tuple(heads)


def demo_layers(options: DemoOptions) -> tuple[Layer, ...]:
    """From IMAGE to the heads."""
    size = options.input_size
    layers = _convolved(Conv, "Conv2d_0", IMAGE, size, *first_convolution(), 2)
    size = _strided(size, 2)
    feature_maps = []
    for index, block in enumerate(blocks(options.colours), 1):
        offset = np.zeros(block.depthwise.shape[2], np.float32)
        name, source = f"Conv2d_{index}", layers[-1].name
        layers += _convolved(DepthwiseConv, f"{name}_depthwise", source, size, block.depthwise, offset, block.stride)
        size = _strided(size, block.stride)
        layers += _convolved(Conv, f"{name}_pointwise", layers[-1].name, size, block.pointwise, block.offset, 1)
        feature_maps += [layers[-1].name] if block.is_feature_map else []
    for level, (head, source) in enumerate(zip(demo_heads(options), feature_maps, strict=True)):
        cells = options.cells[level].sizes(options.input_size) * (head.height, head.width)
        weights = predictor(len(options.colours), cells, options.postprocessor.box_scales)
        layers.append(Conv(head.boxes, (source,), weights.boxes, weights.boxes_bias, (1, 1), (0, 0, 0, 0)))
        layers.append(Conv(head.scores, (source,), weights.classes, weights.classes_bias, (1, 1), (0, 0, 0, 0)))
    return tuple(layers)


def _convolved(
    kind: type[Conv | DepthwiseConv],
    name: str,
    source: str,
    size: Pair,
    weights: Floats,
    bias: Floats,
    stride: int,
) -> list[Layer]:
    """A convolution and its Relu6; size: of the map that it reads."""
    pads = same_pads(size, (weights.shape[0], weights.shape[1]), (stride, stride))
    convolution = kind(f"{_SCOPE}/{name}", (source,), weights, bias, (stride, stride), pads)
    return [convolution, Activation(f"{_SCOPE}/{name}/Relu6", (convolution.name,), "relu6")]


def _strided(size: Pair, stride: int) -> Pair:
    return -(-size[0] // stride), -(-size[1] // stride)
