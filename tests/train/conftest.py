"""A data set to train on: the demo's picture, twice, and a picture without objects; and the demo's graph."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from build import demo_file
from ssdrt.demo import SHAPES, demo_picture

COLOURS = ("red", "green", "blue")


def annotations():
    """COCO annotations of the demo's picture under two names."""
    height, width = demo_picture().shape[:2]
    boxes = []
    for image in (1, 2):
        for shape in SHAPES:
            x0, y0, x1, y1 = map(float, shape.box_xyxy)
            category = COLOURS.index(shape.colour) + 1
            boxes.append({"image_id": image, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": width, "height": height} for n in (1, 2, 3)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(COLOURS, 1)],
        "annotations": [{"id": n, **one} for n, one in enumerate(boxes, 1)],
    }


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """What `place` is a copy of."""
    folder = tmp_path_factory.mktemp("train")
    (folder / "pictures").mkdir()
    for name in ("1.png", "2.png"):
        Image.fromarray(demo_picture()).save(folder / "pictures" / name, compress_level=1)
    Image.fromarray(np.full(demo_picture().shape, 128, np.uint8)).save(folder / "pictures" / "3.png")
    (folder / "data.json").write_text(json.dumps(annotations()))
    demo_file(folder).rename(folder / "demo.pb")
    (folder / "demo.labels.txt").write_text("\n".join(COLOURS))
    return folder


@pytest.fixture
def place(tmp_path, prepared, monkeypatch):
    """The current folder, with data.json, pictures/, and demo.pb beside the names of its classes."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
