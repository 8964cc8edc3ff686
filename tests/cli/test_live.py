"""`ssdrt detect` with live sources: in this process where that will do, and in one of its own to be interrupted."""

import io
import json
import os
import random
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ssdrt.cli.predecessor import translate

DETECT = ("detect", "frozen_inference_graph.pb")
REFERENCE = ("--engine", "reference")


def children(pid):
    """Processes that `pid` started."""
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def gone(pid, seconds=10):
    """Whether a process ends in time."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended = select.select([handle], [], [], seconds)[0]
    os.close(handle)
    return bool(ended)


@pytest.fixture
def start(folder, cache):
    """Start `ssdrt` in a process of its own; it is at its first frames when this returns."""
    started = []

    def run(*words):
        command = [sys.executable, "-m", "ssdrt", *map(str, words)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
            env={**os.environ, "SSDRT_HOME": str(cache)}, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        for line in process.stderr:
            if "ONLINE" in line:
                return process
        raise AssertionError("it ended before it was online")

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_a_synthetic_scene_is_detected_and_written_with_its_states(ssdrt, tmp_path):
    code, out, err = ssdrt(*DETECT, "test:?size=160x120&rate=20&frames=10", "--json", tmp_path / "a.jsonl", *REFERENCE)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    frames = [line for line in lines if "detections" in line]
    assert (code, out) == (0, "")
    assert [line["state"] for line in lines if "state" in line] == ["OFFLINE", "ONLINE", "OFFLINE"]
    assert frames
    assert {line["source"] for line in frames} == {"test:?size=160x120&rate=20&frames=10"}
    assert ": ONLINE" in err
    assert f"{len(frames)} frames in " in err


def test_raw_frames_on_standard_input(ssdrt, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bytes(2 * 8 * 6))))
    words = ("rawvideo:?size=8x6&format=gray&rate=10", "--json", tmp_path / "a.jsonl", *REFERENCE)
    assert ssdrt(*DETECT, *words)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [(line["source"], line["time"]) for line in lines] == [("-", 0.0), ("-", 0.1)]


def test_what_can_never_work_ends_the_run(ssdrt):
    code, _, err = ssdrt(*DETECT, "gst:nosuchelement ! x", *REFERENCE)
    assert code == 1
    assert "GStreamer" in err


def test_streams_and_files_do_not_mix(ssdrt):
    code, _, err = ssdrt(*DETECT, "test:", "photo.png", *REFERENCE)
    assert (code, "two runs" in err) == (1, True)


@pytest.mark.parametrize(
    ("sources", "output", "words"),
    [
        (["test:", "test:"], "both.mp4", "holds one video, and there are 2 sources; give a folder"),
        (["rtsp://127.0.0.1:1/a"], "camera.jpg", "is one picture, and cameras give more; give a video or a folder"),
        (["rtsp://127.0.0.1:1/a"], "camera.json", "is one list"),
    ],
)
def test_an_output_that_cannot_hold_all_is_refused_before_a_frame_comes(ssdrt, tmp_path, sources, output, words):
    code, _, err = ssdrt(*DETECT, *sources, "-o", tmp_path / output, *REFERENCE)
    assert (code, words in err, "ONLINE" in err, "opening" in err) == (1, True, False, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_with_whole_lines_and_no_process(start, tmp_path, number):
    process = start(*DETECT, "test:?size=160x120", "test:?size=80x60", "--json", tmp_path / "a.jsonl", *REFERENCE)
    captures = children(process.pid)
    assert len(captures) == 2
    process.send_signal(number)
    process.wait(20)
    assert process.returncode == 128 + number
    assert all(map(gone, captures))
    for line in (tmp_path / "a.jsonl").read_text().splitlines():
        assert json.loads(line)["source"].startswith("test:")


def test_killed_it_leaves_no_process(start, tmp_path):
    process = start(*DETECT, "test:?size=160x120", "-o", tmp_path / "a.jsonl", *REFERENCE)
    captures = children(process.pid)
    assert captures
    process.kill()
    process.wait()
    assert all(map(gone, captures))


def test_a_capture_process_that_is_killed_is_replaced(start, tmp_path):
    process = start(*DETECT, "test:?size=160x120", "-o", tmp_path / "a.jsonl", *REFERENCE)
    os.kill(random.choice(children(process.pid)), signal.SIGKILL)
    said = [next(line for line in process.stderr if state in line) for state in ("OFFLINE", "ONLINE")]
    assert "the capture process died: killed by SIGKILL; next try in" in said[0]
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--usb 1 --model ssd_mobilenet_v1_coco", "ssd_mobilenet_v1_coco_2018_01_28 camera:1 --show"),
        ("--image huskies.jpg --model ssd_mobilenet_v1_coco", "ssd_mobilenet_v1_coco_2018_01_28 huskies.jpg --show"),
        ("--model my.pb --image --filename huskies.jpg", "my.pb huskies.jpg --show"),
        ("--video clip.mp4 --video_looping -m my.pb", "my.pb clip.mp4 --video_looping --show"),
        ("--model my.pb --file --filename clip.mp4", "my.pb clip.mp4 --show"),
        ("--rtsp rtsp://host/a --rtsp_latency 100 -m my.pb", "my.pb rtsp://host/a --rtsp_latency 100 --show"),
        ("--rtsp --uri rtsp://host/a -m my.pb", "my.pb rtsp://host/a --show"),
        ("--usb --vid 1 --width 1280 --height 720 -m my.pb", "my.pb camera:1 --width 1280 --height 720 --show"),
        ("--onboard 0 --copy_frame -m my.pb", "my.pb csi:0 --show"),
        ("--gstr v4l2src -m my.pb", "my.pb gst:v4l2src --show"),
        ("--usb 0", "ssd_mobilenet_v1_coco_2018_01_28 camera:0 --show"),
        ("--usb 0 --video clip.mp4 -m my.pb", "my.pb clip.mp4 --show"),
        ("--image a.jpg -m my.pb -o b.jpg", "my.pb a.jpg -o b.jpg"),
        ("--model my.pb a.jpg b.jpg", "my.pb a.jpg b.jpg"),
        ("my.pb a.jpg --show", "my.pb a.jpg --show"),
    ],
)
def test_the_predecessors_words_become_ours(line, words):
    assert translate(line.split()) == words.split()


def test_the_predecessors_command_lines_run(ssdrt, tmp_path):
    out = tmp_path / "out.png"
    code, *_ = ssdrt("detect", "--image", "photo.png", "--model", "frozen_inference_graph.pb", "-o", out, *REFERENCE)
    assert code == 0
    assert out.exists()


def test_resized(ssdrt, tmp_path):
    options = ("--do_resize", "--width", "240", "--height", "180", "--json", tmp_path / "a.jsonl", *REFERENCE)
    code, *_ = ssdrt("detect", "--image", "photo.png", "-m", "frozen_inference_graph.pb", *options)
    record = json.loads((tmp_path / "a.jsonl").read_text())
    assert (code, record["width"], record["height"]) == (0, 240, 180)
