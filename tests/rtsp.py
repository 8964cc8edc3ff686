"""Starts the RTSP server of `rtsp_server.py` for tests and benchmarks, where its libraries are installed."""

import functools
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from ssdrt.sources.live import LiveSource, Patience
from ssdrt.sources.stream import parse_stream

SCENE = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={},height={},framerate={}/1"
ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay config-interval=1 name=pay0",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph265pay config-interval=1 name=pay0",
    "mjpeg": "jpegenc ! rtpjpegpay name=pay0",
}

QUICK = Patience(opening=10.0, stale=0.4, silent=1.5, first_pause=0.1, longest_pause=1.0, refused=3.0, settled=1.0)
"""Everything happens about ten times as soon as with the default."""


def scene(codec, width=320, height=240, rate=30):
    """A pipeline of a moving ball."""
    return f"{SCENE.format(width, height, rate)} ! {ENCODERS[codec]}"


@functools.cache
def server_python():
    """A Python that has the server's libraries, and None; or None, and why there is none."""
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    for python in filter(None, (shutil.which("python3", path="/usr/bin"), sys.executable)):
        if subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0:
            return python, None
    packages = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,bad,ugly}"
    return None, f"there is no RTSP server (Debian: {packages})"


@contextmanager
def rtsp_server(user=":", frames="", packets="", **mounts):
    """Run a server of these pipelines, of a FIFO with raw frames and a folder with packets; gives its port."""
    python, _ = server_python()
    command = [python, str(Path(__file__).with_name("rtsp_server.py")), "0", user]
    command += [f"{name}={pipeline}" for name, pipeline in mounts.items()]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "FRAMES": frames, "PACKETS": str(packets)},
    ) as server:
        try:
            yield int(server.stdout.readline())
        finally:
            server.stdin.close()
            server.kill()


class Watched:
    """A live source with a consumer that takes every frame it can, and all that happened to it.

    states: (seconds since the start, Status). frames: (index, time, arrived, taken, shape).
    """

    def __init__(self, address, patience=QUICK, name=None):
        self.states, self.frames, self.shapes = [], [], set()
        self._news = threading.Condition()
        self._over = False
        self._begin = time.monotonic()
        self.source = LiveSource(parse_stream(address), self._changed, patience)
        self._thread = threading.Thread(target=self._take, daemon=True, name=name)

    def __enter__(self):
        self.source.start()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over = True
        self._thread.join()
        self.source.close()

    def until(self, true, seconds=20):
        """Wait until `true(self)`; fails with what happened instead."""
        with self._news:
            if not self._news.wait_for(lambda: true(self), seconds):
                raise AssertionError(f"not within {seconds} s: {self.states}, {len(self.frames)} frames")

    def until_frames(self, count=5, seconds=20):
        """Wait for so many frames more."""
        wanted = len(self.frames) + count
        self.until(lambda _: len(self.frames) >= wanted, seconds)

    def until_state(self, state, words="", seconds=20):
        """Wait until the source is in a state, for a reason in which `words` stand."""

        def reached(_):
            last = self.states[-1][1] if self.states else self.source.status
            return last.state == state and words in last.reason

        self.until(reached, seconds)

    def _changed(self, status):
        with self._news:
            self.states.append((time.monotonic() - self._begin, status))
            self._news.notify_all()

    def _take(self):
        while not self._over:
            arrival = self.source.take(0.2)
            if arrival is not None:
                frame = arrival.frame
                with self._news:
                    self.frames.append((frame.index, frame.time, arrival.arrived, time.monotonic(), frame.image.shape))
                    self.shapes.add(frame.image.shape)
                    self._news.notify_all()
