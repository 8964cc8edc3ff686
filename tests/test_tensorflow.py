"""What TensorFlow itself found, recorded: graphs of every vintage that lie beside the project, where they do.

Skipped where the folder `shared` is not beside the checkout.
"""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from recorded import GRAPHS, MODELS, SHARED, bundle_of, golden_of, graph_bytes, model_of
from ssdrt.detector import Detector
from ssdrt.engines.base import engine_module
from ssdrt.graph import graph_from_bytes
from ssdrt.recover import recover
from ssdrt.sources.photo import read_photo

pytestmark = pytest.mark.skipif(not GRAPHS, reason="no recorded detections: ../shared is not there")

REAL = {"reference": (0.1, 1e-4, 1.0), "openvino": (1.0, 2e-3, 1.0), "onnxruntime": (1.0, 2e-3, 1.0)}
SEEDED = (2.0, 6e-3, 0.99)
"""Largest distance of a corner in pixels and of a score, and the share of detections that must have a counterpart.
Graphs with random weights amplify rounding, and near-equal scores swap in the NMS."""

PHOTOS = {"reference": 2, "openvino": 6, "onnxruntime": 2}
"""Of each graph; the reference takes a second for one."""

SMALL = 30_000_000  # bytes of graphs; larger ones take too long for every run
LEFT_OUT = ("ssd_mobilenet_v2_90_od2019", "ssd_mobilenet_v1_90_od2020", "ssdlite_mobilenet_v2_90_od2019")  # like others
ENTRIES = [entry for entry in GRAPHS if entry["bytes"] < SMALL and entry["name"] not in LEFT_OUT]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_anchors_are_tensorflows(entry):
    golden, _ = golden_of(entry["name"])
    if "anchors" not in golden:
        pytest.skip("no anchors were recorded")
    model = model_of(entry["name"])
    if model.preprocessing.resizer.value.kind != "fixed_shape":  # other photos have other anchors
        photo = json.loads(str(golden["meta"]))["raw_photo"]
        shape = read_photo(MODELS / entry["photos"] / f"{photo}.png").shape[:2]
        model = recover(graph_from_bytes(graph_bytes(entry["name"])), shape)
    np.testing.assert_allclose(model.anchors.value, golden["anchors"].reshape(-1, 4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("engine", REAL)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_detections_are_tensorflows(entry, engine):
    if engine_module(engine).unavailable():
        pytest.skip(engine_module(engine).unavailable())
    golden, photos = golden_of(entry["name"])
    pixels, score, share = SEEDED if entry["weights"] == "seeded" else REAL[engine]
    matched = total = 0
    with Detector.open(bundle_of(entry["name"]), engine, "fp32") as detector:
        for photo in photos[: PHOTOS[engine]]:
            found = detector.detect(read_photo(photo), score_threshold=0.03)
            for box, value, class_id in _recorded(golden, photo.stem, found.width, found.height):
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


def test_map_on_coco_pictures_is_tensorflows(tmp_path):
    """On every fourth picture; on all of them the numbers are those in bench/results/eval_coco_val.json."""
    pytest.importorskip("openvino")
    pytest.importorskip("pycocotools")
    from ssdrt.evaluate import read_data_set
    from ssdrt.evaluate.judge import judge
    from ssdrt.evaluate.row import evaluate

    folder = SHARED / "data" / "coco_val"
    data = read_data_set(folder / "instances.json", folder / "images")
    pictures = data.pictures[::4]
    ids = {picture.id for picture in pictures}
    data = replace(data, pictures=pictures, annotations=tuple(one for one in data.annotations if one.picture in ids))
    rows = json.loads(gzip.decompress((MODELS / "goldens" / "coco_val_tensorflow.json.gz").read_bytes()))
    model = tmp_path / "coco.pb"
    model.write_bytes(graph_bytes("coco_ssd_mobilenet_v1_075_od2020"))
    ours = evaluate(model, data, "openvino", "fp32").judgement.numbers
    theirs = judge(data, [row for row in rows if row["image_id"] in ids]).numbers
    assert ours.keys() == theirs.keys()
    assert max(abs(ours[name] - theirs[name]) for name in ours) < 0.001
