"""Annotated videos and folders, read back by our own sources."""

import os

import numpy as np
import pytest

from ssdrt.errors import SinkError
from ssdrt.sinks import open_sink
from ssdrt.sinks import video as video_sink
from ssdrt.sources import open_source

av = pytest.importorskip("av", reason="the extra `video` is not installed")

TIMES = (0.0, 1 / 30, 0.1, 1.001, 1.5, 3601.04)


def write(sink, frames, found):
    for frame in frames:
        sink.write(frame, found)
    sink.close()


def test_folder_finds_every_input_again(tmp_path, make_frame, nothing, labels):
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
def test_video_keeps_every_frame_and_its_time(tmp_path, make_frame, nothing, labels, monkeypatch, suffix, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    monkeypatch.setattr(video_sink, "CODECS", {codec: video_sink.CODECS[codec]})
    path = tmp_path / f"out{suffix}"
    sink = open_sink(str(path), labels)
    write(
        sink,
        [make_frame("clip.mp4", index, seconds, size=(64, 48), grey=40 * index) for index, seconds in enumerate(TIMES)],
        nothing,
    )
    frames = [item.read() for item in open_source(str(path)).items]
    assert [frame.time for frame in frames] == pytest.approx(TIMES, abs=1e-3 if suffix == ".mkv" else 1e-5)
    for index, frame in enumerate(frames):
        np.testing.assert_allclose(frame.image, 40 * index, atol=5)
    assert os.listdir(tmp_path) == [path.name]


def test_video_keeps_its_colours(tmp_path, make_frame, nothing, labels):
    colours = np.array([(200, 30, 30), (30, 200, 30), (30, 30, 200)])
    sink = open_sink(str(tmp_path / "out.mp4"), labels)
    for index, colour in enumerate(colours):
        frame = make_frame("clip.mp4", index, index / 10, size=(64, 48))
        frame.image[:] = colour
        sink.write(frame, nothing)
    sink.close()
    for item, colour in zip(open_source(str(tmp_path / "out.mp4")).items, colours, strict=True):
        np.testing.assert_allclose(item.read().image.mean(axis=(0, 1)), colour, atol=5)


def test_odd_and_changing_sizes_are_scaled_to_one(tmp_path, make_frame, nothing, labels):
    sink = open_sink(str(tmp_path / "out.mp4"), labels)
    for index, size in enumerate([(41, 31), (41, 31), (80, 20)]):
        sink.write(make_frame("clip.mp4", index, index / 10, size=size), nothing)
    sink.close()
    assert [item.read().image.shape for item in open_source(str(tmp_path / "out.mp4")).items] == [(32, 42, 3)] * 3


def test_interrupted_video_is_finished_by_close(tmp_path, make_frame, nothing, labels):
    def frames():
        yield from (make_frame("clip.mp4", index, index / 10) for index in range(21))
        raise KeyboardInterrupt

    sink = open_sink(str(tmp_path / "out.mp4"), labels)
    with pytest.raises(KeyboardInterrupt):
        write(sink, frames(), nothing)
    sink.close()
    assert len(list(open_source(str(tmp_path / "out.mp4")).items)) == 21


@pytest.mark.usefixtures("small_disk")
def test_video_on_a_full_disk_leaves_nothing(tmp_path, make_frame, nothing, labels):
    rng = np.random.default_rng(0)
    frames = [make_frame("clip.mp4", index, index / 10, size=(320, 240)) for index in range(60)]
    for frame in frames:
        frame.image[:] = rng.integers(0, 256, frame.image.shape)
    sink = open_sink(str(tmp_path / "out.mp4"), labels)
    with pytest.raises(SinkError, match="cannot be written"):
        write(sink, frames, nothing)
    sink.close()
    assert not os.listdir(tmp_path)


def test_video_takes_one_video(tmp_path, make_frame, nothing, labels):
    sink = open_sink(str(tmp_path / "out.mp4"), labels)
    with pytest.raises(SinkError, match="give a folder"):
        sink.write(make_frame("cat.jpg"), nothing)
    sink.write(make_frame("a.mp4", 0, 0.0), nothing)
    with pytest.raises(SinkError, match="give a folder"):
        sink.write(make_frame("b.mp4", 0, 0.0), nothing)
    sink.close()


def test_video_without_a_frame_is_none(tmp_path, labels):
    open_sink(str(tmp_path / "out.mp4"), labels).close()
    assert not os.listdir(tmp_path)
