"""Bare TensorRT plans on the command line, as far as they go without a GPU."""

import pytest

from gpu_stand_in import plan_bytes


def test_inspect_tells_what_a_plan_is(ssdrt, tmp_path):
    path = tmp_path / "model.engine"
    path.write_bytes(plan_bytes(b"network"))
    code, out, _ = ssdrt("inspect", str(path))
    assert code == 0
    for words in ("a TensorRT plan", "8.6.0.0", "35"):
        assert words in out
    path.write_bytes(plan_bytes(b"network")[:-3])
    code, _, err = ssdrt("inspect", str(path))
    assert code == 1
    assert "cut off" in err


@pytest.mark.parametrize("words", [("inspect",), ("detect",)])
def test_a_plan_that_is_not_there_is_said_in_one_line(ssdrt, tmp_path, words):
    path = tmp_path / "model.engine"
    code, _, err = ssdrt(*words, path, *(["photo.png"] if words[0] == "detect" else []))
    assert code == 1
    assert f"{path} cannot be read: No such file" in err


def test_a_bare_plan_needs_what_lies_beside_it(ssdrt, tmp_path):
    path = tmp_path / "model.engine"
    path.write_bytes(plan_bytes(b"network"))
    code, _, err = ssdrt("detect", str(path), "photo.png")
    assert code == 1
    assert "model.engine.ssdrt" in err
    assert "--save-plan" in err


@pytest.mark.usefixtures("cache")
def test_only_tensorrt_has_plans_to_save(ssdrt, tmp_path):
    words = ("frozen_inference_graph.pb", "--engine", "reference", "-o", str(tmp_path / "out.ssdrt"))
    code, _, err = ssdrt("build", *words, "--save-plan", str(tmp_path / "out.engine"))
    assert code == 1
    assert "engine reference makes no plans" in err


@pytest.mark.usefixtures("cache")
def test_options_of_another_engine_are_told(ssdrt, tmp_path):
    words = ("frozen_inference_graph.pb", "--engine", "reference", "-o", str(tmp_path / "out.ssdrt"))
    code, _, err = ssdrt("build", *words, "--batch", "1:4:8")
    assert code == 1
    assert "engine reference has no option 'batch'; it has none" in err
    assert ssdrt("build", *words, "--batch", "8:4:1")[0] == 2
