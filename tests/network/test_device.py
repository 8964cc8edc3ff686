"""The program for an old TensorRT finds what the detector finds; TensorRT itself is left out."""

import importlib.util
import json
import sys
import types

import numpy as np
import pytest

from build import VARIANTS, demo_file, demo_graph
from ssdrt.cli import main
from ssdrt.demo import demo_picture
from ssdrt.detector import Detector
from ssdrt.errors import ModelError
from ssdrt.network.device import device_files
from ssdrt.recover import recover


@pytest.fixture
def program(tmp_path, monkeypatch):
    """(folder, onnx_engine.py of it): the module, with nothing behind `import tensorrt`."""
    demo_file(tmp_path)
    out = tmp_path / "model.onnx"
    assert main(["convert", str(tmp_path / "frozen_inference_graph.pb"), str(out), "--for", "trt8.2"]) == 0
    monkeypatch.setitem(sys.modules, "tensorrt", types.ModuleType("tensorrt"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "detect", raising=False)
    spec = importlib.util.spec_from_file_location("onnx_engine", tmp_path / "onnx_engine.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield tmp_path, module
    sys.modules.pop("detect", None)


def test_same_detections(program):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, module = program
    facts = json.loads((folder / "model.json").read_text())
    picture = demo_picture()
    chw, part = module.prepared(picture, facts)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    pixels = chw.transpose(1, 2, 0)[None].astype(np.float32)
    encodings, scores = session.run(["box_encodings", "class_scores"], {"image": pixels})
    boxes = module.decode(encodings[0], facts)
    found = module.suppress(boxes, scores[0], 0.05, facts)
    expected = Detector.of_model(recover(demo_graph()), "reference").detect(picture, score_threshold=0.05)
    assert [column + facts["label_offset"] for _, column in found] == expected.class_ids.tolist()
    np.testing.assert_allclose([scores[0][pair] for pair in found], expected.scores, atol=1e-5)
    scale = np.tile(np.array(picture.shape[:2], np.float32), 2)
    corners = np.clip(boxes[[row for row, _ in found]] / np.tile(part[::-1], 2), 0, 1) * scale
    np.testing.assert_allclose(corners[:, [1, 0, 3, 2]], expected.boxes_xyxy, atol=0.01)


def test_the_file_is_of_opset_13_with_float_input_and_no_int64_outside(program):
    onnx = pytest.importorskip("onnx")
    network = onnx.load(str(program[0] / "model.onnx"))
    assert [one.version for one in network.opset_import] == [13]
    ports = [*network.graph.input, *network.graph.output]
    assert {port.type.tensor_type.elem_type for port in ports} == {onnx.TensorProto.FLOAT}
    assert network.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_another_nms_is_refused():
    with pytest.raises(ModelError, match="soft"):
        device_files(recover(demo_graph(VARIANTS["soft_nms"])), "model")
