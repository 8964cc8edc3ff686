"""`ssdrt view` on videos whose detections are known."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from ssdrt.detections import Detections
from ssdrt.sinks.draw import colour_of
from ssdrt.sinks.jsonl import JsonLines
from ssdrt.sinks.video import AnnotatedVideo
from ssdrt.sources import open_source
from ssdrt.sources.base import Frame
from xserver import DEADLINE, MISSING, display

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
    return record(tmp_path, COUNT)


def record(tmp_path, count):
    video, lines = AnnotatedVideo(str(tmp_path / "clip.mp4")), JsonLines(str(tmp_path / "found.jsonl"))
    for index in range(count):
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


def test_a_file_without_lines(ssdrt, recorded):
    (recorded / "found.jsonl").write_bytes(b"")
    code, _, err = ssdrt("view", recorded / "found.jsonl", recorded / "clip.mp4", "-o", recorded / "out.jsonl")
    assert (code, "has no line of a picture" in err) == (1, True)


@pytest.mark.parametrize("name", ["found.jsonl", "clip.mp4"])
def test_what_is_viewed_is_not_written_over(ssdrt, recorded, name):
    before = (recorded / name).read_bytes()
    code, _, err = ssdrt("view", recorded / "found.jsonl", recorded / "clip.mp4", "-o", recorded / name)
    assert (code, "is the input itself" in err) == (1, True)
    assert (recorded / name).read_bytes() == before


@contextmanager
def viewing(folder, *words, **environment):
    """`ssdrt view` of a minute of video, in a process of its own."""
    record(folder, 600)
    command = [sys.executable, "-m", "ssdrt", "view", folder / "found.jsonl", folder / "clip.mp4", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(bool(MISSING), reason=f"apt-get install {' '.join(MISSING).lower()}")
def test_in_a_window(tmp_path):
    pytest.importorskip("sdl2", reason="PySDL2, which opens the window, is not installed")

    def mask(image, class_id):
        return (image == colour_of(class_id)).all(axis=2)

    def labels():
        return [{one["label"] for one in row["detections"]} for row in records(tmp_path / "out.jsonl")]

    with (
        display(tmp_path) as x,
        viewing(tmp_path, "--show", "-o", tmp_path / "out.jsonl", **x.environment()) as process,
    ):
        image = x.until(lambda image: mask(image, 1).sum() > 200 and mask(image, 3).sum() > 200)
        rows, columns = np.nonzero(mask(image, 3))  # the car at (150, 20, 190, 60) of 240 x 160
        scale = (columns.max() - columns.min()) / 40
        assert scale > 3
        assert np.nonzero(mask(image, 1))[0].max() - rows.max() == pytest.approx(40 * scale, abs=6)
        x.press(*["plus"] * 9)  # from 0 to 0.45: the car has 0.4
        x.until(lambda image: mask(image, 1).sum() > 200 and not mask(image, 3).any())
        x.until(lambda _: {"person"} in labels())  # what is written follows
        x.press("Escape")
        assert process.wait(DEADLINE) == 0
    assert labels()[0] == {"person", "car"}


def test_on_a_page(tmp_path):
    pytest.importorskip("uvicorn", reason="uvicorn, which serves the page, is not installed")
    with viewing(tmp_path, "--web", "0", "--score", "0.2") as process:
        address = re.search(r"http://\S+", process.stderr.readline())[0]

        def until(true):
            for line in urllib.request.urlopen(f"{address}jsonl", timeout=DEADLINE):
                said = json.loads(line)
                if "detections" in said and true({one["label"] for one in said["detections"]}):
                    return

        def change(**settings):
            body, headers = json.dumps(settings).encode(), {"Content-Type": "application/json"}
            urllib.request.urlopen(urllib.request.Request(f"{address}settings", body, headers), timeout=DEADLINE)

        until(lambda labels: labels == {"person", "car"})
        change(score_threshold=0.5)
        until(lambda labels: labels == {"person"})
        change(score_threshold=0.2, classes=["car"])
        until(lambda labels: labels == {"car"})
        classes = json.load(urllib.request.urlopen(f"{address}state", timeout=DEADLINE))["classes"]
        assert {one["label"] for one in classes} == {"person", "car"}
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130


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
