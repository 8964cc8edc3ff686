"""COCO's numbers: those that pycocotools gives for the same files."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from ssdrt.evaluate.judge import NUMBERS, judge

pytest.importorskip("pycocotools", reason="needs the extra eval")


def by_pycocotools(data, rows, folder):
    """The twelve numbers by way of files, as pycocotools' own demo does it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = {
        "images": [{"id": one.id} for one in data.pictures],
        "categories": [{"id": number, "name": name} for number, name in data.categories.items()],
        "annotations": [
            {"id": n, "image_id": one.picture, "category_id": one.category, "bbox": list(one.box_xywh),
             "area": one.area, "iscrowd": int(one.crowd)}
            for n, one in enumerate(data.annotations, start=1)
        ],
    }  # fmt: skip
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(rows))
    truth = COCO(str(folder / "truth.json"))
    jury = COCOeval(truth, truth.loadRes(str(folder / "results.json")), "bbox")
    jury.evaluate()
    jury.accumulate()
    jury.summarize()
    return jury.stats


def test_numbers_are_those_of_pycocotools(drawn_by_lot, tmp_path):
    data, rows = drawn_by_lot
    expected = by_pycocotools(data, rows, tmp_path)
    numbers = judge(data, rows).numbers
    assert tuple(numbers) == NUMBERS
    assert list(numbers.values()) == pytest.approx(list(expected), abs=1e-9)
    assert 0.1 < numbers["AP"] < 0.9


def test_ap_is_the_mean_of_the_classes_that_there_are(drawn_by_lot):
    judgement = judge(*drawn_by_lot)
    *present, (absent, absent50) = judgement.class_ap.values()
    assert math.isnan(absent)
    assert math.isnan(absent50)
    assert np.mean(present, axis=0) == pytest.approx([judgement.numbers["AP"], judgement.numbers["AP50"]], abs=1e-12)


def test_nothing_found_is_zero(drawn_by_lot):
    data, _ = drawn_by_lot
    judgement = judge(data, [])
    assert judgement.numbers["AP"] == judgement.numbers["AR100"] == 0
    assert judgement.finder == {}


def test_a_picture_that_is_left_out_changes_nothing_else(drawn_by_lot, tmp_path):
    data, rows = drawn_by_lot
    first = data.pictures[0].id
    others = tuple(one for one in data.annotations if one.picture != first)
    without = replace(data, pictures=data.pictures[1:], annotations=others)
    expected = by_pycocotools(without, [row for row in rows if row["image_id"] != first], tmp_path)
    judgement = judge(data, rows, {first})
    assert list(judgement.numbers.values()) == pytest.approx(list(expected), abs=1e-9)
    assert judgement.pictures == tuple(one.id for one in data.pictures[1:])


def test_matches_say_which_row_found_which_object(drawn_by_lot):
    data, rows = drawn_by_lot
    judgement = judge(data, rows)
    hits = {int(row) for one in judgement.matches for row, hit in zip(one.row, one.hit[0], strict=True) if hit}
    crowds = {number for number, one in enumerate(data.annotations) if one.crowd}
    assert {row for number, row in judgement.finder.items() if number not in crowds} == hits
    for number, row in judgement.finder.items():
        assert rows[row]["image_id"] == data.annotations[number].picture
        assert rows[row]["category_id"] == data.annotations[number].category
    assert sum(one.objects.sum() for one in judgement.matches) == len(data.annotations) - len(crowds)
