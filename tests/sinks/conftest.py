"""Frames and detections for the tests of sinks."""

import numpy as np
import pytest

from ssdrt.detections import Detections
from ssdrt.model import LabelMap
from ssdrt.sources.base import Frame


@pytest.fixture
def labels():
    return LabelMap({1: "person", 3: "car"})


@pytest.fixture
def make_frame():
    """A grey frame; of a video when a time is given."""

    def make(source="photos/cat.jpg", index=0, time=None, size=(40, 30), grey=90):
        return Frame(np.full((size[1], size[0], 3), grey, np.uint8), source, index, time)

    return make


@pytest.fixture
def found():
    """A person and a car in a picture of 40 x 30."""
    return Detections(
        np.array([[4.5, 3.25, 20.5, 27], [10, 10, 39.5, 30]], np.float32),
        np.array([0.9, 0.3], np.float32),
        np.array([1, 3]),
        np.array(["person", "car"]),
        40,
        30,
    )


@pytest.fixture
def nothing():
    """No detections, in a picture of 40 x 30."""
    none = np.zeros(0)
    return Detections(np.zeros((0, 4), np.float32), none.astype(np.float32), none.astype(int), none.astype(str), 40, 30)


@pytest.fixture
def small_disk():
    """Let no file grow beyond 64 KiB while the test runs, as a full disk does not."""
    resource = pytest.importorskip("resource", reason="this system has no file size limit")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield 1 << 16
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
