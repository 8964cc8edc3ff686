"""A video to an annotated video: its frame rate beside those of its parts alone, in the same run.

    python bench/video_file.py MODEL VIDEO --out bench/results/video_file.json

decoding: every frame read and converted. detection: all frames, from memory, as many at once as the detector takes.
encoding: all frames annotated and written. Each part has the threads that it has in the whole. They take turns, each
round beginning with another one; medians of the rounds.

Detection alone keeps every processor busy, and so what decoding and encoding need beside it must make it slower: no
order of work gives more frames a second than the processors divided by the processor time that a frame costs in all
parts ("the processors allow").
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

from ssdrt.detector import Detector, available_processors
from ssdrt.sinks.video import AnnotatedVideo
from ssdrt.sources import open_source


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("video")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out")
    args = parser.parse_args()
    frames = [item.read() for item in open_source(args.video).items]
    rates: dict[str, list[float]] = {"decoding": [], "detection": [], "encoding": [], "all": []}
    busy: dict[str, list[float]] = {name: [] for name in rates}
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
        whole()  # everything is loaded and warm
        for turn in range(args.rounds):
            names = [*parts][turn % len(parts) :] + [*parts][: turn % len(parts)]
            for name in names:
                begin, used = time.perf_counter(), time.process_time()
                parts[name]()
                busy[name].append((time.process_time() - used) / len(frames))
                rates[name].append(len(frames) / (time.perf_counter() - begin))
        engine = f"{detector.engine} {detector.precision}"
    medians = {name: statistics.median(values) for name, values in rates.items()}
    costs = {name: statistics.median(values) for name, values in busy.items()}
    alone = ("decoding", "detection", "encoding")
    slowest = min(medians[name] for name in alone)
    allowed = available_processors() / sum(costs[name] for name in alone)
    names = [Path(args.model).name, Path(args.video).name]
    result = {
        "command": " ".join(["python", sys.argv[0], *names, *sys.argv[3:]]), "engine": engine,
        "processors": available_processors(), "load": os.getloadavg(), "frames": len(frames),
        "frames/s": {name: round(value, 2) for name, value in medians.items()},
        "processor ms a frame": {name: round(value * 1e3, 2) for name, value in costs.items()},
        "all / slowest part": round(medians["all"] / slowest, 3),
        "the processors allow, frames/s": round(allowed, 2),
        "the processors allow / slowest part": round(min(allowed / slowest, 1.0), 3),
        "all / what both allow": round(medians["all"] / min(slowest, allowed), 3),
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
