"""Videos through OpenCV, in place of PyAV: the same frames at the same times."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from ssdrt.cli import main
from ssdrt.errors import MissingExtra, SourceError
from ssdrt.sources import open_source, opencv, video

pytest.importorskip("cv2", reason="OpenCV is not installed")
pytest.importorskip("av", reason="the extra `video` is not installed")

CLIPS = Path(__file__).parents[3] / "shared" / "data" / "clips"
NAMES = ["hand_ti1k_10fps.mp4", "sign_book_vfr.mp4", "sign_brother_droppedframe.mkv", "sign_want_rot90.mp4"]


@pytest.fixture
def without_av(monkeypatch):
    """As on a machine that has OpenCV and no PyAV."""
    monkeypatch.setitem(sys.modules, "av", None)


def frames(reader, path):
    return [item.read() for item in reader.read_video(str(path), 10**7)]


def assert_equal(path):
    """Both give the same pictures, at the same times from the first on."""
    theirs, ours = frames(video, path), frames(opencv, path)
    assert len(ours) == len(theirs)
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert (one.source, one.index) == (other.source, other.index)
        assert one.time - theirs[0].time == pytest.approx(other.time, abs=1e-4)


def test_frames_of_variable_rate_are_those_of_pyav(make_clip, tmp_path):
    assert_equal(make_clip(tmp_path / "clip.mkv"))


@pytest.mark.skipif(not CLIPS.exists(), reason="the clips are not here")
@pytest.mark.parametrize("name", NAMES)
def test_frames_of_real_clips_are_those_of_pyav(name):
    assert_equal(CLIPS / name)


def test_without_pyav_a_video_is_read_with_a_warning(make_clip, tmp_path, caplog, request):
    path = str(make_clip(tmp_path / "clip.mp4"))
    expected = [item.read() for item in open_source(path).items]
    request.getfixturevalue("without_av")
    caplog.set_level("WARNING", "ssdrt")  # a command line in another test may have made it quiet
    source = open_source(path)
    assert source.length == len(expected)
    for item, frame in zip(source.items, expected, strict=True):
        np.testing.assert_array_equal(item.read().image, frame.image)
    assert "OpenCV reads" in caplog.text
    assert "pip install 'ssdrt[video]'" in caplog.text


def test_detection_without_pyav(make_clip, tmp_path, capsys, request, monkeypatch):
    from build import demo_file

    demo_file(tmp_path)
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "home"))
    path = make_clip(tmp_path / "clip.mp4")
    request.getfixturevalue("without_av")
    words = ["detect", str(tmp_path / "frozen_inference_graph.pb"), str(path), "--json", "-", "--engine", "null"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["index"] for line in out.splitlines()] == [0, 1, 2, 3]
    assert "damaged frames are not counted" in err


@pytest.mark.usefixtures("without_av")
def test_what_cannot_be_read(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(SourceError, match="cannot be read as a video"):
        open_source(str(tmp_path / "text.mp4"))
    with pytest.raises(SourceError, match="No such file"):
        list(opencv.read_video(str(tmp_path / "none.mp4"), 100))


def test_playlist_in_disguise_leads_nowhere(serve, tmp_path):
    asked = []
    address = serve({"/secret.ts": (404, {}, b"")}, asked)
    for begin in ("#EXTM3U\n#EXTINF:1,\n", "ffconcat version 1.0\nfile "):
        (tmp_path / "clip.mp4").write_text(f"{begin}{address}/secret.ts\n")
        with pytest.raises(SourceError):
            list(opencv.read_video(str(tmp_path / "clip.mp4"), 10**7))
    assert not asked


def test_too_large(make_clip, tmp_path):
    with pytest.raises(SourceError, match="max-pixels"):
        list(opencv.read_video(str(make_clip(tmp_path / "clip.mp4")), 100))


def test_without_both_pyav_is_asked_for(make_clip, tmp_path, request, monkeypatch):
    path = str(make_clip(tmp_path / "clip.mp4"))
    request.getfixturevalue("without_av")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra, match="ssdrt\\[video\\]"):
        open_source(path)
