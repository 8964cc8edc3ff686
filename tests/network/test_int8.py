"""Convolutions in int8: the file of scales, weights as whole numbers, and the network that they make."""

import json

import numpy as np
import pytest

from int8_scales import measured_scales
from ssdrt.engines.reference import ReferenceEngine
from ssdrt.engines.selfcheck import rounding
from ssdrt.errors import ModelError
from ssdrt.model import Conv, DepthwiseConv
from ssdrt.network.export import build_onnx
from ssdrt.network.int8 import check_scales, read_scales, whole_values, whole_weights
from tiny_ssd import tiny_pixels, tiny_ssd


def test_onnxruntime_computes_what_rounding_in_numpy_does():
    onnxruntime = pytest.importorskip("onnxruntime")
    model, pixels = tiny_ssd(), tiny_pixels(3)
    scales = measured_scales(model, pixels)
    session = onnxruntime.InferenceSession(build_onnx(model, pixels="float32", tail="scores", scales=scales))
    encodings, scores = session.run(["box_encodings", "class_scores"], {"image": pixels})
    rounded = ReferenceEngine(model, rounding("int8", scales)).infer(pixels)
    exact = ReferenceEngine(model).infer(pixels)
    for found, expected, plain in zip((encodings, scores), rounded, exact, strict=True):
        assert np.quantile(np.abs(found - expected), 0.99) < 0.1 * np.abs(plain - expected).max()  # but a value on edge


def test_a_convolution_without_a_scale_stays_as_it_is():
    onnxruntime = pytest.importorskip("onnxruntime")
    model, pixels = tiny_ssd(), tiny_pixels(1)
    first = dict(list(measured_scales(model, pixels).items())[:1])
    session = onnxruntime.InferenceSession(build_onnx(model, pixels="float32", tail="scores", scales=first))
    (scores,) = session.run(["class_scores"], {"image": pixels})
    expected = ReferenceEngine(model, rounding("int8", first)).infer(pixels)[1]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_weights_lose_half_a_step_at_most():
    for layer in tiny_ssd().layers:
        if isinstance(layer, (Conv, DepthwiseConv)):
            whole, scales = whole_weights(layer)
            assert whole.dtype == np.int8
            assert (np.abs(whole * scales - layer.weights) <= scales * 0.501).all()


def test_values_are_rounded_half_to_even_and_cut_off():
    values = np.array([0.25, 0.75, -0.25, 80, -80], np.float32)
    assert whole_values(values, 0.5).tolist() == [0, 1, 0, 63.5, -64]


def test_scales_are_read(tmp_path):
    path = tmp_path / "scales.json"
    path.write_text(json.dumps({"image": 0.0078, "conv": 1}))
    assert read_scales(path) == {"image": 0.0078, "conv": 1.0}
    path.write_text(f'{{"image": {10**400}}}')
    assert read_scales(path) == {"image": float("inf")}  # which no model takes


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1, 2]", '{"image": "0.1"}', '{"image": true}', "{", "\xff", "[" * 10**5, '{"image": 1}' + " " * 10**7],
)
def test_files_that_hold_no_scales_are_refused(tmp_path, text):
    path = tmp_path / "scales.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"scales\.json"):
        read_scales(path)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ({}, "int8 needs the scales"),
        ({"nothing": 1.0}, "no convolution reads a value 'nothing'"),
        ({"border": 0.0}, "not a number above 0"),
        ({"border": -0.1}, "not a number above 0"),
        ({"border": 1e-50}, "not a number above 0"),
        ({"border": 1e39}, "not a number above 0"),
        ({"border": float("nan")}, "not a number above 0"),
    ],
)
def test_scales_that_do_not_fit_the_model_are_refused(scales, message):
    with pytest.raises(ModelError, match=message):
        check_scales(tiny_ssd(), scales)
