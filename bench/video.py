"""A video to an annotated video: frames and times compared, and the rate beside that of its slowest part alone.

    python bench/video.py MODEL VIDEO... [--engine auto] [--runs 3] [--result FILE.json]

For the first VIDEO, in turns in one process: decoding alone; detection alone, in frames that are in memory, on all
cores; drawing and encoding alone; and all of it, as `ssdrt detect -o` does. Medians of frames a second. Each part alone
has all cores; together they share them, so `shared` says what the sum of their processor times would allow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ssdrt import Detector
from ssdrt.detector import available_processors
from ssdrt.sinks.video import AnnotatedVideo
from ssdrt.sources.base import MAX_PIXELS, Frame
from ssdrt.sources.video import read_video


def measured(work: Callable[[], object], frames: int) -> tuple[float, float]:
    """Frames a second, and processor milliseconds a frame."""
    begin, busy = time.perf_counter(), time.process_time()
    work()
    return frames / (time.perf_counter() - begin), 1e3 * (time.process_time() - busy) / frames


def annotate(detector: Detector, video: Path, out: Path) -> None:
    """What the command does."""
    sink = AnnotatedVideo(str(out))
    for outcome in detector.detect_items(read_video(str(video), MAX_PIXELS)):
        sink.write(outcome.frame, outcome.found)
    sink.close()


def encode(frames: list[Frame], found: list[object], out: Path) -> None:
    """Drawing and encoding of frames that are there."""
    sink = AnnotatedVideo(str(out))
    for pair in zip(frames, found, strict=True):
        sink.write(*pair)
    sink.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("videos", metavar="VIDEO", type=Path, nargs="+")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--result", type=Path)
    args = parser.parse_args()
    kept: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder, Detector.open(args.model, args.engine, "fp32") as detector:
        out = Path(folder) / "out.mp4"
        for video in args.videos:
            annotate(detector, video, out)
            before, after = ([item.time for item in read_video(str(path), MAX_PIXELS)] for path in (video, out))
            error = np.abs(np.array(before) - after).max() if len(before) == len(after) else np.nan
            microseconds = round(float(error) * 1e6, 2)
            kept[video.name] = {"frames": len(before), "written": len(after), "largest time error, us": microseconds}
            print(video.name, kept[video.name], flush=True)
        video = args.videos[0]
        frames = [item.read() for item in read_video(str(video), MAX_PIXELS)][:150]
        images = [frame.image for frame in frames]
        found = list(detector.detect_many(images))
        count = kept[video.name]["frames"]
        parts: dict[str, tuple[Callable[[], object], int]] = {
            "decode": (lambda: [item.read() for item in read_video(str(video), MAX_PIXELS)][:0], count),
            "detect": (lambda: list(detector.detect_many(images)), len(images)),
            "draw and encode": (lambda: encode(frames, found, out), len(frames)),
            "together": (lambda: annotate(detector, video, out), count),
        }
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
        for _ in range(args.runs):
            for name, (work, many) in parts.items():
                runs[name].append(measured(work, many))
    rates = {name: round(statistics.median(rate for rate, _ in all_runs), 1) for name, all_runs in runs.items()}
    busy = {name: round(statistics.median(ms for _, ms in all_runs), 2) for name, all_runs in runs.items()}
    slowest = min(rates[name] for name in list(parts)[:3])
    shared = available_processors() * 1e3 / sum(busy[name] for name in list(parts)[:3])
    report = {
        "command": f"python bench/video.py {Path(args.model).name} {' '.join(path.name for path in args.videos)} "
        f"--engine {args.engine} --runs {args.runs}",
        "processors": available_processors(), "load": round(os.getloadavg()[0], 1), "python": platform.python_version(),
        "engine": detector.engine, "frames a second": rates, "processor ms a frame": busy,
        "together / slowest": round(rates["together"] / slowest, 3), "shared": round(shared, 1),
        "together / min(slowest, shared)": round(rates["together"] / min(slowest, shared), 3), "clips": kept,
    }  # fmt: skip
    print(json.dumps(report, indent=1))
    if args.result:
        args.result.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
