"""Inverted residuals as one kernel, against the numpy executor; on a GPU."""

import numpy as np
import pytest

from engines.cuda.gpu import bench, needs_gpu  # noqa: F401
from ssdrt.engines.cuda.executor import Memory, run_step
from ssdrt.engines.cuda.plan import Convolution, Depthwise, Finish, Inverted, Separable, View
from ssdrt.engines.cuda.planner import inverted, paired
from ssdrt.engines.cuda.tactics import Device, tactics

RANDOM = np.random.default_rng(14)
SAME, AFTER, NONE = (1, 1, 1, 1), (0, 0, 1, 1), (0, 0, 0, 0)
SHAPES = [
    ((20, 75), 24, 144, 24, 1, SAME, True),
    ((19, 38), 32, 192, 32, 1, SAME, True),
    ((17, 31), 16, 96, 24, 1, SAME, False),
    ((33, 61), 32, 104, 32, 1, SAME, True),
    ((64, 20), 8, 48, 8, 1, SAME, True),
    ((30, 150), 16, 96, 24, 2, AFTER, False),
    ((75, 41), 24, 144, 32, 2, SAME, False),
    ((63, 62), 32, 192, 8, 2, (1, 0, 0, 1), False),
    ((38, 60), 8, 40, 16, 2, (0, 1, 1, 0), False),
]


def normal(*shape, scale=1.0):
    return RANDOM.normal(0, scale, shape).astype(np.float16).astype(np.float32)


def residual(size, channels, hidden, columns, stride, pads, add, activation="relu6"):
    """The two steps, and the sizes of their four buffers."""
    target = [(have + pads[i] + pads[i + 2] - 3) // stride + 1 for i, have in enumerate(size)]
    sizes = [(size, channels), (size, hidden), (target, hidden), (target, columns)]
    views = [View(i, *of, wide, wide) for i, (of, wide) in enumerate(sizes)]
    end, window = Finish(activation), normal(3, 3, hidden, scale=0.3)
    weights = normal(1, 1, channels, hidden, scale=2 * channels**-0.5)
    one = Convolution("a", views[0], views[1], weights, normal(hidden), (1, 1), NONE, (1, 1), end)
    two = Depthwise("b", views[1], views[2], window, normal(hidden), (stride, stride), pads, (1, 1), end)
    weights, end = normal(1, 1, hidden, columns, scale=hidden**-0.5), Finish(residual=views[0] if add else None)
    three = Convolution("c", views[2], views[3], weights, normal(columns), (1, 1), NONE, (1, 1), end)
    return [one, Separable("c", two, three)], [h * w * wide for (h, w), wide in sizes]


@pytest.mark.parametrize("shape", SHAPES)
def test_both_steps_become_one(shape):
    (one, two), _ = residual(*shape)
    (step,) = paired([one, two], inverted)
    assert isinstance(step, Inverted)
    assert (step.first, step.second) == (one, two)
    assert [t.kernel for t in tactics(step, 64, Device("sm_86", 84, 101376))] == ["apart"]


def test_a_wide_map_that_others_read_stays():
    (one, two), _ = residual(*SHAPES[0])
    steps = [one, two, Separable("e", two.depthwise, two.point)]
    assert paired(steps, inverted) == steps


@needs_gpu
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shape", [*SHAPES, *((*shape, "relu") for shape in SHAPES)])
def test_shapes(bench, shape, batch):  # noqa: F811
    if bench.device.generation != 90:
        pytest.skip("for compute capability 9.0")
    steps, sizes = residual(*shape)
    step = Inverted("d", *steps)
    contents = {i: normal(batch, size).astype(np.float16) for i, size in enumerate(sizes)}
    for i in (1, 2, 3):
        contents[i][:] = np.nan
    wanted = None
    for tactic in tactics(step, batch, bench.device):
        found, plan = bench.step(step, tactic, contents, batch)
        if wanted is None:
            memory = Memory(plan, batch)
            memory._slots[0][...] = contents[0]
            run_step(step, memory)
            wanted = memory._slots[3]
        assert np.isfinite(found).all(), f"{tactic}: {np.isnan(found).mean():.3f} not written"
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert error < 4e-3, f"{tactic}: relative error {error:.2e}"
