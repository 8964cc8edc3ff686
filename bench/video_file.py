"""A video to an annotated video: its frame rate beside those of its parts alone, in the same run.

    python bench/video_file.py MODEL VIDEO --out bench/results/video_file.json

decoding: every frame read and converted. detection: all frames, from memory, as many at once as the detector takes.
encoding: all frames annotated and written. Each three times, in turn; medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from ssdrt.detector import Detector
from ssdrt.sinks.video import AnnotatedVideo
from ssdrt.sources import open_source


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("video")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out")
    args = parser.parse_args()
    frames = [item.read() for item in open_source(args.video).items]
    rates: dict[str, list[float]] = {"decoding": [], "detection": [], "encoding": [], "all": []}
    with Detector.open(args.model) as detector, tempfile.TemporaryDirectory() as folder:
        found = list(detector.detect_many([frame.image for frame in frames]))

        def encode() -> None:
            video = AnnotatedVideo(f"{folder}/a.mp4")
            for frame, one in zip(frames, found, strict=True):
                video.write(frame, one)
            video.close()

        def whole() -> None:
            video = AnnotatedVideo(f"{folder}/b.mp4")
            for outcome in detector.detect_items(open_source(args.video).items):
                video.write(outcome.frame, outcome.found)
            video.close()

        parts = {
            "decoding": lambda: [item.read() for item in open_source(args.video).items],
            "detection": lambda: list(detector.detect_many([frame.image for frame in frames])),
            "encoding": encode,
            "all": whole,
        }
        for _ in range(args.rounds):
            for name, work in parts.items():
                begin = time.perf_counter()
                work()
                rates[name].append(len(frames) / (time.perf_counter() - begin))
    medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    slowest = min(medians[name] for name in ("decoding", "detection", "encoding"))
    result = {
        "command": "python " + " ".join(sys.argv), "processors": os.cpu_count(), "load": os.getloadavg(),
        "frames": len(frames), "frames/s": medians, "all / slowest part": round(medians["all"] / slowest, 3),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
