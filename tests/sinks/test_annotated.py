"""Annotated pictures, folders and videos, read back by our own sources."""

import os
import time

import numpy as np
import pytest
from PIL import Image

from ssdrt.errors import SinkError
from ssdrt.sinks import open_sink
from ssdrt.sinks import video as video_sink
from ssdrt.sinks.draw import annotate
from ssdrt.sources import open_source

TIMES = (0.0, 1 / 30, 0.1, 1.001, 1.5, 3601.04)


@pytest.fixture
def av():
    return pytest.importorskip("av", reason="the extra `video` is not installed")


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


def test_folder_finds_every_input_again(tmp_path, make_frame, nothing, labels, av):
    sink = open_sink(str(tmp_path / "out"), labels)
    for source in ("a/cat.JPG", "b/cat.png", "anim.gif", "https://host/x.webp?size=1"):
        sink.write(make_frame(source), nothing)
    for index in range(3):
        sink.write(make_frame("clip.mkv", index, index / 10), nothing)
    for index in range(2):
        sink.write(make_frame("other/clip.mp4", index, index / 10), nothing)
    sink.write(make_frame("last.bmp"), nothing)
    sink.close()
    assert sorted(os.listdir(tmp_path / "out")) == [
        "anim.png", "cat.jpg", "cat_2.png", "clip.mp4", "clip_2.mp4", "last.bmp", "x.png",
    ]  # fmt: skip
    assert open_source(str(tmp_path / "out" / "clip.mp4")).length == 3


@pytest.mark.parametrize("codec", list(video_sink.CODECS))
@pytest.mark.parametrize("suffix", list(video_sink.FORMATS))
def test_video_keeps_every_frame_and_its_time(tmp_path, make_frame, nothing, labels, av, monkeypatch, suffix, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    monkeypatch.setattr(video_sink, "CODECS", {codec: video_sink.CODECS[codec]})
    path = tmp_path / f"out{suffix}"
    sink = open_sink(str(path), labels)
    for index, seconds in enumerate(TIMES):
        sink.write(make_frame("clip.mp4", index, seconds, size=(64, 48), grey=40 * index), nothing)
    assert not path.exists()
    sink.close()
    frames = [item.read() for item in open_source(str(path)).items]
    assert [frame.time for frame in frames] == pytest.approx(TIMES, abs=1e-3 if suffix == ".mkv" else 1e-5)
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(frame.image, 40 * index, atol=5)
    assert os.listdir(tmp_path) == [path.name]


def test_video_keeps_its_colours(tmp_path, make_frame, nothing, labels, av):
    colours = np.array([(200, 30, 30), (30, 200, 30), (30, 30, 200)])
    sink = open_sink(str(tmp_path / "out.mp4"), labels)
    for index, colour in enumerate(colours):
        frame = make_frame("clip.mp4", index, index / 10, size=(64, 48))
        frame.image[:] = colour
        sink.write(frame, nothing)
    sink.close()
    for item, colour in zip(open_source(str(tmp_path / "out.mp4")).items, colours, strict=True):
        np.testing.assert_allclose(item.read().image.mean(axis=(0, 1)), colour, atol=5)


def test_odd_and_changing_sizes_are_scaled_to_one(tmp_path, make_frame, nothing, labels, av):
    sink = open_sink(str(tmp_path / "out.mp4"), labels)
    for index, size in enumerate([(41, 31), (41, 31), (80, 20)]):
        sink.write(make_frame("clip.mp4", index, index / 10, size=size), nothing)
    sink.close()
    assert [item.read().image.shape for item in open_source(str(tmp_path / "out.mp4")).items] == [(32, 42, 3)] * 3


def test_interrupted_video_is_finished_by_close(tmp_path, make_frame, nothing, labels, av):
    sink = open_sink(str(tmp_path / "out.mp4"), labels)
    with pytest.raises(KeyboardInterrupt):
        for index in range(99):
            sink.write(make_frame("clip.mp4", index, index / 10), nothing)
            if index == 20:
                raise KeyboardInterrupt
    sink.close()
    assert len(list(open_source(str(tmp_path / "out.mp4")).items)) == 21


def test_video_on_a_full_disk_leaves_nothing(tmp_path, make_frame, nothing, labels, av, small_disk):
    sink, rng = open_sink(str(tmp_path / "out.mp4"), labels), np.random.default_rng(0)
    begin = time.monotonic()
    with pytest.raises(SinkError, match="cannot be written"):
        for index in range(99):
            frame = make_frame("clip.mp4", index, index / 10, size=(320, 240))
            frame.image[:] = rng.integers(0, 256, frame.image.shape)
            sink.write(frame, nothing)
        sink.close()
    sink.close()
    assert time.monotonic() - begin < 10
    assert not os.listdir(tmp_path)


def test_video_takes_one_video(tmp_path, make_frame, nothing, labels, av):
    sink = open_sink(str(tmp_path / "out.mp4"), labels)
    with pytest.raises(SinkError, match="give a folder"):
        sink.write(make_frame("cat.jpg"), nothing)
    sink.write(make_frame("a.mp4", 0, 0.0), nothing)
    with pytest.raises(SinkError, match="give a folder"):
        sink.write(make_frame("b.mp4", 0, 0.0), nothing)
    sink.close()


def test_video_without_a_frame_is_none(tmp_path, labels, av):
    open_sink(str(tmp_path / "out.mp4"), labels).close()
    assert not os.listdir(tmp_path)
