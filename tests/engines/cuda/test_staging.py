"""What goes to the GPU with every call is what this call says, whatever the call before left there; without a GPU."""

import ctypes
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ssdrt.engines.cuda import staging
from ssdrt.engines.cuda.ends import OptionsStruct, PictureStruct
from ssdrt.engines.cuda.runtime import Lane, filled_up
from ssdrt.pipeline import graph_parameters
from tiny_ssd import tiny_ssd


class Memory:
    """As `PinnedMemory`."""

    def __init__(self):
        self.array = np.zeros(1 << 16, np.uint8)
        self.address = self.array.ctypes.data


@pytest.fixture
def lane():
    """One without a stream, which would need a GPU."""
    lane = object.__new__(Lane)
    lane._engine, lane._parameters, lane._pictures = SimpleNamespace(model=tiny_ssd(), front=None), None, ()
    lane._host, lane._device, lane._reserve = Memory(), SimpleNamespace(address=1 << 40), lambda *_: None
    lane.stream = SimpleNamespace(copy=lambda *_: None, wait=lambda: None)
    return lane


def test_the_head_is_written_again_when_it_must_be(lane):
    model, random, array = lane._engine.model, np.random.default_rng(12), lane._host.array
    thresholds = np.full(model.num_classes.value, 0.5, np.float32)
    some = [
        replace(graph_parameters(model), score_threshold=threshold, max_total=most)
        for threshold in (0.1, 0.2, 1, thresholds)
        for most in (5, 9)
    ]
    for _ in range(400):
        sizes = [((30, 40), (50, 20))[one] for one in random.integers(2, size=random.integers(1, 4))]
        layout = staging.Layout(filled_up(len(sizes)), model.num_classes.value)
        parameters, first = some[random.integers(len(some))], int(random.integers(3)) * 4096
        thresholds[:] = random.choice([0.25, 0.75])  # by the caller, between two calls
        fresh = np.zeros_like(array)
        staging.write_parameters(fresh, layout, model, parameters)
        staging.write_pictures(fresh, layout, model, sizes, first)
        if first:
            lane._write_head(layout, sizes, first, parameters)
        else:  # pictures on the GPU, wherever
            addresses = random.integers(1, 1 << 40, len(sizes)).tolist()
            table = (PictureStruct * layout.batch).from_address(fresh.ctypes.data + layout.pictures)
            for index in range(layout.batch):
                table[index].pixels = addresses[min(index, len(sizes) - 1)]
            lane.prepare_resident([(at, *size) for at, size in zip(addresses, sizes, strict=True)], parameters)
        for start, end in (
            (layout.options, layout.options + ctypes.sizeof(OptionsStruct)),
            (layout.thresholds, layout.thresholds + thresholds.nbytes),
            (layout.windows, layout.pictures + layout.batch * ctypes.sizeof(PictureStruct)),
        ):
            np.testing.assert_array_equal(array[start:end], fresh[start:end])
        array[layout.pixels :] = random.integers(256)
