"""`LiveSource` and its capture process when something goes wrong, with the synthetic scene."""

import threading

from ssdrt.sources.live import LiveSource, Patience
from ssdrt.sources.process import CaptureProcess
from ssdrt.sources.stream import Stream

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
