"""Real clips played in a loop by a real RTSP server, each a camera, all in one detector."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

import pytest

from rtsp import rtsp_server, server_python

av = pytest.importorskip("av", reason="the extra `video` is not installed")
pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
from packets import PAY, copied, encoded, frames, write_packets  # noqa: E402

PYTHON, WHY = server_python()
CLIPS = Path(__file__).parents[3] / "shared" / "data" / "clips"
VIDEOS = sorted(path for path in CLIPS.glob("*") if path.suffix in (".mp4", ".mkv"))
pytestmark = [
    pytest.mark.skipif(PYTHON is None, reason=WHY or ""),
    pytest.mark.skipif(not VIDEOS, reason="the clips are not here"),
]

ENCODED = {"sign_want_30fps.mkv": "hevc", "hand_ti1k_10fps.mp4": "mjpeg"}
"""Clips that are sent in another codec than their own; the others are sent as they are, in H.264."""


def test_detections_of_every_clip_arrive(tmp_path):
    mounts, sizes = {}, {}
    for clip in VIDEOS:
        codec = ENCODED.get(clip.name, "h264")
        name = f"{codec}_{clip.stem.replace('.', '_')}"
        write_packets(tmp_path / name, copied(clip) if codec == "h264" else encoded(frames(clip), codec))
        mounts[name] = PAY[codec]
        with av.open(str(clip)) as container:
            sizes[name] = container.streams.video[0].width, container.streams.video[0].height
    seen, last = defaultdict(int), {}
    with rtsp_server(packets=tmp_path, **mounts) as port:
        cameras = [f"rtsp://127.0.0.1:{port}/{name}" for name in mounts]
        words = ("detect", "person-hand", *cameras, "--json", "-", "--engine", "openvino", "--score", "0.4", "-q")
        run = subprocess.Popen(
            [sys.executable, "-m", "ssdrt", *words], stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "SSDRT_HOME": str(tmp_path / "cache")},
        )  # fmt: skip
        deadline = threading.Timer(120, run.kill)
        deadline.start()
        try:
            for line in run.stdout:
                record = json.loads(line)
                name = record["source"].rpartition("/")[2]
                if "detections" in record:
                    assert (record["width"], record["height"]) == sizes[name]  # RTSP says nothing of rotation
                    assert record["time"] > last.get(name, -1)
                    last[name] = record["time"]
                    seen[name] += bool(record["detections"])
                if len(seen) == len(mounts) and min(seen.values()) >= 3:
                    break
            run.send_signal(signal.SIGINT)
            run.stdout.read()
            assert run.wait(20) == 130
        finally:
            deadline.cancel()
            run.kill()
            run.wait()
    assert min(seen.values()) >= 3, seen
