"""A model on a data set, and what one engine costs against another."""

import copy
import json
import math
from dataclasses import replace

import pytest

from ssdrt.errors import LabelError, SourceError
from ssdrt.evaluate import read_data_set
from ssdrt.evaluate.data_set import Picture
from ssdrt.evaluate.drop import drops, reference_row
from ssdrt.evaluate.judge import judge
from ssdrt.evaluate.row import Row, evaluate

pytest.importorskip("pycocotools", reason="needs the extra eval")


@pytest.fixture(scope="module")
def data(photos, coco, tmp_path_factory):
    path = tmp_path_factory.mktemp("truth") / "instances.json"
    path.write_text(json.dumps(coco))
    return read_data_set(path, photos / "pictures")


@pytest.fixture(scope="module")
def row(photos, data):
    return evaluate(photos / "frozen_inference_graph.pb", data, "reference", "fp32", labels=photos / "names.txt")


def test_the_demo_finds_its_shapes(row):
    assert (row.name, row.score) == ("reference fp32", pytest.approx(1e-8))
    assert row.classes.how == "name"
    assert row.judgement.numbers["AP50"] == 1
    assert row.judgement.numbers["AP"] > 0.6
    assert row.judgement.pictures == (10, 11, 12, 13)
    assert math.isnan(row.judgement.numbers["AP_small"])
    assert row.speed > 0
    assert row.broken == {}


def test_results_are_those_of_the_detector(row, photos):
    from ssdrt.adapters import to_coco
    from ssdrt.detector import Detector
    from ssdrt.sources.photo import read_photo

    with Detector.open(photos / "frozen_inference_graph.pb", "reference") as detector:
        found = detector.detect(read_photo(photos / "pictures" / "b.png"), score_threshold=row.score)
    assert [one for one in row.results if one["image_id"] == 11] == to_coco(found, 11)


def test_score_cuts(photos, data, row):
    high = evaluate(photos / "frozen_inference_graph.pb", data, "reference", "fp32", score=0.9)
    assert high.classes.how == "id"
    assert high.score == 0.9
    assert high.results == [one for one in row.results if one["score"] > 0.9]


def test_a_broken_picture_is_in_no_number(photos, data, row, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes((photos / "pictures" / "a.png").read_bytes()[:3000])
    first = data.pictures[0]
    more = replace(data, pictures=(replace(first, path=broken), *data.pictures[1:]))
    worse = evaluate(photos / "frozen_inference_graph.pb", more, "reference", "fp32")
    assert "damaged" in worse.broken.pop(10)
    assert worse.broken == {}
    expected = judge(data, [one for one in row.results if one["image_id"] != 10], {10})
    assert worse.judgement.numbers == pytest.approx(expected.numbers, nan_ok=True)
    alone = replace(data, pictures=more.pictures[:1])
    with pytest.raises(SourceError, match="none of the 1 pictures can be read"):
        evaluate(photos / "frozen_inference_graph.pb", alone, "reference", "fp32")


def test_a_picture_of_another_size_is_refused(photos, data):
    first = data.pictures[0]
    other = replace(data, pictures=(Picture(first.id, first.path, (640, 480)), *data.pictures[1:]))
    with pytest.raises(SourceError, match="is 480x360, but its annotations are for 640x480"):
        evaluate(photos / "frozen_inference_graph.pb", other, "reference", "fp32")


def test_a_model_of_other_classes_is_refused(photos, coco, write_coco):
    content = copy.deepcopy(coco)
    for category in content["categories"]:
        category["name"] += "ish"
    other = read_data_set(write_coco(content), photos / "pictures")
    with pytest.raises(LabelError, match="none of the annotated classes"):
        evaluate(photos / "frozen_inference_graph.pb", other, "reference", "fp32", labels=photos / "names.txt")


def made_of(data, rows, precision, left_out=()):
    return Row("null", precision, 0.0, 1.0, None, rows, {}, judge(data, rows, left_out))


def test_drop_from_the_reference(drawn_by_lot):
    data, rows = drawn_by_lot
    exact, same = made_of(data, rows, "fp32"), made_of(data, rows, "bf16")
    moved = [{**one, "bbox": [one["bbox"][0] + 0.2 * one["bbox"][2], *one["bbox"][1:]]} for one in rows]
    worse = made_of(data, moved, "int8")
    assert reference_row([worse, exact]) is exact
    costs = drops([exact, same, worse])
    assert list(costs) == ["null bf16", "null int8"]
    assert {(one.value, one.low, one.high) for one in costs["null bf16"].values()} == {(0, 0, 0)}
    drop = costs["null int8"]["AP"]
    assert drop.value == exact.judgement.numbers["AP"] - worse.judgement.numbers["AP"]
    assert 0 < drop.low < drop.value < drop.high
    assert drops([exact, same, worse]) == costs


def test_no_drop_without_a_reference_or_another(drawn_by_lot):
    one = made_of(*drawn_by_lot, "bf16")
    assert reference_row([one]) is None
    assert drops([one, one]) == {}
    assert drops([made_of(*drawn_by_lot, "fp32")]) == {}


def test_rows_of_other_pictures_are_not_compared(drawn_by_lot):
    data, rows = drawn_by_lot
    with pytest.raises(SourceError, match="pictures changed"):
        drops([made_of(data, rows, "fp32"), made_of(data, rows, "bf16", {data.pictures[3].id})])
