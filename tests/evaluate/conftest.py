"""Labelled pictures: the demo's in four positions, and boxes drawn by lot."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from build import demo_file
from ssdrt.demo import SHAPES, demo_picture
from ssdrt.evaluate.data_set import Annotation, DataSet, Picture

NAMES = {1: "red", 2: "green", 3: "blue"}
IDS = {name: number for number, name in NAMES.items()}


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of the demo's graph, the names of its classes, and pictures/ with a.png (the demo's picture), b.png (its
    mirror image), c.png (upside down) and grey.png, in which there is nothing."""
    folder = tmp_path_factory.mktemp("evaluate")
    demo_file(folder)
    (folder / "names.txt").write_text("red\ngreen\nblue\n")
    (folder / "pictures").mkdir()
    drawn = demo_picture()
    grey = np.full((60, 80, 3), 127, np.uint8)
    for name, image in (("a", drawn), ("b", drawn[:, ::-1]), ("c", drawn[::-1]), ("grey", grey)):
        Image.fromarray(image).save(folder / "pictures" / f"{name}.png", compress_level=1)
    return folder


@pytest.fixture(scope="session")
def coco():
    """The content of a COCO file for the pictures; the last box of c.png is a crowd."""
    height, width = demo_picture().shape[:2]
    images = [{"id": 10 + n, "file_name": f"{s}.png", "width": width, "height": height} for n, s in enumerate("abc")]
    images.append({"id": 13, "file_name": "grey.png", "width": 80, "height": 60})
    boxes = []
    for shape in SHAPES:
        x0, y0, x1, y1 = shape.box_xyxy
        places = (x0, y0), (width - x1, y0), (x0, height - y1)
        boxes += [
            {"image_id": 10 + n, "category_id": IDS[shape.colour], "bbox": [x, y, x1 - x0, y1 - y0]}
            for n, (x, y) in enumerate(places)
        ]
    rows = [{**box, "id": n, "area": box["bbox"][2] * box["bbox"][3]} for n, box in enumerate(boxes, 1)]
    rows[-1]["iscrowd"] = 1
    return {"images": images, "categories": [{"id": i, "name": n} for i, n in NAMES.items()], "annotations": rows}


@pytest.fixture
def write_coco(tmp_path):
    """Write a COCO file and return its path."""

    def write(content):
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, photos):
    monkeypatch.setenv("SSDRT_HOME", str(photos / "cache"))


@pytest.fixture(scope="session")
def drawn_by_lot():
    """30 pictures of boxes, some of them crowds, and COCO rows that lie near most of them, with others."""
    lots = np.random.default_rng(7)
    annotations, rows = [], []
    pictures = tuple(Picture(100 + 3 * number, Path(f"{number}.jpg"), (640, 480)) for number in range(30))
    for picture in pictures:
        for _ in range(lots.integers(0, 7)):
            box = (*lots.uniform(0, 400, 2), *lots.uniform(8, 200, 2))
            category = int(lots.integers(1, 5))
            annotations.append(Annotation(picture.id, category, box, box[2] * box[3], lots.random() < 0.1, ""))
            for _ in range(lots.integers(0, 3)):
                near = np.array(box) + lots.normal(0, 0.06, 4) * (box[2], box[3], box[2], box[3])
                rows.append(result(picture.id, category, near, lots.uniform(0.2, 1)))
        for _ in range(lots.integers(0, 12)):
            box = (*lots.uniform(0, 400, 2), *lots.uniform(8, 200, 2))
            rows.append(result(picture.id, int(lots.integers(1, 5)), box, lots.uniform(0, 0.8)))
    categories = {1: "one", 2: "two", 3: "three", 4: "four", 9: "in no picture"}
    return DataSet(pictures, categories, tuple(annotations)), rows


def result(image_id, category_id, box_xywh, score):
    """A COCO result row."""
    return {"image_id": image_id, "category_id": category_id, "bbox": list(map(float, box_xywh)), "score": float(score)}
