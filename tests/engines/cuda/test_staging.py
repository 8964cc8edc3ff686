"""What goes to the GPU with every call is what this call says, whatever the call before left there; without a GPU."""

import ctypes
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from ssdrt.engines.cuda import staging
from ssdrt.engines.cuda.ends import OptionsStruct, PictureStruct
from ssdrt.engines.cuda.runtime import Lane, filled_up
from ssdrt.pipeline import graph_parameters
from tiny_ssd import tiny_ssd


def test_the_head_is_written_again_when_it_must_be():
    model, random = tiny_ssd(), np.random.default_rng(12)
    lane = object.__new__(Lane)  # whose stream needs a GPU
    lane._engine, lane._parameters, lane._pictures = SimpleNamespace(model=model), None, ()
    lane._host = SimpleNamespace(array=np.zeros(1 << 16, np.uint8))
    thresholds = np.full(model.num_classes.value, 0.5, np.float32)
    some = [
        replace(graph_parameters(model), score_threshold=threshold, max_total=most)
        for threshold in (0.1, 0.2, 1, thresholds)
        for most in (5, 9)
    ]
    for _ in range(400):
        sizes = [((30, 40), (50, 20))[one] for one in random.integers(2, size=random.integers(1, 4))]
        layout = staging.Layout(filled_up(len(sizes)), model.num_classes.value)
        parameters, first = some[random.integers(len(some))], int(random.integers(2)) * 4096
        thresholds[:] = random.choice([0.25, 0.75])  # by the caller, between two calls
        lane._write_head(layout, sizes, first, parameters)
        fresh = np.zeros_like(lane._host.array)
        staging.write_parameters(fresh, layout, model, parameters)
        staging.write_pictures(fresh, layout, model, sizes, first)
        for start, end in (
            (layout.options, layout.options + ctypes.sizeof(OptionsStruct)),
            (layout.thresholds, layout.thresholds + thresholds.nbytes),
            (layout.windows, layout.pictures + layout.batch * ctypes.sizeof(PictureStruct)),
        ):
            np.testing.assert_array_equal(lane._host.array[start:end], fresh[start:end])
        lane._host.array[layout.pixels :] = random.integers(256)
