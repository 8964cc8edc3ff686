"""Frames of several cameras detected in by one call, against one after the other.

    python bench/batch.py MODEL [--engine auto] [--cameras 2 4 8] [--out RESULT.json]

The two take turns on the same drawn frames of 1280 x 720; medians of frames a second, and whether the detections are
equal: to the last bit, or how far boxes (pixels) and scores are apart at most.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from ssdrt.detector import Detector
from ssdrt.sources.scene import draw_scene


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--cameras", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out")
    args = parser.parse_args()
    rows = []
    with Detector.open(args.model, args.engine, "fp32") as detector:
        for cameras in args.cameras:
            frames = [draw_scene(97 * index, 1280, 720) for index in range(cameras)]
            alone, together = (
                [detector.detect(frame, score_threshold=0.01) for frame in frames],
                detector.detect_batch(frames, score_threshold=0.01),
            )
            boxes = scores = 0.0
            for one, other in zip(alone, together, strict=True):
                assert one.class_ids.tolist() == other.class_ids.tolist()
                boxes = max(boxes, float(np.abs(one.boxes_xyxy - other.boxes_xyxy).max(initial=0)))
                scores = max(scores, float(np.abs(one.scores - other.scores).max(initial=0)))
            times: dict[str, list[float]] = {"in turn": [], "one call": []}
            for _ in range(args.rounds):
                begin = time.perf_counter()
                for frame in frames:
                    detector.detect(frame)
                between = time.perf_counter()
                detector.detect_batch(frames)
                times["in turn"].append(between - begin)
                times["one call"].append(time.perf_counter() - between)
            medians = {name: statistics.median(of) for name, of in times.items()}
            rows.append({
                "cameras": cameras, "frames/s": {name: round(cameras / of, 1) for name, of in medians.items()},
                "gain": round(medians["in turn"] / medians["one call"], 3),
                "largest difference": {"boxes (px)": boxes, "scores": scores},
            })  # fmt: skip
        result = {
            "command": "python " + " ".join([sys.argv[0], Path(args.model).name, *sys.argv[2:]]),
            "processors": os.cpu_count(), "load": os.getloadavg(), "engine": detector.engine, "rows": rows,
        }  # fmt: skip
    print(json.dumps(result, indent=1))
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
