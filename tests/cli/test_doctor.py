"""`ssdrt doctor` and `ssdrt models`: what they say on any machine."""

import sys

from ssdrt import __version__
from ssdrt.cli.machine import abilities, processor
from ssdrt.detector import available_processors
from ssdrt.engines.base import engine_names
from ssdrt.zoo import ARCHIVES, graph_path


def test_doctor_lists_engines_codecs_and_the_cache(ssdrt, cache):
    code, out, err = ssdrt("doctor")
    assert (code, err) == (0, "")
    for words in (__version__, "Pillow", "JPEG", "PyAV", str(cache), *(set(engine_names()) - {"null"})):
        assert words in out
    assert out.count("(what auto takes)") == 1


def test_doctor_says_what_to_type_for_what_is_missing(ssdrt, monkeypatch):
    for package in ("openvino", "onnxruntime", "av", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    _, out, _ = ssdrt("doctor")
    for extra in ("openvino", "onnxruntime", "video"):
        assert f"pip install 'ssdrt[{extra}]'" in out
    assert "reference    fp32 (what auto takes)" in out


def test_doctor_warns_of_a_cache_that_cannot_be_written(ssdrt, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", "photo.png/cache")
    assert "set SSDRT_HOME" in ssdrt("doctor")[1]


def test_self_test_runs_every_engine_in_every_precision(ssdrt):
    code, out, _ = ssdrt("doctor", "--self-test")
    assert code == 0
    lines = out.split("self-test\n")[1].splitlines()
    assert any(line.split()[:1] == ["reference"] for line in lines)
    differences = [float(line.split()[2]) for line in lines if line.split()[:1] == ["fp32"] and "failed" not in line]
    assert len(differences) >= 1
    assert max(differences) < 1e-3


def test_machine():
    assert processor().endswith(f"{available_processors()} of {__import__('os').cpu_count()} processors")
    assert all(name.islower() for name in abilities())


def test_models_are_listed_with_size_and_place(ssdrt, cache):
    graph = graph_path(ARCHIVES[0])
    graph.parent.mkdir(parents=True)
    graph.write_bytes(b"")
    code, out, _ = ssdrt("models")
    included, *rows = [line.split() for line in out.splitlines()[1 : 2 + len(ARCHIVES)]]
    graph.unlink()
    assert code == 0
    assert included[:2] == ["person-hand", "included"]
    assert [row[0] for row in rows] == [archive.name for archive in ARCHIVES]
    assert rows[0][-1] == str(graph)
    assert all(row[-1] == "no" for row in rows[1:])
    assert str(cache / "zoo") in out
