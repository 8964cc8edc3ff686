"""COCO results, YOLO labels, csv tables and crops, as their readers see them."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from ssdrt.errors import SinkError
from ssdrt.sinks import open_sink


def test_coco_rows_and_image_ids(tmp_path, make_frame, found, labels):
    sink = open_sink(str(tmp_path / "results.json"), labels)
    for source in ("val/000000000139.jpg", "cat.jpg", "COCO_val2014_000000000002.jpg", "dog.jpg"):
        sink.write(make_frame(source), found[:1])
    sink.write(make_frame("7.mp4", 0, 0.0), found[:1])
    assert not (tmp_path / "results.json").exists()
    sink.close()
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [row["image_id"] for row in rows] == [139, 1, 2, 3, 4]
    assert rows[0] == {"image_id": 139, "category_id": 1, "bbox": [4.5, 3.25, 16.0, 23.75], "score": 0.9}
    assert not list(tmp_path.glob("*.part"))


def test_coco_of_nothing_is_an_empty_list(tmp_path, make_frame, nothing, labels):
    sink = open_sink(str(tmp_path / "results.json"), labels)
    sink.write(make_frame(), nothing)
    sink.close()
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_coco_refuses_two_pictures_of_one_number(tmp_path, make_frame, found, labels):
    sink = open_sink(str(tmp_path / "results.json"), labels)
    sink.write(make_frame("a/12.jpg"), found)
    with pytest.raises(SinkError, match="image_id 12"):
        sink.write(make_frame("b/012.jpg"), found)


def test_coco_results_are_loaded_by_pycocotools(tmp_path, make_frame, found, labels):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    sink = open_sink(str(tmp_path / "results.json"), labels)
    sink.write(make_frame("5.jpg"), found)
    sink.close()
    truth = coco.COCO()
    truth.dataset = {"info": {}, "images": [{"id": 5}], "categories": [{"id": 1}, {"id": 3}], "annotations": []}
    truth.createIndex()
    assert len(truth.loadRes(str(tmp_path / "results.json")).anns) == 2


def test_yolo_rows_are_normalised_and_count_from_zero(tmp_path, make_frame, found, nothing, labels):
    sink = open_sink(f"yolo:{tmp_path / 'labels'}", labels)
    sink.write(make_frame("a/cat.jpg"), found)
    sink.write(make_frame("b/cat.jpg"), nothing)
    sink.write(make_frame("clip.mp4", 12, 0.5), nothing)
    sink.close()
    files = {path.name: path.read_text() for path in (tmp_path / "labels").iterdir()}
    assert sorted(files) == ["cat.txt", "cat_2.txt", "classes.txt", "clip_000012.txt"]
    assert files["cat.txt"].splitlines() == [
        "0 0.312500 0.504167 0.400000 0.791667 0.900000",
        "2 0.618750 0.666667 0.737500 0.666667 0.300000",
    ]
    assert files["cat_2.txt"] == ""
    assert files["classes.txt"] == "person\nclass 2\ncar\n"


def test_csv_has_a_row_a_detection(tmp_path, make_frame, found, nothing, labels):
    sink = open_sink(str(tmp_path / "out.csv"), labels)
    sink.write(make_frame('odd, "name".jpg'), found)
    sink.write(make_frame("clip.mp4", 3, 0.5), nothing)
    sink.write(make_frame("clip.mp4", 4, 0.75), found[1:])
    sink.close()
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["person", "car", "car"]
    assert rows[0]["source"] == 'odd, "name".jpg'
    assert [float(rows[2][name]) for name in ("time", "x0", "y0", "x1", "y1", "score")] == [0.75, 10, 10, 39.5, 30, 0.3]
    assert (rows[0]["time"], rows[2]["index"], rows[2]["class_id"]) == ("", "4", "3")


def test_crops_are_the_pixels_that_the_box_touches(tmp_path, make_frame, found, labels):
    frame = make_frame("cat.jpg")
    frame.image[:] = np.random.default_rng(0).integers(0, 256, frame.image.shape)
    sink = open_sink(f"crops:{tmp_path}", labels)
    sink.write(frame, found)
    sink.close()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")) == [
        "car/cat_1.png",
        "person/cat_0.png",
    ]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "person" / "cat_0.png")), frame.image[3:27, 4:21])


def test_crops_stay_in_their_folder_whatever_the_label(tmp_path, make_frame, found, labels):
    (tmp_path / "crops").mkdir()
    found.labels[:] = ["../up", "/"]
    sink = open_sink(f"crops:{tmp_path / 'crops'}", labels)
    sink.write(make_frame(), found)
    assert [path.name for path in tmp_path.iterdir()] == ["crops"]
    assert len(list(tmp_path.rglob("*.png"))) == 2


def test_boxes_outside_the_picture_give_no_crop(tmp_path, make_frame, found, labels):
    found.boxes_xyxy[:] = [[50, 5, 60, 9], [-9, -9, -1, -1]]
    sink = open_sink(f"crops:{tmp_path}", labels)
    sink.write(make_frame(), found)
    assert not list(tmp_path.rglob("*.png"))


def test_coco_rows_are_on_disk_before_the_end_and_the_file_is_whole_or_not_there(tmp_path, labels, found, make_frame):
    sink = open_sink(str(tmp_path / "a.json"), labels)
    for index in range(3000):
        sink.write(make_frame("cam", index, 0.1 * index), found)
    assert (tmp_path / "a.json.part").stat().st_size > 100_000
    assert not (tmp_path / "a.json").exists()
    assert len(sink._taken) < 10
    sink.close()
    rows = json.loads((tmp_path / "a.json").read_text())
    assert len(rows) == 3000 * len(found)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
