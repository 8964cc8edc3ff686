"""Real clips played in a loop by a real RTSP server, each a camera, all in one detector."""

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import pytest

from rtsp import rtsp_server, server_python

av = pytest.importorskip("av", reason="the extra `video` is not installed")
pytest.importorskip("openvino", reason="the extra `openvino` is not installed")
PYTHON, WHY = server_python()
CLIPS = Path(__file__).parents[3] / "shared" / "data" / "clips"
VIDEOS = sorted(path for path in CLIPS.glob("*") if path.suffix in (".mp4", ".mkv"))
pytestmark = [
    pytest.mark.skipif(PYTHON is None, reason=WHY or ""),
    pytest.mark.skipif(not VIDEOS, reason="the clips are not here"),
]

SECOND = 1_000_000_000
HEAD = struct.Struct("<qqq")
APPSRC = "appsrc name=packets is-live=true format=time block=true max-bytes=200000"
PAY = {
    "h264": f"{APPSRC} caps=video/x-h264,stream-format=byte-stream,alignment=au ! h264parse ! "
    "rtph264pay config-interval=-1 name=pay0",
    "hevc": f"{APPSRC} caps=video/x-h265,stream-format=byte-stream,alignment=au ! h265parse ! "
    "rtph265pay config-interval=-1 name=pay0",
    "mjpeg": f"{APPSRC} caps=image/jpeg ! jpegparse ! rtpjpegpay name=pay0",
}
ENCODED = {"sign_want_30fps.mkv": "hevc", "hand_ti1k_10fps.mp4": "mjpeg"}
"""Clips that are sent in another codec than their own; the others are sent as they are, in H.264."""


def copied(clip):
    """The packets of a clip in H.264, each with its times as fractions of a second."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        to_stream = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        for packet in container.demux(stream):
            for each in to_stream.filter(packet if packet.size else None):
                yield bytes(each), each.pts * each.time_base, (each.dts or 0) * each.time_base


def encoded(clip, codec):
    """The frames of a clip as packets of another codec, without frames that need later ones."""
    context = av.CodecContext.create({"hevc": "libx265", "mjpeg": "mjpeg"}[codec], "w")
    context.time_base, context.pix_fmt = Fraction(1, 1000), "yuvj420p" if codec == "mjpeg" else "yuv420p"
    if codec == "hevc":
        context.options = {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "keyint=15:log-level=none"}
    with av.open(str(clip)) as container:
        context.width, context.height = container.streams.video[0].width, container.streams.video[0].height
        for frame in container.decode(video=0):
            picture = frame.reformat(format=context.pix_fmt)
            picture.pts, picture.time_base = round(frame.time * 1000), context.time_base
            picture.pict_type = av.video.frame.PictureType.NONE
            for packet in context.encode(picture):
                yield bytes(packet), packet.pts * context.time_base, packet.pts * context.time_base
        for packet in context.encode(None):
            yield bytes(packet), packet.pts * context.time_base, packet.pts * context.time_base


def write_packets(path, packets):
    """For `rtsp_server.loop_packets`: from time 0, and how long it all takes."""
    rows = list(packets)
    begin, last = min(row[2] for row in rows), max(row[1] for row in rows)
    with path.open("wb") as file:
        for data, shown, decoded in rows:
            file.write(HEAD.pack(len(data), round((shown - begin) * SECOND), round((decoded - begin) * SECOND)) + data)
        file.write(HEAD.pack(0, round((last - begin + Fraction(1, 10)) * SECOND), 0))


def test_detections_of_every_clip_arrive(tmp_path):
    mounts, sizes = {}, {}
    for clip in VIDEOS:
        codec = ENCODED.get(clip.name, "h264")
        name = f"{codec}_{clip.stem.replace('.', '_')}"
        write_packets(tmp_path / name, copied(clip) if codec == "h264" else encoded(clip, codec))
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
                    seen[name] += "person" in {one["label"] for one in record["detections"]}
                if len(seen) == len(mounts) and min(seen.values()) >= 5:
                    break
            run.send_signal(signal.SIGINT)
            run.stdout.read()
            assert run.wait(20) == 130
        finally:
            deadline.cancel()
            run.kill()
            run.wait()
    assert min(seen.values()) >= 5, seen
