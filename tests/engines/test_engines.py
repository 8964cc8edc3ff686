"""What every engine promises, on the small SSD that has every kind of layer."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ssdrt.engines import reference
from ssdrt.engines.base import engine_module
from ssdrt.errors import EngineError
from tiny_ssd import CLASSES, tiny_pixels, tiny_ssd

COMPUTING = ("reference", "openvino", "onnxruntime")
ALL = (*COMPUTING, "null")


def loaded(name: str, precision: str = "fp32", streams: int = 1, model=None):
    """The engine as a detector starts it, or a skip that says what is missing."""
    module, model = engine_module(name), model or tiny_ssd()
    if module.unavailable():
        pytest.skip(module.unavailable())
    if precision not in module.precisions():
        pytest.skip(f"this processor has no {precision}")
    return module.load(model, module.build(model, precision), precision, streams)


def expected(model, pixels):
    return reference.load(model, b"", "fp32", 1).infer(pixels)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", COMPUTING)
def test_fp32_equals_the_reference(name, batch):
    found = loaded(name).infer(tiny_pixels(batch))
    for value, wanted in zip(found, expected(tiny_ssd(), tiny_pixels(batch)), strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-5)


def test_bf16_is_near_the_reference_and_not_fp32():
    found = loaded("openvino", "bf16").infer(tiny_pixels(1))
    for value, wanted in zip(found, expected(tiny_ssd(), tiny_pixels(1)), strict=True):
        assert 1e-4 < np.abs(value - wanted).max() < 5e-2


@pytest.mark.parametrize("name", COMPUTING)
@pytest.mark.parametrize("function", ["softmax", "identity"])
def test_score_converters(name, function):
    model, pixels = tiny_ssd("sliced_before", function, 2.0), tiny_pixels(1)
    _, scores = loaded(name, model=model).infer(pixels)
    np.testing.assert_allclose(scores, expected(model, pixels)[1], atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", ALL)
def test_results_are_the_callers(name, batch):
    engine = loaded(name)
    results = engine.infer(tiny_pixels(batch))
    assert [value.shape for value in results] == [(batch, 180, 4), (batch, 180, CLASSES)]
    copies = [value.copy() for value in results]
    engine.infer(255 - tiny_pixels(batch))
    for value, copy in zip(results, copies, strict=True):
        np.testing.assert_array_equal(value, copy)
        assert value.dtype == np.float32
        assert value.flags.writeable
        assert value.flags.c_contiguous


@pytest.mark.parametrize("name", ALL)
def test_threads_share_an_engine_of_several_streams(name):
    engine, pictures = loaded(name, streams=2), tiny_pixels(8)
    alone = [engine.infer(picture[None]) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda index: engine.infer(pictures[index % 8][None]), range(40)))
    for index, found in enumerate(together):
        for one, other in zip(found, alone[index % 8], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_module_says_what_it_runs_and_for_what_a_plan_is_good(name):
    module = engine_module(name)
    if module.unavailable():
        pytest.skip(module.unavailable())
    assert module.precisions()[0] == "fp32"
    assert module.fingerprint() == module.fingerprint() != ""


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_missing_library_is_told_with_the_command_that_installs_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    assert engine_module(name).unavailable().startswith(f"engine {name} needs {name}: pip install 'ssdrt[{name}]'")


@pytest.mark.parametrize("name", ALL)
def test_close_twice(name):
    engine = loaded(name)
    engine.close()
    engine.close()


def test_openvino_takes_a_request_again_that_failed():
    engine = loaded("openvino", streams=2)
    for request in [engine._requests.get() for _ in range(2)]:
        request.start_async({0: tiny_pixels(1)})
        request.cancel()  # what waits for it gets an error from now on
        engine._requests.put(request)
    with pytest.raises(RuntimeError):
        engine.infer(np.zeros((2, 3, 3, 3), np.float32))
    assert engine._requests.qsize() == 2
    for value, wanted in zip(engine.infer(tiny_pixels(2)), expected(tiny_ssd(), tiny_pixels(2)), strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows")
def test_signals_arrive_after_openvino_and_forked_processes_may_use_it():
    pytest.importorskip("openvino")
    code = (
        "import os, signal; from ssdrt.engines import openvino; from tiny_ssd import tiny_pixels, tiny_ssd\n"
        "model, heard = tiny_ssd(), []\n"
        "plan = openvino.build(model, 'fp32')\n"
        "engines = [openvino.load(model, plan, 'fp32', 1) for _ in range(3)]\n"
        "while engines: engines.pop(0).close()\n"
        "signal.signal(signal.SIGINT, lambda *_: heard.append('signal'))\n"
        "signal.raise_signal(signal.SIGINT)\n"
        "assert heard == ['signal']\n"
        "child = os.fork()\n"
        "if not child: openvino.load(model, plan, 'fp32', 1).infer(tiny_pixels(1)); os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0"
    )
    tests = {"PYTHONPATH": os.pathsep.join((str(Path(__file__).parents[1]), *sys.path))}
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | tests, timeout=60, check=False).returncode == 0


def test_openvino_refuses_after_close_and_foreign_plans():
    engine = loaded("openvino")
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(tiny_pixels(1))
    with pytest.raises(EngineError, match="build it again"):
        engine_module("openvino").load(tiny_ssd(), b"no plan", "fp32", 1)


def test_null_finds_the_anchors_in_every_picture():
    boxes, scores = loaded("null").infer(tiny_pixels(2))
    assert not boxes.any()
    assert scores[0].max(1)[:3].tolist() == pytest.approx([0.9, 0.45, 0.3])
    assert scores[1].argmax(1)[:4].tolist() == [0, 1, 2, 0]
