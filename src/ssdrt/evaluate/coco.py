"""COCO annotations: one json of images, categories and boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ssdrt.errors import SourceError, shorten
from ssdrt.evaluate.data_set import Annotation, DataSet, Picture
from ssdrt.sources.base import open_file

T = TypeVar("T")
Json = dict[str, Any]


def read_coco(path: Path, images: Path) -> DataSet:
    """Read the boxes of a COCO `instances` file (https://cocodataset.org/#format-data); masks are not used.

    A picture is looked for at its file_name in the folder, then at the last part of that name. A box without an area
    has width * height; one without iscrowd is no crowd.

    Raises
    ------
    SourceError: no such file, no json, or an entry that lacks what it must have; the message says which.
    """
    with open_file(path) as file:
        try:
            content = json.load(file)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{shorten(str(path))!r} is no json file: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(
            f"{shorten(str(path))!r} is a list and no object with images, categories and annotations: is it a file of "
            "results?"
        )
    return DataSet(
        tuple(_entries(path, content, "images", lambda image: _picture(image, images))),
        dict(_entries(path, content, "categories", lambda one: (int(one["id"]), str(one["name"])))),
        tuple(_entries(path, content, "annotations", _annotation)),
    )


def _entries(path: Path, content: Json, key: str, make: Callable[[Json], T]) -> list[T]:
    rows = content.get(key)
    if not isinstance(rows, list):
        raise SourceError(f"{shorten(str(path))!r} is no COCO file: it has no list of {key}")
    return [_entry(make, row, f"{shorten(str(path))!r}: {key}[{number}]") for number, row in enumerate(rows)]


def _entry(make: Callable[[Json], T], row: Json, where: str) -> T:
    try:
        return make(row)
    except KeyError as error:
        raise SourceError(f"{where} has no {error}") from error
    except (TypeError, ValueError, OverflowError, AttributeError) as error:  # another kind of value
        raise SourceError(f"{where}: {shorten(str(error))}") from error


def _picture(image: Json, folder: Path) -> Picture:
    path = folder / image["file_name"]
    size = (int(image["width"]), int(image["height"])) if image.get("width") and image.get("height") else None
    return Picture(int(image["id"]), path if path.is_file() else folder / path.name, size)


def _annotation(row: Json) -> Annotation:
    x0, y0, width, height = map(float, row["bbox"])
    area = float(row.get("area", width * height))
    where = f"annotation {row.get('id', '')} of image {row['image_id']}"
    return Annotation(
        int(row["image_id"]), int(row["category_id"]), (x0, y0, width, height), area, bool(row.get("iscrowd")), where
    )
