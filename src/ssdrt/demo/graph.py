"""The demo's frozen SSD graph: nodes as the Object Detection API of early 2020 exported them, parameters by hand.

It finds discs and squares of a few plain colours. No weight of it is trained; `weights` says what each is for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ssdrt.demo.anchors import CellAnchors, write_anchors
from ssdrt.demo.builder import GraphBuilder
from ssdrt.demo.loop import map_pictures
from ssdrt.demo.postprocessor import PostprocessorOptions, write_postprocessor
from ssdrt.demo.weights import Floats, batch_norm, blocks, first_convolution, predictor
from ssdrt.graph.writer import Shape, write_graph

_STRIDES = (8, 16)  # of the two feature maps


@dataclass(frozen=True)
class DemoOptions:
    """What tests vary.

    input_size: (height, width) of the network input; multiples of 16 give the boxes that the weights are made for.
    colours: the classes, of `COLOURS`; class ids count from 1.
    cells: anchors of the two feature maps.
    """

    input_size: tuple[int, int] = (96, 128)
    placeholder_shape: tuple[int | None, int | None, int | None, int | None] = (None, None, None, 3)
    colours: tuple[str, ...] = ("red", "green", "blue")
    cells: tuple[CellAnchors, CellAnchors] = (
        CellAnchors((0.1, 0.25, 0.25), (1.0, 2.0, 0.5)),
        CellAnchors((0.5, 0.5, 0.5, 0.5, 0.5, 0.5**0.5), (1.0, 2.0, 0.5, 3.0, 1 / 3, 1.0)),
    )
    postprocessor: PostprocessorOptions = field(default_factory=PostprocessorOptions)


def build_demo_graph(options: DemoOptions | None = None) -> bytes:
    """A frozen_inference_graph.pb, from image_tensor (uint8 RGB) to detection_boxes and the other three outputs."""
    options = options or DemoOptions()
    g = GraphBuilder()
    image, true_shapes = _preprocess(g, options)
    feature_maps = _extract_features(g, image, options)
    heads = [_predict(g, level, feature_map, options) for level, feature_map in enumerate(feature_maps)]
    encodings, logits = (g.concat(list(parts), 1) for parts in zip(*heads, strict=True))
    anchors = write_anchors(g, image, feature_maps, options.cells)
    write_postprocessor(
        g,
        options.postprocessor,
        anchors=anchors,
        encodings=g.op("Squeeze", encodings, squeeze_dims=(2,)),
        logits=logits,
        classes=len(options.colours),
        true_shapes=true_shapes,
        input_size=options.input_size,
    )
    return write_graph(g.nodes)


def _preprocess(g: GraphBuilder, options: DemoOptions) -> tuple[str, str]:
    """Pictures resized and in -1..1, and the shape of each."""
    shape = Shape(options.placeholder_shape)
    pixels = g.op("Cast", g.op("Placeholder", name="image_tensor", dtype="uint8", shape=shape), DstT="float32")
    height, width = options.input_size

    def resize(picture: str) -> list[str]:
        with g.scope("ResizeImage"):
            batch = g.op("ExpandDims", picture, 0)
            resized = g.op("ResizeBilinear", batch, [height, width], align_corners=False, half_pixel_centers=False)
            return [g.op("Squeeze", resized, squeeze_dims=(0,)), g.constant([height, width, 3], "stack_1")]

    with g.scope("Preprocessor"):
        image, true_shapes = map_pictures(g, [pixels], [("float32", (height, width, 3)), ("int32", (3,))], resize)
        return g.op("Sub", g.op("Mul", 2 / 255, image), 1.0), true_shapes


def _extract_features(g: GraphBuilder, image: str, options: DemoOptions) -> list[str]:
    """A MobileNet v1 of six blocks; its feature maps, finest first."""
    feature_maps = []
    with g.scope("FeatureExtractor/MobilenetV1"):
        weights, offset = first_convolution()
        value = _convolve(g, "Conv2D", image, weights, 2, "Conv2d_0")
        value = _normalise(g, value, offset, "Conv2d_0")
        for index, block in enumerate(blocks(options.colours), 1):
            name = f"Conv2d_{index}_depthwise"
            value = _convolve(g, "DepthwiseConv2dNative", value, block.depthwise, block.stride, name)
            value = _normalise(g, value, np.zeros(block.depthwise.shape[2], np.float32), name)
            name = f"Conv2d_{index}_pointwise"
            value = _convolve(g, "Conv2D", value, block.pointwise, 1, name)
            value = _normalise(g, value, block.offset, name)
            if block.is_feature_map:
                feature_maps.append(value)
    return feature_maps


def _convolve(g: GraphBuilder, op: str, value: str, weights: Floats, stride: int, name: str) -> str:
    depthwise = op == "DepthwiseConv2dNative"
    read = g.variable(weights, f"{name}/{'depthwise_weights' if depthwise else 'weights'}")
    node = f"MobilenetV1/{name}/{'depthwise' if depthwise else 'Conv2D'}"
    return g.op(op, value, read, name=node, strides=(1, stride, stride, 1), padding=b"SAME", data_format=b"NHWC")


def _normalise(g: GraphBuilder, value: str, offset: Floats, name: str) -> str:
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    reads = [g.variable(array, f"{name}/BatchNorm/{n}") for n, array in zip(names, batch_norm(offset), strict=True)]
    value = g.op("FusedBatchNormV3", value, *reads, name=f"MobilenetV1/{name}/BatchNorm/FusedBatchNormV3",
                 epsilon=0.001, is_training=False, data_format=b"NHWC")  # fmt: skip
    return g.op("Relu6", value, name=f"MobilenetV1/{name}/Relu6")


def _predict(g: GraphBuilder, level: int, feature_map: str, options: DemoOptions) -> tuple[str, str]:
    """Box encodings (batch, n, 1, 4) and logits (batch, n, 1 + classes) of one feature map."""
    grid = [-(-side // _STRIDES[level]) for side in options.input_size]
    sizes = options.cells[level].sizes(options.input_size) * grid
    classes = len(options.colours)
    weights = predictor(classes, sizes, options.postprocessor.box_scales)
    with g.scope(f"BoxPredictor_{level}"):
        boxes = _convolve_1x1(g, feature_map, weights.boxes, weights.boxes_bias, "BoxEncodingPredictor")
        boxes = g.op("Reshape", boxes, g.stack(g.size(feature_map, 0), -1, 1, 4))
        scores = _convolve_1x1(g, feature_map, weights.classes, weights.classes_bias, "ClassPredictor")
        return boxes, g.op("Reshape", scores, g.stack(g.size(feature_map, 0), -1, 1 + classes))


def _convolve_1x1(g: GraphBuilder, value: str, weights: Floats, bias: Floats, name: str) -> str:
    with g.scope(name):
        read = g.variable(weights, "weights")
        value = g.op("Conv2D", value, read, strides=(1, 1, 1, 1), padding=b"SAME", data_format=b"NHWC")
        return g.op("BiasAdd", value, g.variable(bias, "biases"), data_format=b"NHWC")
