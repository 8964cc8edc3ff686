"""Annotated pictures, read back."""

import os

import numpy as np
import pytest
from PIL import Image

from ssdrt.errors import SinkError
from ssdrt.sinks import open_sink
from ssdrt.sinks.draw import annotate


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_picture_is_the_annotated_frame(tmp_path, make_frame, found, labels, name):
    sink = open_sink(str(tmp_path / name), labels)
    sink.write(make_frame(), found)
    sink.close()
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / name)), annotate(make_frame().image, found))
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_lossy_picture_is_near_it(tmp_path, make_frame, nothing, labels, name):
    sink = open_sink(str(tmp_path / name), labels)
    sink.write(make_frame(), nothing)
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / name)), 90, atol=2)


def test_one_picture_holds_one_picture(tmp_path, make_frame, found, labels):
    sink = open_sink(str(tmp_path / "a.jpg"), labels)
    sink.write(make_frame(), found)
    with pytest.raises(SinkError, match="give a folder"):
        sink.write(make_frame(), found)


def test_input_is_never_written_over(tmp_path, make_frame, found, labels):
    path = tmp_path / "cat.png"
    Image.new("RGB", (40, 30)).save(path)
    before = path.read_bytes()
    for output in (str(path), str(tmp_path)):
        with pytest.raises(SinkError, match="input itself"):
            open_sink(output, labels).write(make_frame(str(path)), found)
    assert path.read_bytes() == before


def test_picture_too_large_for_its_format(tmp_path, make_frame, nothing, labels):
    with pytest.raises(SinkError, match="cannot be written"):
        open_sink(str(tmp_path / "a.webp"), labels).write(make_frame(size=(17_000, 1)), nothing)
    assert not os.listdir(tmp_path)
