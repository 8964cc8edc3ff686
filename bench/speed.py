"""Speed on the processor: every comparison interleaved in one run, medians, ratios.

    python bench/speed.py GRAPH.pb PHOTO_FOLDER [--tensorflow PYTHON] [--rounds 7] [--json FILE]

PYTHON is an interpreter that has tensorflow; without it the comparison with TensorFlow is left out. Needs openvino,
onnxruntime and opencv-python-headless. Times are milliseconds of wall clock unless a name says otherwise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import openvino

from ssdrt.cli.machine import processor
from ssdrt.detector import Detector, available_processors
from ssdrt.engines.base import engine_module
from ssdrt.graph import read_graph
from ssdrt.model import Fact
from ssdrt.network.export import build_onnx
from ssdrt.pipeline import graph_parameters
from ssdrt.postprocess import decode_boxes, non_max_suppression
from ssdrt.preprocess import to_network
from ssdrt.recover import recover
from ssdrt.sources import open_source
from ssdrt.sources.photo import read_photo

TF_WORKER = """
import os, sys, time
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
import numpy as np, tensorflow.compat.v1 as tf
graph = tf.GraphDef(); graph.ParseFromString(open(sys.argv[1], "rb").read())
with tf.Graph().as_default() as g: tf.import_graph_def(graph, name="")
session = tf.Session(graph=g); image = np.load(sys.argv[2])
fetch = [n + ":0" for n in ("detection_boxes", "detection_scores", "detection_classes", "num_detections")]
print("ready", flush=True)
for line in sys.stdin:
    start = time.perf_counter(); session.run(fetch, {"image_tensor:0": image[None]})
    print(time.perf_counter() - start, flush=True)
"""


def seconds(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(calls: dict[str, Callable[[], object]], rounds: int, block: int = 1) -> dict[str, float]:
    """Median seconds of each call, `block` of each in turn; the first of a turn, with cold caches, is not counted."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            samples[name] += [seconds(call) for _ in range(block)]
    return {name: statistics.median(values) for name, values in samples.items()}


def networks(model, rounds: int) -> dict[str, float]:
    """The network alone: inside our engine against a bare request loop on the same ONNX, fp32 and bf16."""
    module = engine_module("openvino")
    onnx = build_onnx(model, pixels="float32", tail="scores", batch=1)
    pixels = np.random.default_rng(0).uniform(0, 255, (1, *model.input_size, 3)).astype(np.float32)
    calls: dict[str, Callable[[], object]] = {}
    for precision in module.precisions():
        hint = {"fp32": "f32", "bf16": "bf16"}[precision]
        options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        core = openvino.Core()
        bare = core.compile_model(core.read_model(onnx), "CPU", options).create_infer_request()
        ours = module.load(model, module.build(model, precision), precision, 1)
        calls[f"bare {precision}"] = lambda r=bare: r.infer({0: pixels}, share_inputs=True, share_outputs=True)
        calls[f"ours {precision}"] = lambda e=ours: e.infer(pixels)
    return interleaved(calls, rounds * 20)


def parts(model, photos: list[Path], precision: str, workers: int) -> dict[str, float]:
    """Seconds a photo of each part: decode, resize, post on one core; the network on all of them."""
    module = engine_module("openvino")
    engine = module.load(model, module.build(model, precision), precision, workers)
    resizer = model.preprocessing.resizer.value
    images = [read_photo(p) for p in photos]
    pixels = [to_network(i, resizer)[None] for i in images]
    heads = [engine.infer(p) for p in pixels]
    parameters = replace(graph_parameters(model), score_threshold=0.3)

    def post(encodings, scores):
        boxes = decode_boxes(encodings[0], model.anchors.value, model.box_coder.scales.value)
        non_max_suppression(boxes, scores[0], parameters, (0.0, 0.0, 1.0, 1.0))

    with ThreadPoolExecutor(workers) as pool:
        result = {
            "decode": seconds(lambda: [read_photo(p) for p in photos]),
            "resize": seconds(lambda: [to_network(i, resizer) for i in images]),
            "network": seconds(lambda: list(pool.map(engine.infer, pixels))),
            "post": seconds(lambda: [post(*h) for h in heads]),
        }
    engine.close()
    return {name: value / len(photos) for name, value in result.items()}


def naive_pipeline(model, photos: list[Path]) -> Callable[[], object]:
    """What people write: cv2.imread, cv2.resize, numpy normalisation, ONNX Runtime, numpy NMS at 0.3."""
    bare = replace(model, preprocessing=replace(model.preprocessing, normalisation=Fact((), "")))
    session = onnxruntime.InferenceSession(build_onnx(bare, pixels="float32", tail="scores", batch=1))
    height, width = model.input_size

    def run():
        for path in photos:
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            pixels = cv2.resize(image, (width, height)).astype(np.float32) * np.float32(2 / 255) - np.float32(1)
            encodings, scores = session.run(None, {"image": pixels[None]})
            boxes = decode_boxes(encodings[0], model.anchors.value, model.box_coder.scales.value)
            for column in range(scores.shape[2]):
                naive_nms(boxes, scores[0, :, column])

    return run


def naive_nms(boxes, scores, threshold=0.3, iou=0.6):
    """One class, a box at a time."""
    keep, order = [], np.argsort(-scores)
    order = order[scores[order] > threshold]
    while len(order):
        best, order = order[0], order[1:]
        keep.append(best)
        sides = np.minimum(boxes[best, 2:], boxes[order, 2:]) - np.maximum(boxes[best, :2], boxes[order, :2])
        shared = np.clip(sides, 0, None).prod(1)
        areas = (boxes[order, 2:] - boxes[order, :2]).prod(1) + (boxes[best, 2:] - boxes[best, :2]).prod()
        order = order[shared <= iou * (areas - shared)]
    return keep


def folder(graph: str, model, photos: list[Path], rounds: int) -> dict[str, object]:
    """A folder of JPEGs to detections: ours in each precision, the naive pipeline, and what the parts allow."""
    workers = available_processors()
    calls: dict[str, Callable[[], object]] = {"naive": naive_pipeline(model, photos)}
    measured: dict[str, list[dict[str, float]]] = {}
    for precision in engine_module("openvino").precisions():
        detector = Detector.open(graph, engine="openvino", precision=precision)
        names = [str(p) for p in photos]
        calls[precision] = lambda d=detector, n=names: [o.found for o in d.detect_items(open_source(*n).items)]
        measured[precision] = []
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):  # the first warms up
        for name, call in calls.items():
            took = seconds(call) / len(photos)
            alone = parts(model, photos, name, workers) if name in measured else {}
            if turn:
                samples[name].append(took)
                measured.get(name, []).append(alone)
    rate = {name: 1 / statistics.median(values) for name, values in samples.items()}
    result: dict[str, object] = {"workers": workers, "photos": len(photos), "images_per_s": rate}
    for precision, rows in measured.items():
        part = {key: statistics.median(r[key] for r in rows) for key in rows[0]}
        allowed = 1 / ((part["decode"] + part["resize"] + part["post"]) / workers + part["network"])
        shares = [
            ((r["decode"] + r["resize"] + r["post"]) / workers + r["network"]) / s
            for s, r in zip(samples[precision], rows, strict=True)
        ]
        result[precision] = {
            "parts_ms": {key: value * 1e3 for key, value in part.items()},
            "allowed_images_per_s": allowed,
            "share_of_allowed": statistics.median(shares),
            "over_naive": statistics.median(n / s for n, s in zip(samples["naive"], samples[precision], strict=True)),
        }
    return result


def one_photo(graph: str, photo: Path, tensorflow: str | None, rounds: int) -> dict[str, float]:
    """One decoded photo to detections: ours fp32, TensorFlow on the .pb, OpenVINO's own reader on the .pb."""
    image = read_photo(photo)
    detector = Detector.open(graph, engine="openvino", precision="fp32")
    calls: dict[str, Callable[[], object]] = {"ours fp32": lambda: detector.detect(image, score_threshold=1e-8)}
    if tensorflow:
        saved = Path(tempfile.mkdtemp()) / "photo.npy"
        np.save(saved, image)
        worker = subprocess.Popen(
            [tensorflow, "-c", TF_WORKER, graph, str(saved)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        assert worker.stdout.readline().strip() == "ready"

        def ask():
            worker.stdin.write("go\n")
            worker.stdin.flush()
            worker.stdout.readline()

        calls["tensorflow"] = ask
    core = openvino.Core()
    network = core.read_model(graph)
    network.reshape([1, *image.shape])
    request = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    calls["openvino reading the .pb"] = lambda: request.infer({0: image[None]})
    times = interleaved(calls, rounds, block=5)
    return {f"{name}_ms": value * 1e3 for name, value in times.items()} | {
        f"ours_over_{name}": value / times["ours fp32"] for name, value in times.items() if name != "ours fp32"
    }


USAGE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime)
"""


def start_up(graph: str, photo: Path, rounds: int) -> dict[str, float]:
    """CPU seconds of the whole process `ssdrt detect` on one photo, its own work included, with a warm cache."""
    command = [sys.executable, "-m", "ssdrt", "detect", graph, str(photo), "--precision", "fp32"]
    runs = [float(subprocess.check_output([sys.executable, "-c", USAGE, *command])) for _ in range(rounds + 1)]
    return {"cpu_s": statistics.median(runs[1:])}


def main() -> None:
    """Run everything and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--tensorflow")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path("bench/results/speed.json"))
    args = parser.parse_args()
    photos = sorted(args.photos.glob("*.jpg"))[:100]
    model = recover(read_graph(args.graph))
    network = networks(model, args.rounds)
    precisions = engine_module("openvino").precisions()
    result = {
        "command": f"python bench/speed.py {Path(args.graph).name} {args.photos.name}",
        "cpu": processor(),
        "graph": Path(args.graph).name,
        "versions": {"openvino": openvino.__version__, "onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
        "network_ms": {name: value * 1e3 for name, value in network.items()},
        "network_ours_over_bare": {p: network[f"ours {p}"] / network[f"bare {p}"] for p in precisions},
        "network_bf16_over_fp32": network["bare fp32"] / network["bare bf16"] if "bare bf16" in network else None,
        "folder": folder(args.graph, model, photos, args.rounds),
        "one_photo": one_photo(args.graph, photos[0], args.tensorflow, args.rounds),
        "start_up": start_up(args.graph, photos[0], args.rounds),
    }  # fmt: skip
    text = json.dumps(result, indent=1)
    print(text)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
