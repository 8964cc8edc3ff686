"""Real clips through `ssdrt detect`: every frame at its time, rotated ones upright, whatever the rate."""

import json
from pathlib import Path

import pytest

av = pytest.importorskip("av", reason="the extra `video` is not installed")
CLIPS = Path(__file__).parents[3] / "shared" / "data" / "clips"
FACTS = json.loads((CLIPS / "clips.json").read_text()) if CLIPS.is_dir() else {}
SHORT = sorted(name for name, facts in FACTS.items() if 0 < facts.get("frames", 0) < 100)


def stamps(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(frame.time, frame.rotation) for frame in container.decode(stream)]


@pytest.mark.skipif(not SHORT, reason="the clips are not beside the project (../shared/data/clips)")
@pytest.mark.parametrize("name", SHORT or ["none"])
def test_frames_and_times_of_a_clip_are_those_of_its_annotated_video(ssdrt, tmp_path, name):
    out, lines = tmp_path / "out.mp4", tmp_path / "found.jsonl"
    words = ("detect", "frozen_inference_graph.pb", CLIPS / name, "-o", out, "--json", lines, "--engine", "openvino")
    pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
    assert ssdrt(*words)[0] == 0
    wanted, made = stamps(CLIPS / name), stamps(out)
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(made) == len(wanted) == len(records) == FACTS[name]["frames"]
    assert [time for time, _ in made] == pytest.approx([time for time, _ in wanted], abs=1e-4)
    assert [record["time"] for record in records] == pytest.approx([time for time, _ in wanted], abs=1e-6)
    width, height = FACTS[name]["stored_size"]
    upright = (height, width) if FACTS[name]["rotation_reported"] % 180 else (width, height)
    assert {(record["width"], record["height"]) for record in records} == {upright}
