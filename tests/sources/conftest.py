"""Pictures, clips and a web server for the tests of sources."""

import threading
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path):
    """A folder with three photos of different grey, and files that are none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for grey, name in ((10, "a.png"), (20, "b.png"), (30, "c.PNG")):
        Image.new("RGB", (6, 4), (grey,) * 3).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    (folder / "._a.png").write_bytes(b"resource fork")
    (folder / "below").mkdir()
    Image.new("RGB", (6, 4), (40, 40, 40)).save(folder / "below" / "d.png")
    return folder


@pytest.fixture
def make_clip():
    """Write a video whose frame i is grey 10 * (i % 20) + 20, with the time stamps given in milliseconds."""
    av = pytest.importorskip("av", reason="the extra `video` is not installed")

    def make(path, times=(0, 33, 67, 200), size=(64, 48), options=()):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=30, options={"flags": "+qscale", "global_quality": "118"})
            stream.width, stream.height = size
            stream.codec_context.time_base = Fraction(1, 1000)
            for name, value in options:
                getattr(stream, name)(value)
            for index, time in enumerate(times):
                image = np.full((size[1], size[0], 3), 10 * (index % 20) + 20, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make


@pytest.fixture
def serve():
    """Start a web server with one answer a path: (status, headers, body); gives its address.

    The headers of each request are put into `asked`.
    """
    servers = []

    def start(answers, asked=None):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if asked is not None:
                    asked.append(self.headers)
                status, headers, body = answers[self.path]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
