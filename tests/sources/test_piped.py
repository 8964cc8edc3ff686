"""Videos that come through a pipe, and numbered pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from ssdrt.errors import SourceError
from ssdrt.sources import open_source


def grey(value, size=(6, 4)):
    return Image.new("RGB", size, (value,) * 3)


def jpeg(value, **options):
    file = io.BytesIO()
    grey(value, (16, 8)).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.fixture
def standard_input(monkeypatch):
    def pipe(data):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    return pipe


def frames(text):
    return [item.read() for item in open_source(text).items]


def test_jpegs_one_after_the_other(standard_input):
    thumbnail = jpeg(200)
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail  # holds an end of its own
    data = [jpeg(10), jpeg(20, progressive=True), jpeg(30)[:2] + exif + jpeg(30)[2:], jpeg(40, restart_marker_rows=1)]
    standard_input(b"".join(data))
    found = frames("-")
    assert [int(frame.image[0, 0, 0]) for frame in found] == [10, 20, 30, 40]
    assert [(frame.index, frame.time) for frame in found] == [(0, 0.0), (1, 0.04), (2, 0.08), (3, 0.12)]


def test_one_jpeg_is_a_photo(standard_input):
    standard_input(jpeg(50))
    (frame,) = frames("-")
    assert (int(frame.image[0, 0, 0]), frame.time) == (50, None)


def test_a_cut_jpeg_at_the_end_costs_that_frame_only(standard_input):
    standard_input(jpeg(10) + jpeg(20) + jpeg(30)[:200])
    *good, cut = open_source("-").items
    assert [int(item.read().image[0, 0, 0]) for item in good] == [10, 20]
    with pytest.raises(SourceError):
        cut.read()


@pytest.mark.parametrize(("form", "channels"), [("rgb24", 3), ("bgr24", 3), ("gray", 1)])
def test_raw_frames(standard_input, form, channels):
    pixels = np.arange(2 * 4 * 6 * channels, dtype=np.uint8).reshape(2, 4, 6, channels)
    standard_input(pixels.tobytes())
    found = frames(f"rawvideo:?size=6x4&format={form}&rate=10")
    wanted = {"rgb24": pixels, "bgr24": pixels[..., ::-1], "gray": np.repeat(pixels, 3, axis=3)}[form]
    np.testing.assert_array_equal([frame.image for frame in found], wanted)
    assert [frame.time for frame in found] == [0.0, 0.1]


def test_raw_frames_of_another_size_are_noticed(standard_input):
    standard_input(bytes(100))
    *_, last = open_source("-?size=6x4").items
    with pytest.raises(SourceError, match="in the middle of frame 1"):
        last.read()


@pytest.mark.parametrize("text", ["-?format=rgb24", "-?size=6x4&format=yuv", "-?size=6", "-?colour=1"])
def test_raw_frames_that_are_not_described(standard_input, text):
    standard_input(bytes(72))
    with pytest.raises(SourceError):
        frames(text)


def test_yuv4mpeg(standard_input):
    pytest.importorskip("av", reason="the extra `video` is not installed")
    planes = [bytes([value]) * (16 * 8) + bytes([128]) * 64 for value in (60, 120, 180)]
    standard_input(b"YUV4MPEG2 W16 H8 F10:1 Ip A1:1 C420jpeg\n" + b"".join(b"FRAME\n" + plane for plane in planes))
    found = frames("-")
    assert [round(frame.time, 3) for frame in found] == [0.0, 0.1, 0.2]
    assert found[0].image.shape == (8, 16, 3)
    assert found[0].image.mean() < found[1].image.mean() < found[2].image.mean()


def test_numbered_pictures_are_a_video(tmp_path):
    for number in (1, 2, 3, 5):
        grey(number * 10).save(tmp_path / f"{number:03d}.png")
    found = frames(f"{tmp_path}/%03d.png?rate=10")
    assert [int(frame.image[0, 0, 0]) for frame in found] == [10, 20, 30]
    assert [frame.time for frame in found] == [0.0, 0.1, 0.2]
    assert {frame.source for frame in found} == {f"{tmp_path}/%03d.png?rate=10"}
    with pytest.raises(SourceError, match="there is no"):
        frames(f"{tmp_path}/%d.jpg")


def test_a_wrong_head_is_said_to_be_one(standard_input):
    pytest.importorskip("av", reason="the extra `video` is not installed")
    standard_input(b"YUV4MPEG2 W-5 H0 Fabc\nFRAME\nxx")
    with pytest.raises(SourceError, match="it is damaged, or no yuv4mpegpipe"):
        frames("-")
