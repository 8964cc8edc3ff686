"""The live page over HTTP: who is let in, what programs get, what slow and many viewers do."""

import http.client
import io
import json
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image

from scene import LABELS, Scene, detections, page_of, still

pytest.importorskip("uvicorn", reason="uvicorn, which serves the page, is not installed")
pytest.importorskip("starlette", reason="starlette, which serves the page, is not installed")

from ssdrt.errors import SinkError
from ssdrt.serve import pictures
from ssdrt.serve.server import TOKEN, LivePage, read_address
from ssdrt.sinks.draw import annotate
from ssdrt.sinks.jsonl import read_jsonl

SECRET = "correct-horse-battery"


@pytest.fixture
def page():
    """A page of a run at 30 fps, for this machine only."""
    with Scene() as scene, page_of(scene) as page:
        page.scene = scene
        yield page


@pytest.fixture
def open_page(monkeypatch):
    """A page that others might reach; it needs a token."""
    monkeypatch.setenv(TOKEN, SECRET)
    with Scene() as scene, page_of(scene, "0.0.0.0") as page:
        yield page


def ask(page, path, method="GET", body=None, **headers):
    """Status, headers and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=20)
    fixed = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body if body is None else json.dumps(body), fixed)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def stream(page, path):
    """A file of an answer without end, behind its headers."""
    connection = socket.create_connection(("127.0.0.1", page.port), timeout=20)
    connection.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
    file = connection.makefile("rb")
    status = int(file.readline().split()[1])
    while file.readline().strip():
        pass
    return status, file, connection


def next_picture(file):
    """The next picture of an MJPEG stream."""
    while not (line := file.readline()).lower().startswith(b"content-length"):
        assert line
    file.readline()
    return np.asarray(Image.open(io.BytesIO(file.read(int(line.split(b":")[1])))))


def wait_for(condition, seconds=20.0):
    """Look until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def test_the_page_and_its_headers(page):
    for path, kind in {
        "/": "text/html",
        "/page.css": "text/css",
        "/page.js": "text/javascript",
        "/icon.svg": "image/svg",
    }.items():
        status, headers, body = ask(page, path)
        assert status == 200
        assert headers["content-type"].startswith(kind)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"https://" not in body


def test_mjpeg_is_the_drawn_picture_and_moves(page):
    _, file, connection = stream(page, "/mjpeg/0")
    pictures = [next_picture(file) for _ in range(3)]
    connection.close()
    assert pictures[0].shape == (240, 320, 3)
    assert (pictures[0] != pictures[-1]).any()


def test_picture_holds_the_boxes_and_the_threshold_acts_on_a_picture_that_stands():
    with still() as scene, page_of(scene) as page:
        scene.post(5)
        image, found = scene.board.snapshots()[0][1].frame.image, detections(5)
        _, file, connection = stream(page, "/mjpeg/0")
        for kept in (found, found[:1]):
            difference = np.abs(next_picture(file).astype(int) - annotate(image, kept)).mean()
            assert difference < 3
            ask(page, "/settings", "POST", {"score_threshold": 0.5})
        connection.close()


def test_json_lines_are_those_of_the_files_and_say_how_the_source_is(page, tmp_path):
    _, file, connection = stream(page, "/jsonl")
    lines = [file.readline() for _ in range(3)]
    connection.close()
    (tmp_path / "live.jsonl").write_bytes(b"".join(lines))
    records = list(read_jsonl(tmp_path / "live.jsonl"))
    assert [one.index for one in records] == sorted({one.index for one in records})
    np.testing.assert_array_equal(records[0].found.boxes_xyxy, detections(records[0].index).boxes_xyxy)
    last = json.loads(lines[-1])
    assert (last["state"], last["dropped"], last["counts"]) == ("ONLINE", 7, {"ball": 1, "box": 1})


def test_events_are_server_sent_events(page):
    _, file, connection = stream(page, "/events")
    line, blank = file.readline(), file.readline()
    connection.close()
    assert json.loads(line.removeprefix(b"data: "))["source"] == "camera:0"
    assert blank == b"\n"


def test_an_event_is_told_once_to_everybody():
    with still() as scene, page_of(scene) as page:
        scene.post(1)
        (_, jsonl, _), (_, events, _) = stream(page, "/jsonl"), stream(page, "/events")
        assert b'"events"' not in jsonl.readline() + events.readline() + events.readline()
        scene.post(2, events=[{"line": "door", "kind": "in", "track_id": 4, "label": "ball"}])
        first = json.loads(jsonl.readline())
        assert first["events"] == [{"number": 1, "line": "door", "kind": "in", "track_id": 4, "label": "ball"}]
        assert b'"events"' in events.readline() + events.readline()
        for score in (0.5, 0.6):
            ask(page, "/settings", "POST", {"score_threshold": score})
            assert "events" not in json.loads(jsonl.readline())
        scene.post(3, events=[{"line": "door", "kind": "out", "track_id": 4, "label": "ball"}])
        assert [event["number"] for event in json.loads(jsonl.readline())["events"]] == [2]


def test_settings_reach_the_run_and_are_checked(page):
    assert ask(page, "/settings", "POST", {"score_threshold": 0.7, "classes": ["ball"]})[0] == 200
    assert page.scene.controls.settings.score_threshold == 0.7
    assert page.scene.controls.settings.classes == ("ball",)
    bad = [{"score_threshold": 2}, {"score_threshold": True}, {"classes": ["whale"]}, {"classes": "ball"},
           {"paused": 1}, {"speed": 1}, [], None, {"classes": ["x" * 70_000]}]  # fmt: skip
    for body in bad:
        assert ask(page, "/settings", "POST", body)[0] == 400, body
    assert page.scene.controls.settings.classes == ("ball",)
    assert ask(page, "/settings", "POST", {"classes": None})[0] == 200
    assert page.scene.controls.settings.classes is None


def test_settings_are_not_changed_by_a_foreign_page(page):
    foreign = ask(page, "/settings", "POST", {"score_threshold": 0.7}, Origin="http://evil.example")
    assert foreign[0] == 403
    own = f"http://127.0.0.1:{page.port}"
    assert ask(page, "/settings", "POST", {"score_threshold": 0.7}, Origin=own)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "", "[::1].evil.example"]
)
def test_foreign_host_header_is_refused(page, host):
    for path in ("/", "/state", "/live"):
        assert ask(page, path, Host=host)[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8080", "[::1]:8080", "LOCALHOST", "192.168.1.5:8080"])
def test_own_names_and_addresses_are_known(page, host):
    assert ask(page, "/state", Host=host)[0] == 200


def test_nothing_is_seen_without_the_token(open_page):
    for path in ("/state", "/live", "/mjpeg/0", "/jsonl", "/events", "/snapshot/0.jpg", "/nowhere"):
        assert ask(open_page, path)[0] == 401
        assert ask(open_page, path, Authorization="Bearer wrong")[0] == 401
        assert ask(open_page, path, Cookie=f"ssdrt_{open_page.port}=wrong")[0] == 401
    assert ask(open_page, "/settings", "POST", {"score_threshold": 0.7})[0] == 401
    assert ask(open_page, "/login", "POST", {"token": "wrong"})[0] == 403
    assert ask(open_page, "/login", "POST", {"token": None})[0] == 403


def test_the_token_opens(open_page):
    assert SECRET not in open_page.address  # it is in the environment already
    assert ask(open_page, "/state", Authorization=f"Bearer {SECRET}")[0] == 200
    status, headers, _ = ask(open_page, "/login", "POST", {"token": SECRET})
    assert status == 204
    assert "HttpOnly" in headers["set-cookie"]
    assert "samesite=strict" in headers["set-cookie"].lower()
    assert ask(open_page, "/state", Cookie=headers["set-cookie"].partition(";")[0])[0] == 200


def test_a_token_is_drawn_and_is_not_short(monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)
    with still() as scene:
        addresses = set()
        for _ in range(2):
            with page_of(scene, "0.0.0.0") as page:
                addresses.add(page.address.partition("#")[2])
        assert len(addresses) == 2
        assert min(map(len, addresses)) >= 20
        for token in ("short", "zz%zz" * 5, "a#b" * 10, "\u00e9" * 20):
            monkeypatch.setenv(TOKEN, token)
            with pytest.raises(SinkError, match="16 or more"):
                LivePage(LABELS, "0.0.0.0")


def test_snapshot_is_whole_and_of_a_source_that_is_there():
    with still("a", "b") as scene, page_of(scene) as page:
        assert ask(page, "/snapshot/0.jpg")[0] == 404
        scene.post(3)
        status, headers, body = ask(page, "/snapshot/1.jpg")
        assert (status, headers["content-type"]) == (200, "image/jpeg")
        assert np.asarray(Image.open(io.BytesIO(body))).shape == (240, 320, 3)
        assert ask(page, "/snapshot/2.jpg")[0] == 404


def test_every_picture_is_encoded_once_however_many_look(page, monkeypatch):
    from ssdrt.serve import pictures

    made = []
    encode = pictures._jpeg
    monkeypatch.setattr(pictures, "_jpeg", lambda *how: made.append(1) or encode(*how))
    viewers = [stream(page, "/mjpeg/0") for _ in range(8)]
    before, begin = page.scene.posted, len(made)
    for _, file, _ in viewers:
        for _ in range(10):
            next_picture(file)
    assert len(made) - begin <= page.scene.posted - before + 2
    for _, file, connection in viewers:
        file.close()
        connection.close()
    wait_for(lambda: page._pictures.viewers == 0)
    begin, before = len(made), page.scene.posted
    wait_for(lambda: page.scene.posted > before + 5)
    assert len(made) - begin <= 1


def test_viewers_are_counted_and_too_many_are_told_to_come_later(page, monkeypatch):
    from ssdrt.serve import app

    monkeypatch.setattr(app, "MOST_VIEWERS", 2)
    viewers = [stream(page, "/jsonl") for _ in range(2)]
    for _, file, _ in viewers:
        file.readline()
    status, headers, body = ask(page, "/live")
    assert (status, headers["retry-after"]) == (503, "5")
    assert "2 viewers" in json.loads(body)["error"]
    viewers[0][2].close()
    viewers[0][1].close()
    wait_for(lambda: stream(page, "/jsonl")[0] == 200)


def test_silent_connections_are_closed_and_their_number_has_an_end(monkeypatch):
    from ssdrt.serve import connections

    monkeypatch.setattr(connections, "SILENCE", 0.3)
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 5)
    with Scene() as scene, page_of(scene) as page:
        silent = [socket.create_connection(("127.0.0.1", page.port), timeout=20) for _ in range(5)]
        silent[0].sendall(b"GET / HTTP/1.1\r\nHost: ")
        one_more = socket.create_connection(("127.0.0.1", page.port), timeout=20)
        assert _closed(one_more)
        assert all(map(_closed, silent))
        assert ask(page, "/")[0] == 200


def test_a_viewer_that_takes_nothing_is_cut_off(monkeypatch):
    from ssdrt.serve import connections

    monkeypatch.setattr(connections, "STALL", 0.3)
    with Scene(fps=200) as scene, page_of(scene) as page:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", page.port))
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: page._pictures.viewers == 1)
        wait_for(lambda: page._pictures.viewers == 0)
        connection.close()


def _closed(connection):
    try:
        return connection.recv(10) == b""
    except ConnectionResetError:
        return True


def test_stalled_source_is_told():
    with Scene() as scene, page_of(scene) as page:
        _, file, connection = stream(page, "/jsonl")
        from ssdrt.live.board import Status

        scene.status = Status("STALE", "no frame for 5 s")
        while json.loads(file.readline())["state"] != "STALE":
            pass
        connection.close()


def test_close_ends_the_streams_and_frees_the_port():
    with Scene() as scene:
        page = LivePage(LABELS)
        page.start(scene.board, scene.controls)
        _, file, _ = stream(page, "/mjpeg/0")
        next_picture(file)
        page.close()
        file.read()
        with page_of(scene, port=page.port) as again:
            assert ask(again, "/")[0] == 200
            with pytest.raises(SinkError, match="cannot be put up"):
                LivePage(LABELS, port=page.port)


def test_the_end_of_the_run_ends_the_streams():
    with still() as scene, page_of(scene) as page:
        scene.post(1)
        _, file, _ = stream(page, "/jsonl")
        file.readline()
        scene.board.close()
        assert file.read() == b""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_streams_end_when_no_more_pictures_can_be_made(page, monkeypatch):
    def fail(*_):
        raise MemoryError

    _, records, connection = stream(page, "/jsonl")
    assert records.readline()
    monkeypatch.setattr(pictures, "record_of", fail)
    records.read()  # to its end
    connection.close()


@pytest.mark.parametrize(
    ("text", "address"),
    [("8080", ("127.0.0.1", 8080)), (":80", ("127.0.0.1", 80)), ("0.0.0.0:1", ("0.0.0.0", 1)), ("[::1]:9", ("::1", 9))],
)
def test_addresses(text, address):
    assert read_address(text) == address


@pytest.mark.parametrize("text", ["", "web", "host:", "1:70000", "-1", "1:²", "[::1:0"])
def test_what_is_no_address(text):
    with pytest.raises(ValueError, match="PORT"):
        read_address(text)


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_name_that_can_be_none_is_told(host):
    with pytest.raises(SinkError, match="cannot be put up"):
        LivePage({}, host, 0)
