"""Live sources that need no RTSP server: HTTP, HLS, GStreamer, the screen."""

import io
import os
import shutil
import subprocess
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from rtsp import Watched
from ssdrt.sources.scene import draw_scene, read_index
from ssdrt.sources.stream import parse_stream

av = pytest.importorskip("av", reason="the extra `video` is not installed")


def serve(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


class Mjpeg(BaseHTTPRequestHandler):
    """Sends numbered JPEGs for ever, or as many as the path says."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        try:
            for index in range(int(self.path.strip("/") or 100_000)):
                file = io.BytesIO()
                Image.fromarray(draw_scene(index, 160, 120)).save(file, "JPEG")
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {file.tell()}\r\n\r\n"
                self.wfile.write(head.encode() + file.getvalue() + b"\r\n")
                if self.server.stopping.wait(0.02):
                    return
        except OSError:
            pass

    def log_message(self, *_):
        pass


@pytest.fixture
def camera():
    server = serve(Mjpeg)
    server.stopping = threading.Event()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.stopping.set()
    server.shutdown()
    server.server_close()


def test_mjpeg_over_http_is_known_by_what_the_server_says(camera):
    assert parse_stream(camera) is not None
    with Watched(camera) as watched:
        watched.until_frames(10)
    assert watched.shapes == {(120, 160, 3)}


def test_mjpeg_that_ends_is_opened_again(camera):
    with Watched(camera + "20") as watched:
        watched.until_state("OFFLINE", "next try in")
        watched.until(lambda it: it.source.status.reconnects >= 1)
        watched.until_frames()


def test_hls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with av.open("live.m3u8", "w", format="hls", options={"hls_time": "1", "hls_list_size": "0"}) as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height = 160, 120
        for index in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_scene(index, 160, 120))))
        container.mux(stream.encode(None))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.func.log_message = lambda *_: None
    server = serve(handler)
    with Watched(f"http://127.0.0.1:{server.server_port}/live.m3u8") as watched:
        watched.until_frames(5)  # which come at their own pace, not as fast as they can be read
        watched.until(lambda it: it.source.ended)
        assert watched.source.status.reconnects == 0
    assert watched.shapes == {(120, 160, 3)}
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="there is no GStreamer (gst-launch-1.0)")
def test_a_pipeline_of_gstreamer():
    with Watched(
        "gst:videotestsrc is-live=true num-buffers=60 ! video/x-raw,width=160,height=120,framerate=30/1"
    ) as watched:
        watched.until_frames(10)
        watched.until(lambda it: it.source.ended)
    assert watched.shapes == {(120, 160, 3)}
    assert watched.source.error is None


@pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="there is no GStreamer (gst-launch-1.0)")
def test_a_pipeline_that_fails_says_so():
    with Watched("gst:filesrc location=/nowhere ! decodebin") as watched:
        watched.until_state("OFFLINE", "the pipeline failed: ")


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="there is no Xvfb")
def test_the_screen():
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "320x240x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        os.close(write)
        with os.fdopen(read) as file:
            number = file.readline().strip()
        with Watched(f"screen::{number}?rate=20") as watched:
            watched.until_frames(5)
        server.terminate()
    assert watched.shapes == {(240, 320, 3)}


def test_the_scene_tells_which_frame_it_is():
    for index in (0, 1, 37, 1000):
        assert read_index(draw_scene(index, 320, 240)) == index
