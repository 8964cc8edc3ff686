"""`ssdrt convert`: the file, and what is said about it."""

import pytest

from build import VARIANTS, demo_file

GRAPH = "frozen_inference_graph.pb"


def ports(path):
    onnx = pytest.importorskip("onnx", reason="reading ONNX back needs onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model)
    return {
        port.name: [side.dim_value or side.dim_param for side in port.type.tensor_type.shape.dim]
        for port in (*model.graph.input, *model.graph.output)
    }, model.opset_import[0].version


@pytest.mark.parametrize("options", [(), ("--heads-only",), ("--opset", "13")])
def test_the_ports_are_those_that_are_told(ssdrt, tmp_path, options):
    path = tmp_path / "demo.onnx"
    code, out, err = ssdrt("convert", GRAPH, path, *options)
    assert (code, err) == (0, "")
    shapes, opset = ports(path)
    assert f"ONNX opset {opset}" in out.splitlines()[0]
    told = {line.split()[0]: line for line in out.splitlines() if "(batch" in line}
    assert set(told) == set(shapes)
    for name, line in told.items():
        assert f"({', '.join(map(str, shapes[name]))}{',' * (len(shapes[name]) == 1)})" in line


def test_soft_nms_has_no_detections_and_leaves_no_file(ssdrt, tmp_path):
    graph, path = demo_file(tmp_path, VARIANTS["soft_nms"]), tmp_path / "soft.onnx"
    code, _, err = ssdrt("convert", graph, path)
    assert (code, err.count("\n"), path.exists()) == (1, 1, False)
    assert ssdrt("convert", graph, path, "--heads-only", "--quiet") == (0, "", "")
    assert path.exists()


def test_a_frozen_graph_that_is_written_finds_the_same(ssdrt, tmp_path):
    assert ssdrt("convert", GRAPH, tmp_path / "again.pb")[0] == 0
    lines = [ssdrt("detect", graph, "photo.png", "--json", "-", "-q")[1] for graph in (GRAPH, tmp_path / "again.pb")]
    assert '"detections": [{' in lines[0]
    assert lines[0] == lines[1]


def test_a_uff_file_comes_with_what_the_device_needs_and_is_run(ssdrt, tmp_path):
    code, out, _ = ssdrt("convert", GRAPH, tmp_path / "demo.uff")
    assert code == 0
    assert {p.name for p in tmp_path.iterdir()} == {line.rpartition("/")[2] for line in out.splitlines()}
    assert "NMS_TRT" in ssdrt("inspect", tmp_path / "demo.uff")[1]
    assert '"detections": [{' in ssdrt("detect", tmp_path / "demo.uff", "photo.png", "--json", "-", "-q")[1]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.onnx", ("--preprocessor", "script.py")),
        ("out.onnx", ("--for", "trt6")),
        ("out.pb", ("--heads-only",)),
        ("out.pb", ("--for", "trt8.2")),
        ("out.pb", ("--opset", "13")),
        ("out.uff", ("--heads-only",)),
        ("out.uff", ("--for", "trt8.2")),
        ("out.uff", ("--opset", "13")),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(ssdrt, tmp_path, name, options):
    code, _, err = ssdrt("convert", "frozen_inference_graph.pb", tmp_path / name, *options)
    assert (code, err.startswith(f"ssdrt: {options[0]}"), f" is not for a .{name[4:]}" in err) == (1, True, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [("--heads-only",), ("--opset", "17")])
def test_the_programs_of_a_device_know_one_file(ssdrt, tmp_path, options):
    code, _, err = ssdrt("convert", "frozen_inference_graph.pb", tmp_path / "out.onnx", "--for", "trt8.2", *options)
    assert (code, "leave --opset and --heads-only out" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []
