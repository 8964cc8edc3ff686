"""Our tracker beside the ByteTrack of `trackers` (2.6): identity switches, misses and false boxes on known objects.

    ssdrt detect person-hand CLIP.mp4 --classes hand --score 0.1 --json FOUND.jsonl
    pip install trackers; python bench/tracking.py CLIP.txt [--found FOUND.jsonl] [--runs 50] [--result FILE.json]

CLIP.txt: a row a frame at 10 Hz, NAME x0 y0 x1 y1 ... in parts of the picture: the one object of a clip. Its boxes
become detections by a seeded detector: they tremble by 3 % of their size, one in ten is missed, one in five is weak,
and in every other frame there is a false box. FOUND.jsonl: what a real detector finds in the clip. The crowd is
simulated: twelve objects of a class that walk through each other and hide each other. Counted as in CLEAR MOT
(Bernardin and Stiefelhagen, 2008) with an overlap of 0.5: only boxes with a number count; `rows` are objects times
frames.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections
from ssdrt.sinks.jsonl import read_jsonl
from ssdrt.track.assignment import assign
from ssdrt.track.bytetrack import Tracker
from ssdrt.track.motion import overlaps

SIZE = (640, 480)
THRESHOLD = 0.5
Boxes = NDArray[np.float64]
Scene = list[tuple[float, Boxes, Detections]]
"""Time, true boxes (NaN: not there), detections, a frame."""


def detected(boxes: Boxes, seen: NDArray[np.float64], rng: np.random.Generator) -> Detections:
    """What a detector makes of true boxes of which a part is seen."""
    found = []
    for box, part in zip(boxes, seen, strict=True):
        chance = rng.random()
        if np.isnan(box).any() or chance < 0.1 or part < 0.25:
            continue
        weak = chance < 0.3 or part < 0.5
        size = np.tile(box[2:] - box[:2], 2)
        found.append((*(box + rng.normal(0, 0.03, 4) * size), rng.uniform(0.15, 0.5) if weak else rng.uniform(0.55, 1)))
    if rng.random() < 0.5:
        corner = rng.uniform(0, 0.8, 2) * SIZE
        found.append((*corner, *(corner + rng.uniform(30, 120, 2)), rng.uniform(0.1, 0.7)))
    rows = np.array(sorted(found, key=lambda row: -row[4])).reshape(-1, 5)
    count = len(rows)
    return Detections(
        rows[:, :4].astype(np.float32), rows[:, 4].astype(np.float32), np.ones(count, np.int64),
        np.full(count, "object"), *SIZE,
    )  # fmt: skip


def of_clip(truth: Boxes, seed: int) -> Scene:
    """The object of a clip."""
    rng = np.random.default_rng(seed)
    return [(index / 10, box[None], detected(box[None], np.ones(1), rng)) for index, box in enumerate(truth)]


def recorded(truth: Boxes, path: Path) -> Scene:
    """The object of a clip, and what a detector found there."""
    rows = list(read_jsonl(path))
    return [(row.time or 0.0, box[None], row.found) for row, box in zip(rows, truth, strict=True)]


def crowd(rate: float, seed: int) -> Scene:
    """Ten seconds of twelve objects; those farther down hide those behind them."""
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform(0, 1, (12, 2)) * SIZE, rng.normal(0, 70, (12, 2))
    sizes = rng.uniform((30, 60), (70, 140), (12, 2))
    scene = []
    for frame in range(round(10 * rate)):
        place = place + speed / rate + rng.normal(0, 1, (12, 2))
        speed = np.where((place < 0) & (speed < 0) | (place > SIZE) & (speed > 0), -speed, speed)
        boxes = np.concatenate([place - sizes / 2, place + sizes / 2], axis=1)
        scene.append((frame / rate, boxes, detected(boxes, visible(boxes), rng)))
    return scene


def visible(boxes: Boxes) -> NDArray[np.float64]:
    """The part of every box that is not behind the one in front of it that covers most."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    covered = np.maximum(high - low, 0).prod(axis=2) / (boxes[:, None, 2:] - boxes[:, None, :2]).prod(axis=2)
    in_front = boxes[None, :, 3] > boxes[:, None, 3]
    return 1 - np.where(in_front, covered, 0).max(axis=1)


def ours(scene: Scene, _rate: float) -> Iterator[tuple[Boxes, NDArray[np.int64]]]:
    """Boxes and ids a frame."""
    tracker = Tracker()
    for when, _, found in scene:
        ids = tracker.update(found, np.full(len(found), THRESHOLD, np.float32), when)
        yield found.boxes_xyxy[ids > 0].astype(np.float64), ids[ids > 0]


def library(scene: Scene, rate: float, **options: float) -> Iterator[tuple[Boxes, NDArray[np.int64]]]:
    """The same by `trackers`."""
    import supervision
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker(frame_rate=rate, **options)
    for when, _, found in scene:
        given = supervision.Detections(found.boxes_xyxy.copy(), confidence=found.scores, class_id=found.class_ids)
        out = tracker.update(given, timestamp=when)
        ids = np.full(0, -1) if out.tracker_id is None else out.tracker_id
        yield out.xyxy[ids >= 0].astype(np.float64), ids[ids >= 0]


WAYS: dict[str, Callable[[Scene, float], Iterator[tuple[Boxes, NDArray[np.int64]]]]] = {
    "ssdrt": ours,
    "trackers, its defaults": library,
    "trackers, our thresholds": lambda scene, rate: library(
        scene, rate, high_conf_det_threshold=THRESHOLD, track_activation_threshold=THRESHOLD + 0.1
    ),
}


def judge(scene: Scene, tracked: Iterator[tuple[Boxes, NDArray[np.int64]]]) -> NDArray[np.int64]:
    """Rows, switches, misses and false boxes."""
    last: dict[int, int] = {}
    counts = np.zeros(4, np.int64)
    for (_, truth, _), (boxes, ids) in zip(scene, tracked, strict=True):
        there = np.flatnonzero(~np.isnan(truth).any(axis=1))
        costs = 1 - overlaps(truth[there], boxes)
        known = np.array([[last.get(one) == track for track in ids.tolist()] for one in there.tolist()], bool)
        costs = np.where((costs <= 0.5) & known.reshape(costs.shape), costs - 1, costs)  # what was paired stays so
        rows, columns = assign(costs, 0.5)
        pairs = dict(zip(there[rows].tolist(), ids[columns].tolist(), strict=True))
        switches = sum(last.get(one, track) != track for one, track in pairs.items())
        last |= pairs
        counts += (len(there), switches, len(there) - len(pairs), len(ids) - len(pairs))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--found", type=Path)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--result", type=Path)
    args = parser.parse_args()
    truth = np.array([line.split()[1:5] for line in args.clip.read_text().splitlines()], float) * (SIZE * 2)
    scenes: dict[str, tuple[float, Callable[[int], Scene]]] = {
        args.clip.stem: (10, lambda seed: of_clip(truth, seed)),
        "crowd at 30 Hz": (30, lambda seed: crowd(30, seed)),
        "crowd at 10 Hz": (10, lambda seed: crowd(10, seed)),
    }
    runs = {args.clip.stem: args.runs}
    if args.found:
        scenes[f"{args.clip.stem}, {args.found.stem}"] = 10, lambda _: recorded(truth, args.found)
        runs[f"{args.clip.stem}, {args.found.stem}"] = 1
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, (rate, make) in scenes.items():
        results[name] = {}
        for way, track in WAYS.items():
            counts, seconds, frames = np.zeros(4, np.int64), 0.0, 0
            for seed in range(runs.get(name, max(1, args.runs // 5))):
                scene = make(seed)
                begin = time.perf_counter()
                tracked = list(track(scene, rate))
                seconds, frames = seconds + time.perf_counter() - begin, frames + len(scene)
                counts += judge(scene, iter(tracked))
            rows, switches, misses, false = counts.tolist()
            results[name][way] = {
                "rows": rows, "switches": switches, "misses": misses, "false": false,
                "mota": round(1 - (switches + misses + false) / rows, 4),
                "ms_a_frame": round(1e3 * seconds / frames, 2),
            }  # fmt: skip
            print(name, way, results[name][way], flush=True)
    found = f"--found {args.found.name} " if args.found else ""
    report = {
        "command": f"python bench/tracking.py {args.clip.name} {found}--runs {args.runs}",
        "python": platform.python_version(), "numpy": np.__version__,
        "trackers": importlib.metadata.version("trackers"), "results": results,
    }  # fmt: skip
    if args.result:
        args.result.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
