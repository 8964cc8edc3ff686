"""Our `.uff` files in NVIDIA's own UFF parser and plugins (TensorRT 8.6 on a GPU), against what TensorFlow recorded.

    python bench/uff_tensorrt.py prepare MODELS GRAPHS SAMPLES FOLDER
                                             converts; MODELS has graphs.json, goldens and photos, SAMPLES has
                                             .uff files and .pbtxt dumps of NVIDIA's converter
    python bench/uff_tensorrt.py run FOLDER OUT.jsonl [NAME ...]
                                             on the GPU: tensorrt, numpy and nothing of ssdrt; a line a case, as it ends
    python bench/uff_tensorrt.py report MODELS OUT.jsonl RESULT.json

`run` starts the very build_engine.py and detect.py that lie beside a `.uff`, one build after the other: builds at once
disturb each other's measurements, and twelve of them made no engine in seven minutes. The tactic sources are those that
work with stand-ins for cuBLAS and without cuDNN.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

CASES = (
    ("coco_ssd_mobilenet_v1_075_od2020", "fp32"),
    ("ssd_mobilenet_v2_90_od2019", "fp32"),
    ("one_ssdlite_mobilenet_v2_od2020", "fp32"),
    ("pets37_ssd_mobilenet_v1_075_od2019", "fp32"),
    ("ssd_mobilenet_v1_90_od2020", "fp32"),
    ("ssd_mobilenet_v1_90_od2017", "fp32"),  # constant anchors, padding
    ("ssd_mobilenet_v2_softmax_240x416_20_od2020", "fp32"),  # constant anchors, softmax
    ("ssdlite_mobilenet_v3_small_320_90_od2020", "fp32"),  # squeeze and excite
    ("coco_ssd_mobilenet_v1_075_od2020", "fp16"),
    ("ssd_mobilenet_v2_90_od2019", "fp16"),
    ("one_ssdlite_mobilenet_v2_od2020", "fp16"),
    ("pets37_ssd_mobilenet_v1_075_od2019", "fp16"),
    ("ssd_mobilenet_v1_90_od2020", "fp16"),
)
PHOTOS = ("street", "cows", "kitchen", "cake_hands")
TACTICS = "CUBLAS,EDGE_MASK_CONVOLUTIONS,JIT_CONVOLUTIONS"
SECONDS = 200
NO_SHAPE = (-1, 28, 28, 1)  # of an Input that does not say; files of 2018


def prepare(models: Path, graphs: Path, samples: Path, folder: Path) -> None:
    """FOLDER/NAME/model.uff and what lies beside it, the photos as .ppm, and genuine files with their inputs."""
    from PIL import Image

    from ssdrt.legacy.convert import convert_to_uff

    for name in {name for name, _ in CASES}:
        (folder / name).mkdir(parents=True, exist_ok=True)
        convert_to_uff(graphs / f"{name}.pb", folder / name / "model.uff")
    for photo in PHOTOS:
        Image.open(models / "photos" / f"{photo}.png").convert("RGB").save(folder / f"{photo}.ppm")
    (folder / "genuine").mkdir(exist_ok=True)
    for path in sorted([*samples.glob("*.uff"), *samples.glob("*.pbtxt")]):
        _prepare_genuine(path, folder / "genuine" / f"{path.stem}.uff")


def _prepare_genuine(path: Path, target: Path) -> None:
    """A genuine file; a dump's weights, which it does not hold, are zeros."""
    from ssdrt.legacy.binary import read_uff, write_uff
    from ssdrt.legacy.uff import Data, skipped_bytes

    uff = read_uff(path)
    sizes = {key: skipped_bytes(data.value) for key, data in uff.referenced_data.items() if data.member == "blob"}
    zeros = {key: Data("blob", bytes(size)) for key, size in sizes.items() if size is not None}
    target.write_bytes(write_uff(replace(uff, referenced_data={**uff.referenced_data, **zeros})))
    inputs = {node.id: node.get("shape") or NO_SHAPE for node in uff.nodes if node.operation == "Input"}
    outputs = [node.id for node in uff.nodes if node.operation == "MarkOutput"]
    target.with_suffix(".json").write_text(json.dumps({"inputs": inputs, "outputs": outputs}))


def run(folder: Path, out: Path, names: list[str]) -> None:
    """Every case, or those of these names; then what the parser says of the genuine files."""
    with open(out, "w", encoding="utf-8") as file:
        for name, precision in CASES:
            if (folder / name).exists() and (not names or name in names):
                print(json.dumps(_case(folder, name, precision)), file=file, flush=True)
        for path in sorted((folder / "genuine").glob("*.uff")):
            print(json.dumps({"genuine": path.stem, **_said(__file__, "parse", path)}), file=file, flush=True)


def parse(path: Path) -> None:
    """Give a genuine file to the parser; prints what it says."""
    import tensorrt as trt

    facts = json.loads(path.with_suffix(".json").read_text())
    logger = trt.Logger(trt.Logger.WARNING)
    trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    network = builder.create_network()
    parser = trt.UffParser()
    for name, shape in facts["inputs"].items():
        nhwc = len(shape) == 4 and shape[1] != 3
        parser.register_input(name, shape[1:], trt.UffInputOrder.NHWC if nhwc else trt.UffInputOrder.NCHW)
    for name in facts["outputs"]:
        parser.register_output(name)
    print(parser.parse(str(path), network), network.num_layers, "layers")


def _case(folder: Path, name: str, precision: str) -> dict[str, object]:
    here = folder / name
    engine = here / f"{precision}.engine"
    (here / f"{precision}.json").write_bytes((here / "model.json").read_bytes())
    start = time.perf_counter()
    flags = ["--fp32"] if precision == "fp32" else []
    build = _said(here / "build_engine.py", here / "model.uff", engine, "--quick", "--tactics", TACTICS, *flags)
    seconds = round(time.perf_counter() - start, 1)
    photos = [folder / f"{photo}.ppm" for photo in PHOTOS]
    detect = _said(here / "detect.py", engine, *photos, "--score", "0") if engine.exists() else {}
    return {"name": name, "precision": precision, "build_seconds": seconds, "build": build, "detect": detect}


def _said(*command: object) -> dict[str, object]:
    words = [sys.executable, *map(str, command)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"status": "timeout"}
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr[-3000:]}


def report(models: Path, out: Path, result: Path) -> None:
    """Every case's largest distance from TensorFlow's detections, of all that were recorded and of those above 0.3."""
    goldens = {entry["name"]: entry["golden"] for entry in json.loads((models / "graphs.json").read_text())}
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    rows = []
    for case in lines:
        if "genuine" in case:
            continue
        row = {key: case[key] for key in ("name", "precision", "build_seconds")}
        said = case["detect"] if case["build"].get("status") == 0 else case["build"]
        if said.get("status") == 0:
            record = np.load(models / goldens[case["name"]])
            row |= {f"above {score}": _distance(models, record, said["out"], score) for score in (0.0, 0.3)}
        else:
            row["failed"] = f"{said.get('status')} {said.get('out', '')[-500:]} {said.get('err', '')[-500:]}"
        rows.append(row)
    genuine = {one["genuine"]: (one.get("out") or one.get("err") or "")[-500:] for one in lines if "genuine" in one}
    content = {"device": "NVIDIA H200, TensorRT 8.6.0", "photos": PHOTOS, "cases": rows, "genuine files": genuine}
    result.write_text(json.dumps(content, indent=1) + "\n")
    print(result.read_text())


def _distance(models: Path, record: object, lines: str, score: float) -> dict[str, object]:
    from ssdrt.compare import EXACT, difference

    pairs = [_pair(models, record, lines, photo, score) for photo in PHOTOS]
    found = [difference(*pair) for pair in pairs]
    return {
        "detections": sum(len(expected) for expected, _ in pairs),
        "missing": sum(one.missing for one in found),
        "pixels": round(max(one.pixels for one in found), 4),
        "score": float(f"{max(one.score for one in found):.2g}"),
        "within 1 px and 0.002": all(one.within(EXACT) for one in found),
    }


def _pair(models: Path, record: object, lines: str, photo: str, score: float) -> tuple[object, object]:
    """(what TensorFlow recorded above a score, what the engine found)."""
    from PIL import Image

    from ssdrt.detections import Detections
    from ssdrt.labels import COCO

    ids = {name: str(class_id) for class_id, name in COCO.names.items()}
    with Image.open(models / "photos" / f"{photo}.png") as image:
        width, height = image.size
    scale = np.array([width, height, width, height], np.float32)
    scores = record[f"{photo}/detection_scores"]
    keep = scores > score
    boxes = record[f"{photo}/detection_boxes"][keep][:, [1, 0, 3, 2]] * scale
    classes = record[f"{photo}/detection_classes"][keep].astype(np.int64)
    rows = [line.split("\t") for line in lines.splitlines() if f"/{photo}.ppm\t" in line]
    labels = np.array([ids.get(row[1], row[1].removeprefix("class ")) for row in rows], np.int64)
    numbers = np.array([row[2:] for row in rows], np.float32).reshape(-1, 5)
    return (
        Detections(boxes, scores[keep], classes, classes.astype(str), width, height),
        Detections(numbers[:, 1:], numbers[:, 0], labels, labels.astype(str), width, height),
    )


if __name__ == "__main__":
    action, *words = sys.argv[1:]
    if action == "run":
        run(Path(words[0]), Path(words[1]), words[2:])
    else:
        {"prepare": prepare, "parse": parse, "report": report}[action](*map(Path, words))
