"""Time of box decoding and NMS for 90 classes x 1917 anchors, at the graphs' own score threshold and at 0.3.

    python bench/postprocess.py [RESULT.json]

The heads are made up, with the statistics of SSD-MobileNet-v1's on COCO photos: there, 115 to 362 candidates are looked
at before 100 boxes are kept, and 19 to 165 scores pass 0.3. The result says how it is here.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from ssdrt.postprocess import NmsParameters, decode_boxes, non_max_suppression

CLASSES = 90
PICTURES = 8
REPEATS = 100
SCALES = (10.0, 10.0, 5.0, 5.0)
GRIDS = {
    19: (0.1, 3),
    10: (0.35, 6),
    5: (0.5, 6),
    3: (0.65, 6),
    2: (0.8, 6),
    1: (0.95, 6),
}  # cells: box size, boxes a cell


def anchors_yxyx() -> np.ndarray:
    """(1917, 4) float32, six grids as SSD-MobileNet has them."""
    boxes = []
    for cells, (size, count) in GRIDS.items():
        y, x, i = (a.ravel() for a in np.indices((cells, cells, count)))
        centres = np.stack((y, x), 1) / cells + 0.5 / cells
        halves = size / 2 * np.array([1, 2**0.5, 0.5**0.5, 3**0.5, 3**-0.5, 1.2])[i, None] ** [[-1, 1]]
        boxes.append(np.concatenate((centres - halves, centres + halves), 1))
    return np.concatenate(boxes).astype(np.float32)


def heads(rng: np.random.Generator, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Box encodings (1917, 4) and scores (1917, 90) of a picture with six objects, seen by the anchors near them."""
    encodings = rng.normal(0, 0.8, (len(anchors), 4))
    logits = rng.normal(-8, 1.0, (len(anchors), CLASSES)) + rng.normal(0, 1.0, CLASSES)
    sizes = anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + sizes / 2
    for _ in range(6):
        centre, size = rng.random(2), rng.uniform(0.1, 0.4, 2)
        distances = (np.abs(centres - centre) / size).max(axis=1) + np.abs(np.log(sizes / size)).max(axis=1) / 2
        near = distances < 0.8
        target = np.concatenate(((centre - centres[near]) / sizes[near] * 10, np.log(size / sizes[near]) * 5), axis=1)
        encodings[near] = target + rng.normal(0, 0.4, target.shape)
        logits[:, rng.choice(CLASSES, 3, replace=False)] += np.exp(-(distances**2))[:, None] * [
            rng.uniform(6, 11),
            5,
            4,
        ]
    return encodings.astype(np.float32), (1 / (1 + np.exp(-logits))).astype(np.float32)


def milliseconds(function, *arguments) -> float:
    """Median over REPEATS calls."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def candidates(scores: np.ndarray, kept: np.ndarray) -> int:
    """How many scores reach the last one kept."""
    return int((scores >= kept[-1]).sum()) if len(kept) else 0


def cpu_name() -> str:
    """As Linux names it, or what Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()


def main(result: Path) -> None:
    """Measure, print, write."""
    rng = np.random.default_rng(0)
    anchors = anchors_yxyx()
    pictures = [heads(rng, anchors) for _ in range(PICTURES)]
    rows: dict[str, object] = {
        "command": "python bench/postprocess.py",
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "shape": [len(anchors), CLASSES],
        "decode_ms": milliseconds(decode_boxes, pictures[0][0], anchors, SCALES),
    }
    for threshold in (1e-8, 0.3):
        parameters = NmsParameters(threshold, iou_threshold=0.6, max_per_class=100, max_total=100)
        times, looked_at = [], []
        for encodings, scores in pictures:
            boxes = decode_boxes(encodings, anchors, SCALES)
            times.append(milliseconds(non_max_suppression, boxes, scores, parameters))
            looked_at.append(candidates(scores, non_max_suppression(boxes, scores, parameters)[1]))
        rows[f"nms_{threshold}"] = {
            "median_ms": statistics.median(times),
            "slowest_picture_ms": max(times),
            "candidates_looked_at": [min(looked_at), max(looked_at)],
            "scores_above": sum(int((scores > threshold).sum()) for _, scores in pictures) // PICTURES,
        }
    text = json.dumps(rows, indent=1)
    print(text)
    result.parent.mkdir(exist_ok=True)
    result.write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "results" / "postprocess.json")
