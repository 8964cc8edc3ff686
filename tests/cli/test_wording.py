"""Values of a model in words."""

import numpy as np
import pytest

from ssdrt.cli.wording import count, in_words
from ssdrt.model import LabelMap, Normalisation, Resizer


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "yes"),
        (7, "7"),
        (1e-8, "1e-08"),
        (float("-inf"), "-inf"),
        ("sigmoid", "sigmoid"),
        ((None, 300, 300, 3), "any, 300, 300, 3"),
        ((), "none"),
        (np.zeros((1917, 4)), "1917 x 4"),
        (LabelMap({}), "none"),
        (LabelMap({1: "cat"}), "1 names: cat"),
        (LabelMap(dict(enumerate("abcde"))), "5 names: a, b, c, d, ..."),
        ((Normalisation("sub", np.float32([1, 2, 3])),), "RGB 0..255 - (1, 2, 3)"),
        ((Normalisation("div", np.float32(127.5)), Normalisation("add", np.float32(-1))), "RGB 0..255 / 127.5 + -1"),
        (Resizer("none"), "none: the picture is taken as it is"),
        (
            Resizer("fixed_shape", 240, 416, "nearest", half_pixel_centers=True),
            "fixed_shape to 240x416 (height x width), nearest, half-pixel centres",
        ),
        (
            Resizer("keep_aspect_ratio", 24, 40, "area", pad=True, pad_value=(1.5, 0, 0)),
            "keep_aspect_ratio, short side 24, long side at most 40, area, padded with 1.5, 0, 0 to 40x40",
        ),
    ],
)
def test_words(value, words):
    assert in_words(value) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (6_810_000, "6.81 M"), (1_234_000_000, "1.23 G")],
)
def test_counts(number, words):
    assert count(number) == words
