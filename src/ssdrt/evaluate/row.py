"""One engine and precision on a data set: what it finds, how fast, and how good that is."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ssdrt.adapters import to_coco
from ssdrt.detections import Detections
from ssdrt.detector import Detector, Outcome
from ssdrt.errors import SourceError, shorten
from ssdrt.evaluate.classes import Classes, match_classes
from ssdrt.evaluate.data_set import DataSet, Picture
from ssdrt.evaluate.judge import Judgement, judge
from ssdrt.sources.base import Item
from ssdrt.sources.photo import read_photo

Json = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """engine, precision: that ran. score: only higher ones counted. speed: pictures a second on all cores, decoding
    included; NaN for one picture. classes: how they were matched. results: COCO result rows. broken: why pictures, by
    id, could not be read; they are in no number."""

    engine: str
    precision: str
    score: float
    speed: float
    classes: Classes
    results: list[Json]
    broken: dict[int, str]
    judgement: Judgement

    @property
    def name(self) -> str:
        """`openvino fp32`."""
        return f"{self.engine} {self.precision}"


def evaluate(
    model: str | Path,
    data: DataSet,
    engine: str = "auto",
    precision: str = "auto",
    *,
    score: float | None = None,
    labels: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Row:
    """Detect in every picture of a data set, and judge what was found.

    Parameters
    ----------
    score: only higher scores count; None is the graph's own threshold.
    labels, options: as for `Detector.open`.
    advance: called with 1 after each picture.

    Raises
    ------
    SsdrtError: as `Detector.open` and `match_classes`; a picture has another size than its annotations say; pycocotools
        is not installed. A picture that cannot be read is no error but in `broken`.
    """
    results, broken, times = list[Json](), dict[int, str](), list[float]()
    with Detector.open(model, engine, precision, labels, options) as detector:
        classes = match_classes(detector.labels, detector.model.class_ids, data)
        threshold = detector.model.nms.score_threshold.value if score is None else score
        with closing(_outcomes(detector, data, threshold)) as outcomes:
            for picture, outcome in outcomes:
                if isinstance(outcome.error, SourceError):
                    broken[picture.id] = str(outcome.error)
                else:
                    results += _results(picture, outcome, classes)
                times.append(time.perf_counter())
                advance(1)
        if len(broken) == len(data.pictures):
            raise SourceError(
                f"none of the {len(broken)} pictures can be read (the first: {next(iter(broken.values()))})"
            )
        # The first picture's time would be that of loading the network.
        speed = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else float("nan")
        judgement = judge(data, results, broken)
        return Row(detector.engine, detector.precision, threshold, speed, classes, results, broken, judgement)


def _outcomes(detector: Detector, data: DataSet, threshold: float) -> Generator[tuple[Picture, Outcome], None, None]:
    items = [Item(str(one.path), 0, None, partial(read_photo, one.path)) for one in data.pictures]
    yield from zip(data.pictures, detector.detect_items(items, score_threshold=threshold), strict=True)


def _results(picture: Picture, outcome: Outcome, classes: Classes) -> list[Json]:
    """COCO rows of what was found, under the data set's ids; classes that it does not have are dropped."""
    if outcome.found is None:
        raise outcome.error or RuntimeError("an outcome has detections or an error")
    _check_size(picture, outcome.found)
    return [
        {**row, "category_id": classes.category[row["category_id"]]}
        for row in to_coco(outcome.found, picture.id)
        if row["category_id"] in classes.category
    ]


def _check_size(picture: Picture, found: Detections) -> None:
    if picture.size not in (None, (found.width, found.height)):
        raise SourceError(
            f"{shorten(str(picture.path))!r} is {found.width}x{found.height}, but its annotations are for "
            f"{'x'.join(map(str, picture.size))}: give the pictures that were annotated, in their size"
        )
