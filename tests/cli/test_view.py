"""`ssdrt view` on videos whose detections are known."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from ssdrt.detections import Detections
from ssdrt.sinks.jsonl import JsonLines
from ssdrt.sinks.video import AnnotatedVideo
from ssdrt.sources import open_source
from ssdrt.sources.base import Frame

pytest.importorskip("av", reason="videos need the extra `video`")

COUNT = 20


def found(index):
    """A person that goes right, and a faint car that stands."""
    boxes = np.array([[10 + 5 * index, 20, 50 + 5 * index, 100], [150, 20, 190, 60]], np.float32)
    scores, ids = np.array([0.9, 0.4], np.float32), np.array([1, 3])
    return Detections(boxes, scores, ids, np.array(["person", "car"]), 240, 160)


@pytest.fixture
def recorded(tmp_path):
    """clip.mp4 of grey frames, and found.jsonl of it, in which every fifth frame has no line."""
    video, lines = AnnotatedVideo(str(tmp_path / "clip.mp4")), JsonLines(str(tmp_path / "found.jsonl"))
    for index in range(COUNT):
        frame = Frame(np.full((160, 240, 3), 90, np.uint8), "camera", index, 2 + index / 10)
        video.write(frame, replace(found(index)[:0]))
        if index % 5 != 4:
            lines.write(frame, found(index))
    video.close()
    lines.close()
    return tmp_path


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def view(ssdrt, folder, *options):
    """The records that `view` chooses."""
    words = (folder / "found.jsonl", folder / "clip.mp4", "-o", folder / "out.jsonl", *options)
    code, out, err = ssdrt("view", *words, "-q")
    assert (code, out, err) == (0, "", "")
    return records(folder / "out.jsonl")


def test_every_frame_comes_with_what_was_found_in_it(ssdrt, recorded):
    rows = view(ssdrt, recorded)
    assert [row["index"] for row in rows] == list(range(COUNT))
    for index, row in enumerate(rows):
        boxes = [one["box"] for one in row["detections"]]
        assert boxes == ([] if index % 5 == 4 else found(index).boxes_xyxy.tolist())


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        (("--score", "0.5"), {"person"}),
        (("--score", "0.3"), {"person", "car"}),
        (("--score", "car=0.5,0.3"), {"person"}),
        (("--classes", "car"), {"car"}),
        (("--classes", "3,person"), {"person", "car"}),
        (("--score", "1"), set()),
    ],
)
def test_threshold_and_classes_choose(ssdrt, recorded, options, labels):
    rows = view(ssdrt, recorded, *options)
    assert {one["label"] for row in rows for one in row["detections"]} == labels


def test_tracks_and_lines_without_an_engine(ssdrt, recorded):
    rows = view(ssdrt, recorded, "--line", "gate=0.4,1,0.4,0")
    assert {one["track_id"] for row in rows for one in row["detections"] if one["label"] == "person"} == {1}
    assert rows[-2]["lines"]["gate"]["in"] == {"person": 1}


def test_the_video_has_the_boxes_drawn(ssdrt, recorded):
    words = (recorded / "found.jsonl", recorded / "clip.mp4", "-o", recorded / "out.mp4", "-q")
    assert ssdrt("view", *words)[0] == 0
    frames = [item.read() for item in open_source(str(recorded / "out.mp4")).items]
    assert [frame.time for frame in frames] == pytest.approx(2 + np.arange(COUNT) / 10)
    differs = [bool((np.abs(frame.image.astype(int) - 90) > 40).any()) for frame in frames]
    assert differs == [index % 5 != 4 for index in range(COUNT)]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda row: {**row, "time": row["time"] + 100}, "no frame of .* has the time of a line"),
        (lambda row: {**row, "source": f"camera{row['index'] % 2}"}, "has lines of camera0, camera1; which"),
        (lambda row: {**row, "width": None}, "line 1 is no record"),
    ],
)
def test_lines_that_do_not_belong_to_the_video(ssdrt, recorded, change, problem):
    path = recorded / "found.jsonl"
    path.write_text("".join(json.dumps(change(row)) + "\n" for row in records(path)))
    code, _, err = ssdrt("view", path, recorded / "clip.mp4", "-o", recorded / "out.jsonl", "-q")
    assert code == 1
    assert re.search(problem, err)


def test_lines_of_several_videos_are_told_apart_by_name(ssdrt, recorded):
    path = recorded / "found.jsonl"
    rows = records(path)
    other = [{**row, "source": "elsewhere/other.mp4", "detections": []} for row in rows]
    mine = [{**row, "source": "elsewhere/clip.mp4"} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for pair in zip(other, mine, strict=True) for row in pair))
    assert len(view(ssdrt, recorded)[0]["detections"]) == 2


def test_a_part_of_a_recording_is_refused(ssdrt, recorded):
    (recorded / "clip.mp4").rename(recorded / "clip_001.mp4")
    words = (recorded / "found.jsonl", recorded / "clip_001.mp4", "-o", recorded / "out.jsonl")
    code, _, err = ssdrt("view", *words)
    assert code == 1
    assert "named like a part of a recording" in err


def test_a_class_that_is_in_no_line_cannot_be_blurred(ssdrt, recorded):
    words = (recorded / "found.jsonl", recorded / "clip.mp4", "-o", recorded / "out.mp4", "--blur", "persn")
    code, _, err = ssdrt("view", *words)
    assert code == 1
    assert "has the class 'persn'; they have car, person" in err


@pytest.mark.parametrize("region", ["zone=a=0,0,9,0,9,9", "line=a=0,0,9,9"])
def test_two_zones_or_lines_of_one_name_are_refused(ssdrt, recorded, region):
    option = f"--{region}"
    code, _, err = ssdrt("view", recorded / "found.jsonl", recorded / "clip.mp4", option, option, "-o", "out.mp4")
    assert code == 1
    assert "have one name: a, a; give each its own" in err
