"""Label maps: COCO's, and readers of the files that hold others (.pbtxt, .txt, .json)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ssdrt.errors import LabelError, shorten
from ssdrt.model import Fact, LabelMap

MAX_BYTES = 10_000_000
MAX_ID = 999_999  # the largest data sets have some 20,000 classes
BESIDE = "read from the .labels.txt beside the graph"
NO_CLASS = "???"  # how TensorFlow Lite's label files write an id without a class

COCO = LabelMap(
    {
        class_id: name
        for class_id, name in enumerate(
            """???,person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,???,stop sign,
parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,???,backpack,umbrella,???,???,handbag,tie,
suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,
???,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,
couch,potted plant,bed,???,dining table,???,???,toilet,???,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,
toaster,sink,refrigerator,???,book,clock,vase,scissors,teddy bear,hair drier,toothbrush""".replace("\n", "").split(",")
        )
        if name != NO_CLASS
    }
)
"""The 80 classes of COCO under their ids 1..90, which leave ten out."""


def label_map_for(num_classes: int, label_offset: int) -> Fact[LabelMap]:
    """The labels of a frozen graph, which itself has none.

    Parameters
    ----------
    num_classes: without background.
    label_offset: class id of the first class.
    """
    if (num_classes, label_offset) == (90, 1):
        return Fact(COCO, "", "90 classes from id 1: taken to be COCO's")
    return Fact(LabelMap({}), "", "a frozen graph holds no names; give a label map with --labels")


def read_labels(path: str | os.PathLike[str]) -> LabelMap:
    """Read a label map.

    .pbtxt: TensorFlow's StringIntLabelMap; display_name is preferred to name.
    .txt: a name a line, the first of which is class 1 (class 0 if it is "???" or "background"), or `ID NAME` or
    `ID: NAME` lines. .json: a list of names, counted in the same way, or an object {id: name}.
    "???" stands for an id without a class.

    Raises
    ------
    LabelError: the file cannot be read, is larger than `MAX_BYTES`, of another kind, or not what its suffix says.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise LabelError(f"{shorten(str(path))!r}: a label map is a file of {', '.join(READERS)}")
    try:
        if not path.is_file():
            raise LabelError(f"{shorten(str(path))!r}: there is no such file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise LabelError(f"{shorten(str(path))!r} is larger than {MAX_BYTES} bytes: is it a label map?")
        return _label_map(reader(data.decode("utf-8-sig")))
    except (OSError, ValueError, RecursionError) as error:
        raise LabelError(f"{shorten(str(path))!r} is no label map: {shorten(str(error))}") from error


def _label_map(entries: Iterable[tuple[int, str]]) -> LabelMap:
    names: dict[int, str] = {}
    for class_id, name in entries:
        if not 0 <= class_id <= MAX_ID:
            raise ValueError(f"class id {class_id} is not in 0..{MAX_ID}")
        if class_id in names:
            raise ValueError(f"class id {class_id} is there twice")
        if name != NO_CLASS:
            names[class_id] = name
    if not names:
        raise ValueError("it names no class")
    return LabelMap(names)


def _read_json(text: str) -> Iterable[tuple[int, str]]:
    data = json.loads(text)
    if isinstance(data, list) and all(isinstance(name, str) for name in data):
        return _numbered(data)
    if isinstance(data, dict) and all(isinstance(name, str) for name in data.values()):
        return [(int(class_id), name) for class_id, name in data.items()]
    raise ValueError("neither a list of names nor an object {id: name}")


def _read_txt(text: str) -> Iterable[tuple[int, str]]:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    with_id = [re.fullmatch(r"([0-9]{1,10})(?:\s*:\s*|\s+)(.+)", line) for line in lines]
    if lines and all(with_id):
        return [(int(match[1]), match[2]) for match in with_id if match]
    return _numbered(lines)


def _numbered(names: list[str]) -> Iterable[tuple[int, str]]:
    first = 0 if names and names[0].lower() in (NO_CLASS, "background") else 1
    return enumerate(names, start=first)


TOKEN = re.compile(
    r"""(?P<skip>[\s,;]+|\#[^\n]*)|(?P<string>"[^"\\\n]*(?:\\.[^"\\\n]*){0,9999}"|'[^'\\\n]*(?:\\.[^'\\\n]*){0,9999}')"""
    r"""|(?P<word>[-+.\w/]+)|(?P<sign>[{}<>:\[\]])"""
)
MAX_TOKENS = 1_000_000
ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)")


def _read_pbtxt(text: str) -> Iterator[tuple[int, str]]:
    """The items of a text StringIntLabelMap; messages inside items, and all that is not an item, are passed over."""
    depth, field, after_colon, inside = 0, "", False, ""
    item: dict[str, str] = {}
    for kind, token in _tokens(text):
        if token in ("{", "<") and kind == "sign":
            depth += 1
            inside, item = (field, {}) if depth == 1 else (inside, item)
        elif token in ("}", ">") and kind == "sign":
            depth -= 1
            if depth < 0:
                raise ValueError("a closing bracket too many")
            if depth == 0 and inside == "item":
                yield _entry(item)
        elif kind == "string" and depth == 1:
            item[field] = item.get(field, "") + _unquote(token)  # strings that follow each other are one
        elif kind == "word" and after_colon and depth == 1:
            item[field] = token
        elif kind == "word" and not after_colon:
            field = token
            if depth == 1:
                item.pop(field, None)  # of a field that is there twice, the last holds
        after_colon = token == ":"
    if depth:
        raise ValueError("a bracket is not closed")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    end = 0
    for _ in range(MAX_TOKENS):
        match = TOKEN.match(text, end)
        if match is None:
            break
        end = match.end()
        if match.lastgroup not in (None, "skip"):
            yield str(match.lastgroup), match[0]
    if end != len(text):
        raise ValueError(f"line {text.count(chr(10), 0, end) + 1} is no protobuf text, or goes on too long")


def _entry(item: dict[str, str]) -> tuple[int, str]:
    name = item.get("display_name") or item.get("name")
    if "id" not in item or not name:
        raise ValueError(f"an item without id or name: {item}")
    return int(item["id"]), name


def _unquote(string: str) -> str:
    return ESCAPE.sub(_unescape, string[1:-1].encode()).decode()


def _unescape(escape: re.Match[bytes]) -> bytes:
    code = escape[1]
    if code[:1].isdigit():
        return bytes([int(code, 8) & 0xFF])
    if len(code) > 1:
        return bytes([int(code[1:], 16)])
    return {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(code, code)


READERS = {".pbtxt": _read_pbtxt, ".txt": _read_txt, ".json": _read_json}


def labels_beside(path: Path) -> LabelMap | None:
    """The labels that a training left beside its graph, X.labels.txt beside X.pb; None where there are none.

    Raises
    ------
    LabelError: the file is there and cannot be read.
    """
    labels = path.with_suffix(".labels.txt")
    return read_labels(labels) if labels.is_file() else None


def write_labels(labels: LabelMap) -> bytes:
    """A .txt that `read_labels` reads: a line `ID: NAME` a class."""
    return "".join(f"{number}: {name}\n" for number, name in sorted(labels.names.items())).encode()
