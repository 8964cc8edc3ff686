"""What TensorFlow itself found, recorded: graphs of every vintage that lie beside the project, where they do.

Skipped where the folder `shared` is not beside the checkout.
"""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssdrt.detector import Detector
from ssdrt.engines.base import engine_module
from ssdrt.graph import read_graph
from ssdrt.recover import recover
from ssdrt.sources.photo import read_photo

SHARED = Path(__file__).parents[2] / "shared"
MODELS = SHARED / "models"
pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="no recorded detections: ../shared is not there")

REAL = {"reference": (0.1, 1e-4, 1.0), "openvino": (1.0, 2e-3, 1.0), "onnxruntime": (1.0, 2e-3, 1.0)}
SEEDED = (2.0, 6e-3, 0.99)
"""Largest distance of a corner in pixels and of a score, and the share of detections that must have a counterpart.
Graphs with random weights amplify rounding, and near-equal scores swap in the NMS."""

SMALL = 30_000_000  # bytes of graphs; larger ones take too long for every run
LEFT_OUT = ("ssd_mobilenet_v2_90_od2019", "ssd_mobilenet_v1_90_od2020", "ssdlite_mobilenet_v2_90_od2019")  # like others


def _entries():
    if not MODELS.is_dir():
        return []
    entries = json.loads((MODELS / "graphs.json").read_text())
    return [entry for entry in entries if entry["bytes"] < SMALL and entry["name"] not in LEFT_OUT]


@pytest.fixture(scope="session")
def graphs(tmp_path_factory):
    """Folder of the unpacked graphs."""
    folder = tmp_path_factory.mktemp("graphs")
    names = [entry["name"] for entry in _entries()]
    subprocess.run([sys.executable, str(MODELS / "unpack.py"), str(folder), *names], check=True, capture_output=True)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path))


@pytest.mark.parametrize("entry", _entries(), ids=lambda entry: entry["name"])
def test_anchors_are_tensorflows(entry, graphs):
    recorded = np.load(MODELS / entry["golden"])
    if "anchors" not in recorded:
        pytest.skip("no anchors were recorded")
    meta = json.loads(str(recorded["meta"]))
    photo = read_photo(MODELS / entry["photos"] / f"{meta['raw_photo']}.png")
    model = recover(read_graph(graphs / f"{entry['name']}.pb"), photo.shape[:2])
    np.testing.assert_allclose(model.anchors.value, recorded["anchors"].reshape(-1, 4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("engine", REAL)
@pytest.mark.parametrize("entry", _entries(), ids=lambda entry: entry["name"])
def test_detections_are_tensorflows(entry, engine, graphs):
    if engine_module(engine).unavailable():
        pytest.skip(engine_module(engine).unavailable())
    recorded = np.load(MODELS / entry["golden"])
    pixels, score, share = SEEDED if entry["weights"] == "seeded" else REAL[engine]
    matched = total = 0
    with Detector.open(graphs / f"{entry['name']}.pb", engine, "fp32") as detector:
        for photo in sorted({key.split("/")[0] for key in recorded.files if "/" in key}):
            found = detector.detect(read_photo(MODELS / entry["photos"] / f"{photo}.png"), score_threshold=0.03)
            for box, value, class_id in _recorded(recorded, photo, found.width, found.height):
                near = np.abs(found.boxes_xyxy - box).max(axis=1) <= pixels
                near &= (np.abs(found.scores - value) <= score) & (found.class_ids == class_id)
                matched, total = matched + bool(near.any()), total + 1
    assert total > 0
    assert matched >= share * total


def _recorded(recorded, photo, width, height):
    """(xyxy in pixels, score, class id) of each of TensorFlow's detections with a score of at least 0.05."""
    count = int(recorded[f"{photo}/num_detections"])
    boxes = recorded[f"{photo}/detection_boxes"][:count][:, [1, 0, 3, 2]] * [width, height, width, height]
    scores, classes = (recorded[f"{photo}/detection_{name}"][:count] for name in ("scores", "classes"))
    return [row for row in zip(boxes, scores, classes.astype(int), strict=True) if row[1] >= 0.05]


def test_map_on_coco_pictures_is_tensorflows(graphs):
    pytest.importorskip("openvino")
    pytest.importorskip("pycocotools")
    from ssdrt.evaluate import read_data_set
    from ssdrt.evaluate.judge import judge
    from ssdrt.evaluate.row import evaluate

    folder = SHARED / "data" / "coco_val"
    data = read_data_set(folder / "instances.json", folder / "images")
    rows = json.loads(gzip.decompress((MODELS / "goldens" / "coco_val_tensorflow.json.gz").read_bytes()))
    model = graphs / "coco_ssd_mobilenet_v1_075_od2020.pb"
    ours = evaluate(model, data, "openvino", "fp32").judgement.numbers
    theirs = judge(data, rows).numbers
    assert ours.keys() == theirs.keys()
    assert max(abs(ours[name] - theirs[name]) for name in ours) < 0.001
