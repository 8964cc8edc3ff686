"""YOLO annotations: a folder of text files, one a picture, and the names of the classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ssdrt.errors import SourceError, shorten
from ssdrt.evaluate.data_set import Annotation, DataSet, Picture
from ssdrt.evaluate.pictures import pictures_beside, read_size
from ssdrt.sources.base import open_file

NAMES = ("classes.txt", "obj.names")


def read_yolo(folder: Path, images: Path) -> DataSet:
    """Read `class cx cy width height` rows: centre and size divided by the picture's width and height.

    Names come from classes.txt or obj.names, a name a line, in the folder or the one above it. The first is category 1,
    so that ids are TensorFlow's. A picture without a label file is left out; an empty file is a picture with nothing to
    find.

    Raises
    ------
    SourceError: no names, no picture for a file, a picture or file that cannot be read, or a row that is none.
    """
    names = [line.strip() for line in _lines(_names_file(folder)) if line.strip()]
    files = [file for file in sorted(folder.glob("*.txt")) if file.name not in NAMES]
    pictures, annotations = list[Picture](), list[Annotation]()
    for number, (file, path) in enumerate(zip(files, pictures_beside(files, images), strict=True), start=1):
        size = read_size(path)
        pictures.append(Picture(number, path, size))
        annotations += _annotations(file, number, size)
    return DataSet(tuple(pictures), dict(enumerate(names, start=1)), tuple(annotations))


def _names_file(folder: Path) -> Path:
    places = (place / name for place in (folder, folder.absolute().parent) for name in NAMES)
    found = next(filter(Path.is_file, places), None)
    if found is None:
        raise SourceError(
            f"{shorten(str(folder))!r} has no classes.txt, and neither has the folder above: write one, a name a line "
            "in the order of the class numbers"
        )
    return found


def _annotations(file: Path, picture: int, size: tuple[int, int]) -> Iterator[Annotation]:
    for number, line in enumerate(_lines(file), start=1):
        cells = line.split()
        if not cells:
            continue
        try:
            category, (cx, cy, width, height) = int(cells[0]) + 1, map(float, cells[1:])
        except ValueError as error:
            raise SourceError(f"{shorten(str(file))!r} line {number} is not `class cx cy width height`") from error
        width, height = width * size[0], height * size[1]
        box = cx * size[0] - width / 2, cy * size[1] - height / 2, width, height
        yield Annotation(picture, category, box, width * height, False, f"{file.name} line {number}")


def _lines(file: Path) -> list[str]:
    with open_file(file) as stream:
        return stream.read().decode("utf-8-sig", "replace").splitlines()
