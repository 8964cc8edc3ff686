"""`ssdrt eval`: its table, its files, and what it says when something is wrong."""

import json
import sys

import pytest
from PIL import Image

from ssdrt.demo import SHAPES, demo_picture
from ssdrt.engines.base import engine_module
from ssdrt.errors import EngineError

GRAPH = "frozen_inference_graph.pb"
NAMES = ("red", "green", "blue")
WIDTH, HEIGHT = 480, 360

pytest.importorskip("pycocotools", reason="needs the extra eval")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """pictures/a.png, and the same boxes as instances.json, voc/ and yolo/."""
    folder = tmp_path_factory.mktemp("labelled")
    for name in ("pictures", "voc", "yolo"):
        (folder / name).mkdir()
    Image.fromarray(demo_picture()).save(folder / "pictures" / "a.png", compress_level=1)
    rows, objects, lines = [], [], []
    for number, shape in enumerate(SHAPES, start=1):
        x0, y0, x1, y1 = shape.box_xyxy
        width, height, category = x1 - x0, y1 - y0, NAMES.index(shape.colour)
        box, area = [x0, y0, width, height], width * height
        rows.append({"id": number, "image_id": 5, "category_id": category + 1, "bbox": box, "area": area, "iscrowd": 0})
        edges = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}
        corners = "".join(f"<{edge}>{value:g}</{edge}>" for edge, value in edges.items())
        objects.append(f"<object><name>{shape.colour}</name><bndbox>{corners}</bndbox></object>")
        centre = f"{(x0 + x1) / 2 / WIDTH!r} {(y0 + y1) / 2 / HEIGHT!r}"
        lines.append(f"{category} {centre} {width / WIDTH!r} {height / HEIGHT!r}")
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]
    images = [{"id": 5, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}]
    content = {"images": images, "categories": categories, "annotations": rows}
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "voc" / "a.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    (folder / "yolo" / "a.txt").write_text("\n".join(lines))
    (folder / "yolo" / "classes.txt").write_text("\n".join(NAMES))
    (folder / "names.txt").write_text("\n".join(NAMES))
    return folder


@pytest.fixture
def evaluate(ssdrt, labelled):
    """Run `ssdrt eval` on the demo graph with the reference engine."""

    def run(*words, annotations="instances.json", engine="reference"):
        given = ("--annotations", labelled / annotations, "--images", labelled / "pictures", "--engine", engine)
        return ssdrt("eval", GRAPH, *given, *words)

    return run


def test_numbers_are_those_of_pycocotools_on_the_written_results(evaluate, labelled, tmp_path):
    code, out, err = evaluate("-o", tmp_path / "out")
    assert (code, err) == (0, "")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(labelled / "instances.json"))
    jury = COCOeval(truth, truth.loadRes(str(tmp_path / "out" / "reference_fp32.json")), "bbox")
    jury.evaluate()
    jury.accumulate()
    jury.summarize()
    (row,) = json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"]
    numbers = [-1 if value is None else value for value in row["numbers"].values()]
    assert numbers == pytest.approx(list(jury.stats), abs=1e-9)
    assert row["score_threshold"] == pytest.approx(1e-8)
    words = next(line for line in out.splitlines() if line.startswith("reference")).split()
    assert words[:4] == ["reference", "fp32", "1e-08", f"{jury.stats[0]:.4f}"]
    assert words[6] == "-"  # no small objects
    assert "1 pictures, 6 boxes of 3 classes, 0 crowds; classes matched by id" in out


def test_the_same_boxes_in_every_format(evaluate, labelled):
    reports = [
        evaluate("--labels", labelled / "names.txt", annotations=name)[1].splitlines()[-1].split()[:-1]
        for name in ("instances.json", "voc", "yolo")
    ]
    assert reports[0] == reports[1] == reports[2]


def test_what_reduced_precision_costs(evaluate):
    usable = [name for name in ("openvino", "onnxruntime") if engine_module(name).unavailable() is None]
    code, out, err = evaluate(engine=",".join(["reference", *usable]))
    assert code == 0, err
    ran = [(name, how) for name in usable for how in engine_module(name).precisions()]
    costs = out.split("Drop from reference fp32, by 1000 resamplings of the pictures")[1:]
    assert bool(costs) == bool(usable)
    rows = [tuple(line.split()[:2]) for line in costs[0].splitlines()[2:]] if costs else []
    assert rows == ran


def test_score_and_classes(evaluate):
    code, out, _ = evaluate("--score", "0.5", "--classes", "blue,red")
    assert code == 0
    assert "4 boxes of 2 classes" in out
    assert out.splitlines()[-1].split()[2] == "0.5"
    assert "green" not in out


def test_a_class_that_the_model_lacks_counts_and_is_named(evaluate, labelled):
    (labelled / "two.txt").write_text("red\ngreen\n")
    code, out, _ = evaluate("--labels", labelled / "two.txt")
    assert code == 0
    assert "classes matched by name" in out
    assert "the model has no class for blue: AP 0 in the means; --classes can leave them out" in out
    assert next(line for line in out.splitlines() if line.startswith("blue")).split() == [
        "blue",
        "2",
        "0.0000",
        "0.0000",
    ]


def test_a_broken_picture_is_reported_and_fails(ssdrt, labelled, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    whole = (labelled / "pictures" / "a.png").read_bytes()
    (pictures / "a.png").write_bytes(whole)
    (pictures / "b.png").write_bytes(whole[:3000])
    content = json.loads((labelled / "instances.json").read_text())
    content["images"].append({"id": 6, "file_name": "b.png"})
    (tmp_path / "two.json").write_text(json.dumps(content))
    given = ("--annotations", tmp_path / "two.json", "--images", pictures, "--engine", "reference")
    code, out, err = ssdrt("eval", GRAPH, *given)
    assert code == 1
    assert "1 pictures could not be read and are in no number" in out
    assert "b.png' is damaged" in err


def test_an_engine_that_fails_costs_its_row_only(evaluate, monkeypatch):
    def fail(*_):
        raise EngineError("out of memory")

    monkeypatch.setattr(engine_module("reference"), "load", fail)
    code, out, err = evaluate(engine="reference,null")
    assert code == 1
    assert err == "ssdrt: reference fp32 failed: out of memory\n"
    assert out.splitlines()[-1].split()[:2] == ["null", "fp32"]
    assert evaluate()[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--precision", "fp7"), "nothing computes in 'fp7' here: reference in fp32"),
        (("--classes", "purple"), "the annotations have no class 'purple'; they have red, green, blue"),
        (("--labels", "labels.txt"), "the model has none of the annotated classes"),
    ],
)
def test_wrong_words(evaluate, words, message):
    code, out, err = evaluate(*words)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_without_pycocotools_it_says_what_to_type(evaluate, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    code, _, err = evaluate()
    assert code == 1
    assert "ssdrt eval needs pycocotools.cocoeval: pip install 'ssdrt[eval]'" in err
