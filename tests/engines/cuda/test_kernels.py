"""Every kernel, in every form that may be chosen, against the numpy executor; on a GPU."""

from dataclasses import replace

import numpy as np
import pytest

from engines.cuda.gpu import Bench, bench, needs_gpu  # noqa: F401
from ssdrt.engines.cuda.executor import Memory, run_step
from ssdrt.engines.cuda.pixels import OPERATIONS
from ssdrt.engines.cuda.plan import (
    Convolution,
    Depthwise,
    Elementwise,
    Enlarge,
    Finish,
    GlobalPool,
    Pool,
    Separable,
    View,
)
from ssdrt.engines.cuda.tactics import tactics

pytestmark = needs_gpu
PLAIN = Finish()
RANDOM = np.random.default_rng(11)


def normal(*shape, scale=1.0):
    return RANDOM.normal(0, scale, shape).astype(np.float16).astype(np.float32)


def view(buffer, height, width, channels, stride=None, offset=0):
    return View(buffer, height, width, channels, stride or channels, offset)


def check(bench, step, batch, sizes, tolerance=2e-3, other=()):  # noqa: F811
    contents = {buffer: normal(batch, size).astype(np.float16) for buffer, size in enumerate(sizes)}
    target = step.target
    for buffer in (target.buffer, *other):
        contents[buffer][:] = np.nan
    for tactic in tactics(step, batch, bench.device):
        found, plan = bench.step(step, tactic, contents, batch)
        memory = Memory(plan, batch)
        for buffer, values in contents.items():
            memory._slots[buffer][...] = values
        run_step(step, memory)
        wanted = memory._slots[target.buffer]
        assert (np.isnan(found) == np.isnan(wanted)).all(), f"{tactic}: wrote elsewhere, or not everything"
        inside = ~np.isnan(wanted)
        difference = found[inside].astype(np.float64) - wanted[inside]
        error = np.linalg.norm(difference) / max(np.linalg.norm(wanted[inside]), 1e-9)
        assert error < tolerance, f"{tactic}: relative error {error:.2e}, largest {np.abs(difference).max():.3g}"


def convolution(source, target, window=(1, 1), strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), finish=PLAIN):
    channels = source.channels * window[0] * window[1]
    weights = normal(*window, source.channels, target.channels, scale=channels**-0.5)
    return Convolution("c", source, target, weights, normal(target.channels), strides, pads, dilations, finish)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("size", "channels", "columns"),
    [
        ((1, 1), 8, 8),
        ((19, 19), 512, 512),
        ((10, 10), 1024, 576),
        ((7, 5), 24, 72),
        ((33, 31), 16, 96),
        ((75, 75), 64, 128),
    ],
)
def test_points(bench, size, channels, columns, batch):  # noqa: F811
    step = convolution(view(0, *size, channels), view(1, *size, columns), finish=Finish("relu6"))
    check(bench, step, batch, [size[0] * size[1] * channels, size[0] * size[1] * columns])


@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "sigmoid", "hard_sigmoid", "hard_swish", "swish"])
def test_finishes(bench, activation):  # noqa: F811
    step = convolution(view(0, 9, 7, 40), view(1, 9, 7, 24), finish=Finish(activation, view(2, 9, 7, 24), 1, 0.25))
    check(bench, step, 2, [63 * 40, 63 * 24, 63 * 24])


def test_residual_of_half_the_size(bench):  # noqa: F811
    step = convolution(view(0, 8, 12, 16), view(1, 8, 12, 64), finish=Finish("none", view(2, 4, 6, 64), 2))
    check(bench, step, 3, [96 * 16, 96 * 64, 24 * 64])


@pytest.mark.parametrize(
    ("size", "window", "strides", "pads", "dilations"),
    [
        ((30, 31), (3, 3), (2, 2), (0, 0, 1, 1), (1, 1)),
        ((19, 19), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
        ((10, 10), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
        ((3, 3), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
        ((14, 9), (1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
        ((20, 17), (5, 3), (1, 2), (2, 0, 3, 1), (2, 1)),
        ((23, 23), (7, 7), (2, 2), (2, 2, 3, 3), (1, 1)),
    ],
)
@pytest.mark.parametrize("channels", [8, 32, 72])
def test_windows(bench, size, window, strides, pads, dilations, channels):  # noqa: F811
    height = (size[0] + pads[0] + pads[2] - (window[0] - 1) * dilations[0] - 1) // strides[0] + 1
    width = (size[1] + pads[1] + pads[3] - (window[1] - 1) * dilations[1] - 1) // strides[1] + 1
    step = convolution(view(0, *size, channels), view(1, height, width, 48), window, strides, pads, dilations)
    check(bench, step, 2, [size[0] * size[1] * channels, height * width * 48])


def test_a_part_of_a_concatenation_and_rows_of_a_head(bench):  # noqa: F811
    source, target = view(0, 6, 5, 16, 48, 24), view(1, 6, 5, 32, 80, 40)
    check(bench, convolution(source, target), 3, [30 * 48, 30 * 80])
    rows = view(1, 6, 5, 72, 72, 160)  # behind the rows of another map
    check(bench, convolution(source, rows), 3, [30 * 48, 160 + 30 * 72 + 88])


@pytest.mark.parametrize("batch", [1, 70])
@pytest.mark.parametrize(
    ("size", "window", "strides", "pads", "dilations"),
    [
        ((19, 19), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
        ((38, 37), (3, 3), (2, 2), (0, 0, 1, 1), (1, 1)),
        ((11, 14), (5, 5), (2, 2), (1, 2, 2, 2), (1, 1)),
        ((20, 21), (5, 5), (1, 1), (2, 2, 2, 2), (1, 1)),
        ((2, 1), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
        ((9, 13), (3, 2), (2, 1), (1, 0, 0, 3), (2, 3)),
    ],
)
def test_depthwise(bench, size, window, strides, pads, dilations, batch):  # noqa: F811
    height = (size[0] + pads[0] + pads[2] - (window[0] - 1) * dilations[0] - 1) // strides[0] + 1
    width = (size[1] + pads[1] + pads[3] - (window[1] - 1) * dilations[1] - 1) // strides[1] + 1
    weights = normal(*window, 40, scale=0.4)
    source, target = view(0, *size, 40), view(1, height, width, 40, 56, 8)
    step = Depthwise("d", source, target, weights, normal(40), strides, pads, dilations, Finish("relu6"))
    for finish in (Finish("relu6"), Finish("hard_swish")):  # fp16 sums where they are a choice
        check(bench, replace(step, finish=finish), batch, [size[0] * size[1] * 40, height * width * 56], 4e-3)


SAME, AFTER = (1, 1, 1, 1), (0, 0, 1, 1)


def separable(size, strides, pads, channels, columns, finish):
    height = (size[0] + pads[0] + pads[2] - 3) // strides[0] + 1
    width = (size[1] + pads[1] + pads[3] - 3) // strides[1] + 1
    weights, middle = normal(3, 3, channels, scale=0.3), view(1, height, width, channels)
    first = Depthwise(
        "d", view(0, *size, channels), middle, weights, normal(channels), strides, pads, (1, 1), Finish("relu6")
    )
    step = Separable("s", first, convolution(middle, view(2, height, width, columns), finish=finish))
    return step, [size[0] * size[1] * channels, height * width * channels, height * width * columns]


@pytest.mark.parametrize("batch", [1, 5, 40])
@pytest.mark.parametrize(
    ("size", "strides", "pads", "channels", "columns"),
    [
        ((19, 19), (1, 1), SAME, 512, 512),
        ((10, 10), (1, 1), SAME, 1024, 1024),
        ((38, 38), (1, 1), SAME, 64, 128),
        ((7, 5), (1, 1), SAME, 24, 64),
        ((33, 21), (1, 1), SAME, 72, 320),
        ((38, 37), (2, 2), AFTER, 136, 264),
        ((19, 19), (2, 2), SAME, 512, 1024),
        ((9, 6), (2, 1), (1, 0, 0, 2), 8, 8),
    ],
)
def test_separable(bench, size, strides, pads, channels, columns, batch):  # noqa: F811
    if channels * columns * batch > 1 << 23:
        pytest.skip("too long for the executor")
    step, sizes = separable(size, strides, pads, channels, columns, Finish("relu6" if batch > 1 else "none"))
    check(bench, step, batch, sizes, 4e-3, other={1})


@pytest.mark.parametrize("activation", ["none", "hard_swish"])
def test_separable_with_a_residual(bench, activation):  # noqa: F811
    step, sizes = separable((11, 9), (1, 1), SAME, 72, 24, Finish(activation, view(3, 11, 9, 24), 1, 0.25))
    check(bench, step, 2, [*sizes, 99 * 24], 4e-3, other={1})


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pools(bench, kind):  # noqa: F811
    step = Pool("p", view(0, 15, 13, 24), view(1, 8, 7, 24), kind, (3, 3), (2, 2), (1, 1, 1, 1))
    check(bench, step, 2, [15 * 13 * 24, 56 * 24])


@pytest.mark.parametrize("channels", [8, 16, 24, 64, 72, 240])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (20, 20), (80, 77)])
def test_global_pool(bench, height, width, channels):  # noqa: F811
    step = GlobalPool("g", view(0, height, width, channels), view(1, 1, 1, channels))
    check(bench, step, 3, [height * width * channels, channels])


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_factor_of_every_channel_of_a_picture(bench, batch):  # noqa: F811
    order = np.arange(40, dtype=np.int32)
    source, target, other = view(0, 13, 7, 40, 48), view(1, 13, 7, 40, 56, 8), view(2, 1, 1, 40)
    step = Elementwise("x", source, target, "mul", order, other=other, other_sources=order)
    check(bench, step, batch, [91 * 48, 91 * 56, 40])
    assert [one.kernel for one in tactics(step, batch, bench.device)] == ["scaled"]


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("grid", [(False, False), (True, False), (False, True)])
def test_enlargements(bench, method, grid):  # noqa: F811
    for height, width in ((14, 18), (9, 7), (3, 1)):
        step = Enlarge("e", view(0, 7, 9, 16), view(1, height, width, 16), method, *grid)
        check(bench, step, 2, [63 * 16, height * width * 16])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_elementwise(bench, operation):  # noqa: F811
    order = RANDOM.permutation(16).astype(np.int32)
    order[13:] = -1
    first, second = (
        (normal(16), normal(16)) if operation == "affine" else (np.full(1, -1.5, np.float32), np.full(1, 2, np.float32))
    )
    source, target = view(0, 6, 7, 16), view(1, 6, 7, 16)
    step = Elementwise("x", source, target, operation, order, first=first, second=second, third=3.5 / 255)
    sizes = [42 * 16, 42 * 16]
    if operation in ("add", "mul"):
        step = replace(step, other=view(2, 6, 7, 16), other_sources=np.arange(16, dtype=np.int32)[::-1].copy())
        check(bench, step, 2, [*sizes, 42 * 16])
        step = replace(step, other=view(2, 1, 1, 16), other_sources=np.arange(16, dtype=np.int32))
        check(bench, step, 2, [*sizes, 16])
    else:
        check(bench, step, 2, sizes)
        check(bench, replace(step, sources=np.arange(16, dtype=np.int32)), 2, sizes)


def test_borders_and_parts(bench):  # noqa: F811
    order = np.arange(8, dtype=np.int32)
    border = Elementwise("b", view(0, 5, 6, 8), view(1, 8, 9, 8), "copy", order, top=-1, left=-2, fill=0.5)
    check(bench, border, 2, [240, 576])
    part = Elementwise("b", view(0, 5, 6, 8), view(1, 3, 2, 8), "copy", order, top=1, left=3)
    check(bench, part, 2, [240, 48])
