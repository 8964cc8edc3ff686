"""`ssdrt eval`: COCO's numbers of a model on labelled pictures, for every engine and precision."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ssdrt.cli.options import add_device, add_model, device_of, fraction, words
from ssdrt.cli.table import table
from ssdrt.errors import EngineError, import_extra

if TYPE_CHECKING:
    from ssdrt.evaluate.data_set import DataSet
    from ssdrt.evaluate.drop import Drop
    from ssdrt.evaluate.row import Row

    Drops = Mapping[str, Mapping[str, Drop]]

SHOWN = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")


def add_arguments(parser: ArgumentParser) -> None:
    """What to evaluate, on what, and where to put it."""
    parser.epilog = "How to read the numbers: docs/accuracy.md. The exit code is 1 if an engine or a picture failed."
    add_model(parser)
    parser.add_argument(
        "--annotations", required=True, metavar="FILE",
        help="COCO json, or a folder of VOC's xml or YOLO's txt files (with classes.txt)",
    )  # fmt: skip
    parser.add_argument("--images", required=True, metavar="DIR", help="the folder of the annotated pictures")
    parser.add_argument("--engine", type=words, default=["auto"], metavar="E,...", help="engines (default: auto)")
    parser.add_argument(
        "--precision", type=words, metavar="P,...", help="precisions (default: all that the engine computes in here)"
    )
    add_device(parser)
    parser.add_argument("--score", type=fraction, help="only higher scores count (default: the graph's own threshold)")
    parser.add_argument("--classes", type=words, metavar="CLASS,...", help="of the annotations, these only")
    parser.add_argument("--labels", metavar="FILE", help="names of the model's classes: .pbtxt, .txt or .json")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR",
        help="write metrics and COCO results as json, precision-recall curves, and the worst pictures",
    )  # fmt: skip


def run(args: Namespace) -> int:
    """Evaluate every engine and precision, and print the numbers; 1 if one of them, or a picture, failed."""
    from ssdrt.cli.machine import processor
    from ssdrt.evaluate import read_data_set
    from ssdrt.evaluate.data_set import only
    from ssdrt.evaluate.drop import drops
    from ssdrt.evaluate.files import make_folder, write_files

    import_extra("pycocotools.cocoeval", "eval", "ssdrt eval")  # before anything takes time
    choices = _choices(args.engine, args.precision, **device_of(args))
    data = read_data_set(args.annotations, args.images)
    if args.classes:
        data = only(data, args.classes)
    if args.output:
        make_folder(args.output)
    rows = _evaluate(args, data, choices)
    if not rows:
        return 1
    costs = drops(rows)
    print(_report(data, rows, costs))
    if args.output:
        about = {name: getattr(args, name) for name in ("model", "annotations", "images")}
        about["processor"] = processor()
        write_files(args.output, data, rows, costs, about)
    for reason in rows[0].broken.values():
        print(f"ssdrt: not measured: {reason}", file=sys.stderr)
    return 1 if len(rows) < len(choices) or rows[0].broken else 0


def _choices(engines: list[str], precisions: list[str] | None, **gpu: int) -> list[tuple[str, str]]:
    """Every engine with those of the precisions, or all, that it computes in."""
    from ssdrt.engines.base import engine_module, named_precisions, pick_engine

    names = [pick_engine(engine, precision, **gpu) for engine in engines for precision in precisions or ("auto",)]
    offered = {
        name: named_precisions(name, **gpu) if precisions else engine_module(name).precisions(**gpu) for name in names
    }
    known = ", ".join(f"{name} in {' and '.join(names)}" for name, names in offered.items())
    for precision in precisions or ():
        if not any(precision in names for names in offered.values()):
            raise EngineError(f"nothing computes in {precision!r} here: {known}")
    return [(name, how) for name, those in offered.items() for how in those if precisions is None or how in precisions]


def _evaluate(args: Namespace, data: DataSet, choices: list[tuple[str, str]]) -> list[Row]:
    """The rows; an engine that fails has none, and says why on standard error."""
    from ssdrt.evaluate.row import evaluate
    from ssdrt.progress import progress

    rows: list[Row] = []
    with progress("evaluating", len(choices) * len(data.pictures)) as advance:
        for engine, precision in choices:
            with _reported(f"{engine} {precision}"):
                how = {"score": args.score, "labels": args.labels, "options": device_of(args)}
                rows.append(evaluate(args.model, data, engine, precision, **how, advance=advance))
    return rows


@contextmanager
def _reported(name: str) -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        print(f"ssdrt: {name} failed: {error}", file=sys.stderr)


def _report(data: DataSet, rows: Sequence[Row], costs: Drops) -> str:
    """Each class, then each row, then what the rows cost: what matters most is last on the screen."""
    from ssdrt.evaluate.drop import reference_row

    parts = [_class_table(data, rows), _subject(data, rows[0]), _numbers(rows)]
    reference = reference_row(rows)
    if reference is not None and costs:
        parts.append(_drop_table(reference, rows, costs))
    return "\n\n".join(parts)


def _class_table(data: DataSet, rows: Sequence[Row]) -> str:
    counts = Counter(one.category for one in data.annotations if not one.crowd)
    lines = [
        ("", "", *(word for row in rows for word in (row.engine, ""))),
        ("", "", *(word for row in rows for word in (row.precision, ""))),
        ("class", "boxes", *("AP", "AP50") * len(rows)),
    ]
    for number in data.annotated:
        values = (value for row in rows for value in row.judgement.class_ap[number])
        lines.append((data.categories[number], str(counts[number]), *map(_number, values)))
    return table(lines, "lr" + "rr" * len(rows), indent="")


def _subject(data: DataSet, row: Row) -> str:
    """What the numbers are of."""
    from ssdrt.evaluate.data_set import listed

    pictures, boxes = len(row.judgement.pictures), sum(not one.crowd for one in data.annotations)
    crowds, classes = len(data.annotations) - boxes, len(data.annotated)
    how = row.classes.how
    lines = [f"{pictures} pictures, {boxes} boxes of {classes} classes, {crowds} crowds; classes matched by {how}"]
    if row.broken:
        lines.append(f"{len(row.broken)} pictures could not be read and are in no number")
    if row.classes.missing:
        names = listed(row.classes.missing)
        lines.append(f"the model has no class for {names}: AP 0 in the means; --classes can leave them out")
    return "\n".join(lines)


def _numbers(rows: Sequence[Row]) -> str:
    lines = [("engine", "precision", "score >", *(name.removeprefix("AP_") for name in SHOWN), "pictures/s")]
    for row in rows:
        numbers = (_number(row.judgement.numbers[name]) for name in SHOWN)
        lines.append((row.engine, row.precision, f"{row.score:g}", *numbers, _number(row.speed, 1)))
    return table(lines, "ll" + "r" * (len(SHOWN) + 2), indent="")


def _drop_table(reference: Row, rows: Sequence[Row], costs: Drops) -> str:
    from ssdrt.evaluate.bootstrap import CONFIDENCE, RESAMPLINGS

    lines: list[tuple[str, ...]] = [
        ("engine", "precision", "AP", f"{CONFIDENCE:.0%} interval", "AP50", f"{CONFIDENCE:.0%} interval")
    ]
    for row in rows:
        if row.name in costs:
            cells = (cell for drop in costs[row.name].values() for cell in _drop(drop))
            lines.append((row.engine, row.precision, *cells))
    what = f"Drop from {reference.name}, by {RESAMPLINGS} resamplings of the pictures"
    return f"{what}\n{table(lines, 'llrrrr', indent='')}"


def _drop(drop: Drop) -> tuple[str, str]:
    return f"{drop.value:+.4f}", f"{drop.low:+.4f} to {drop.high:+.4f}"


def _number(value: float, digits: int = 4) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
