"""The pictures of label files: which belongs to which, and how large it is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ssdrt.errors import SourceError, shorten
from ssdrt.sources.base import open_file
from ssdrt.sources.photo import DAMAGE, EXIF_ORIENTATION, FORMATS, SUFFIXES


def pictures_beside(labels: Iterable[Path], images: Path) -> list[Path]:
    """The picture of every label file: that of its name, but for the suffix, in the folder `images`.

    Raises
    ------
    SourceError: a label file has no picture, or several.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(images.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.stem, []).append(path)
    candidates = {label: found.get(label.stem, []) for label in labels}
    missing = [label.name for label, paths in candidates.items() if not paths]
    if missing:
        raise SourceError(
            f"{len(missing)} of {len(candidates)} label files have no picture in {shorten(str(images))!r}: give the "
            f"folder that holds them (the first: {shorten(missing[0])})"
        )
    double = [label.name for label, paths in candidates.items() if len(paths) > 1]
    if double:
        raise SourceError(f"{shorten(str(images))!r} has several pictures for {shorten(double[0])!r}; keep one")
    return [paths[0] for paths in candidates.values()]


def read_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture when it is upright, from its header.

    Raises
    ------
    SourceError: it is no picture.
    """
    from PIL import Image

    with open_file(path) as file:
        try:
            with Image.open(file, formats=FORMATS) as picture:
                lying = picture.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
                return (picture.height, picture.width) if lying else (picture.width, picture.height)
        except DAMAGE as error:  # Pillow's own for what is no picture is an OSError
            raise SourceError(f"{shorten(str(path))!r} is no picture: {shorten(str(error))}") from error
