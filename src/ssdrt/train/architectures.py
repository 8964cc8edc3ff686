"""Untrained SSDs on MobileNet v1 and v2, as the Object Detection API's configurations of them build them.

Layers: models/ssd_mobilenet_v{1,2}_feature_extractor.py; anchors: create_ssd_anchors of
anchor_generators/multiple_grid_anchor_generator.py with the configurations' six feature maps, scales 0.2 to 0.95.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ssdrt.export.layers import same_pads
from ssdrt.model import (
    IMAGE,
    Activation,
    Add,
    BoxCoder,
    Conv,
    DepthwiseConv,
    Fact,
    Floats,
    Head,
    LabelMap,
    Layer,
    Nms,
    Normalisation,
    Preprocessing,
    Resizer,
    ScoreConverter,
    SsdModel,
)

T = TypeVar("T")

EXTRA = (512, 256, 256, 128)  # channels of the feature maps after the backbone
SCALES = (0.2, 0.95)
RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)
V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""Channels and stride of every depthwise separable block; a head after the eleventh and the last."""
V2 = ((16, 1, 1, 1), (24, 2, 2, 6), (32, 3, 2, 6), (64, 4, 2, 6), (96, 3, 1, 6), (160, 3, 2, 6), (320, 1, 1, 6))
"""Channels, blocks, stride of the first, and expansion; a head where the sixth expands first, and after 1280 more."""


class _Layers:
    """Layers one after the other; `last` and `size` are the value that the next one reads, and its rows and columns."""

    def __init__(self, size: int, depth: float, seed: int) -> None:
        self.made: list[Layer] = []
        self.normed: list[str] = []
        self.last, self.size, self.channels = IMAGE, (size, size), 3
        self._depth, self._random = depth, np.random.default_rng(seed)

    def width(self, channels: int) -> int:
        """Channels of a MobileNet of this depth, at least 8."""
        return max(round(channels * self._depth), 8)

    def conv(self, name: str, channels: int, kernel: int, stride: int, *, act: bool = True) -> None:
        """A convolution that trains with a batch norm, and its Relu6."""
        weights = self._weights(kernel, kernel, self.channels, channels, spread=kernel * kernel * self.channels)
        self._add(
            Conv(name, (self.last,), weights, _zeros(channels), (stride, stride), self._pads(kernel, stride)), act
        )
        self.channels = channels

    def depthwise(self, name: str, stride: int) -> None:
        """3x3, a filter a channel."""
        weights = self._weights(3, 3, self.channels, 1, spread=9)
        bias = _zeros(self.channels)
        self._add(DepthwiseConv(name, (self.last,), weights, bias, (stride, stride), self._pads(3, stride)), True)

    def head(self, level: int, per_cell: int) -> Head:
        """Box and class predictor of the last value; one class, to be replaced."""
        boxes, scores = (f"BoxPredictor_{level}/{part}" for part in ("BoxEncodingPredictor", "ClassPredictor"))
        for name, columns in ((boxes, 4), (scores, 2)):
            weights = self._random.normal(0, 0.01, (1, 1, self.channels, per_cell * columns)).astype(np.float32)
            self.made.append(Conv(name, (self.last,), weights, _zeros(per_cell * columns), (1, 1), (0, 0, 0, 0)))
        return Head(boxes, scores, *self.size, per_cell)

    def _add(self, layer: Conv | DepthwiseConv, act: bool) -> None:
        self.made.append(layer)
        self.normed.append(layer.name)
        self.last = layer.name
        self.size = (-(-self.size[0] // layer.strides[0]), -(-self.size[1] // layer.strides[1]))
        if act:
            self.last = f"{layer.name}/Relu6"
            self.made.append(Activation(self.last, (layer.name,), "relu6"))

    def _pads(self, kernel: int, stride: int) -> tuple[int, int, int, int]:
        return same_pads(self.size, (kernel, kernel), (stride, stride))

    def _weights(self, *shape: int, spread: int) -> Floats:
        return self._random.normal(0, (2 / spread) ** 0.5, shape).astype(np.float32)


def untrained(name: str, depth: float, size: int, seed: int) -> tuple[SsdModel, tuple[str, ...]]:
    """The model, and the names of its convolutions that need a batch norm to train from random weights.

    Parameters
    ----------
    name: of `ARCHITECTURES`.
    depth: multiplier of the channels.
    """
    layers = _Layers(size, depth, seed)
    heads = [*ARCHITECTURES[name](layers)]
    for level, channels in enumerate(EXTRA, 2):
        layers.conv(f"extra_{level}_1x1", layers.width(channels // 2), 1, 1)
        layers.conv(f"extra_{level}_3x3", layers.width(channels), 3, 2)
        heads.append(layers.head(level, 6))
    normalisation = Normalisation("mul", np.array(2 / 255, np.float32)), Normalisation("sub", np.array(1, np.float32))
    model = SsdModel(
        digest="",
        input_size=(size, size),
        preprocessing=Preprocessing(
            _fact((None, None, None, 3)), _fact(Resizer("fixed_shape", size, size)), _fact(normalisation)
        ),
        layers=tuple(layers.made),
        heads=tuple(heads),
        anchors=_fact(_anchors(heads)),
        box_coder=BoxCoder(_fact((10.0, 10.0, 5.0, 5.0))),
        score_converter=ScoreConverter(_fact("sigmoid"), _fact(1.0), _fact("sliced_after")),
        num_classes=_fact(1),
        nms=Nms(
            _fact(1e-8), _fact(0.6), _fact(100), _fact(100), _fact(False), _fact(0.0), _fact("after"), _fact(False),
            _fact(False), _fact(True),
        ),
        label_offset=_fact(1),
        labels=_fact(LabelMap({})),
    )  # fmt: skip
    return model, tuple(layers.normed)


def _mobilenet_v1(layers: _Layers) -> list[Head]:
    heads: list[Head] = []
    layers.conv("conv_0", layers.width(32), 3, 2)
    for number, (channels, stride) in enumerate(V1, 1):
        layers.depthwise(f"conv_{number}_depthwise", stride)
        layers.conv(f"conv_{number}_pointwise", layers.width(channels), 1, 1)
        if number in (11, 13):
            heads.append(layers.head(len(heads), 3 if number == 11 else 6))
    return heads


def _mobilenet_v2(layers: _Layers) -> list[Head]:
    heads: list[Head] = []
    number = 0
    layers.conv("conv_0", layers.width(32), 3, 2)
    for stage, (channels, blocks, first_stride, expansion) in enumerate(V2):
        for block in range(blocks):
            number += 1
            stride, before, inside = first_stride if block == 0 else 1, layers.last, layers.channels
            if expansion > 1:
                layers.conv(f"block_{number}_expand", expansion * inside, 1, 1)
            if (stage, block) == (5, 0):
                heads.append(layers.head(0, 3))
            layers.depthwise(f"block_{number}_depthwise", stride)
            layers.conv(f"block_{number}_project", layers.width(channels), 1, 1, act=False)
            if stride == 1 and inside == layers.channels:
                layers.made.append(Add(f"block_{number}_add", (layers.last, before)))
                layers.last = f"block_{number}_add"
    layers.conv("conv_last", max(layers.width(1280), 1280), 1, 1)
    return [*heads, layers.head(1, 6)]


ARCHITECTURES: dict[str, Callable[[_Layers], list[Head]]] = {
    "mobilenet_v1": _mobilenet_v1,
    "mobilenet_v2": _mobilenet_v2,
}
"""Name -> the function that makes its layers, with the first two heads."""


def _anchors(heads: list[Head]) -> Floats:
    """(n, 4) yxyx: on the first feature map small ones, on every other one of each ratio and one between the scales."""
    scales = [*np.linspace(*SCALES, len(heads)).tolist(), 1.0]
    rows = []
    for level, head in enumerate(heads):
        shapes = [(scales[level], ratio) for ratio in RATIOS] + [((scales[level] * scales[level + 1]) ** 0.5, 1.0)]
        if level == 0:
            shapes = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        half = np.array([(scale / ratio**0.5, scale * ratio**0.5) for scale, ratio in shapes]) / 2
        y, x = ((np.arange(side) + 0.5) / side for side in (head.height, head.width))
        centres = np.stack(np.meshgrid(y, x, indexing="ij"), 2)[:, :, None]
        rows.append(np.concatenate([centres - half, centres + half], 3).reshape(-1, 4))
    return np.concatenate(rows).astype(np.float32)


def _zeros(count: int) -> Floats:
    return np.zeros(count, np.float32)


def _fact(value: T) -> Fact[T]:
    return Fact(value, "", "untrained")
