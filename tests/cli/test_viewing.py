"""`ssdrt detect --show` and `--web`."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

DETECT = (sys.executable, "-m", "ssdrt", "detect", "frozen_inference_graph.pb", "--engine", "reference")
DEADLINE = 60


@contextlib.contextmanager
def running(*words, **environment):
    """A run in a process of its own, and the port of its page; Ctrl-C ends it."""
    process = subprocess.Popen([*DETECT, *words], stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        line = process.stderr.readline()
        while "live at" not in line:
            assert line, "it ended before it was live"
            line = process.stderr.readline()
        yield process, line.strip().rpartition("ssdrt: live at ")[2]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait(DEADLINE)


def state(address, **headers):
    """What the page says of the run; None before the first frame."""
    port = int(address.split(":")[2].split("/")[0])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    connection.request("GET", "/state", headers=headers)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def first_frame(address, **headers):
    end = time.monotonic() + DEADLINE
    while True:
        status, said = state(address, **headers)
        if said.get("sources") and "detections" in said["sources"][0]:
            return said
        assert status == 200
        assert time.monotonic() < end
        threading.Event().wait(0.05)


def test_a_photo_on_a_page():
    pytest.importorskip("uvicorn", reason="uvicorn, which serves the page, is not installed")
    with running("photo.png", "--labels", "labels.txt", "--web", "0") as (_, address):
        said = first_frame(address)
        assert said["sources"][0]["counts"] == {"rouge": 2, "bleu": 2, "vert": 2}
        assert [one["label"] for one in said["classes"]] == ["rouge", "vert", "bleu"]
        assert said["sources"][0]["source"] == "photo.png"


def test_a_stream_on_a_page_that_needs_a_token():
    pytest.importorskip("uvicorn", reason="uvicorn, which serves the page, is not installed")
    with running("test:?size=160x120", "--web", "0.0.0.0:0", "-q") as (_, address):
        token = address.partition("#")[2]
        assert state(address)[0] == 401
        said = first_frame(address, Authorization=f"Bearer {token}")
        assert said["sources"][0]["state"] == "ONLINE"


@pytest.mark.parametrize("value", ["web", "99999", "host:"])
def test_what_is_no_address(ssdrt, value):
    code, _, err = ssdrt("detect", "frozen_inference_graph.pb", "photo.png", "--web", value)
    assert code == 2
    assert "[HOST:]PORT" in err


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there always is a display")
@pytest.mark.parametrize("source", ["photo.png", "test:"])
def test_without_a_display_one_sentence(source):
    pytest.importorskip("sdl2", reason="PySDL2, which opens the window, is not installed")
    hidden = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    }
    done = subprocess.run(
        [*DETECT, source, "--show", "-q"], env=hidden, capture_output=True, text=True,
        timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode not in (0, -signal.SIGSEGV)
    assert done.stderr.count("\n") == 1
    assert "no display" in done.stderr
    assert "--web" in done.stderr
