"""VOC annotations: a folder of xml files, one a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from ssdrt.errors import SourceError, shorten
from ssdrt.evaluate.data_set import Annotation, DataSet, Picture
from ssdrt.evaluate.pictures import pictures_beside
from ssdrt.sources.base import open_file


def read_voc(folder: Path, images: Path) -> DataSet:
    """Read a folder of Pascal VOC files (VOC2012 development kit, section 2 of its documentation).

    The picture of a file is that of its name, whatever `filename` in it says: that is often stale. Pixels count from 1
    and xmax, ymax are inside the box, as the kit has it. A difficult object is what COCO calls a crowd: it counts
    neither way.

    Raises
    ------
    SourceError: a file that is no VOC xml, an object without name or box, or no picture for a file.
    """
    files = sorted(folder.glob("*.xml"))
    roots = [_root(file) for file in files]
    names = sorted({name for file, root in zip(files, roots, strict=True) for _, name in _objects(file, root)})
    numbers = {name: number for number, name in enumerate(names, start=1)}
    pictures = tuple(
        Picture(number, path, _size(root))
        for number, (path, root) in enumerate(zip(pictures_beside(files, images), roots, strict=True), start=1)
    )
    annotations = tuple(
        _annotation(file, thing, number, numbers[name])
        for number, (file, root) in enumerate(zip(files, roots, strict=True), start=1)
        for thing, name in _objects(file, root)
    )
    return DataSet(pictures, {number: name for name, number in numbers.items()}, annotations, numbered=False)


def _root(file: Path) -> ET.Element:
    with open_file(file) as stream:
        try:
            return ET.parse(stream).getroot()
        except (ET.ParseError, ValueError, LookupError) as error:  # the last two: odd encodings
            raise SourceError(f"{shorten(str(file))!r} is no xml file: {error}") from error


def _objects(file: Path, root: ET.Element) -> Iterator[tuple[ET.Element, str]]:
    for thing in root.findall("object"):
        name = (thing.findtext("name") or "").strip()
        if not name:
            raise SourceError(f"{shorten(str(file))!r} has an object without a name")
        yield thing, name


def _size(root: ET.Element) -> tuple[int, int] | None:
    """Width and height; some programs write 0, or nothing."""
    width, height = (root.findtext(f"size/{side}", "").strip() for side in ("width", "height"))
    return (int(width), int(height)) if width.isdecimal() and height.isdecimal() and int(width) > 0 else None


def _annotation(file: Path, thing: ET.Element, picture: int, category: int) -> Annotation:
    where = f"{thing.findtext('name')} in {file.name}"
    try:
        x0, y0, x1, y1 = (float(thing.findtext(f"bndbox/{edge}", "")) for edge in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as error:
        raise SourceError(f"{shorten(str(file))!r}: {where} has no box of four numbers") from error
    width, height = x1 - x0 + 1, y1 - y0 + 1
    difficult = thing.findtext("difficult", "0").strip() == "1"
    return Annotation(picture, category, (x0 - 1, y0 - 1, width, height), width * height, difficult, where)
