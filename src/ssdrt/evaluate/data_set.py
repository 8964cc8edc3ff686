"""`DataSet`: pictures, and what people say is in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ssdrt.errors import SourceError, shorten


@dataclass(frozen=True)
class Picture:
    """id: as in the annotations; size: (width, height) in pixels that the annotations state, None if they do not."""

    id: int
    path: Path
    size: tuple[int, int] | None


@dataclass(frozen=True)
class Annotation:
    """One object in a picture.

    picture, category: their ids.
    box_xywh: (x0, y0, width, height) in pixels.
    area: in square pixels; of the object's outline where that is known, else of its box.
    crowd: a region that counts neither way, whether or not something is found in it.
    where: the place in the file, for messages.
    """

    picture: int
    category: int
    box_xywh: tuple[float, float, float, float]
    area: float
    crowd: bool
    where: str


@dataclass(frozen=True)
class DataSet:
    """categories: id -> name. numbered: whether the ids are the data set's own, or mean nothing outside this object."""

    pictures: tuple[Picture, ...]
    categories: dict[int, str]
    annotations: tuple[Annotation, ...]
    numbered: bool = True

    @property
    def annotated(self) -> list[int]:
        """Ids of the categories that have something to find, ascending."""
        return sorted({one.category for one in self.annotations if not one.crowd})


def check_data_set(data: DataSet) -> None:
    """Refuse annotations that would give wrong numbers.

    Raises
    ------
    SourceError: nothing annotated; pictures that are not there, or have one id; an annotation of an unknown picture or
        category; a box that is none, or lies outside its picture. The message counts them and names the first.
    """
    pictures = {picture.id: picture for picture in data.pictures}
    annotations = data.annotations
    if not any(not one.crowd for one in annotations):
        raise SourceError(f"the annotations have {len(pictures)} pictures and no box: there is nothing to measure")
    missing = [str(picture.path) for picture in data.pictures if not picture.path.is_file()]
    _refuse(missing, len(data.pictures), "pictures are not there: give the folder that holds them")
    double = [str(picture.path) for picture in data.pictures if pictures[picture.id] is not picture]
    _refuse(double, len(data.pictures), "pictures have the id of another")
    lost = [one.where for one in annotations if one.picture not in pictures]
    _refuse(lost, len(annotations), "boxes belong to no picture: their image_id is not among the images")
    lost = [one.where for one in annotations if one.category not in data.categories]
    _refuse(lost, len(annotations), "boxes have a category_id that is not among the categories")
    wrong = [one.where for one in annotations if not _is_box(one)]
    _refuse(wrong, len(annotations), "boxes are not four finite numbers with a width and height of at least 0")
    outside = [one.where for one in annotations if not _touches(one, pictures[one.picture].size)]
    _refuse(outside, len(annotations), "boxes lie outside their picture: are they in pixels of these pictures?")


def only(data: DataSet, classes: Sequence[str]) -> DataSet:
    """The data set with these categories alone. Pictures without them stay: there, nothing is to be found.

    Parameters
    ----------
    classes: names or ids of categories.

    Raises
    ------
    SourceError: a category that the data set does not have.
    """
    by_word = {str(number): number for number in data.categories} | {n: i for i, n in data.categories.items()}
    unknown = [word for word in classes if word not in by_word]
    if unknown:
        raise SourceError(f"the annotations have no class {unknown[0]!r}; they have {listed(data.categories.values())}")
    kept = {by_word[word] for word in classes}
    chosen = replace(
        data,
        categories={number: name for number, name in data.categories.items() if number in kept},
        annotations=tuple(one for one in data.annotations if one.category in kept),
    )
    check_data_set(chosen)
    return chosen


def listed(names: Iterable[str], limit: int = 8) -> str:
    """The first names, and how many more there are."""
    words = [shorten(name, 40) for name in names]
    return ", ".join(words[:limit]) + (f" and {len(words) - limit} more" if len(words) > limit else "")


def _refuse(places: list[str], count: int, what: str) -> None:
    if places:
        raise SourceError(f"{len(places)} of {count} {what} (the first: {shorten(places[0])})")


def _is_box(one: Annotation) -> bool:
    return all(map(math.isfinite, (*one.box_xywh, one.area))) and min(one.box_xywh[2:]) >= 0


def _touches(one: Annotation, size: tuple[int, int] | None) -> bool:
    """Whether any of the box is in the picture; a pixel of rounding is forgiven."""
    x0, y0, width, height = one.box_xywh
    return x0 + width >= -1 and y0 + height >= -1 and (size is None or (x0 <= size[0] + 1 and y0 <= size[1] + 1))
