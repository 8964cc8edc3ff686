"""Inverted residuals with squeeze-excite as two kernels, against the numpy executor; on a GPU."""

import numpy as np
import pytest

from engines.cuda.gpu import bench, needs_gpu  # noqa: F401
from recorded import GRAPHS, model_of
from ssdrt.engines.cuda.executor import Memory, run_step
from ssdrt.engines.cuda.plan import Convolution, Depthwise, Elementwise, Excited, Finish, GlobalPool, Squeezed, View
from ssdrt.engines.cuda.planner import excited, plan_network, several, squeezed
from ssdrt.engines.cuda.tactics import Device, tactics

RANDOM = np.random.default_rng(15)
HOPPER = Device("sm_90a", 132, 232448)
NONE = (0, 0, 0, 0)
SQUEEZED = [
    ((40, 40), 24, 96, 5, 2, (1, 1, 2, 2), "hard_swish"),
    ((20, 20), 40, 240, 5, 1, (2, 2, 2, 2), "hard_swish"),
    ((20, 20), 0, 288, 5, 2, (1, 1, 2, 2), "hard_swish"),
    ((10, 10), 48, 288, 5, 1, (2, 2, 2, 2), "hard_swish"),
    ((19, 17), 96, 72, 3, 1, (1, 1, 1, 1), "relu"),
    ((17, 23), 16, 8, 3, 2, (0, 0, 1, 1), "relu6"),
    ((3, 31), 72, 200, 5, 2, (2, 1, 1, 2), "hard_swish"),
    ((11, 19), 0, 56, 3, 1, (1, 1, 1, 1), "swish"),
    ((1, 1), 8, 8, 5, 1, (2, 2, 2, 2), "none"),
    ((6, 6), 80, 104, 5, 2, (4, 3, 4, 3), "hard_sigmoid"),
    ((13, 6), 0, 8, 5, 2, (0, 0, 0, 0), "sigmoid"),
]
SIXTH = Finish("relu6", scale=0.16667)
EXCITED = [
    ((20, 20), 240, 64, 40, True, SIXTH),
    ((10, 10), 288, 72, 48, False, SIXTH),
    ((80, 81), 16, 8, 16, False, SIXTH),
    ((5, 7), 576, 144, 128, True, Finish("hard_sigmoid")),
    ((13, 13), 104, 200, 72, False, Finish("sigmoid")),
    ((1, 1), 8, 8, 8, True, SIXTH),
    ((2, 50), 960, 1000, 8, True, Finish("relu")),
]


def normal(*shape, scale=1.0):
    return RANDOM.normal(0, scale, shape).astype(np.float16).astype(np.float32)


def view(buffer, size, channels, more=0):
    """With `more` channels of something else beside it."""
    return View(buffer, *size, channels, channels + more, more // 2)


def numbers(*views):
    return [one.height * one.width * one.stride for one in views]


def point(name, source, target, finish):
    columns = source.channels, target.channels
    weights = normal(1, 1, *columns, scale=1.5 * columns[0] ** -0.5)
    return Convolution(name, source, target, weights, normal(columns[1]), (1, 1), NONE, (1, 1), finish)


def front(size, channels, wide, window, stride, pads, activation):
    """The steps as far as the mean, and the sizes of their four buffers."""
    target = tuple((have + pads[i] + pads[i + 2] - window) // stride + 1 for i, have in enumerate(size))
    source, middle = view(0, size, channels or wide, 16), view(1, size, wide)
    made, mean, end = view(2, target, wide, 16), view(3, (1, 1), wide), Finish(activation)
    steps = [point("a", source, middle, end)] if channels else []
    weights, strides = normal(window, window, wide, scale=1 / window), (stride, stride)
    before = middle if channels else source
    steps += [Depthwise("b", before, made, weights, normal(wide), strides, pads, (1, 1), end)]
    return [*steps, GlobalPool("c", made, mean)], numbers(source, middle, made, mean)


def back(size, channels, hidden, columns, add, end):
    """The steps behind the mean, and the sizes of their seven buffers."""
    source, target, others = view(0, size, channels, 16), view(5, size, columns, 16), view(6, size, columns, 32)
    mean, middle, factors = (view(1 + i, (1, 1), wide) for i, wide in enumerate((channels, hidden, channels)))
    scaled, own = view(4, size, channels), np.arange(channels, dtype=np.int32)
    steps = [
        point("a", mean, middle, Finish("relu")),
        point("b", middle, factors, end),
        Elementwise("c", source, scaled, "mul", own, factors, own),
        point("d", scaled, target, Finish(residual=others if add else None)),
    ]
    return steps, numbers(source, mean, middle, factors, scaled, target, others)


def test_three_steps_and_four_become_one_each():
    steps, _ = front(*SQUEEZED[1])
    (step,) = several(steps, squeezed)
    assert isinstance(step, Squeezed)
    assert list(step.parts) == steps
    assert [one.kernel for one in tactics(step, 64, Device("sm_86", 84, 101376))] == ["apart"]
    steps, _ = back(*EXCITED[0])
    (step,) = several(steps, excited)
    assert isinstance(step, Excited)
    assert list(step.parts) == steps
    assert [one.kernel for one in tactics(step, 64, Device("sm_86", 84, 101376))] == ["apart"]


def test_a_wide_map_or_factors_that_others_read_stay():
    steps, _ = front(*SQUEEZED[1])
    other = point("other", steps[0].target, view(7, (20, 20), 8), Finish())
    first, step, last = several([*steps, other], squeezed)
    assert (first, last) == (steps[0], other)
    assert step.parts == (steps[1], steps[2])
    steps, _ = back(*EXCITED[0])
    other = point("other", steps[1].target, view(7, (1, 1), 8), Finish())
    assert several([*steps, other], excited) == [*steps, other]


def test_of_factors_that_are_made_of_what_has_factors_the_first_are_in_one_step():
    one, size = np.arange(32, dtype=np.int32), (4, 4)
    mean, a, b, scaled, narrow, c = (view(1 + i, (1, 1), 32) for i in range(6))
    source, wide, target = view(0, size, 32), view(7, size, 32), view(8, size, 32)
    steps = [
        GlobalPool("mean", source, mean),
        point("a", mean, a, Finish("relu")),
        point("b", a, b, Finish("sigmoid")),
        Elementwise("scaled", mean, scaled, "mul", one, b, one),
        point("narrow", scaled, narrow, Finish("relu")),
        point("c", narrow, c, Finish("sigmoid")),
        Elementwise("wide", source, wide, "mul", one, c, one),
        point("target", wide, target, Finish()),
    ]
    found = several(steps, excited)
    assert isinstance(found[1], Excited)
    assert [*found[1].parts] == steps[1:5]
    assert found[2:] == steps[5:]


@pytest.mark.skipif(not GRAPHS, reason="no graphs: ../shared is not there")
def test_mobilenet_v3():
    plan = plan_network(model_of("ssdlite_mobilenet_v3_small_320_90_od2020"))
    assert sum(isinstance(step, Squeezed) for step in plan.steps) == 9
    assert sum(isinstance(step, Excited) for step in plan.steps) == 9


def check(bench, step, sizes, batch, made):  # noqa: F811
    """Every kernel that can compute it; `made`: the buffers that others read."""
    contents = {i: normal(batch, size).astype(np.float16) for i, size in enumerate(sizes)}
    for i in {part.target.buffer for part in step.parts}:
        contents[i][:] = np.nan
    wanted = None
    for tactic in tactics(step, batch, bench.device):
        found, plan = bench.step(step, tactic, contents, batch, made)
        if wanted is None:
            memory = Memory(plan, batch)
            for i, values in contents.items():
                memory._slots[i][...] = values
            run_step(step, memory)
            wanted = [memory._slots[i] for i in made]
        for have, want in zip(found, wanted, strict=True):
            assert (np.isnan(have) == np.isnan(want)).all(), f"{tactic}: wrote elsewhere, or not everything"
            inside = ~np.isnan(want)
            error = np.linalg.norm(have[inside] - want[inside]) / np.linalg.norm(want[inside])
            assert error < 4e-3, f"{tactic}: relative error {error:.2e}"


@needs_gpu
@pytest.mark.parametrize("batch", [1, 3, 70])
@pytest.mark.parametrize("shape", SQUEEZED)
def test_as_far_as_the_mean(bench, shape, batch):  # noqa: F811
    steps, sizes = front(*shape)
    (step,) = several(steps, squeezed)
    check(bench, step, sizes, batch, (2, 3))


@needs_gpu
@pytest.mark.parametrize("batch", [1, 3, 70])
@pytest.mark.parametrize("shape", EXCITED)
def test_behind_the_mean(bench, shape, batch):  # noqa: F811
    steps, sizes = back(*shape)
    (step,) = several(steps, excited)
    check(bench, step, sizes, batch, (5,))
