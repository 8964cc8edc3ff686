"""Annotated videos of real clips: rotated, of variable rate, with dropped frames. Skipped where the clips are not."""

from pathlib import Path

import pytest

from ssdrt.sources.video import read_video

pytest.importorskip("av", reason="videos need the extra `video`")

CLIPS = Path(__file__).parents[3] / "shared" / "data" / "clips"
VIDEOS = sorted(path for path in CLIPS.glob("*") if path.suffix in (".mp4", ".mkv"))

if not VIDEOS:
    pytest.skip("the clips are not here", allow_module_level=True)


def shapes_and_times(path):
    """(height, width, 3) of the upright frames, every tenth looked at, and the times of all."""
    items = list(read_video(str(path), 10**7))
    return {item.read().image.shape for item in items[::10]}, [item.time for item in items]


@pytest.mark.parametrize("clip", VIDEOS, ids=lambda path: path.name)
def test_frames_and_times_are_the_sources(ssdrt, tmp_path, clip):
    mp4, mkv = tmp_path / "out.mp4", tmp_path / "out.mkv"
    assert ssdrt("detect", "frozen_inference_graph.pb", clip, "-o", mp4, "-o", mkv, "--engine", "null", "-q")[0] == 0
    shapes, times = shapes_and_times(clip)
    for out, exact in ((mp4, 1e-5), (mkv, 6e-4)):
        written = shapes_and_times(out)
        assert written[0] == shapes
        assert written[1] == pytest.approx(times, abs=exact)
