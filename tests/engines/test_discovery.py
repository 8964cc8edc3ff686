"""Engines are found by their files, and none of the others needs any one of them."""

import pathlib
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

import ssdrt.engines
from ssdrt.engines import cuda, null
from ssdrt.engines.base import engine_module, engine_names, named_precisions, not_taken, pick_engine
from ssdrt.engines.cuda.tactics import Device
from ssdrt.errors import EngineError
from ssdrt.preparation import build
from tiny_ssd import tiny_ssd

FOLDER = pathlib.Path(ssdrt.engines.__path__[0])
IMPORT_ALL = """
from ssdrt.engines.base import engine_module, engine_names, pick_engine
print(*engine_names())
for name in engine_names():
    engine_module(name).unavailable()
print(pick_engine("auto" if "reference" in engine_names() else "null"))
"""


def test_names_come_from_files_best_first():
    ours = ["openvino", "onnxruntime", "reference", "null"]
    assert [name for name in engine_names() if name in ours] == ours


def test_auto_is_never_null_and_a_name_is_itself():
    assert pick_engine("auto") != "null"
    assert pick_engine("null") == "null"


def test_unknown_engine_is_told_which_there_are():
    with pytest.raises(EngineError, match=r"no engine 'tpu'.*auto, .*reference"):
        engine_module("tpu")


def test_precisions_that_need_something_are_taken_by_name_only(monkeypatch):
    monkeypatch.setattr(null, "ASKED", ("int8",), raising=False)
    assert null.precisions() == ("fp32",)
    assert named_precisions("null") == ("fp32", "int8")
    with pytest.raises(EngineError, match="does not compute in int4 here; it does in fp32, int8"):
        build(tiny_ssd(), "null", "int4", b"")
    assert build(tiny_ssd(), "null", "auto", b"").precision == "fp32"


def test_engine_that_cannot_run_here_says_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"pip install 'ssdrt\[onnxruntime\]'"):
        pick_engine("onnxruntime")


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "null", "reference"])
def test_deleting_an_engine_breaks_nothing_else(name, tmp_path):
    shutil.copytree(FOLDER.parent, tmp_path / "ssdrt", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "ssdrt" / "engines" / f"{name}.py").unlink()
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    names, chosen = run.stdout.splitlines()
    assert name not in names.split()
    assert chosen != name


@pytest.mark.parametrize(
    ("architecture", "taken"), [("sm_90a", True), ("sm_89", False), ("sm_100", False), ("sm_120", False)]
)
def test_auto_takes_cuda_where_it_has_run_and_computes_as_asked(monkeypatch, architecture, taken):
    device = Device(architecture, 132, 232448)
    monkeypatch.setattr(cuda.driver, "Gpu", lambda _index: SimpleNamespace(name="a GPU", device=lambda: device))
    assert (pick_engine("auto") == "cuda") is taken
    assert (pick_engine("auto", "fp16") == "cuda") is taken
    assert pick_engine("auto", "fp32") != "cuda"
    assert pick_engine("cuda") == "cuda"
    assert (not_taken("cuda") is None) is taken
    assert taken or "have not been run on a GPU" in not_taken("cuda")


def test_cuda_stands_before_tensorrt():
    names = engine_names()
    assert names.index("cuda") < names.index("tensorrt") < names.index("openvino")


def test_a_device_is_for_engines_on_gpus():
    with pytest.raises(EngineError, match=r"engine reference runs on the processor; .* for cuda and tensorrt"):
        pick_engine("reference", device=0)
    with pytest.raises(EngineError, match="no engine runs on GPU 99: "):
        pick_engine("auto", device=99)
