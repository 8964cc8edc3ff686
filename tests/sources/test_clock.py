"""Times of a live source's frames: by the stream's clock while it is steady, forward whatever it does."""

import numpy as np
import pytest

from ssdrt.sources.live import _Clock


@pytest.fixture
def clock():
    clock = _Clock()
    clock._start = 100.0
    clock.begin()
    return clock


def test_a_steady_clock_is_kept_though_frames_come_unevenly(clock):
    times = [clock.time(7.0 + index / 10, 100.0 + index / 10 + late) for index, late in enumerate([0, 0.3, 0.1, 0.9])]
    np.testing.assert_allclose(np.diff(times), 0.1)


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 1.5, -1.5])
def test_after_a_jump_time_goes_on_by_our_clock(clock, jump):
    stamps = [index / 10 + (jump if index >= 5 else 0) for index in range(10)]
    times = [clock.time(stamp, 100.0 + index / 10) for index, stamp in enumerate(stamps)]
    np.testing.assert_allclose(times, np.arange(10) / 10, atol=1e-9)


def test_without_stamps_it_is_the_time_of_arrival(clock):
    assert [clock.time(None, 100.5), clock.time(None, 101.5)] == [0.5, 1.5]


def test_time_never_goes_back(clock):
    times = [clock.time(stamp, 100.0 + index / 100) for index, stamp in enumerate([5.0, 5.5, 5.2, 5.2, 5.6])]
    assert all(np.diff(times) > 0)


def test_opened_again_time_goes_on(clock):
    first = clock.time(50.0, 110.0)
    clock.begin()
    assert clock.time(0.0, 140.0) - first == pytest.approx(30.0)
