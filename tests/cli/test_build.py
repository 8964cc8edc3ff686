"""`ssdrt build`: a file that detects as the graph does."""

import json

import pytest

GRAPH = "frozen_inference_graph.pb"


def test_built_file_detects_with_its_own_labels(ssdrt, tmp_path):
    built = tmp_path / "demo.ssdrt"
    code, out, _ = ssdrt("build", GRAPH, "-o", built, "--engine", "reference", "--labels", "labels.txt")
    assert code == 0
    assert out.startswith("engine     reference\nprecision  fp32 (")
    assert out.splitlines()[-1].startswith(f"{built}: ")
    of_built, of_graph = (
        json.loads(ssdrt("detect", model, "photo.png", "--json", "-", "--engine", "reference")[1])["detections"]
        for model in (built, GRAPH)
    )
    assert {one["label"] for one in of_built} == {"rouge", "vert", "bleu"}
    assert [one["box"] for one in of_built] == [one["box"] for one in of_graph]


def test_the_file_is_named_after_the_model(ssdrt, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    assert ssdrt("build", folder / GRAPH, "--engine", "reference", "-q") == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["frozen_inference_graph.ssdrt"]


def test_a_damaged_file_is_one_line(ssdrt, tmp_path):
    built = tmp_path / "demo.ssdrt"
    ssdrt("build", GRAPH, "-o", built, "--engine", "reference")
    built.write_bytes(built.read_bytes()[:-100])
    code, _, err = ssdrt("detect", built, "photo.png")
    assert (code, err.count("\n")) == (1, 1)
    assert "build it again" in err


def test_precision_is_chosen_with_a_reason(ssdrt, tmp_path):
    pytest.importorskip("openvino", reason="the reference has one precision only")
    _, out, _ = ssdrt("build", GRAPH, "-o", tmp_path / "demo.ssdrt", "--engine", "openvino")
    assert out.splitlines()[1].startswith("precision  ")
    assert out.splitlines()[1].endswith(")")


def test_scales_are_read_for_tensorrt_alone(ssdrt, tmp_path):
    scales = tmp_path / "scales.json"
    words = ("build", GRAPH, "-o", tmp_path / "demo.ssdrt", "--engine", "reference", "--scales", scales)
    assert ssdrt(*words)[2].startswith(f"ssdrt: {scales}: these scales cannot be read: ")
    scales.write_text('{"image": 0.01}')
    assert ssdrt(*words)[2] == "ssdrt: engine reference has no option 'scales'; it has none\n"


def test_a_name_that_no_command_would_know_is_refused(ssdrt, tmp_path):
    code, _, err = ssdrt("build", GRAPH, "-o", tmp_path / "built.pb", "--engine", "reference")
    assert (code, "give a name that ends in .ssdrt" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []
