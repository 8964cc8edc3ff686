"""`ssdrt check`: whether every engine and precision finds what the reference finds."""

from __future__ import annotations

import statistics
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssdrt.cli.options import add_model
from ssdrt.cli.table import table
from ssdrt.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ssdrt.compare import Difference, Tolerance
    from ssdrt.detections import Detections

    Pictures = list[NDArray[Any]]

ROUNDED = (16.0, 0.05)
"""Pixels and score by which a precision below fp32 may differ. bf16 keeps 8 bits of a number: with three trained models
(COCO, pets, persons) it moved scores of photos by up to 0.04 and, where the NMS took the neighbour of a box for nearly
the same score, corners by 10 pixels. Below a score of 0.3 such neighbours are too many to compare."""


@dataclass(frozen=True)
class Row:
    """What came out of one engine and precision: detections compared, how they differ, median milliseconds; or the
    error that came instead. passed: None when there was nothing to compare."""

    engine: str
    precision: str
    compared: int = 0
    difference: Difference | None = None
    milliseconds: float = 0.0
    passed: bool | None = False
    error: str = ""


def add_arguments(parser: ArgumentParser) -> None:
    """On which pictures."""
    add_model(parser)
    parser.add_argument(
        "photo",
        metavar="PHOTO",
        nargs="*",
        help="photos, or folders of them, of what the model detects (default: drawn ones)",
    )
    parser.epilog = "The exit code is 1 if an engine fails."


def run(args: Namespace) -> int:
    """Compare, and print a line an engine and precision; 1 if one of them fails."""
    from ssdrt.detector import Detector
    from ssdrt.engines.base import engine_module, engine_names
    from ssdrt.progress import progress

    engines = [name for name in engine_names() if name not in ("reference", "null")]
    reasons = {name: engine_module(name).unavailable() for name in engines}
    choices = [(name, how) for name in engines if reasons[name] is None for how in engine_module(name).precisions()]
    pictures = _pictures(args.photo)
    with progress("checking", len(pictures) + len(choices), "steps") as advance:
        expected = []
        with Detector.open(args.model, "reference") as reference:
            for picture in pictures:
                expected.append(reference.detect(picture, score_threshold=_demand("fp32")[0]))
                advance(1)
        rows = []
        for engine, precision in choices:
            rows.append(_try(args.model, engine, precision, pictures, expected))
            advance(1)
    print(_report(rows, len(pictures)) if rows else "no engine but reference can run here: there is nothing to compare")
    for name, why in reasons.items():
        if why is not None:
            print(f"{name} cannot run here: {why}")
    return 1 if any(row.passed is False for row in rows) else 0


def _demand(precision: str) -> tuple[float, Tolerance]:
    """The score from which detections are compared, and by how much they may differ."""
    from ssdrt.compare import EXACT, Tolerance

    return (0.05, EXACT) if precision == "fp32" else (0.3, Tolerance(*ROUNDED))


def _pictures(photos: list[str]) -> Pictures:
    """The pixels (height, width, 3) of the photos; without photos, the demo's picture and two others made from it."""
    if not photos:
        from ssdrt.demo import demo_picture

        drawn = demo_picture()
        return [drawn, drawn[:, ::-1], drawn[::-1, :, ::-1]]
    from ssdrt.sources import open_source

    return [item.read().image for item in open_source(*photos).items]


def _try(model: str, engine: str, precision: str, pictures: Pictures, expected: list[Detections]) -> Row:
    """One line of the report."""
    try:
        return _compare(model, engine, precision, pictures, expected)
    except EngineError as error:
        return Row(engine, precision, error=str(error))


def _compare(model: str, engine: str, precision: str, pictures: Pictures, expected: list[Detections]) -> Row:
    from ssdrt.compare import Difference, difference
    from ssdrt.detector import Detector

    score, tolerance = _demand(precision)
    wanted = [found[found.scores > score] for found in expected]
    differences, times = [], []
    with Detector.open(model, engine, precision) as detector:
        nms = detector.model.nms
        # Twice the boxes: what was the last to be kept may have another one before it here.
        options: dict[str, Any] = {
            "score_threshold": max(score - tolerance.score, 0),
            "max_per_class": 2 * nms.max_per_class.value,
            "max_total": 2 * nms.max_total.value,
        }
        for picture, found in zip(pictures, wanted, strict=True):
            differences.append(difference(found, detector.detect(picture, **options)))
            begin = time.perf_counter()
            detector.detect(picture)  # the first time loaded the engine, perhaps
            times.append(1e3 * (time.perf_counter() - begin))
    worst = Difference(
        max(one.pixels for one in differences),
        max(one.score for one in differences),
        sum(one.missing for one in differences),
    )
    compared = sum(map(len, wanted))
    passed = worst.within(tolerance) if compared else None
    return Row(engine, precision, compared, worst, statistics.median(times), passed)


def _report(rows: list[Row], pictures: int) -> str:
    """The table, and what its words mean."""
    head = ("engine", "precision", "compared", "missing", "box difference", "score difference", "time", "")
    lines = [table([head, *map(_cells, rows)], "llrrrrrl", indent="")]
    lines.append(
        f"\nAgainst engine reference on {pictures} picture{'s' * (pictures != 1)}, largest differences. To pass:"
    )
    for precision in dict.fromkeys(row.precision for row in rows):
        score, tolerance = _demand(precision)
        lines.append(
            f"  {precision}: all that scores above {score} is found again, corners within {tolerance.pixels:g} px, "
            f"scores within {tolerance.score:g}"
        )
    if any(row.passed is None for row in rows):
        lines.append("Where nothing was compared, nothing scored high enough: give photos of what the model detects.")
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    if row.difference is None:
        return (row.engine, row.precision, "", "", "", "", "", f"FAIL: {row.error}")
    verdict = {True: "pass", False: "FAIL", None: "nothing to compare"}[row.passed]
    pixels, score = f"{row.difference.pixels:.4f} px", f"{row.difference.score:.6f}"
    time = f"{row.milliseconds:.1f} ms"
    return (row.engine, row.precision, str(row.compared), str(row.difference.missing), pixels, score, time, verdict)
