"""COCO's numbers, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import import_extra
from ssdrt.evaluate.data_set import DataSet

Json = dict[str, Any]
Floats = NDArray[np.float64]

NUMBERS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
           "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")  # fmt: skip
"""In pycocotools' order."""


@dataclass(frozen=True)
class Matches:
    """The detections of one category in all pictures, best score first, and what they found.

    picture: (n,) position of each detection's picture among the judged ones.
    row: (n,) its position among the result rows.
    hit: (10, n) bool, whether it found an object, at the IoU thresholds 0.5, 0.55, ..., 0.95.
    counted: (10, n) bool; False where it lies in a crowd, and is neither right nor wrong.
    objects: (pictures,) how many objects there were to find.
    """

    picture: NDArray[np.int64]
    row: NDArray[np.int64]
    hit: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    objects: NDArray[np.int64]


@dataclass(frozen=True)
class Judgement:
    """numbers: by the names of `NUMBERS`, 0..1; NaN where there is nothing to find.
    pictures, categories: the ids judged, ascending.
    precision: (10, 101, categories) at IoU thresholds and recalls 0, 0.01, ..., 1; NaN for a category without objects.
    matches: of each category.
    finder: position of the result row that found an annotation at an IoU of 0.5, by the annotation's position.
    """

    numbers: dict[str, float]
    pictures: tuple[int, ...]
    categories: tuple[int, ...]
    precision: Floats
    matches: tuple[Matches, ...]
    finder: dict[int, int]

    @property
    def class_ap(self) -> dict[int, tuple[float, float]]:
        """AP and AP50 of each category, 0..1; NaN for one without objects."""
        means = self.precision.mean(axis=1)  # of a category all or none is NaN
        pairs = zip(means.mean(axis=0).tolist(), means[0].tolist(), strict=True)
        return dict(zip(self.categories, pairs, strict=True))


def judge(data: DataSet, rows: Sequence[Json], left_out: Collection[int] = ()) -> Judgement:
    """Compare COCO result rows with annotations.

    Parameters
    ----------
    rows: as `adapters.to_coco` makes them, category_id being the data set's.
    left_out: ids of pictures that are not judged.

    Raises
    ------
    MissingExtra: pycocotools is not installed.
    """
    evaluation = import_extra("pycocotools.cocoeval", "eval", "ssdrt eval")
    with contextlib.redirect_stdout(io.StringIO()):
        jury = evaluation.COCOeval(_coco(data, _truth(data)), _coco(data, _results(rows)), "bbox")
        jury.params.imgIds = sorted(picture.id for picture in data.pictures if picture.id not in left_out)
        jury.evaluate()
        jury.accumulate()
        jury.summarize()
    numbers = {name: _known(value) for name, value in zip(NUMBERS, jury.stats, strict=True)}
    precision = jury.eval["precision"][:, :, :, 0, -1]
    pictures, categories = tuple(jury.params.imgIds), tuple(jury.params.catIds)
    # Pictures of one category and size of object follow each other; the first size is "all".
    step = len(jury.params.areaRng) * len(pictures)
    by_category = [jury.evalImgs[k * step : k * step + len(pictures)] for k in range(len(categories))]
    finder = {
        annotation - 1: int(row) - 1
        for one in by_category
        for found in one
        if found is not None
        for annotation, row in zip(found["gtIds"], found["gtMatches"][0], strict=True)
        if row
    }
    return Judgement(
        numbers,
        pictures,
        categories,
        np.where(precision < 0, np.nan, precision),
        tuple(map(_matches, by_category)),
        finder,
    )


def _known(value: float) -> float:
    return float(value) if value >= 0 else float("nan")


def _truth(data: DataSet) -> list[Json]:
    """Annotations in pycocotools' words; ids from 1, for it takes an id of 0 for "not found"."""
    return [
        {
            "id": number,
            "image_id": one.picture,
            "category_id": one.category,
            "bbox": list(one.box_xywh),
            "area": one.area,
            "iscrowd": int(one.crowd),
        }
        for number, one in enumerate(data.annotations, start=1)
    ]


def _results(rows: Sequence[Json]) -> list[Json]:
    return [{**row, "id": n, "area": row["bbox"][2] * row["bbox"][3]} for n, row in enumerate(rows, start=1)]


def _coco(data: DataSet, annotations: list[Json]) -> Any:
    """pycocotools' index of a data set. Its own `loadRes` cannot take an empty list."""
    coco = import_extra("pycocotools.coco", "eval", "ssdrt eval").COCO()
    coco.dataset = {
        "images": [{"id": picture.id} for picture in data.pictures],
        "categories": [{"id": number, "name": name} for number, name in data.categories.items()],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _matches(by_picture: list[Json | None]) -> Matches:
    """One category's matches from pycocotools' records of the pictures, None where there is nothing of the category."""
    known = [(number, found) for number, found in enumerate(by_picture) if found is not None]
    scores = np.array([score for _, found in known for score in found["dtScores"]])
    order = np.argsort(-scores, kind="stable")
    rows = np.array([row - 1 for _, found in known for row in found["dtIds"]], np.int64)
    pictures = np.array([number for number, found in known for _ in found["dtIds"]], np.int64)
    nothing = np.zeros((10, 0), bool)
    matched = np.concatenate([nothing, *(found["dtMatches"] > 0 for _, found in known)], axis=1)
    ignored = np.concatenate([nothing, *(found["dtIgnore"] > 0 for _, found in known)], axis=1)
    objects = np.zeros(len(by_picture), np.int64)
    for number, found in known:
        objects[number] = np.count_nonzero(found["gtIgnore"] == 0)
    return Matches(pictures[order], rows[order], (matched & ~ignored)[:, order], ~ignored[:, order], objects)
