"""A file as a `Graph`; and when it is something else, what it seems to be."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ssdrt.errors import GraphError
from ssdrt.graph.nodes import Graph
from ssdrt.graph.reader import parse_graph
from ssdrt.graph.text import looks_like_text, parse_text_graph

MAX_BYTES = 1 << 31  # protobuf's own limit

_HINTS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a git-LFS pointer, not the file itself: run `git lfs pull`"),
    (0, b"\x1f\x8b", "a gzip file: unpack it first"),
    (0, b"\xfd7zXZ", "an xz file: unpack it first"),
    (0, b"BZh", "a bzip2 file: unpack it first"),
    (0, b"PK\x03\x04", "a zip file (perhaps a Keras .keras model): give the frozen_inference_graph.pb"),
    (0, b"\x89HDF", "a Keras .h5 model: export a frozen graph from it"),
    (4, b"TFL3", "a TensorFlow Lite model: give the frozen graph (.pb) that it was made from"),
    (0, b"SSDRT", "an .ssdrt bundle, which has another suffix here: rename it to end in .ssdrt"),
    (0, b"ftrt", "a TensorRT plan: give the model that it was built from"),
    (0, b"vtrt", "a TensorRT plan: give the model that it was built from"),
    (0, b"\x89PNG", "a picture: the model comes first, then the pictures"),
    (0, b"\xff\xd8\xff", "a picture: the model comes first, then the pictures"),
    (257, b"ustar", "a tar archive: unpack it and give its frozen_inference_graph.pb"),
)


def read_graph(path: str | Path) -> Graph:
    """Read a frozen graph, binary (.pb) or text (.pbtxt; told by content), and check it.

    Raises
    ------
    GraphError: the file cannot be read, is something else (the message says what), or is damaged (node and offset).
    """
    return graph_from_bytes(read_bytes(path), str(path))


def read_bytes(path: str | Path) -> bytes:
    """The content of a file that may be a graph.

    Raises
    ------
    GraphError: it cannot be read, is a folder or no regular file, or larger than a GraphDef can be.
    """
    path = Path(path)
    try:
        if path.is_dir():
            saved = (path / "saved_model.pb").exists()
            what = "a SavedModel folder" if saved else "a folder"
            raise GraphError(f"{path} is {what}: give the frozen_inference_graph.pb of the export")
        if path.stat().st_size > MAX_BYTES:
            raise GraphError(f"{path} is larger than 2 GB, which no GraphDef can be")
        if not path.is_file():
            raise GraphError(f"{path} is no regular file")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise GraphError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def graph_from_bytes(data: bytes, name: str = "") -> Graph:
    """A `Graph` from the content of a file; `name` is put before the message of an error.

    Raises
    ------
    GraphError: it is no GraphDef, or a damaged one.
    """
    try:
        return _graph(data)
    except GraphError as error:
        error.args = (f"{name}: {error.args[0]}" if name else error.args[0],)
        raise


def _graph(data: bytes) -> Graph:
    if not data.strip(b"\0"):
        raise GraphError("the file is empty")
    for offset, magic, what in _HINTS:
        if data[offset : offset + len(magic)] == magic:
            raise GraphError(f"this is {what}")
    if data[:1024].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise GraphError("this is a web page: the download went wrong")
    if looks_like_text(data):
        nodes = parse_text_graph(data)
    else:
        _refuse_other_protobufs(data)
        nodes = parse_graph(data)
    if not nodes:
        raise GraphError("no nodes: not a GraphDef")
    return Graph(nodes, hashlib.sha256(data).hexdigest())


def _refuse_other_protobufs(data: bytes) -> None:
    """A SavedModel starts with field 1 as a number (schema version 1) and field 2 as a message; ONNX likewise."""
    if data[:2] == b"\x08\x01" and data[2:3] == b"\x12":
        raise GraphError("this is a SavedModel (saved_model.pb): give the frozen_inference_graph.pb beside it")
    if data[:1] == b"\x08" and data[2:3] in (b"\x12", b"\x3a", b"\x42"):
        raise GraphError("this is an ONNX model: ssdrt reads TensorFlow frozen graphs")
