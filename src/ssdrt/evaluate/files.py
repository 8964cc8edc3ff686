"""What an evaluation leaves in a folder: numbers and results as json, curves and worst pictures as pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssdrt import __version__
from ssdrt.errors import SinkError, shorten
from ssdrt.evaluate.bootstrap import CONFIDENCE, RESAMPLINGS
from ssdrt.evaluate.curves import draw_curves
from ssdrt.evaluate.data_set import DataSet
from ssdrt.evaluate.drop import Drop
from ssdrt.evaluate.row import Row
from ssdrt.evaluate.worst import contact_sheet
from ssdrt.sinks.base import whole_file

if TYPE_CHECKING:
    from PIL.Image import Image

Json = dict[str, Any]


def make_folder(folder: Path) -> None:
    """Make it if need be; called before hours of detecting.

    Raises
    ------
    SinkError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{shorten(str(folder))!r} cannot be made: {error.strerror}") from error


def write_files(
    folder: Path, data: DataSet, rows: Sequence[Row], drops: Mapping[str, Mapping[str, Drop]], about: Json
) -> None:
    """Write metrics.json, precision_recall.png, and of each row ENGINE_PRECISION.json (COCO results) and its worst
    pictures, ENGINE_PRECISION_worst.jpg.

    Parameters
    ----------
    drops: of AP and AP50, by the name of the row.
    about: what the metrics begin with: where they come from.

    Raises
    ------
    SinkError: a file cannot be written.
    """
    _write_json(folder / "metrics.json", about | metrics(data, rows, drops))
    _write_picture(folder / "precision_recall.png", draw_curves(rows))
    for row in rows:
        name = row.name.replace(" ", "_")
        _write_json(folder / f"{name}.json", row.results)
        _write_picture(folder / f"{name}_worst.jpg", contact_sheet(data, row))


def metrics(data: DataSet, rows: Sequence[Row], drops: Mapping[str, Mapping[str, Drop]]) -> Json:
    """All numbers, 0..1; None where there is nothing to find."""
    first = rows[0]
    paths = {picture.id: str(picture.path) for picture in data.pictures}
    return {
        "ssdrt": __version__,
        "pictures": len(first.judgement.pictures),
        "broken": {paths[number]: why for number, why in first.broken.items()},
        "boxes": sum(not one.crowd for one in data.annotations),
        "crowds": sum(one.crowd for one in data.annotations),
        "classes_matched_by": first.classes.how,
        "classes_not_in_model": list(first.classes.missing),
        "interval": f"{CONFIDENCE:.0%}, bootstrap over pictures, {RESAMPLINGS} resamplings, seed 0",
        "rows": [_row(data, row, drops.get(row.name, {})) for row in rows],
    }


def _row(data: DataSet, row: Row, drop: Mapping[str, Drop]) -> Json:
    return {
        "engine": row.engine,
        "precision": row.precision,
        "score_threshold": row.score,
        "pictures_per_second": _rounded(row.speed, 1),
        "numbers": {name: _rounded(value) for name, value in row.judgement.numbers.items()},
        "drop": {name: {word: _rounded(end) for word, end in asdict(one).items()} for name, one in drop.items()},
        "classes": {
            data.categories[number]: {"AP": _rounded(ap), "AP50": _rounded(ap50)}
            for number, (ap, ap50) in row.judgement.class_ap.items()
        },
    }


def _rounded(value: float, digits: int = 12) -> float | None:
    return None if math.isnan(value) else round(value, digits)


def _write_json(path: Path, content: Any) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(content, indent=1 if isinstance(content, dict) else None).encode() + b"\n")


def _write_picture(path: Path, picture: Image) -> None:
    with whole_file(path) as file:
        picture.save(file, {".jpg": "JPEG", ".png": "PNG"}[path.suffix], quality=90)
