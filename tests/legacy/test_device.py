"""The programs for the device, as far as they go without one: Python 3.6, pictures, preprocessing."""

import ast
import importlib.util
import json
import sys
from importlib import resources
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from build import VARIANTS, demo_graph
from ssdrt.demo import demo_picture
from ssdrt.engines.reference import normalise
from ssdrt.legacy.facts import facts_json
from ssdrt.preprocess import to_network
from ssdrt.recover import recover

FOLDER = resources.files("ssdrt.legacy") / "device"


@pytest.fixture(scope="module")
def detect():
    """detect.py as a module; TensorRT is not needed for what is tested."""
    missing = "tensorrt" not in sys.modules
    sys.modules.setdefault("tensorrt", ModuleType("tensorrt"))
    spec = importlib.util.spec_from_file_location("device_detect", FOLDER / "detect.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if missing:
        del sys.modules["tensorrt"]
    return module


@pytest.mark.parametrize("name", ["build_engine.py", "detect.py", "onnx_engine.py"])
def test_the_programs_are_python_3_6(name):
    text = (FOLDER / name).read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    imported = {alias.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    assert imported - {"cv2"} <= {"argparse", "ctypes", "glob", "json", "os", "sys", "numpy", "tensorrt"}
    assert "annotations" not in text


@pytest.mark.parametrize("name", ["default", "odd_size", "fixed_shape"])
def test_pictures_are_prepared_as_everywhere(detect, name):
    model = recover(demo_graph(VARIANTS[name]))
    picture = demo_picture()
    found, part = detect.prepared(picture, json.loads(facts_json(model)))
    pixels = to_network(picture, model.preprocessing.resizer.value)[None]
    expected = normalise(pixels, model.preprocessing.normalisation.value)[0].transpose(2, 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert part.tolist() == [1, 1]


def test_a_padded_picture_covers_a_part_of_the_input(detect):
    facts = json.loads(facts_json(recover(demo_graph())))
    facts["input_size"] = [64, 64]
    facts["resizer"].update(kind="keep_aspect_ratio", height=32, width=64, pad=True, pad_value=[255, 0, 127.5])
    pixels, part = detect.prepared(np.zeros((20, 40, 3), np.uint8), facts)
    assert part.tolist() == [1, 0.5]
    np.testing.assert_allclose(pixels[:, 40, 0], [1, -1, 0], atol=1e-6)
    np.testing.assert_allclose(pixels[:, 31, 63], [-1, -1, -1])


def test_pictures_are_read_as_rgb(detect, tmp_path):
    picture = demo_picture()
    for suffix in ("ppm", "png"):
        Image.fromarray(picture).save(tmp_path / f"p.{suffix}")
        assert np.array_equal(detect.read_picture(str(tmp_path / f"p.{suffix}")), picture)
