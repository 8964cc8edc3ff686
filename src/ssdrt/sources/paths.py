"""From what a user types to names of files: a path, a folder, a glob, or a list of paths."""

from __future__ import annotations

import csv
import glob
import os
import re
from pathlib import Path

from ssdrt.errors import SourceError, shorten
from ssdrt.sources import photo
from ssdrt.sources.base import check_regular, open_file, reason

LIST_SUFFIXES = frozenset((".txt", ".lst", ".csv"))
MAX_LIST_BYTES = 100_000_000
PATH_COLUMNS = frozenset(("path", "file", "filename", "file_name", "image", "source"))

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def expand(text: str) -> list[str]:
    """The files and addresses that `text` names, in order.

    A folder gives the pictures in it (by suffix; no subfolders, no hidden files) and a glob its matches, both sorted by
    name; a .txt or .lst file gives its lines, a .csv file its column `path` (or file, filename, file_name, image,
    source; without such a heading its first column). A relative path in a list is looked up beside the list,
    then in the current folder. Anything else is one file or address.

    Raises
    ------
    SourceError: nothing of that name, an empty folder or list, or a list that cannot be read.
    """
    path = Path(text)
    if ADDRESS.match(text):
        return [text]
    if os.path.isdir(text):
        return _some(_pictures_in(text), text, "holds no pictures; for its subfolders give a glob such as '**/*.jpg'")
    if not os.path.lexists(text) and glob.has_magic(text):
        return _some(sorted(filter(os.path.isfile, glob.iglob(text, recursive=True))), text, "matches no file")
    if path.suffix.lower() in LIST_SUFFIXES:
        return _some(_entries(path), text, "lists no files")
    if not os.path.exists(text):
        check_regular(text)  # says why
    return [text]


def split_list(data: bytes) -> list[str]:
    """The paths in a list: one a line, or NUL-separated as `find -print0` writes them; empty ones left out."""
    lines = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(line) for line in lines if line.strip()]


def _some(names: list[str], text: str, otherwise: str) -> list[str]:
    if not names:
        raise SourceError(f"{shorten(text)!r} {otherwise}")
    return names


def _pictures_in(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise SourceError(f"{shorten(folder)!r} cannot be read: {reason(error)}") from error
    return [
        os.path.join(folder, name)
        for name in names
        if os.path.splitext(name)[1].lower() in photo.SUFFIXES and not name.startswith(".")
    ]


def _entries(path: Path) -> list[str]:
    with open_file(path) as file:
        data = file.read(MAX_LIST_BYTES + 1)
    if len(data) > MAX_LIST_BYTES:
        raise SourceError(f"{shorten(str(path))!r} is larger than {MAX_LIST_BYTES} bytes: is it a list of paths?")
    lines = split_list(data)
    names = _column(lines, path) if path.suffix.lower() == ".csv" else lines
    return [name if ADDRESS.match(name) else _beside(path.parent, name) for name in names]


def _column(lines: list[str], path: Path) -> list[str]:
    try:
        rows = [row for row in csv.reader(lines) if row]
    except csv.Error as error:
        raise SourceError(f"{shorten(str(path))!r} is not a csv file: {error}") from error
    headings = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = next((i for i, heading in enumerate(headings) if heading in PATH_COLUMNS), None)
    if column is None:
        return [row[0] for row in rows]
    return [row[column] for row in rows[1:] if len(row) > column]


def _beside(folder: Path, name: str) -> str:
    beside = os.path.join(folder, name)
    return beside if os.path.exists(beside) or not os.path.exists(name) else name
