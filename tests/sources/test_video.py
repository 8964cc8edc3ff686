"""Videos made here: every frame, in order, upright, at its time, and damage that costs no more than it must."""

import os
import sys
from fractions import Fraction

import numpy as np
import pytest

from ssdrt.errors import MissingExtra, SourceError
from ssdrt.sources import open_source
from ssdrt.sources.video import count_frames, to_rgb

av = pytest.importorskip("av", reason="the extra `video` is not installed")

TIMES = (0, 33, 67, 200, 233, 400)  # a variable frame rate, in milliseconds


def frames(path, **options):
    return [item.read() for item in open_source(str(path), **options).items]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_every_frame_in_order_with_the_time_of_the_container(make_clip, tmp_path, suffix):
    path = make_clip(tmp_path / f"clip{suffix}", TIMES)
    found = frames(path)
    assert [frame.time for frame in found] == pytest.approx([time / 1000 for time in TIMES], abs=1e-4)
    assert [frame.index for frame in found] == list(range(6))
    assert {frame.source for frame in found} == {str(path)}
    for index, frame in enumerate(found):
        assert frame.image.shape == (48, 64, 3)
        np.testing.assert_allclose(frame.image, 10 * index + 20, atol=3)


def test_file_keeps_a_name_that_looks_secret(make_clip, tmp_path):
    folder = tmp_path / "user=bob"
    folder.mkdir()
    path = make_clip(folder / "clip.mkv", TIMES)
    assert {frame.source for frame in frames(path)} == {str(path)}


def test_time_does_not_have_to_begin_at_zero(make_clip, tmp_path):
    assert [frame.time for frame in frames(make_clip(tmp_path / "clip.mkv", (500, 600)))] == [0.5, 0.6]


def test_length_is_known_for_one_video_and_unknown_for_more(make_clip, tmp_path):
    path = str(make_clip(tmp_path / "clip.mp4", TIMES))
    assert open_source(path).length == 6
    assert open_source(path, path).length is None
    assert len(frames(tmp_path / "clip.mp4")) == 6


def test_frames_may_be_read_in_any_order_after_the_iteration(make_clip, tmp_path):
    items = list(open_source(str(make_clip(tmp_path / "clip.mkv", TIMES))).items)
    assert [int(item.read().image.mean().round(-1)) for item in reversed(items)] == [70, 60, 50, 40, 30, 20]


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_rotation_in_the_metadata_is_applied(make_clip, tmp_path, quarters):
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a rotation")
    path = make_clip(tmp_path / "clip.mp4", (0, 40), options=[("set_display_rotation", 90 * quarters)])
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    np.testing.assert_array_equal(frames(path)[0].image, np.rot90(stored, quarters))


@pytest.mark.parametrize(
    ("colorspace", "color_range", "rgb"),
    [(1, 1, (191, 78, 18)), (5, 1, (181, 70, 21)), (2, 0, (181, 70, 21)), (1, 2, (182, 82, 30))],
)  # BT.709, BT.601, not said, and BT.709 of full range, by ITU-R's matrices
def test_colours_follow_the_matrix_and_range_of_the_stream(colorspace, color_range, rgb):
    frame = av.VideoFrame(16, 16, "yuv420p")
    for plane, value in zip(frame.planes, (100, 90, 180), strict=True):
        plane.update(bytes([value]) * (plane.height * plane.line_size))
    frame.colorspace, frame.color_range = colorspace, color_range
    np.testing.assert_allclose(to_rgb(frame, "clip", 256), np.full((16, 16, 3), rgb), atol=3)


def test_damaged_packets_are_counted_and_the_rest_is_read(make_clip, tmp_path):
    path = make_clip(tmp_path / "clip.mkv", tuple(range(0, 1200, 40)))
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    for packet in packets[5:8]:
        data = data.replace(packet, b"\xff" * len(packet))
    path.write_bytes(data)
    *items, last = open_source(str(path)).items
    assert 20 <= len(items) <= 30
    assert [item.read().index for item in items] == list(range(len(items)))
    with pytest.raises(SourceError, match=f"damaged packets or frames beside {len(items)}"):
        last.read()


def test_video_that_is_cut_off_gives_the_frames_before_the_cut(make_clip, tmp_path):
    path = make_clip(tmp_path / "clip.mkv", tuple(range(0, 1200, 40)))
    path.write_bytes(path.read_bytes()[: os.path.getsize(path) // 2])
    items = list(open_source(str(path)).items)
    assert 5 < len(items) < 30
    assert [item.read().index for item in items[:-1]] == list(range(len(items) - 1))


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.rate, sound.pts, sound.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(stream.encode(sound))
    with pytest.raises(SourceError, match="only audio"):
        open_source(str(path))


@pytest.mark.parametrize("data", [b"", b"<html></html>", bytes(5000)])
def test_what_is_no_video_is_refused_when_it_is_named(tmp_path, data):
    (tmp_path / "clip.mp4").write_bytes(data)
    with pytest.raises(SourceError, match="cannot be read as a video"):
        count_frames(str(tmp_path / "clip.mp4"))


def test_broken_video_among_others_is_one_broken_item(make_clip, tmp_path):
    make_clip(tmp_path / "b.mp4", (0, 40))
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    broken, *items = open_source(f"{tmp_path}/*.mp4").items
    with pytest.raises(SourceError):
        broken.read()
    assert [item.read().index for item in items] == [0, 1]


def test_playlist_in_disguise_leads_nowhere(make_clip, tmp_path):
    make_clip(tmp_path / "secret.mp4", (0, 40))
    (tmp_path / "clip.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/secret.mp4\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceError):
        frames(tmp_path / "clip.mp4")


def test_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(SourceError, match="pipe"):
        open_source(str(tmp_path / "clip.mp4"))


def test_large_frames_are_refused_unless_allowed(make_clip, tmp_path):
    path = make_clip(tmp_path / "clip.mp4", (0,))
    assert len(frames(path, max_pixels=64 * 48)) == 1
    with pytest.raises(SourceError, match="64 x 48"):
        frames(path, max_pixels=64 * 48 - 1)


def test_without_pyav_the_message_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").write_bytes(b"")
    for module in ("av", "cv2"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"pip install 'ssdrt\[video\]'"):
        open_source(str(tmp_path / "clip.mp4"))
