"""What an evaluation writes: metrics, results, curves and worst pictures."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ssdrt.errors import SinkError
from ssdrt.evaluate.classes import Classes
from ssdrt.evaluate.curves import COLOURS, PAPER, SIDE, draw_curves
from ssdrt.evaluate.data_set import Annotation, DataSet, Picture
from ssdrt.evaluate.drop import drops
from ssdrt.evaluate.files import make_folder, write_files
from ssdrt.evaluate.judge import judge
from ssdrt.evaluate.row import Row
from ssdrt.evaluate.worst import FALSE, MISSED, RIGHT, best_score, contact_sheet, find_mistakes

pytest.importorskip("pycocotools", reason="needs the extra eval")

BOX = (10.0, 10.0, 30.0, 30.0)
FAR = (200.0, 200.0, 30.0, 30.0)


@pytest.fixture
def data(photos):
    """a.png with two boxes, b.png with one and a crowd, grey.png with none."""
    names = ("a", "b", "grey")
    pictures = tuple(Picture(n, photos / "pictures" / f"{s}.png", None) for n, s in enumerate(names, 1))
    boxes = ((1, 1, BOX, False), (1, 2, FAR, False), (2, 1, BOX, False), (2, 1, FAR, True))
    annotations = tuple(Annotation(p, c, box, 900, crowd, "") for p, c, box, crowd in boxes)
    return DataSet(pictures, {1: "disc", 2: "square"}, annotations)


@pytest.fixture
def make_row(data):
    def make(precision="fp32", *more):
        found = [(1, 1, BOX, 0.9), (2, 1, BOX, 0.8), (2, 1, FAR, 0.7), (3, 2, BOX, 0.6), (3, 2, FAR, 0.1), *more]
        rows = [{"image_id": p, "category_id": c, "bbox": list(box), "score": score} for p, c, box, score in found]
        return Row("null", precision, 0.05, 10.0, Classes({1: 1, 2: 2}, (), "id"), rows, {}, judge(data, rows))

    return make


def test_mistakes(data, make_row):
    row = make_row()
    first, second, third = find_mistakes(data, row, 0.5)
    assert sorted(first.boxes) == [(MISSED, FAR, "square"), (RIGHT, list(BOX), "disc")]
    assert second.boxes == [(FALSE, list(BOX), "square")]  # nothing is counted below the score
    assert third.boxes == [(RIGHT, list(BOX), "disc")]  # what lies in a crowd is no mistake
    assert [one.total for one in (first, second, third)] == [1, 1, 0]


def test_an_object_found_below_the_score_is_missed(data, make_row):
    found = find_mistakes(data, make_row(), 0.85)
    assert sum(one.count(MISSED) for one in found) == 2
    assert sum(one.count(RIGHT) for one in found) == 1


def test_best_score_is_that_of_the_best_f1(make_row):
    assert best_score(make_row()) == 0.8  # two of three objects, nothing false
    assert best_score(make_row("fp32", (1, 2, FAR, 0.55))) == 0.55


def test_best_score_when_nothing_is_right(data):
    row = Row("null", "fp32", 0.0, math.nan, Classes({}, (), "id"), [], {}, judge(data, []))
    assert best_score(row) == 1
    assert contact_sheet(data, row).size[0] > 0


def test_a_perfect_curve_runs_along_the_top(make_row):
    row = make_row()
    row = replace(row, judgement=replace(row.judgement, precision=np.ones((10, 101, 2))))
    picture = np.asarray(draw_curves([row]))
    blue = (np.abs(picture.astype(int) - COLOURS[0]).sum(axis=2) < 12).sum(axis=1)
    assert blue.max() >= 2 * SIDE - 8
    assert tuple(picture[0, 0]) == PAPER


def test_files(data, make_row, tmp_path):
    rows = [make_row(), make_row("bf16", (1, 2, FAR, 0.55))]
    folder = tmp_path / "deep" / "folder"
    make_folder(folder)
    write_files(folder, data, rows, drops(rows), {"model": "m.pb"})
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json",
        "precision_recall.png",
        "null_fp32.json",
        "null_fp32_worst.jpg",
        "null_bf16.json",
        "null_bf16_worst.jpg",
    }
    assert json.loads((folder / "null_fp32.json").read_text()) == rows[0].results
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["model"] == "m.pb"
    assert (metrics["pictures"], metrics["boxes"], metrics["crowds"]) == (3, 3, 1)
    exact, rounded = metrics["rows"]
    assert exact["numbers"]["AP"] == pytest.approx(rows[0].judgement.numbers["AP"], abs=1e-12)
    assert exact["numbers"]["AP_large"] is None
    assert exact["classes"] == {"disc": {"AP": 1.0, "AP50": 1.0}, "square": {"AP": 0.0, "AP50": 0.0}}
    assert exact["drop"] == {}
    assert rounded["drop"]["AP"]["value"] < 0
    for name in ("precision_recall.png", "null_fp32_worst.jpg"):
        Image.open(folder / name).load()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be made"):
        make_folder(tmp_path / "file" / "folder")
