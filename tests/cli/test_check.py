"""`ssdrt check`: the verdict on every engine."""

import sys

import numpy as np
import pytest

from ssdrt.cli.check import Row, _cells, _compare, _demand
from ssdrt.demo import demo_picture
from ssdrt.detector import Detector
from ssdrt.engines.base import engine_module, engine_names

GRAPH = "frozen_inference_graph.pb"
USABLE = [
    name for name in engine_names() if engine_module(name).unavailable() is None and name not in ("reference", "null")
]


@pytest.mark.skipif(not USABLE, reason="no engine but the reference is installed")
def test_every_usable_engine_gets_a_line_and_fp32_passes(ssdrt):
    code, out, err = ssdrt("check", GRAPH, "photo.png", "-q")  # without progress, which a busy machine shows
    lines = [line.split() for line in out.splitlines()]
    for engine in USABLE:
        verdicts = {line[1]: line[-1] for line in lines if line[:1] == [engine]}
        assert set(verdicts) == set(engine_module(engine).precisions())
        assert verdicts.get("fp32", "pass") == "pass"  # cuda has fp16 alone
    assert (code == 0) == ("FAIL" not in out)
    assert ("scores within 0.002" in out) == any("fp32" in engine_module(name).precisions() for name in USABLE)
    assert err == ""


def test_an_engine_that_cannot_run_is_listed_with_what_to_type(ssdrt, monkeypatch):
    for name in USABLE:
        module = "cuda.bindings.driver" if name == "cuda" else name
        monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    code, out, _ = ssdrt("check", GRAPH)
    first, *others = out.splitlines()
    assert code == 0
    assert first == "no engine but reference can run here: there is nothing to compare"
    assert [line.split()[0] for line in others] == [
        name for name in engine_names() if name not in ("reference", "null")
    ]
    told = {line.split()[0]: line for line in others}
    assert all(f"pip install 'ssdrt[{name}]'" in told[name] for name in USABLE)


def test_an_engine_that_finds_other_things_fails():
    picture = demo_picture()
    with Detector.open(GRAPH, "reference") as reference:
        expected = [reference.detect(picture, score_threshold=_demand("fp32")[0])]
    row = _compare(GRAPH, "null", "fp32", [picture], expected)
    assert row.passed is False
    assert row.difference.missing > 0
    assert _cells(row)[-1] == "FAIL"


def test_what_was_not_compared_did_not_pass():
    grey = np.full((60, 80, 3), 127, np.uint8)
    with Detector.open(GRAPH, "reference") as reference:
        expected = [reference.detect(grey, score_threshold=0.9)]
    row = _compare(GRAPH, "null", "fp32", [grey], expected)
    assert (row.compared, row.passed, _cells(row)[-1]) == (0, None, "nothing to compare")


def test_an_error_is_a_failure():
    row = Row("openvino", "fp32", error="it broke")
    assert row.passed is False
    assert _cells(row)[-1] == "FAIL: it broke"
