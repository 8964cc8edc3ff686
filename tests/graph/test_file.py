"""Files that are no frozen graph say what they seem to be."""

import gzip
import hashlib
import os
import subprocess
import sys

import pytest

from build import demo_bytes, demo_file
from ssdrt.errors import GraphError
from ssdrt.graph import graph_from_bytes, read_graph
from ssdrt.graph.file import MAX_BYTES

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
SAVED_MODEL = b"\x08\x01\x12\xc4\x02\x0a\x10\x12\x05serve"


def onnx_model():
    """ir_version, producer_name, graph."""
    return b"\x08\x07\x12\x07pytorch\x3a\x02\x12\x00"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (b"\0" * 1000, "empty"),
        (LFS, "git-LFS pointer"),
        (gzip.compress(b"x" * 1000, mtime=0), "gzip"),
        (b"\xfd7zXZ\0" + b"x" * 100, "an xz file"),
        (b"BZh91AY&SY" + b"x" * 100, "a bzip2 file"),
        (b"PK\x03\x04" + b"x" * 100, "a zip file"),
        (b"\x89HDF\r\n\x1a\n" + b"x" * 100, "Keras .h5"),
        (b"\x1c\0\0\0TFL3" + b"x" * 100, "TensorFlow Lite"),
        (b"\x18\0\0\0TFL3" + b"\0" * 100, "TensorFlow Lite"),
        (b"x" * 257 + b"ustar\x0000" + b"x" * 300, "a tar archive"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"<html><body>", "a web page"),
        (b"\n  <!doctype HTML>\n<html>", "a web page"),
        (b"SSDRT\r\n\x01" + b"x" * 100, "an .ssdrt bundle"),
        (b"ftrt" + b"x" * 100, "a TensorRT plan"),
        (SAVED_MODEL, "a SavedModel"),
        (onnx_model(), "an ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, "a picture"),
        (b"item {\n id: 1\n}\n", "not a GraphDef|truncated"),
        (b"\x0a", "not a GraphDef|truncated"),
        (b"\x22\x03\x08\x86\x01", "no nodes"),
        (b"MZ" + bytes(range(256)) * 10, "not a GraphDef|truncated"),
    ],
)
def test_what_a_file_seems_to_be(data, what, tmp_path):
    path = tmp_path / "frozen_inference_graph.pb"
    path.write_bytes(data)
    with pytest.raises(GraphError, match=what) as caught:
        read_graph(path)
    assert str(caught.value).startswith(str(path))


def test_graph_is_read_and_its_digest_is_that_of_the_file(tmp_path):
    path = demo_file(tmp_path)
    assert read_graph(path).digest == read_graph(str(path)).digest == hashlib.sha256(demo_bytes()).hexdigest()


def test_suffix_does_not_matter(tmp_path):
    path = tmp_path / "graph.pbtxt"
    path.write_bytes(demo_bytes())
    assert len(read_graph(path).nodes) > 500


def test_error_without_a_file_has_no_name_before_it():
    with pytest.raises(GraphError, match=r"^the file is empty$"):
        graph_from_bytes(b"")


@pytest.mark.parametrize("name", ["missing.pb", "nul\0.pb", "a" * 300 + ".pb", ""])
def test_path_that_cannot_be_read(name, tmp_path):
    with pytest.raises(GraphError):
        read_graph(f"{tmp_path}/{name}")


def test_folder(tmp_path):
    with pytest.raises(GraphError, match="is a folder"):
        read_graph(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(SAVED_MODEL)
    with pytest.raises(GraphError, match="a SavedModel folder: give the frozen"):
        read_graph(tmp_path)


def test_file_larger_than_a_graph_can_be(tmp_path):
    path = tmp_path / "large.pb"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(GraphError, match="larger than 2 GB"):
        read_graph(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no fifos")
def test_fifo_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo.pb")
    read = f"from ssdrt.graph import read_graph; read_graph({str(tmp_path / 'fifo.pb')!r})"
    run = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, timeout=20)
    assert "is no regular file" in run.stderr


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="this system has no /dev/zero")
def test_endless_device_is_refused():
    with pytest.raises(GraphError, match="is no regular file"):
        read_graph("/dev/zero")
