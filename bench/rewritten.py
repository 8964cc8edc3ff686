"""Graphs that ssdrt wrote, in TensorFlow, OpenVINO's frontend and OpenCV's importer, against TensorFlow's recording.

    python bench/rewritten.py MODELS GRAPHS --tensorflow PYTHON [--openvino NAME ...] [--json FILE]

MODELS has graphs.json, goldens and photos, GRAPHS the .pb files; PYTHON is an interpreter with tensorflow. Each graph
is recovered, written, recovered again and compared; TensorFlow runs what was written, also with weights in float16,
which is compared with ssdrt on the same file, because the weights are rounded. OpenVINO takes a minute a graph, so it
gets those that are named, and one photo each. OpenCV cannot import the exporter's loops over pictures, of any graph;
it gets the layers, as the writer writes them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import fields, is_dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")


def main() -> None:
    """Measure and print; one line a graph."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("graphs", type=Path)
    parser.add_argument("--tensorflow", required=True, metavar="PYTHON")
    parser.add_argument("--openvino", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for entry in json.loads((args.models / "graphs.json").read_text()):
            if (args.graphs / f"{entry['name']}.pb").exists():
                rows.append(_graph(args, entry, Path(folder)))
                print(json.dumps(rows[-1]), flush=True)
    if args.json:
        command = "python bench/rewritten.py MODELS GRAPHS --tensorflow PYTHON --openvino " + " ".join(args.openvino)
        args.json.write_text(json.dumps({"command": command, "graphs": rows}, indent=1) + "\n")


def _graph(args: argparse.Namespace, entry: dict[str, str], folder: Path) -> dict[str, Any]:
    from ssdrt.errors import ModelError
    from ssdrt.export import write_frozen_graph
    from ssdrt.graph import graph_from_bytes, read_graph
    from ssdrt.recover import recover

    row: dict[str, Any] = {"name": entry["name"], "weights": entry["weights"]}
    model = recover(read_graph(args.graphs / f"{entry['name']}.pb"))
    try:
        data = write_frozen_graph(model)
    except ModelError as error:
        return row | {"refused": str(error)}
    row["round trip equal"] = _same(model, recover(graph_from_bytes(data)))
    golden, photos = np.load(args.models / entry["golden"]), args.models / entry["photos"]
    path, half = folder / "float32.pb", folder / "float16.pb"
    path.write_bytes(data)
    half.write_bytes(write_frozen_graph(model, weights="float16"))
    row["MB"] = [round(file.stat().st_size / 1e6, 2) for file in (path, half)]
    recorded = {key: golden[key] for key in golden.files if "/" in key}
    found = _elsewhere(args.tensorflow, "tensorflow", path, photos)
    row["TensorFlow"] = _distance(recorded, found, photos)
    row["TensorFlow, float16"] = _distance(
        _ours(half, photos), _elsewhere(args.tensorflow, "tensorflow", half, photos), photos
    )
    if entry["name"] in args.openvino:
        start = time.perf_counter()
        try:
            found = _elsewhere(sys.executable, "openvino", path, photos)
            row["OpenVINO's frontend"] = _distance(recorded, found, photos)
        except subprocess.CalledProcessError as error:
            row["OpenVINO's frontend"] = {"refused": error.stderr.decode()[-400:]}
        row["OpenVINO's frontend"]["seconds"] = round(time.perf_counter() - start, 1)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # as OpenCV's importer may take its process with it
        try:
            photo = sorted(photos.glob("*.png"))[0]
            row["OpenCV, heads"] = pool.submit(_opencv, model, folder / "layers.pb", photo).result()
        except BrokenProcessPool:
            row["OpenCV, heads"] = {"refused": "the importer crashed"}
    return row


def _same(model: Any, again: Any) -> dict[str, bool]:
    """Facts and layers by name, whatever the nodes they come from."""

    def values(part: Any) -> Any:
        if hasattr(part, "found"):
            part = part.value
        if hasattr(part, "value") and hasattr(part, "node"):
            return values(part.value)
        if isinstance(part, (np.ndarray, np.generic)):
            return str(part.dtype), part.shape, part.tobytes()
        if isinstance(part, tuple):
            return tuple(values(one) for one in part)
        if is_dataclass(part):
            return type(part).__name__, {field.name: values(getattr(part, field.name)) for field in fields(part)}
        return part

    names = [field.name for field in fields(model) if field.name not in ("digest", "layers", "labels", "anchors")]
    anchors = [one.anchors.value for one in (model, again)]
    return {
        "facts": all(values(getattr(model, name)) == values(getattr(again, name)) for name in names),
        "anchors within 1e-5": anchors[0].shape == anchors[1].shape
        and bool(np.abs(anchors[0] - anchors[1]).max() <= 1e-5),
        "layers": {one.name: values(one) for one in model.layers} == {one.name: values(one) for one in again.layers},
    }


def _elsewhere(python: str, library: str, path: Path, photos: Path) -> dict[str, Any]:
    """What a library finds, in a process of its own."""
    out = path.with_suffix(f".{library}.npz")
    subprocess.run([python, __file__, library, str(path), str(photos), str(out)], check=True, capture_output=True)
    with np.load(out) as file:
        return dict(file)


def _run_tensorflow(path: Path, photos: Path, out: Path) -> None:
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", TF_ENABLE_ONEDNN_OPTS="0")
    import tensorflow.compat.v1 as tf

    found = {}
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(tf.GraphDef.FromString(path.read_bytes()), name="")
        for photo in sorted(photos.glob("*.png")):
            values = session.run([f"{name}:0" for name in OUTPUTS], {"image_tensor:0": _pixels(photo)[None]})
            found |= {f"{photo.stem}/{name}": value[0] for name, value in zip(OUTPUTS, values, strict=True)}
    np.savez(out, **found)


def _run_openvino(path: Path, photos: Path, out: Path) -> None:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    photo = photos / "street.png"
    values = compiled(_pixels(photo)[None])
    # Outputs have other names, those of nodes above the identities that TensorFlow's names stand on.
    arrays = list(values.values())
    boxes, count = (next(one for one in arrays if one.ndim == rank) for rank in (3, 1))
    classes, scores = sorted((one for one in arrays if one.ndim == 2), key=lambda one: bool(np.any(one % 1)))
    named = dict(zip(OUTPUTS, (boxes, scores, classes, count), strict=True))
    np.savez(out, **{f"{photo.stem}/{name}": value[0] for name, value in named.items()})


def _ours(path: Path, photos: Path) -> dict[str, Any]:
    """What ssdrt's reference finds, in the graph's outputs."""
    from ssdrt.detector import Detector
    from ssdrt.sources.photo import read_photo

    found: dict[str, Any] = {}
    with Detector.open(path, "reference", "fp32") as detector:
        for photo in sorted(photos.glob("*.png")):
            one = detector.detect(read_photo(photo))
            scale = np.array([one.width, one.height, one.width, one.height], np.float32)
            found[f"{photo.stem}/detection_boxes"] = (one.boxes_xyxy / scale)[:, [1, 0, 3, 2]]
            found[f"{photo.stem}/detection_scores"] = one.scores
            found[f"{photo.stem}/detection_classes"] = one.class_ids
    return found


def _distance(expected: dict[str, Any], found: dict[str, Any], photos: Path) -> dict[str, Any]:
    """How far the detections above 0.05 lie apart, in photos that were run."""
    from ssdrt.compare import difference
    from ssdrt.detections import Detections

    def detections(values: dict[str, Any], photo: str, above: float) -> Detections:
        height, width, _ = _pixels(photos / f"{photo}.png").shape
        scores = values[f"{photo}/detection_scores"]
        keep = scores > above
        scale = np.array([width, height, width, height], np.float32)
        boxes = values[f"{photo}/detection_boxes"][keep][:, [1, 0, 3, 2]] * scale
        ids = values[f"{photo}/detection_classes"][keep].astype(np.int64)
        return Detections(boxes, scores[keep], ids, ids.astype(str), width, height)

    names = sorted({key.split("/")[0] for key in found} & {key.split("/")[0] for key in expected})
    pairs = [(detections(expected, name, 0.05), detections(found, name, 0.0)) for name in names]
    apart = [difference(*pair) for pair in pairs]
    return {
        "photos": len(names),
        "detections": sum(len(pair[0]) for pair in pairs),
        "missing": sum(one.missing for one in apart),
        "pixels": round(max(one.pixels for one in apart), 4),
        "score": float(f"{max(one.score for one in apart):.2g}"),
    }


def _opencv(model: Any, path: Path, photo: Path) -> dict[str, Any]:
    """Largest distance of OpenCV's heads from the reference's, in the size of the largest value."""
    import cv2

    from ssdrt.engines.reference import normalise, run_layer
    from ssdrt.export.builder import GraphBuilder
    from ssdrt.export.layers import write_layers
    from ssdrt.graph.writer import Shape, write_graph
    from ssdrt.model import IMAGE
    from ssdrt.preprocess import to_network

    height, width = model.input_size
    g = GraphBuilder()
    nodes = write_layers(
        g, model, g.op("Placeholder", name="image", dtype="float32", shape=Shape((1, height, width, 3)))
    )
    path.write_bytes(write_graph(g.nodes))
    resizer = replace(model.preprocessing.resizer.value, kind="fixed_shape", height=height, width=width, pad=False)
    image = normalise(to_network(_pixels(photo), resizer)[None], model.preprocessing.normalisation.value)
    values = {IMAGE: image}
    for layer in model.layers:
        values[layer.name] = run_layer(layer, *(values[name] for name in layer.inputs))
    heads = [name for head in model.heads for name in (head.boxes, head.scores)]
    try:
        net = cv2.dnn.readNetFromTensorflow(str(path))
        net.setInput(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
        ends = {name.removesuffix("/Conv2D"): name for name in net.getLayerNames()}  # it joins BiasAdd to Conv2D
        found = net.forward([ends[nodes[name]] for name in heads])
    except cv2.error as error:
        return {"refused": str(error).strip().splitlines()[-1][-200:]}
    if any(one is None for one in found):
        return {"refused": "a head comes out empty"}
    shapes = [(one.transpose(0, 2, 3, 1).shape, values[name].shape) for name, one in zip(heads, found, strict=True)]
    if wrong := [pair for pair in shapes if pair[0] != pair[1]]:
        return {"refused": f"a map of another shape: {wrong[0][0]} instead of {wrong[0][1]}"}
    apart = [
        np.abs(one.transpose(0, 2, 3, 1) - values[name]).max() / np.abs(values[name]).max()
        for name, one in zip(heads, found, strict=True)
    ]
    return {"heads": len(heads), "relative distance": float(f"{max(apart):.2g}")}


def _pixels(photo: Path) -> Any:
    from PIL import Image

    with Image.open(photo) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    if sys.argv[1] in ("tensorflow", "openvino"):
        {"tensorflow": _run_tensorflow, "openvino": _run_openvino}[sys.argv[1]](*map(Path, sys.argv[2:]))
    else:
        main()
