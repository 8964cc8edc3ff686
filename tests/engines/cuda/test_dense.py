"""The kernel for windows on sm_90a, in every kind of its tiles, against the numpy executor; on a GPU."""

import numpy as np
import pytest

from engines.cuda.gpu import Bench, bench, needs_gpu  # noqa: F401
from ssdrt.engines.cuda.executor import Memory, run_step
from ssdrt.engines.cuda.plan import Convolution, Finish, View
from ssdrt.engines.cuda.tactics import dense

pytestmark = needs_gpu
RANDOM = np.random.default_rng(12)
SAME, AFTER = (1, 1, 1, 1), (0, 0, 1, 1)


def normal(*shape, scale=1.0):
    return RANDOM.normal(0, scale, shape).astype(np.float16).astype(np.float32)


def check(bench, step, batch, sizes):  # noqa: F811
    if bench.device.generation != 90:
        pytest.skip("for compute capability 9.0")
    contents = {buffer: normal(batch, size).astype(np.float16) for buffer, size in enumerate(sizes)}
    contents[step.target.buffer][:] = np.nan
    kinds = [tactic for _, tactic in dense(step, batch, bench.device)]
    assert len(kinds) == 6
    wanted = None
    for tactic in kinds:
        found, plan = bench.step(step, tactic, contents, batch)
        if wanted is None:
            memory = Memory(plan, batch)
            for buffer, values in contents.items():
                memory._slots[buffer][...] = values
            run_step(step, memory)
            wanted = memory._slots[step.target.buffer]
        assert (np.isnan(found) == np.isnan(wanted)).all(), f"{tactic}: wrote elsewhere, or not everything"
        inside = ~np.isnan(wanted)
        difference = found[inside].astype(np.float64) - wanted[inside]
        error = np.linalg.norm(difference) / np.linalg.norm(wanted[inside])
        assert error < 2e-3, f"{tactic}: relative error {error:.2e}, largest {np.abs(difference).max():.3g}"


def window(source, target, size=(3, 3), strides=(1, 1), pads=SAME, dilations=(1, 1), finish=None):
    scale = (source.channels * size[0] * size[1]) ** -0.5
    weights = normal(*size, source.channels, target.channels, scale=scale)
    finish = finish or Finish("relu6")
    return Convolution("c", source, target, weights, normal(target.channels), strides, pads, dilations, finish)


def view(buffer, height, width, channels, stride=None, offset=0):
    return View(buffer, height, width, channels, stride or channels, offset)


@pytest.mark.parametrize(
    ("size", "channels", "columns", "batch"),
    [
        ((19, 19), 64, 96, 1),
        ((19, 19), 96, 128, 5),
        ((10, 10), 224, 320, 8),
        ((5, 5), 256, 576, 64),
        ((1, 1), 128, 576, 3),
        ((3, 2), 72, 40, 64),
        ((37, 41), 32, 64, 2),
        ((75, 75), 64, 192, 1),
        ((19, 19), 576, 288, 2),
    ],
)
def test_sizes(bench, size, channels, columns, batch):  # noqa: F811
    step = window(view(0, *size, channels), view(1, *size, columns))
    check(bench, step, batch, [size[0] * size[1] * channels, size[0] * size[1] * columns])


@pytest.mark.parametrize(
    ("size", "kernel", "strides", "pads", "dilations"),
    [
        ((38, 38), (3, 3), (2, 2), AFTER, (1, 1)),
        ((19, 23), (3, 3), (2, 2), SAME, (1, 1)),
        ((3, 3), (3, 3), (2, 2), SAME, (1, 1)),
        ((2, 2), (3, 3), (2, 2), AFTER, (1, 1)),
        ((17, 12), (1, 7), (1, 1), (0, 3, 0, 3), (1, 1)),
        ((17, 12), (7, 1), (1, 1), (3, 0, 3, 0), (1, 1)),
        ((20, 17), (5, 3), (1, 2), (2, 0, 3, 1), (2, 1)),
        ((14, 9), (1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
        ((9, 14), (3, 3), (1, 1), (0, 0, 0, 0), (1, 1)),
        ((13, 11), (3, 3), (1, 1), (2, 2, 2, 2), (2, 2)),
    ],
)
@pytest.mark.parametrize("batch", [1, 7])
def test_windows(bench, size, kernel, strides, pads, dilations, batch):  # noqa: F811
    height = (size[0] + pads[0] + pads[2] - (kernel[0] - 1) * dilations[0] - 1) // strides[0] + 1
    width = (size[1] + pads[1] + pads[3] - (kernel[1] - 1) * dilations[1] - 1) // strides[1] + 1
    step = window(view(0, *size, 80), view(1, height, width, 48), kernel, strides, pads, dilations)
    check(bench, step, batch, [size[0] * size[1] * 80, height * width * 48])


def test_ends(bench):  # noqa: F811
    source, target = view(0, 12, 10, 64), view(1, 12, 10, 96)
    for activation in ("none", "hard_swish", "sigmoid"):
        step = window(source, target, finish=Finish(activation, view(2, 12, 10, 96), 1, 0.5))
        check(bench, step, 3, [120 * 64, 120 * 96, 120 * 96])
    step = window(source, target, finish=Finish("none", view(2, 6, 5, 96), 2))
    check(bench, step, 2, [120 * 64, 120 * 96, 30 * 96])


def test_parts_of_wider_buffers(bench):  # noqa: F811
    source, target = view(0, 11, 9, 96, 136, 24), view(1, 11, 9, 160, 576, 200)
    check(bench, window(source, target), 3, [99 * 136, 99 * 576])
    rows = view(1, 11, 9, 72, 72, 160)  # behind the rows of another map
    check(bench, window(source, rows, finish=Finish()), 3, [99 * 136, 160 + 99 * 72 + 88])
