"""The queue before a sink."""

import threading

import numpy as np
import pytest

from ssdrt.detections import Detections
from ssdrt.live.writer import WAITING, Writer
from ssdrt.sources.base import Frame

EMPTY = np.zeros(0, np.float32)
NOTHING = Detections(EMPTY.reshape(0, 4), EMPTY, EMPTY.astype(np.int64), EMPTY.astype(np.str_), 9, 9)


@pytest.mark.parametrize(
    ("width", "height", "waiting"), [(64, 48, WAITING), (3840, 2160, 4), (7680, 4320, 1), (16000, 16000, 1)]
)
def test_what_waits_has_a_limit_of_frames_and_of_bytes(width, height, waiting):
    begun, go = threading.Event(), threading.Event()

    class Sink:
        def write(self, _frame, _found):
            begun.set()
            go.wait(20)

        def close(self):
            pass

    image = np.broadcast_to(np.zeros(3, np.uint8), (height, width, 3))  # without its memory
    writer = Writer(Sink())
    writer.put(Frame(image, "a", 0, 0.0), NOTHING)
    assert begun.wait(20)
    for index in range(1, WAITING + 10):
        writer.put(Frame(image, "a", index, index / 10), NOTHING)
    assert WAITING + 9 - writer.dropped == waiting
    go.set()
    writer.close()
