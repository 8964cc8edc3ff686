"""Recordings that are broken off: what is left plays, lines are whole, no process stays.

bench/interrupted.py does it at random moments, many times.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import ssdrt
from ssdrt.sinks.video import AnnotatedVideo
from ssdrt.sources.base import Frame
from ssdrt.sources.video import read_video

pytest.importorskip("av", reason="videos need the extra `video`")

COUNT = 400


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Forty seconds of noise, 64 x 48."""
    from ssdrt.detections import Detections

    none = np.zeros(0, np.float32)
    nothing = Detections(none.reshape(0, 4), none, none.astype(int), none.astype(str), 64, 48)
    path, rng = tmp_path_factory.mktemp("clip") / "clip.mp4", np.random.default_rng(0)
    video = AnnotatedVideo(str(path))
    for index in range(COUNT):
        video.write(Frame(rng.integers(0, 256, (48, 64, 3), np.uint8), "camera", index, index / 10), nothing)
    video.close()
    return path


def start(clip, out, largest=resource.RLIM_INFINITY):
    """The run in a process group of its own, whose files may have `largest` bytes; its JSON lines come on a pipe."""

    def prepare():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # tests that run in the background may have it ignored
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

    environment = {**os.environ, "PYTHONPATH": str(Path(ssdrt.__file__).parents[1])}
    words = ("detect", "frozen_inference_graph.pb", clip, "-o", out, "--json", "-", "--engine", "reference", "-q")
    run = subprocess.Popen(
        [sys.executable, "-m", "ssdrt", *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=prepare,
    )  # fmt: skip
    deadline = threading.Timer(120, run.kill)  # one that hangs fails its test, and does not keep all the others waiting
    deadline.daemon = True
    deadline.start()
    return run


def times(path):
    """The times of a video in which no frame is damaged."""
    return [item.read().time for item in read_video(str(path), 64 * 48)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_a_video_that_plays(clip, tmp_path, suffix, sent):
    run = start(clip, tmp_path / f"out{suffix}")
    lines = [run.stdout.readline() for _ in range(150)]
    os.killpg(run.pid, sent)
    lines += run.stdout.readlines()  # `communicate` would pass over those that are in the buffer
    run.communicate(timeout=60)
    assert [json.loads(line)["index"] for line in lines] == list(range(len(lines)))
    assert lines[-1].endswith(b"\n")
    (left,) = tmp_path.iterdir()
    seen = times(left)
    assert seen == pytest.approx(np.arange(len(seen)) / 10, abs=1e-3)
    if sent != signal.SIGKILL:
        assert run.returncode == 128 + sent
        assert left.name == f"out{suffix}"
        assert len(seen) - len(lines) in (0, 1)  # it may fall between the two outputs
    else:
        assert left.name == f"out{suffix}.part"
        assert 50 <= len(seen) <= len(lines)
    with pytest.raises(ProcessLookupError):
        os.killpg(run.pid, 0)


def test_a_full_disk_leaves_a_video_that_plays(clip, tmp_path):
    run = start(clip, tmp_path / "out.mp4", clip.stat().st_size // 2)
    _, told = run.communicate(timeout=120)
    assert run.returncode == 1
    assert b"cannot be written: " in told
    assert b"what was written before is kept" in told
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert 20 <= len(times(tmp_path / "out.mp4")) < COUNT


@pytest.fixture
def small_disk(tmp_path, clip):
    """A file system of half the clip's size."""
    size = clip.stat().st_size // 2 // 4096 * 4096
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(tmp_path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_full_file_system_leaves_a_video_that_plays(clip, small_disk):
    run = start(clip, small_disk / "out.mp4")
    _, told = run.communicate(timeout=120)
    assert run.returncode == 1
    assert b"No space left on device" in told
    assert told.count(b"\n") == 1
    assert [path.name for path in small_disk.iterdir()] == ["out.mp4"]
    assert 20 <= len(times(small_disk / "out.mp4")) < COUNT


def test_a_full_file_system_leaves_whole_lines(clip, small_disk):
    (small_disk / "fill").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096 - 3 * 4096))
    words = (
        "detect",
        "frozen_inference_graph.pb",
        clip,
        "--json",
        small_disk / "a.jsonl",
        "--engine",
        "reference",
        "-q",
    )
    run = subprocess.run([sys.executable, "-m", "ssdrt", *words], capture_output=True, check=False, timeout=120)
    assert run.returncode == 1
    assert b"No space left on device" in run.stderr
    lines = (small_disk / "a.jsonl").read_text().splitlines(keepends=True)
    assert 0 < len(lines) < COUNT
    assert [json.loads(line)["index"] for line in lines] == list(range(len(lines)))
    assert lines[-1].endswith("\n")
