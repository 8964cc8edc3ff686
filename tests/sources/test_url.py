"""Pictures from a real web server on this machine."""

import base64
import io
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from ssdrt.errors import SourceError
from ssdrt.sources import open_source, video
from ssdrt.sources.credentials import hide_credentials
from ssdrt.sources.stream import parse_stream
from ssdrt.sources.url import _read, fetch, kind_of


@pytest.fixture
def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 3), (1, 2, 3)).save(file, "PNG")
    return file.getvalue()


def test_picture_is_fetched_when_it_is_read(serve, picture):
    address = serve({"/b%C3%A4r.png?size=5&x=1": (200, {}, picture)}) + "/bär.png?size=5&x=1"
    source = open_source(address)
    frame = next(source.items).read()
    assert source.length == 1
    assert frame.source == address
    np.testing.assert_array_equal(frame.image, np.full((3, 5, 3), (1, 2, 3)))


def test_redirections_are_followed(serve, picture):
    address = serve({"/old": (302, {"Location": "/new"}, b""), "/new": (200, {}, picture)})
    assert fetch(address + "/old") == picture


@pytest.mark.parametrize("elsewhere", ["file:///etc/hostname", "ftp://127.0.0.1/a.png", "data:,x"])
def test_redirections_lead_to_the_web_only(serve, elsewhere):
    address = serve({"/": (302, {"Location": elsewhere}, b"")})
    with pytest.raises(SourceError, match="cannot be fetched"):
        fetch(address + "/")


def test_endless_redirection_ends(serve):
    with pytest.raises(SourceError):
        fetch(serve({"/": (302, {"Location": "/"}, b"")}) + "/")


def test_error_status_is_named(serve):
    with pytest.raises(SourceError, match="404"):
        fetch(serve({"/": (404, {}, b"gone")}) + "/")


def test_too_large_body_is_not_read_to_its_end(serve):
    address = serve({"/": (200, {}, bytes(300_000))})
    assert len(fetch(address + "/", max_bytes=300_000)) == 300_000
    with pytest.raises(SourceError, match="larger than 1000 bytes"):
        fetch(address + "/", max_bytes=1000)


def test_slow_body_is_given_up_at_the_deadline():
    with pytest.raises(SourceError, match="too slowly"):
        _read(io.BytesIO(bytes(10)), "address", max_bytes=100, deadline=time.monotonic())


def test_silent_server_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(SourceError, match="timed out"):
        fetch(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.1)


def test_page_instead_of_a_picture(serve):
    address = serve({"/": (200, {"Content-Type": "text/html"}, b"<html>")}) + "/"
    with pytest.raises(SourceError, match="not a picture"):
        next(open_source(address).items).read()


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1/a.png", "http://[::1", "http://", "http://a b/", "http://x:y/"]
)
def test_what_cannot_be_reached_says_so(address):
    with pytest.raises(SourceError, match="cannot be fetched"):
        fetch(address, timeout=1)


def test_password_is_not_shown():
    assert hide_credentials("https://me:secret@host/a@b.png") == "https://b.png"  # more rather than less
    with pytest.raises(SourceError) as caught:
        fetch("http://me:secret@127.0.0.1:1/a.png", timeout=1)
    assert "secret" not in str(caught.value)


def test_password_in_the_address_is_sent_to_its_server_alone(serve, picture):
    asked = []
    elsewhere = serve({"/": (200, {}, picture)}, asked)
    first = serve({"/": (200, {}, picture), "/away": (302, {"Location": elsewhere + "/"}, b"")}, asked)
    first = first.replace("//", "//me:p%40ss@")
    assert fetch(first + "/") == fetch(first + "/away") == picture
    secret = "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert [headers["Authorization"] for headers in asked] == [secret, secret, None]


def test_what_asks_for_a_password_or_does_not_answer_is_a_camera_unless_it_is_named_like_a_picture(serve):
    answers = {"/video": (401, {}, b""), "/": (404, {}, b""), "/page": (200, {"Content-Type": "text/html"}, b"")}
    address = serve(answers)
    assert kind_of(address + "/video") == "stream"
    assert kind_of(address + "/") == "picture"
    assert kind_of(address + "/page") == "picture"
    assert kind_of("http://me:secret@127.0.0.1:1/video") == "stream"
    assert kind_of("http://me:secret@127.0.0.1:1/a.jpg") == "picture"
    assert kind_of("http:///a") == "picture"
    assert kind_of("http://a b/") == "picture"


@pytest.mark.parametrize("path", ["/clip.mkv", "/clip"])
def test_a_video_whose_length_is_known_is_read_like_a_file(serve, make_clip, tmp_path, path):
    clip = make_clip(tmp_path / "clip.mkv", times=range(0, 4000, 40))
    data = clip.read_bytes()
    length = {"Content-Length": str(len(data)), "Content-Type": "video/x-matroska"}
    address = serve({path: (200, length, data)}).replace("http://", "http://bob:secret@") + path
    assert parse_stream(address) is None
    frames = [item.read() for item in open_source(address).items]
    assert [frame.index for frame in frames] == list(range(100))
    assert [round(frame.time, 3) for frame in frames] == [round(0.04 * index, 3) for index in range(100)]
    assert {frame.source for frame in frames} == {address.replace("bob:secret@", "")}


def test_a_video_of_which_nothing_more_comes_is_given_up(make_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "PATIENCE", 1.0)
    data, stuck = make_clip(tmp_path / "clip.mkv", times=range(0, 4000, 40)).read_bytes(), threading.Event()

    class Stuck(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            stuck.wait(30)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Stuck) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            with pytest.raises(SourceError, match="nothing came for 1 s"):
                list(video.read_video(f"http://127.0.0.1:{server.server_port}/clip.mkv", 10**7))
        finally:
            stuck.set()
            server.shutdown()


def test_a_video_without_a_length_is_a_stream(serve, make_clip, tmp_path):
    data = make_clip(tmp_path / "clip.mkv").read_bytes()
    address = serve({"/clip.mkv": (200, {"Content-Type": "video/x-matroska"}, data)})
    assert kind_of(address + "/clip.mkv") == "stream"


def test_a_video_that_is_not_there_or_cut_off_says_so_without_its_password(serve, make_clip, tmp_path):
    data = make_clip(tmp_path / "clip.mkv").read_bytes()
    answers = {"/clip.mkv": (200, {"Content-Length": str(len(data)), "Content-Type": "video/x-matroska"}, data)}
    address = serve(answers).replace("http://", "http://bob:secret@") + "/clip.mkv"
    source = open_source(address)
    answers["/clip.mkv"] = (404, {}, b"")
    with pytest.raises(SourceError, match="404") as caught:
        next(source.items).read()
    assert "secret" not in str(caught.value)
