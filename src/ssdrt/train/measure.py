"""How well the network that is being trained detects: COCO's numbers, by the path that `ssdrt eval` takes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ssdrt.adapters import to_coco
from ssdrt.detections import Detections
from ssdrt.evaluate.data_set import DataSet
from ssdrt.evaluate.judge import judge
from ssdrt.pipeline import graph_parameters
from ssdrt.postprocess import convert_scores, decode_boxes, non_max_suppression
from ssdrt.train.network import Weights, run_network

if TYPE_CHECKING:
    from ssdrt.model import SsdModel
    from ssdrt.train.data import Examples

BATCH = 64
LEAST_SCORE = 0.005  # lower ones are left out: they cost most of the time and hardly change AP


def detect_examples(
    model: SsdModel, weights: Weights, examples: Examples, count: int | None = None
) -> list[Detections]:
    """What the network finds in the first pictures, boxes in pixels of the annotations."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda row: _detections(model, *row), _outputs(model, weights, examples, count)))


def measure(
    model: SsdModel, weights: Weights, data: DataSet, examples: Examples, classes: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """AP and AP50 of every class of a data set, and their means under "all"; of one picture loader's `data`.

    Raises
    ------
    MissingExtra: pycocotools is not installed.
    """
    ids = {name: number for number, name in data.categories.items()}
    first = model.label_offset.value
    category = {first + index: ids[name] for index, name in enumerate(classes) if name in ids}
    rows: list[dict[str, Any]] = []
    for picture, found in zip(data.pictures, detect_examples(model, weights, examples), strict=True):
        rows += [
            {**row, "category_id": category[row["category_id"]]}
            for row in to_coco(found, picture.id)
            if row["category_id"] in category
        ]
    judgement = judge(data, rows)
    named = {data.categories[number]: pair for number, pair in judgement.class_ap.items() if not math.isnan(pair[0])}
    return {**named, "all": (judgement.numbers["AP"], judgement.numbers["AP50"])}


def _outputs(
    model: SsdModel, weights: Weights, examples: Examples, count: int | None
) -> Iterator[tuple[Any, Any, tuple[int, int]]]:
    import torch

    sizes = examples.sizes.tolist()
    for start in range(0, len(sizes) if count is None else min(count, len(sizes)), BATCH):
        with torch.no_grad():
            pixels = examples.pictures[start : start + BATCH].float()
            encodings, logits = run_network(model, weights, pixels)
        batch = zip(encodings.cpu().numpy(), logits.cpu().numpy(), sizes[start : start + BATCH], strict=True)
        yield from ((boxes, scores, (width, height)) for boxes, scores, (width, height) in batch)


def _detections(model: SsdModel, encodings: Any, logits: Any, size: tuple[int, int]) -> Detections:
    converter = model.score_converter
    scores = convert_scores(logits, converter.function.value, converter.logit_scale.value, converter.background.value)
    boxes = decode_boxes(encodings, model.anchors.value, model.box_coder.scales.value)
    parameters = replace(graph_parameters(model), score_threshold=LEAST_SCORE)
    boxes, kept, columns = non_max_suppression(boxes, scores, parameters)
    ids = columns.astype(np.int64) + model.label_offset.value
    names = np.array([model.labels.value.name(int(number)) for number in ids], dtype=np.str_)
    scale = np.array([size[0], size[1], size[0], size[1]], np.float32)
    return Detections(boxes[:, [1, 0, 3, 2]] * scale, kept, ids, names, *size)
