"""The live loop with the synthetic scene: fresh frames, several sources, viewers and sinks, and the end of it."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from ssdrt.detections import Detections
from ssdrt.errors import SinkError, SourceError
from ssdrt.live import loop
from ssdrt.live.board import Controls, Settings
from ssdrt.live.loop import LiveRun, one_by_one, run_live, wait_until_closed
from ssdrt.sources.scene import read_index
from ssdrt.sources.stream import parse_stream


def nothing(frame, _settings):
    height, width = frame.image.shape[:2]
    empty = np.zeros(0)
    return frame, Detections(
        np.zeros((0, 4), np.float32),
        empty.astype(np.float32),
        empty.astype(np.int64),
        empty.astype(np.str_),
        width,
        height,
    )


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self, fail_after=None):
        self.frames, self.states, self.closed, self.fail_after = [], [], False, fail_after

    def write(self, frame, _found):
        if self.fail_after == len(self.frames):
            raise SinkError("the disk is full")
        self.frames.append(frame)

    def write_status(self, source, status):
        self.states.append((source, status.state))

    def close(self):
        self.closed = True


def run(*texts, detect=nothing, sinks=(), **options):
    streams = [parse_stream(text) for text in texts]
    return run_live(streams, one_by_one(detect), Controls(Settings(0.3)), sinks=sinks, **options)


def test_frames_are_those_that_came_in_order_and_the_run_ends_with_its_sources():
    sink = Kept()
    done = run("test:?size=320x240&rate=100&frames=40", sinks=[sink])
    assert [read_index(frame.image) for frame in sink.frames] == [frame.index for frame in sink.frames]
    assert sink.frames == sorted(sink.frames, key=lambda frame: frame.index)
    times = np.diff([frame.time for frame in sink.frames])
    np.testing.assert_allclose(times, np.diff([frame.index for frame in sink.frames]) / 100, atol=1e-6)
    assert done.detected == len(sink.frames) > 20
    assert sink.closed


def test_a_slow_detector_gets_the_newest_frame_and_the_others_are_counted():
    gate = threading.Event()
    seen = []

    def detect(frame, settings):
        seen.append(frame.index)
        if len(seen) == 1:
            gate.wait(0.5)  # fifty frames long
        return nothing(frame, settings)

    done = run("test:?size=320x240&rate=100&frames=100", detect=detect)
    (status,) = done.statuses.values()
    assert seen[1] - seen[0] >= 40
    assert status.dropped >= seen[1] - seen[0] - 1
    assert status.dropped + len(seen) <= 100


def test_several_sources_are_served_by_one_detector():
    sink = Kept()
    done = run("test:?size=320x240&rate=50&frames=25", "test:?size=160x120&rate=50&frames=25", sinks=[sink])
    assert {frame.image.shape for frame in sink.frames} == {(240, 320, 3), (120, 160, 3)}
    assert len(done.statuses) == 2
    assert [state for state in sink.states if state[1] == "ONLINE"]


def test_with_more_frames_than_can_be_detected_in_every_source_has_its_turn():
    streams = [replace(parse_stream("test:?size=160x120&rate=100"), name=name) for name in "abc"]
    order = []

    def detect(frame, settings):
        order.append(frame.source)
        for feed in live._feeds:  # as long as it takes the others to have a new frame
            feed.source.wait(20)
        if len(order) == 30:
            live.board.close()
        return nothing(frame, settings)

    live = LiveRun(streams, one_by_one(detect), Controls(Settings(0.3)))
    live.start()
    wait_until_closed(live.board)
    live.close()
    live.check()
    assert min(map(order.count, "abc")) >= 5


def test_all_that_have_a_frame_are_detected_in_by_one_call_and_who_has_none_is_not_waited_for():
    streams = [replace(parse_stream("test:?size=160x120&rate=100"), name=name) for name in "abc"]
    streams.append(replace(streams[0], name="slow", rate=0.001))  # one frame, then none for ever
    calls = []

    def detect(frames, settings):
        calls.append([frame.source for frame in frames])
        for feed in live._feeds[:3]:
            feed.source.wait(20)
        if len(calls) == 30:
            live.board.close()
        return [nothing(frame, settings) for frame in frames]

    live = LiveRun(streams, detect, Controls(Settings(0.3)))
    live.start()
    wait_until_closed(live.board)
    live.close()
    live.check()
    assert live.calls == len(calls)
    assert live.detected == sum(map(len, calls))
    assert max(map(len, calls)) >= 3
    assert all(len(set(sources)) == len(sources) for sources in calls)
    assert sum("slow" in sources for sources in calls) <= 1


def test_of_more_sources_than_are_taken_at_once_none_is_left_out(monkeypatch):
    monkeypatch.setattr(loop, "MOST", 2)
    streams = [replace(parse_stream("test:?size=160x120&rate=100"), name=name) for name in "abcde"]
    calls = []

    def detect(frames, settings):
        calls.append([frame.source for frame in frames])
        for feed in live._feeds:
            feed.source.wait(20)
        if len(calls) == 30:
            live.board.close()
        return [nothing(frame, settings) for frame in frames]

    live = LiveRun(streams, detect, Controls(Settings(0.3)))
    live.start()
    wait_until_closed(live.board)
    live.close()
    assert max(map(len, calls)) == 2
    served = [source for sources in calls for source in sources]
    assert min(map(served.count, "abcde")) >= 5


def test_a_viewer_ends_the_run_and_is_closed():
    class Viewer:
        closed = False

        def __init__(self, board, _controls):
            threading.Thread(target=self.watch, args=(board,)).start()

        def watch(self, board):
            self.seen = board.wait(0, 20)
            board.close()

        def close(self):
            Viewer.closed = True

    run("test:?size=320x240", viewers=[Viewer])
    assert Viewer.closed


def test_a_sink_that_stalls_costs_frames_of_its_own_only():
    go = threading.Event()

    class Slow(Kept):
        def write(self, frame, found):
            go.wait(20)
            super().write(frame, found)

    slow, quick = Slow(), Kept()

    def detect(frame, settings):
        if frame.index > 80:
            go.set()
        return nothing(frame, settings)

    done = run("test:?size=160x120&rate=100&frames=100", detect=detect, sinks=[slow, quick])
    dropped, none = (writer.dropped for writer in done.writers)
    assert none == 0
    assert dropped > 0
    assert len(slow.frames) + dropped == len(quick.frames) == done.detected
    assert slow.closed


def test_a_run_whose_only_sink_fails_ends_and_says_why():
    sink = Kept(fail_after=3)
    with pytest.raises(SinkError, match="disk is full"):
        run("test:?size=160x120", sinks=[sink])
    assert sink.closed


def test_a_sink_may_fail_in_any_way():
    class Surprised(Kept):
        def write(self, _frame, _found):
            raise BrokenPipeError

    sink = Surprised()
    with pytest.raises(BrokenPipeError):
        run("test:?size=160x120", sinks=[sink])
    assert sink.closed


def test_a_sink_that_fails_is_told_of_at_once_and_an_interrupted_run_has_its_end():
    failed, told, ended = threading.Event(), [], []

    def on_failure(sink, error):
        told.append((sink, str(error)))
        failed.set()

    def wait(_board):
        assert failed.wait(20)
        raise KeyboardInterrupt

    sink, other = Kept(fail_after=3), Kept()
    with pytest.raises(KeyboardInterrupt):
        run("test:?size=160x120", sinks=[sink, other], on_failure=on_failure, on_end=ended.append, wait=wait)
    assert told == [(sink, "the disk is full")]
    assert [writer.error is None for writer in ended[0].writers] == [False, True]
    assert sink.closed
    assert other.closed


def test_when_a_viewer_cannot_start_sinks_are_closed():
    def viewer(_board, _controls):
        raise SinkError("the port is taken")

    sink = Kept()
    with pytest.raises(SinkError, match="port is taken"):
        run("test:?size=160x120", sinks=[sink], viewers=[viewer])
    assert sink.closed


def test_the_last_frame_of_a_stream_that_ends_is_detected_in():
    assert run("test:?size=160x120&frames=1").detected == 1


def test_closed_twice():
    live = LiveRun([parse_stream("test:?size=160x120")], one_by_one(nothing), Controls(Settings(0.3)))
    live.start()
    live.close()
    live.close()


def test_a_stream_of_too_large_pictures_ends_the_run():
    with pytest.raises(SourceError, match="max-pixels"):
        run("test:?size=160x120", max_pixels=100)


def test_what_the_detector_raises_ends_the_run():
    def fail(_frame, _settings):
        raise SourceError("no")

    with pytest.raises(SourceError, match="no"):
        run("test:?size=160x120", detect=fail)


def test_pausing_stops_detection_and_nothing_else():
    controls = Controls(Settings(0.3, paused=True))
    seen = []

    class Viewer:
        def __init__(self, board, controls):
            threading.Thread(target=self.watch, args=(board, controls)).start()

        def watch(self, board, controls):
            version = 0
            while (news := board.wait(version, 20)) is not None and news[1].status.state != "ONLINE":
                version = news[0]
            assert news[1].frame is None
            controls.change(paused=False)
            while (news := board.wait(version, 20)) is not None and news[1].frame is None:
                version = news[0]
            seen.append(news)
            board.close()

        def close(self):
            pass

    run_live([parse_stream("test:?size=160x120")], one_by_one(nothing), controls, viewers=[Viewer])
    assert seen[0][1].frame is not None
