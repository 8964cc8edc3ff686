"""COCO numbers of a graph on a labelled folder, beside TensorFlow's recorded detections of the same graph and pictures.

    python bench/accuracy.py GRAPH.pb ANNOTATIONS.json PHOTO_FOLDER [--tensorflow RESULTS.json.gz] [--json FILE]

Every precision of OpenVINO, and ONNX Runtime, at the graph's own score threshold; evaluated by pycocotools.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ssdrt.adapters import to_coco
from ssdrt.cli.machine import processor
from ssdrt.detector import Detector
from ssdrt.engines.base import engine_module
from ssdrt.sources import open_source

NAMES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")


def detect(graph: str, folder: Path, ids: dict[str, int], engine: str, precision: str) -> list[dict[str, object]]:
    """COCO result rows of every picture of the annotations."""
    paths = [str(folder / name) for name in sorted(ids)]
    rows: list[dict[str, object]] = []
    with Detector.open(graph, engine=engine, precision=precision) as detector:
        threshold = detector.model.nms.score_threshold.value
        for outcome in detector.detect_items(open_source(*paths).items, score_threshold=threshold):
            if outcome.error is not None:
                raise outcome.error
            rows += to_coco(outcome.found, ids[Path(outcome.item.source).name])
    return rows


def evaluate(truth: COCO, rows: list[dict[str, object]]) -> dict[str, float]:
    """The COCO numbers, 0..1."""
    with contextlib.redirect_stdout(io.StringIO()):
        judge = COCOeval(truth, truth.loadRes(rows), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return dict(zip(NAMES, (float(v) for v in judge.stats), strict=False))


def main() -> None:
    """Run everything and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph")
    parser.add_argument("annotations", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--tensorflow", type=Path)
    parser.add_argument("--json", type=Path, default=Path("bench/results/accuracy.json"))
    args = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(args.annotations))
    ids = {Path(image["file_name"]).name: image["id"] for image in truth.dataset["images"]}
    runs = [("openvino", p) for p in engine_module("openvino").precisions()] + [("onnxruntime", "fp32")]
    numbers = {f"{e} {p}": evaluate(truth, detect(args.graph, args.photos, ids, e, p)) for e, p in runs}
    if args.tensorflow:
        numbers["tensorflow fp32"] = evaluate(truth, json.loads(gzip.decompress(args.tensorflow.read_bytes())))
    result = {
        "command": f"python bench/accuracy.py {Path(args.graph).name} {args.annotations.name} {args.photos.name}",
        "cpu": processor(),
        "pictures": len(ids),
        "score_threshold": "the graph's own",
        "numbers": numbers,
    }
    text = json.dumps(result, indent=1)
    print(text)
    args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
