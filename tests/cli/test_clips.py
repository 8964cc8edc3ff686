"""Annotated videos of real clips: rotated, of variable rate, with dropped frames. Skipped where the clips are not."""

from pathlib import Path

import pytest

from ssdrt.sources.video import read_video

pytest.importorskip("av", reason="videos need the extra `video`")

CLIPS = Path(__file__).parents[3] / "shared" / "data" / "clips"
VIDEOS = sorted(path for path in CLIPS.glob("*") if path.suffix in (".mp4", ".mkv"))

if not VIDEOS:
    pytest.skip("the clips are not here", allow_module_level=True)


def shape_and_times(path):
    """(height, width, 3) of the upright frames, and their times."""
    frames = [item.read() for item in read_video(str(path), 10**7)]
    return {frame.image.shape for frame in frames}, [frame.time for frame in frames]


@pytest.mark.parametrize("clip", VIDEOS, ids=lambda path: path.name)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_and_times_are_the_sources(ssdrt, tmp_path, clip, suffix):
    shapes, times = shape_and_times(clip)
    out = tmp_path / f"out{suffix}"
    assert ssdrt("detect", "frozen_inference_graph.pb", clip, "-o", out, "--engine", "null", "-q")[0] == 0
    written = shape_and_times(out)
    assert written[0] == shapes
    assert written[1] == pytest.approx(times, abs=1e-5 if suffix == ".mp4" else 6e-4)
