"""A small SSD with every kind of layer, seeded weights and two heads, as the recogniser would hand it over."""

import dataclasses

import numpy as np

from ssdrt.model import (
    IMAGE,
    Activation,
    Add,
    Affine,
    AvgPool,
    BoxCoder,
    Clip,
    Concat,
    Conv,
    Crop,
    DepthwiseConv,
    Fact,
    FakeQuantize,
    GlobalAvgPool,
    Head,
    LabelMap,
    Layer,
    MaxPool,
    Mul,
    Nms,
    Normalisation,
    Pad,
    Preprocessing,
    Resize,
    Resizer,
    ScoreConverter,
    SsdModel,
)

HEIGHT, WIDTH, CLASSES = 24, 32, 3


def fact(value):
    return Fact(value, "node")


def tiny_layers(columns: int) -> tuple[Layer, ...]:
    """From IMAGE to heads of 3 anchors a cell on a 6 x 8 and a 3 x 4 map; class heads have `columns` a anchor."""
    random = np.random.default_rng(8)

    def weights(*shape):
        return random.normal(0, np.prod(shape[:-1]) ** -0.5, shape).astype(np.float32)

    def bias(channels):
        return random.normal(0, 0.1, channels).astype(np.float32)

    return (
        Pad("border", (IMAGE,), (0, 0, 1, 1)),
        Conv("conv", ("border",), weights(3, 3, 3, 8), bias(8), (2, 2), (0, 0, 0, 0)),
        Activation("conv/relu6", ("conv",), "relu6"),
        DepthwiseConv("depthwise", ("conv/relu6",), weights(3, 3, 8, 2), bias(16), (1, 1), (1, 1, 1, 1)),
        Activation("swish", ("depthwise",), "hard_swish"),
        GlobalAvgPool("squeeze", ("swish",)),
        Conv("excite", ("squeeze",), weights(1, 1, 16, 16), bias(16), (1, 1), (0, 0, 0, 0)),
        Activation("gate", ("excite",), "hard_sigmoid"),
        Mul("gated", ("swish", "gate")),
        MaxPool("largest", ("gated",), (3, 3), (2, 2), (0, 0, 1, 1)),
        AvgPool("mean", ("gated",), (3, 3), (2, 2), (0, 0, 1, 1)),
        Concat("both", ("largest", "mean")),
        Affine("fine", ("both",), 1 + bias(32), bias(32)),
        Conv("coarse", ("fine",), weights(3, 3, 32, 32), bias(32), (2, 2), (0, 0, 1, 1)),
        Resize("wide", ("coarse",), 7, 9, "nearest"),
        Crop("upsampled", ("wide",), 1, 0, 6, 8),
        Add("merged", ("fine", "upsampled")),
        Clip("clipped", ("merged",), -3.0, 3.5),
        FakeQuantize("quantized", ("clipped",), -2.0, 4.0, 6.0 / 255),
        Conv("boxes_0", ("quantized",), weights(1, 1, 32, 12), bias(12), (1, 1), (0, 0, 0, 0)),
        Conv("scores_0", ("quantized",), weights(1, 1, 32, 3 * columns), bias(3 * columns), (1, 1), (0, 0, 0, 0)),
        Conv("boxes_1", ("coarse",), weights(1, 1, 32, 12), bias(12), (1, 1), (0, 0, 0, 0)),
        Conv("scores_1", ("coarse",), weights(1, 1, 32, 3 * columns), bias(3 * columns), (1, 1), (0, 0, 0, 0)),
    )


def tiny_anchors() -> np.ndarray:
    """(180, 4) yxyx; those at the edges run over them."""
    rows = []
    for height, width in ((6, 8), (3, 4)):
        for y, x, size in np.ndindex(height, width, 3):
            half = (0.08 + 0.08 * size) * 6 / height
            rows.append(
                [
                    (y + 0.5) / height - half,
                    (x + 0.5) / width - half,
                    (y + 0.5) / height + half,
                    (x + 0.5) / width + half,
                ]
            )
    return np.array(rows, np.float32)


def tiny_ssd(background: str = "sliced_after", function: str = "sigmoid", logit_scale: float = 1.0, **nms) -> SsdModel:
    """The model; keywords beyond the score converter's replace fields of its `Nms`."""
    shape, resizer = (None, None, None, 3), Resizer("fixed_shape", HEIGHT, WIDTH)
    normalisation = (
        Normalisation("mul", np.float32(2 / 255) * np.ones((), np.float32)),
        Normalisation("sub", np.ones(3, np.float32)),
    )
    limits = {
        "score_threshold": 0.3,
        "iou_threshold": 0.5,
        "max_per_class": 10,
        "max_total": 20,
        "class_agnostic": False,
        "soft_nms_sigma": 0.0,
        "clip": "after",
        "clip_to_image": False,
        "change_coordinate_frame": False,
        "drop_zero_area": True,
    }
    return SsdModel(
        digest="0" * 64,
        input_size=(HEIGHT, WIDTH),
        preprocessing=Preprocessing(fact(shape), fact(resizer), fact(normalisation)),
        layers=tiny_layers(CLASSES + (background != "none")),
        heads=(Head("boxes_0", "scores_0", 6, 8, 3), Head("boxes_1", "scores_1", 3, 4, 3)),
        anchors=fact(tiny_anchors()),
        box_coder=BoxCoder(fact((10.0, 9.0, 5.0, 4.0))),
        score_converter=ScoreConverter(fact(function), fact(logit_scale), fact(background)),
        num_classes=fact(CLASSES),
        nms=Nms(**{name: fact(value) for name, value in {**limits, **nms}.items()}),
        label_offset=fact(1),
        labels=fact(LabelMap({1: "one", 2: "two", 3: "three"})),
    )


def with_padding(model: SsdModel) -> SsdModel:
    """The same model for pictures that are padded to a square."""
    resizer = fact(Resizer("keep_aspect_ratio", HEIGHT, WIDTH, pad=True))
    return dataclasses.replace(model, preprocessing=dataclasses.replace(model.preprocessing, resizer=resizer))


def tiny_pixels(batch: int) -> np.ndarray:
    """(batch, HEIGHT, WIDTH, 3) float32 0..255, not whole numbers."""
    return np.random.default_rng(5).uniform(0, 255, (batch, HEIGHT, WIDTH, 3)).astype(np.float32)
