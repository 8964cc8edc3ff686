"""Our `.uff` files in NVIDIA's own UFF parser and plugins (TensorRT 8.6 on a GPU), against what TensorFlow recorded.

    python bench/uff_tensorrt.py prepare MODELS GRAPHS SAMPLES FOLDER
                                                                converts; MODELS has graphs.json, goldens, photos, and
                                                                SAMPLES .uff files and .pbtxt dumps of NVIDIA's converter
    python bench/uff_tensorrt.py run FOLDER OUT [NAME ...]      on the GPU: tensorrt, numpy and nothing of ssdrt
    python bench/uff_tensorrt.py report MODELS OUT RESULT.json  compares

`run` starts the very build_engine.py and detect.py that lie beside a `.uff`. A machine without cuBLAS and cuDNN needs
stand-ins for what the plugin library links, and the tactic sources below.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

CASES = {
    "coco_ssd_mobilenet_v1_075_od2020": ("fp32", "fp16"),
    "pets37_ssd_mobilenet_v1_075_od2019": ("fp32", "fp16"),
    "one_ssdlite_mobilenet_v2_od2020": ("fp32", "fp16"),
    "ssd_mobilenet_v1_90_od2020": ("fp32", "fp16"),
    "ssd_mobilenet_v2_90_od2019": ("fp32", "fp16"),
    "ssd_mobilenet_v1_90_od2017": ("fp32",),  # constant anchors
    "ssd_mobilenet_v2_softmax_240x416_20_od2020": ("fp32",),  # constant anchors, softmax
    "ssdlite_mobilenet_v3_small_320_90_od2020": ("fp32",),
}
PHOTOS = ("street", "cows", "kitchen", "cake_hands")
TACTICS = "CUBLAS,EDGE_MASK_CONVOLUTIONS,JIT_CONVOLUTIONS"
SECONDS = 200
NO_SHAPE = (-1, 28, 28, 1)  # of an Input that does not say; files of 2018


def prepare(models: Path, graphs: Path, samples: Path, folder: Path) -> None:
    """FOLDER/NAME/model.uff and what lies beside it, the photos as .ppm, and genuine files with their inputs."""
    from PIL import Image

    from ssdrt.legacy.convert import convert_to_uff

    for name in CASES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        convert_to_uff(graphs / f"{name}.pb", folder / name / "model.uff")
    for photo in PHOTOS:
        Image.open(models / "photos" / f"{photo}.png").convert("RGB").save(folder / f"{photo}.ppm")
    (folder / "genuine").mkdir(exist_ok=True)
    for path in sorted([*samples.glob("*.uff"), *samples.glob("*.pbtxt")]):
        _prepare_genuine(path, folder / "genuine" / f"{path.stem}.uff")


def _prepare_genuine(path: Path, target: Path) -> None:
    """A genuine file; a dump's weights, which it does not hold, are zeros."""
    from dataclasses import replace

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
    """OUT/NAME.PRECISION.json: messages, seconds and what was found, case by case.

    Builds at once steal the GPU from each other's measurements: twelve together made none in seven minutes.
    """
    out.mkdir(exist_ok=True)
    jobs = [(name, precision) for name, precisions in CASES.items() for precision in precisions]
    jobs = [job for job in jobs if (folder / job[0]).exists() and (not names or job[0] in names)]
    genuine = {path.stem: _said(__file__, "parse", path) for path in sorted((folder / "genuine").glob("*.uff"))}
    (out / "genuine.json").write_text(json.dumps(genuine))
    for job in jobs:
        _case(folder, out, *job)


def parse(path: Path) -> None:
    """Give a genuine file to the parser; prints what it says."""
    import tensorrt as trt  # noqa: TID251

    facts = json.loads(path.with_suffix(".json").read_text())
    logger = trt.Logger(trt.Logger.WARNING)
    trt.init_libnvinfer_plugins(logger, "")
    network = trt.Builder(logger).create_network()
    parser = trt.UffParser()
    for name, shape in facts["inputs"].items():
        nhwc = len(shape) == 4 and shape[1] != 3
        parser.register_input(name, shape[1:], trt.UffInputOrder.NHWC if nhwc else trt.UffInputOrder.NCHW)
    for name in facts["outputs"]:
        parser.register_output(name)
    print(parser.parse(str(path), network), network.num_layers, "layers")


def _case(folder: Path, out: Path, name: str, precision: str) -> None:
    here = folder / name
    engine = here / f"{precision}.engine"
    (here / f"{precision}.json").write_bytes((here / "model.json").read_bytes())
    start = time.perf_counter()
    flags = ["--fp32"] if precision == "fp32" else []
    build = _said(here / "build_engine.py", here / "model.uff", engine, "--quick", "--tactics", TACTICS, *flags)
    seconds = time.perf_counter() - start
    photos = [folder / f"{photo}.ppm" for photo in PHOTOS]
    detect = _said(here / "detect.py", engine, "--score", "0", *photos) if engine.exists() else {}
    result = {
        "name": name,
        "precision": precision,
        "build_seconds": round(seconds, 1),
        "build": build,
        "detect": detect,
    }
    (out / f"{name}.{precision}.json").write_text(json.dumps(result))


def _said(*command: object) -> dict[str, object]:
    try:
        done = subprocess.run(
            [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"status": "timeout"}
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr[-3000:]}


def report(models: Path, out: Path, result: Path) -> None:
    """Every case's largest distance from TensorFlow's detections above the score 0.001 and 0.3."""
    import numpy as np

    from ssdrt.compare import EXACT, difference

    goldens = {entry["name"]: entry["golden"] for entry in json.loads((models / "graphs.json").read_text())}
    rows = []
    genuine = json.loads((out / "genuine.json").read_text())
    for path in sorted(out.glob("*.fp*.json")):
        case = json.loads(path.read_text())
        row = {key: case[key] for key in ("name", "precision", "build_seconds")}
        row["build"] = (case["build"].get("out") or case["build"].get("err", ""))[-300:].strip()
        golden = np.load(models / goldens[case["name"]])
        lines = case["detect"].get("out", "")
        if case["detect"].get("status") == 0:
            for score in (0.0, 0.3):
                found = [difference(*_pair(golden, lines, photo, score)) for photo in PHOTOS]
                row[f"above_{score}"] = {
                    "detections": sum(len(_pair(golden, lines, photo, score)[0]) for photo in PHOTOS),
                    "missing": sum(one.missing for one in found),
                    "pixels": round(max(one.pixels for one in found), 4),
                    "score": float(f"{max(one.score for one in found):.2g}"),
                    "within_1px_and_0.002": all(one.within(EXACT) for one in found),
                }
        else:
            row["detect"] = case["detect"].get("err", "no engine")[-300:]
        rows.append(row)
    parsed = {name: said.get("out") or said.get("err") for name, said in genuine.items()}
    content = {"device": "NVIDIA H200, TensorRT 8.6.0", "photos": PHOTOS, "cases": rows, "genuine files": parsed}
    result.write_text(json.dumps(content, indent=1) + "\n")
    print(result.read_text())


def _pair(golden: object, lines: str, photo: str, score: float) -> tuple[object, object]:
    """(what TensorFlow recorded above a score, what the engine found)."""
    import numpy as np

    from ssdrt.detections import Detections
    from ssdrt.labels import COCO

    ids = {name: i for i, name in COCO.names.items()}
    scores = golden[f"{photo}/detection_scores"]
    keep = scores > score
    height_width = _size(photo)
    scale = np.array([*height_width[::-1]] * 2, np.float32)
    boxes = golden[f"{photo}/detection_boxes"][keep][:, [1, 0, 3, 2]] * scale
    classes = golden[f"{photo}/detection_classes"][keep].astype(np.int64)
    expected = Detections(boxes, scores[keep], classes, classes.astype(str), *height_width[::-1])
    rows = [line.split("\t") for line in lines.splitlines() if f"/{photo}.ppm\t" in line]
    labels = np.array([int(r[1].split()[1]) if r[1].startswith("class ") else ids[r[1]] for r in rows], np.int64)
    numbers = np.array([r[2:] for r in rows], np.float32).reshape(-1, 5)
    found = Detections(numbers[:, 1:], numbers[:, 0], labels, labels.astype(str), *height_width[::-1])
    return expected, found


def _size(photo: str) -> tuple[int, int]:
    from PIL import Image

    with Image.open(Path(sys.argv[2]) / "photos" / f"{photo}.png") as image:
        return image.height, image.width


if __name__ == "__main__":
    action, *paths = sys.argv[1:]
    if action == "prepare":
        prepare(*map(Path, paths))
    elif action == "parse":
        parse(Path(paths[0]))
    elif action == "run":
        run(Path(paths[0]), Path(paths[1]), paths[2:])
    else:
        report(*map(Path, paths))
