"""Annotated videos and folders, read back by our own sources."""

import os

import numpy as np
import pytest

from ssdrt.errors import SinkError
from ssdrt.sinks import open_sink, recording
from ssdrt.sinks.video import AnnotatedVideo
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


def test_sources_in_turns_have_a_video_each(tmp_path, make_frame, nothing, labels):
    sink = open_sink(str(tmp_path / "out"), labels, together=2)
    frames = [make_frame(source, index, index / 10) for index in range(4) for source in ("camera:0", "rtsp://host/a")]
    write(sink, frames, nothing)
    assert {path.name: open_source(str(path)).length for path in (tmp_path / "out").iterdir()} == {
        "camera_0.mp4": 4, "a.mp4": 4,
    }  # fmt: skip


@pytest.mark.parametrize("codec", list(recording.CODECS))
@pytest.mark.parametrize("suffix", list(recording.FORMATS))
def test_video_keeps_every_frame_and_its_time(tmp_path, make_frame, nothing, labels, monkeypatch, suffix, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    monkeypatch.setattr(recording, "CODECS", {codec: recording.CODECS[codec]})
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


def noise(make_frame, count, size=(320, 240)):
    """Frames at 10 Hz that do not compress."""
    rng = np.random.default_rng(0)
    for index in range(count):
        frame = make_frame("clip.mp4", index, index / 10, size=size)
        frame.image[:] = rng.integers(0, 256, frame.image.shape)
        yield frame


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_video_on_a_full_disk_is_kept_as_far_as_it_got(tmp_path, make_frame, nothing, labels, suffix):
    path = tmp_path / f"out{suffix}"
    sink = open_sink(str(path), labels)
    with pytest.raises(SinkError, match=r"cannot be written: .*; what was written before is kept"):
        write(sink, noise(make_frame, 200, size=(32, 32)), nothing)
    sink.close()
    assert os.listdir(tmp_path) == [path.name]
    times = [item.read().time for item in open_source(str(path)).items]
    assert len(times) > 20
    assert times == pytest.approx(np.arange(len(times)) / 10, abs=1e-3)


@pytest.mark.usefixtures("small_disk")
def test_a_disk_that_is_full_only_at_the_end_is_told_by_close(tmp_path, make_frame, nothing):
    sink = AnnotatedVideo(str(tmp_path / "out.mp4"))
    for frame in noise(make_frame, 85, size=(32, 32)):  # what the encoder holds back goes beyond the limit
        sink.write(frame, nothing)
    with pytest.raises(SinkError, match="what was written before is kept"):
        sink.close()
    assert len(list(open_source(str(tmp_path / "out.mp4")).items)) > 20


@pytest.mark.usefixtures("small_disk")
def test_video_on_a_disk_without_room_for_a_second_is_not_there(tmp_path, make_frame, nothing, labels):
    sink = open_sink(str(tmp_path / "out.mp4"), labels)
    with pytest.raises(SinkError, match=r"cannot be written: [^;]*$"):
        write(sink, noise(make_frame, 60), nothing)
    sink.close()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("suffix", list(recording.FORMATS))
def test_what_lies_on_disk_meanwhile_plays(tmp_path, make_frame, suffix):
    path, part = tmp_path / f"out{suffix}", tmp_path / f"out{suffix}.part"
    video, sizes, counts = recording.Recording(path), {0}, []
    for frame in noise(make_frame, 120, size=(64, 48)):
        video.add(frame.image, 5 + frame.time)
        assert not path.exists()
        if part.exists() and part.stat().st_size not in sizes:
            sizes.add(part.stat().st_size)
            copy = tmp_path / f"copy{suffix}"
            copy.write_bytes(part.read_bytes())
            times = [item.time for item in open_source(str(copy)).items]
            assert times == pytest.approx(5 + np.arange(len(times)) / 10, abs=1e-3)
            counts.append(len(times))
    video.finish()
    assert counts == sorted(counts)
    assert counts[0] >= 10
    assert counts[-1] >= 60
    assert not part.exists()


def test_segments_are_whole_videos_with_times_from_0(tmp_path, make_frame, nothing):
    sink = AnnotatedVideo(str(tmp_path / "out.mp4"), segment=1.0)
    write(sink, [make_frame("clip.mp4", index, 7 + index * 0.3) for index in range(9)], nothing)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["out_000.mp4", "out_001.mp4", "out_002.mp4"]
    times = [[item.read().time for item in open_source(str(file)).items] for file in files]
    assert times == [pytest.approx([0, 0.3, 0.6, 0.9]), pytest.approx([0, 0.3, 0.6, 0.9]), [0]]


def test_segments_go_on_after_those_that_are_there(tmp_path, make_frame, nothing):
    for name in ("out_002.mp4", "out_007.mp4.part", "out_x.mp4", "other_009.mp4", "out_008.mkv"):
        (tmp_path / name).write_bytes(b"")
    write(AnnotatedVideo(str(tmp_path / "out.mp4"), segment=1.0), [make_frame("clip.mp4", 0, 0.0)], nothing)
    assert (tmp_path / "out_008.mp4").exists()


def test_a_clock_that_goes_back_does_not_stop_the_video(tmp_path, make_frame, nothing):
    sink = AnnotatedVideo(str(tmp_path / "out.mp4"))
    write(sink, [make_frame("rtsp://camera", 0, time) for time in (50.0, 50.1, 50.2, 3.0, 3.1, 3.2)], nothing)
    times = [item.read().time for item in open_source(str(tmp_path / "out.mp4")).items]
    assert times == pytest.approx([50.0, 50.1, 50.2, 50.2, 50.3, 50.4], abs=1e-3)


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
