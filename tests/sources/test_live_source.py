"""`LiveSource` and its capture process when something goes wrong, with the synthetic scene."""

import os
import resource
import select
import signal
import subprocess
import threading
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from ssdrt.errors import SourceError
from ssdrt.sources import live
from ssdrt.sources import process as process_module
from ssdrt.sources.live import LiveSource, Patience
from ssdrt.sources.process import CaptureProcess
from ssdrt.sources.stream import Stream, parse_stream

SMALL = {"reader": "scene", "size": (160, 120)}


class Told:
    """Remembers states; one can be waited for."""

    def __init__(self):
        self.states, self._news = [], threading.Condition()

    def __call__(self, status):
        with self._news:
            self.states.append(status)
            self._news.notify_all()

    def until(self, words):
        with self._news:
            assert self._news.wait_for(lambda: any(words in status.reason for status in self.states), 20), self.states


def test_of_a_process_that_ended_no_frame_is_waited_for():
    told = Told()
    source = LiveSource(Stream("a", rate=100, frames=5, **SMALL), told, Patience(first_pause=100))
    source.start()
    try:
        told.until("next try")
        assert not source.wait(0)
        assert source.status.dropped == 5
    finally:
        source.close()


def test_a_frame_is_asked_for_once(monkeypatch):
    asked, ask = [], CaptureProcess.ask
    monkeypatch.setattr(CaptureProcess, "ask", lambda self: (asked.append(self), ask(self)))
    source = LiveSource(Stream("a", rate=0.001, **SMALL))
    source.start()
    try:
        assert source.wait(20)
        assert source.take(20) is not None
        for _ in range(3):
            assert source.take(0) is None
        assert len(asked) == 2
    finally:
        source.close()


def test_a_surprise_in_the_sources_thread_ends_it_and_is_raised():
    def fail(_):
        raise ZeroDivisionError

    source = LiveSource(Stream("a", **SMALL), fail)
    source.start()
    assert not source.wait(20)
    assert source.ended
    source.close()
    source.close()
    with pytest.raises(ZeroDivisionError):
        source.check()


def test_a_process_that_cannot_be_started_is_tried_again_later(monkeypatch):
    def fail(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", fail)
    told, source = Told(), LiveSource(Stream("a", **SMALL), patience=Patience(first_pause=100))
    source._on_change = told
    before = os.listdir("/proc/self/fd")
    source.start()
    told.until("no process can be started: Resource temporarily unavailable; next try")
    assert len(os.listdir("/proc/self/fd")) == len(before)
    source.close()


@pytest.mark.parametrize("line", ["hm", "1"])
def test_a_process_that_says_what_is_not_understood(monkeypatch, line):
    monkeypatch.setattr(process_module, "PROGRAM", f"print({line!r})")
    wake, other = os.pipe()
    process = CaptureProcess(Stream("a", **SMALL), 100)
    assert process.hear(20, wake)["error"] == "other"
    process.close()
    os.close(wake)
    os.close(other)


def ending(stream, **options):
    """Read a stream until it ends; why."""
    source = LiveSource(stream, **options)
    source.start()
    try:
        while source.wait(20):
            source.take(20)
        assert source.ended
        return str(source.error)
    finally:
        source.close()


def test_a_picture_that_is_too_large_ends_the_stream(tmp_path):
    pytest.importorskip("av", reason="the extra `video` is not installed")
    Image.fromarray(np.zeros((120, 160, 3), np.uint8)).save(tmp_path / "a.jpg")
    for stream in (Stream("a", **SMALL), Stream("a", "av", str(tmp_path / "a.jpg"), "mjpeg", ends=True)):
        assert "160 x 120 pixels, more than the 100 allowed" in ending(stream, max_pixels=100)


@pytest.fixture
def gstreamer(tmp_path, monkeypatch):
    """Puts a shell script in the place of gst-launch-1.0."""

    def put(script):
        for name, lines in (("gst-launch-1.0", script), ("gst-inspect-1.0", "exit 0")):
            (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return Stream("gst:x", "gstreamer", pipelines=("x",), ends=True)

    return put


def test_a_pipeline_does_not_outlive_the_process_that_played_it(gstreamer, tmp_path):
    os.mkfifo(tmp_path / "pid")
    process = CaptureProcess(gstreamer(f"echo $$ > {tmp_path}/pid; exec sleep 1000"), 10**6)
    player = os.pidfd_open(int((tmp_path / "pid").read_text()))
    try:
        os.kill(process._process.pid, signal.SIGKILL)  # as the system does when memory is short
        process.close()
        assert select.select([player], [], [], 10)[0]
    finally:
        if not select.select([player], [], [], 0)[0]:
            signal.pidfd_send_signal(player, signal.SIGKILL)
        os.close(player)


def test_a_pipeline_may_complain_at_length_and_tells_no_password(gstreamer):
    pytest.importorskip("av", reason="the extra `video` is not installed")
    fill = "head -c 200000 /dev/zero | tr '\\0' '\\n' >&2"
    stream = gstreamer(f"{fill}; echo 'ERROR: no rtsp://me:secret@host/a' >&2; exit 1")
    told = Told()
    source = LiveSource(stream, told, Patience(first_pause=100))
    source.start()
    try:
        told.until("the pipeline failed: no rtsp://host/a; next try")
    finally:
        source.close()


def test_a_descriptor_may_have_any_number():
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < 2100:
        pytest.skip(f"there may be no more than {most} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, 2100), most))
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    source = LiveSource(Stream("a", **SMALL))
    try:
        source.start()
        assert source.wait(20)
    finally:
        source.close()
        for other in others:
            os.close(other)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    source.check()


def test_windows_is_told_in_a_sentence(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(SourceError, match="Linux and macOS only"):
        LiveSource(Stream("a", **SMALL))


def test_a_process_that_dies_is_said_to_have_died_of_what(monkeypatch):
    told = Told()
    program = "import os, sys; print('rtsp://bob:secret@host/a is', 'no good', file=sys.stderr); sys.stderr.flush(); {}"
    for end, words in (("os.kill(os.getpid(), 11)", "killed by SIGSEGV"), ("os._exit(3)", "exit code 3")):
        monkeypatch.setattr(process_module, "PROGRAM", program.format(end))
        source = LiveSource(Stream("a", **SMALL), told, Patience(first_pause=100))
        source.start()
        told.until(words)
        source.close()
    said = [status.reason for status in told.states if "died" in status.reason]
    assert all("rtsp://host/a is no good" in text and "secret" not in text for text in said)


def test_the_last_frame_is_given_though_it_came_too_late_for_one_take_and_the_end_after_it(monkeypatch):
    monkeypatch.setattr(live, "GATHER", 0.0)
    monkeypatch.setattr(live, "YOUNG", 0.0)
    news = threading.Condition()
    source = LiveSource(parse_stream("test:?size=160x120&frames=1"), news=news)
    source.start()
    with closing(source):
        assert source.wait(20)
        assert source.take(0) is None
        with news:
            assert news.wait_for(lambda: source.ended, 20)
        assert source.wait(0)
        assert source.take(0) is not None
        assert not source.fresh
        assert source.status.dropped == 0
