"""Two depthwise convolutions and the 1x1 between them as one kernel, against the numpy executor; on a GPU."""

import numpy as np
import pytest

from engines.cuda.gpu import Bench, bench, needs_gpu  # noqa: F401
from ssdrt.engines.cuda.executor import Memory, run_step
from ssdrt.engines.cuda.plan import Chain, Convolution, Depthwise, Finish, Separable, View
from ssdrt.engines.cuda.tactics import tactics

pytestmark = needs_gpu
RANDOM = np.random.default_rng(13)
SAME = (1, 1, 1, 1)


def normal(*shape, scale=1.0):
    return RANDOM.normal(0, scale, shape).astype(np.float16).astype(np.float32)


def chain(size, channels, middle, columns, pads=SAME, activation="relu6", stride=0):
    """The step, and the sizes of its five buffers."""
    target = [(have + pads[i] + pads[i + 2] - 3) // 2 + 1 for i, have in enumerate(size)]
    sizes = [(size, channels), (size, channels), (size, middle), (target, middle), (target, columns)]
    views = [View(i, *of, wide, wide) for i, (of, wide) in enumerate(sizes)]
    if stride:
        views[0] = View(0, *size, channels, stride, 8)
    end = Finish(activation)
    one = Depthwise(
        "a", views[0], views[1], normal(3, 3, channels, scale=0.3), normal(channels), (1, 1), SAME, (1, 1), end
    )
    weights = normal(1, 1, channels, middle, scale=channels**-0.5)
    two = Convolution("b", views[1], views[2], weights, normal(middle), (1, 1), (0, 0, 0, 0), (1, 1), end)
    three = Depthwise(
        "c", views[2], views[3], normal(3, 3, middle, scale=0.3), normal(middle), (2, 2), pads, (1, 1), end
    )
    weights = normal(1, 1, middle, columns, scale=middle**-0.5)
    four = Convolution("d", views[3], views[4], weights, normal(columns), (1, 1), (0, 0, 0, 0), (1, 1), Finish("none"))
    return Chain("e", Separable("b", one, two), Separable("d", three, four)), [
        height * width * (stride if stride and i == 0 else wide) for i, ((height, width), wide) in enumerate(sizes)
    ]


def check(bench, step, sizes, batch):  # noqa: F811
    """The chain's own result and the last one's."""
    if bench.device.generation != 90:
        pytest.skip("for compute capability 9.0")
    contents = {i: normal(batch, size).astype(np.float16) for i, size in enumerate(sizes)}
    for i in (1, 2, 3, 4):
        contents[i][:] = np.nan
    wanted = None
    kinds = [one for one in tactics(step, batch, bench.device) if one.kernel == "chained"]
    seen = set()
    for tactic in kinds:
        if tactic.inner[0] in seen:
            continue
        seen.add(tactic.inner[0])
        found, plan = bench.step(step, tactic, contents, batch)
        if wanted is None:
            memory = Memory(plan, batch)
            for buffer, values in contents.items():
                memory._slots[buffer][...] = values
            run_step(step, memory)
            wanted = memory._slots[4]
        assert np.isfinite(found).all(), f"{tactic}: {np.isnan(found).mean():.3f} not written"
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert error < 4e-3, f"{tactic}: relative error {error:.2e}, largest {np.abs(found - wanted).max():.3g}"
    assert len(seen) == (2 if max(step.source.channels, step.first.target.channels) <= 128 else 1)


@pytest.mark.parametrize(
    ("size", "channels", "middle", "batch"),
    [
        ((75, 75), 128, 128, 1),
        ((75, 75), 128, 128, 4),
        ((19, 19), 128, 128, 9),
        ((20, 33), 96, 128, 3),
        ((7, 5), 72, 104, 200),
        ((3, 81), 128, 96, 2),
        ((11, 170), 128, 72, 1),
        ((38, 38), 256, 256, 2),
        ((38, 38), 256, 256, 40),
        ((9, 38), 192, 192, 3),
        ((16, 100), 136, 200, 2),
        ((5, 1), 256, 128, 3),
        ((2, 2), 96, 256, 70),
    ],
)
def test_sizes(bench, size, channels, middle, batch):  # noqa: F811
    pads = SAME if size[0] % 2 else (0, 0, 1, 1)
    check(bench, *chain(size, channels, middle, 64, pads), batch)


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 0, 0, 1), (0, 1, 1, 0), (1, 1, 0, 0)])
@pytest.mark.parametrize("channels", [128, 256])
def test_borders(bench, pads, channels):  # noqa: F811
    check(bench, *chain((12, 41), channels, channels, 64, pads, "relu", 280), 3)
