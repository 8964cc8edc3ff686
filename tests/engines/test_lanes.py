"""Lanes of an engine with calls that are started before their results are taken."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from ssdrt.engines.lanes import Lanes
from ssdrt.errors import EngineError


class Log:
    """Lanes that are lists, and what was done with them in order."""

    def __init__(self, count):
        self.done, self.busy = [], set()
        self.lanes = Lanes([[] for _ in range(count)], self.using)

    @contextmanager
    def using(self, lane):
        assert id(lane) not in self.busy
        self.busy.add(id(lane))
        try:
            yield
        finally:
            self.busy.remove(id(lane))

    def start(self, number):
        return self.lanes.start(partial(self.begin, number), self.finish)

    def begin(self, number, lane):
        assert lane == []
        lane.append(number)
        self.done.append(f"begin {number}")

    def finish(self, lane):
        number = lane.pop()
        self.done.append(f"finish {number}")
        return number


def test_one_more_than_there_are_lanes_finishes_the_oldest():
    log = Log(2)
    started = [log.start(number) for number in range(4)]
    assert log.done == ["begin 0", "begin 1", "finish 0", "begin 2", "finish 1", "begin 3"]
    assert [one.result() for one in started[::-1]] == [3, 2, 1, 0]
    assert [one.result() for one in started] == [0, 1, 2, 3]
    assert log.done[6:] == ["finish 3", "finish 2"]


def test_a_call_finishes_the_oldest_where_none_is_free():
    log = Log(1)
    started = log.start(7)
    with log.lanes.one() as lane:
        assert (lane, log.done) == ([], ["begin 7", "finish 7"])
    assert started.result() == 7


def broken(lane, error=EngineError):
    lane.clear()
    raise error("no room")


@pytest.mark.parametrize("what", ["begin", "finish"])
def test_errors_come_with_the_result_and_leave_the_lane(what):
    log = Log(1)
    failing = log.lanes.start(broken, log.finish) if what == "begin" else log.lanes.start(partial(log.begin, 0), broken)
    assert log.start(1).result() == 1
    for _ in range(2):
        with pytest.raises(EngineError, match="no room"):
            failing.result()


def test_what_a_call_runs_into_only_its_own_result_tells():
    log = Log(2)
    failing = [log.lanes.start(partial(log.begin, i), partial(broken, error=MemoryError)) for i in range(3)]
    assert log.lanes.close()
    for one in failing:
        with pytest.raises(MemoryError, match="no room"):
            one.result()


@pytest.mark.parametrize("what", ["begin", "finish"])
def test_ctrl_c_leaves_the_lane(what):
    log, interrupted = Log(1), partial(broken, error=KeyboardInterrupt)
    if what == "begin":
        with pytest.raises(KeyboardInterrupt):
            log.lanes.start(interrupted, log.finish)
    else:
        started = log.lanes.start(partial(log.begin, 0), interrupted)
        with pytest.raises(KeyboardInterrupt):
            started.result()
        with pytest.raises(EngineError, match="broken off"):
            started.result()
    assert log.start(1).result() == 1


def test_close_finishes_what_was_started_and_refuses():
    log = Log(2)
    started = [log.start(number) for number in range(2)]
    assert log.lanes.close()
    assert not log.lanes.close()
    assert log.done[2:] == ["finish 0", "finish 1"]
    assert [one.result() for one in started] == [0, 1]
    with pytest.raises(EngineError, match="closed"):
        log.start(2)


@pytest.mark.parametrize("lanes", [1, 3])
def test_threads_share_them_whether_or_not_they_ask_for_results(lanes):
    log = Log(lanes)

    def work(thread):
        kept = []
        for turn in range(200):
            number = 1000 * thread + turn
            if turn % 3 == 0:
                with log.lanes.one() as lane:
                    assert lane == []
            elif turn % 3 == 1:
                kept.append((number, log.start(number)))
            else:
                log.start(number)  # nobody asks for it
        return all(one.result() == number for number, one in kept)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8), timeout=60))
    log.lanes.close()
    assert log.busy == set()
    assert len(log.done) == len(set(log.done)) == 2 * 8 * 133
