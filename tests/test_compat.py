"""The loop of the demo that `TrtSSD` stands in for runs with one changed import."""

import numpy as np
import pytest

from build import demo_file
from ssdrt.compat import TrtSSD, find_model
from ssdrt.demo import demo_picture
from ssdrt.demo.picture import SHAPES
from ssdrt.errors import SsdrtError, ZooError

NAMES = ("red", "green", "blue")


class Camera:
    """Three frames, then none, BGR as OpenCV reads them."""

    def __init__(self):
        self.frames = 3

    def read(self):
        self.frames -= 1
        return demo_picture()[:, :, ::-1].copy() if self.frames >= 0 else None


def draw(cv2, img, boxes, confs, clss):
    """As the demo's BBoxVisualization: plain numbers go into OpenCV's calls."""
    for box, conf, cls in zip(boxes, confs, clss, strict=True):
        x_min, y_min, x_max, y_max = box[0], box[1], box[2], box[3]
        cv2.rectangle(img, (x_min, y_min), (x_max, y_max), (0, 255, 255), 2)
        cv2.putText(img, f"{NAMES[int(cls) - 1]} {conf:.2f}", (x_min, y_min), cv2.FONT_HERSHEY_PLAIN, 1.0, (0, 0, 0))
    return img


@pytest.mark.parametrize("typed", ["frozen_inference_graph.pb", "frozen_inference_graph"])
def test_the_demos_loop_runs(typed, tmp_path, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    demo_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    trt_ssd, cam, seen = TrtSSD(typed, None, cuda_ctx=object()), Camera(), []
    while True:
        img = cam.read()
        if img is None:
            break
        boxes, confs, clss = trt_ssd.detect(img, 0.3)
        img = draw(cv2, img, boxes, confs, clss)
        seen.append((boxes, confs, clss))
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
    boxes, confs, clss = seen[0]
    assert len(boxes) == len(SHAPES)
    assert {NAMES[cls - 1] for cls in clss} == {shape.colour for shape in SHAPES}
    assert all(type(number) is int for box in boxes for number in (*box, *clss))
    assert all(type(conf) is float for conf in confs)
    best = min(np.abs(np.array(box) - SHAPES[0].box_xyxy).max() for box in boxes)
    assert best < 8  # pixels, of a disc 150 across


def test_the_networks_size_may_be_said_and_must_be_right(tmp_path):
    path = demo_file(tmp_path)
    height, width = TrtSSD(path)._detector.model.input_size
    TrtSSD(path, (height, width))
    with pytest.raises(SsdrtError, match=rf"takes {height}x{width} .*not \(1, 2\)"):
        TrtSSD(path, (1, 2))


def test_names_of_the_demo_are_those_of_the_zoo(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path))
    folder = tmp_path / "zoo" / "ssd_mobilenet_v2_coco_2018_03_29"
    folder.mkdir(parents=True)
    path = demo_file(folder)
    assert find_model("ssd_mobilenet_v2_coco") == path
    with pytest.raises(ZooError, match="egohands"):
        find_model("ssd_mobilenet_v1_egohands")
