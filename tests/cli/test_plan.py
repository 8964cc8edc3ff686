"""Bare TensorRT plans on the command line, as far as they go without a GPU."""

from dataclasses import replace

import pytest

from gpu_stand_in import plan_bytes, stand_in_plan
from ssdrt.bundle import Bundle, load_bundle, save_bundle
from ssdrt.engines import cuda
from ssdrt.engines.cuda import compiler
from ssdrt.engines.cuda.planner import plan_network
from ssdrt.engines.cuda.tactics import Device
from ssdrt.preparation import save_plan
from tiny_ssd import tiny_ssd


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
    assert err.startswith(f"ssdrt: {path}: this TensorRT plan is cut off")


@pytest.fixture
def elsewhere(tmp_path):
    """A `.ssdrt` that was built on another machine."""
    path = tmp_path / "other.ssdrt"
    card = "tensorrt 8.6.0, another card, compute capability 9.0"
    save_bundle(Bundle(tiny_ssd(), "tensorrt", "fp16", card, stand_in_plan(tiny_ssd(), "fp16"), "asked for", b""), path)
    return path


def test_inspect_tells_what_a_file_was_built_for(ssdrt, elsewhere):
    words = "\nbuilt for tensorrt fp16 (asked for) on tensorrt 8.6.0, another card, compute capability 9.0\n"
    assert words in ssdrt("inspect", elsewhere)[1]


def test_inspect_tells_what_is_in_a_file(ssdrt, tmp_path, elsewhere):
    lines = [line.split() for line in ssdrt("inspect", elsewhere, "--layers")[1].splitlines()]
    assert ["precision", "fp16"] in lines
    assert any(line[:4] == ["layers", "can", "be", "shown"] for line in lines)
    damaged = tmp_path / "damaged.ssdrt"
    save_bundle(replace(load_bundle(elsewhere), plan=b"something else"), damaged)
    code, out, _ = ssdrt("inspect", damaged)
    assert (code, "cannot be shown  this is no TensorRT plan" in out) == (0, True)
    save_bundle(replace(load_bundle(elsewhere), engine="another"), damaged)
    code, out, _ = ssdrt("inspect", damaged)
    assert (code, "cannot be shown  there is no engine 'another'" in out) == (0, True)


def test_inspect_tells_the_kernels_of_a_plan(ssdrt, tmp_path, monkeypatch):
    pytest.importorskip("cuda.bindings.nvrtc")
    plan = cuda.build_for(tiny_ssd(), Device("sm_90a", 132, 232448))
    save_bundle(Bundle(tiny_ssd(), "cuda", "fp16", "a card", plan, "asked for", b""), tmp_path / "tiny.ssdrt")
    _, out, _ = ssdrt("inspect", tmp_path / "tiny.ssdrt", "--layers")
    rows = out.partition("steps of the plan\n")[2].splitlines()
    assert rows[0].split() == ["batch", "1", "batch", "8", "batch", "64", "batch", "256", "what", "it", "computes"]
    assert len(rows) == 1 + len(plan_network(tiny_ssd()).steps)
    assert "front<3,3,32>" in rows[1]
    assert ["architecture", "sm_90a"] in [line.split() for line in out.splitlines()]
    assert "steps of the plan" not in ssdrt("inspect", tmp_path / "tiny.ssdrt")[1]
    monkeypatch.setattr(compiler, "digest", lambda: "another version")
    assert "by the version of ssdrt that built it only" in ssdrt("inspect", tmp_path / "tiny.ssdrt", "--layers")[1]


def test_inspect_tells_the_facts_beside_a_plan(ssdrt, tmp_path, elsewhere):
    save_plan(load_bundle(elsewhere), tmp_path / "model.engine")
    _, out, _ = ssdrt("inspect", tmp_path / "model.engine")
    assert ["precision", "fp16"] in [line.split() for line in out.splitlines()]


@pytest.mark.parametrize("words", [("inspect",), ("detect", "photo.png"), ("build",), ("convert", "out.onnx")])
def test_what_lies_beside_a_plan_is_no_model(ssdrt, tmp_path, elsewhere, words):
    save_plan(load_bundle(elsewhere), tmp_path / "model.engine")
    code, _, err = ssdrt(words[0], tmp_path / "model.engine.ssdrt", *words[1:])
    assert (code, "holds no network, it belongs to the plan beside it" in err) == (1, True)


def test_a_plan_is_not_run_by_another_engine(ssdrt, tmp_path, elsewhere):
    save_plan(load_bundle(elsewhere), tmp_path / "model.engine")
    code, _, err = ssdrt("detect", tmp_path / "model.engine", "photo.png", "--engine", "reference")
    assert (code, "is a plan of engine tensorrt: give the model itself" in err) == (1, True)


def test_nothing_is_built_or_converted_from_a_plan(ssdrt, tmp_path, elsewhere):
    save_plan(load_bundle(elsewhere), tmp_path / "model.engine")
    assert "a plan is built already" in ssdrt("build", tmp_path / "model.engine")[2]
    assert "a TensorRT plan: give the model" in ssdrt("convert", tmp_path / "model.engine", "out.onnx")[2]


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
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.usefixtures("cache")
def test_options_of_another_engine_are_told(ssdrt, tmp_path):
    words = ("frozen_inference_graph.pb", "--engine", "reference", "-o", str(tmp_path / "out.ssdrt"))
    code, _, err = ssdrt("build", *words, "--batch", "1:4:8")
    assert code == 1
    assert "engine reference has no option 'batch'; it has none" in err
    assert ssdrt("build", *words, "--batch", "8:4:1")[0] == 2
