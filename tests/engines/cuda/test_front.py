"""The kernel for first convolutions against the numpy executor; on a GPU."""

import numpy as np
import pytest

from engines.cuda.gpu import Bench, bench, needs_gpu  # noqa: F401
from ssdrt.engines.cuda.executor import Memory, run_step
from ssdrt.engines.cuda.plan import Convolution, Finish, View
from ssdrt.engines.cuda.tactics import tactics

pytestmark = needs_gpu
RANDOM = np.random.default_rng(13)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("size", "kernel", "pads", "columns"),
    [
        ((300, 300), 7, (2, 2, 3, 3), 64),
        ((41, 67), 7, (3, 3, 3, 3), 64),
        ((96, 130), 3, (0, 0, 1, 1), 32),
        ((35, 33), 3, (1, 1, 1, 1), 24),
        ((20, 19), 5, (1, 2, 2, 2), 40),
        ((2, 3), 3, (0, 0, 1, 1), 16),
    ],
)
def test_first_convolutions(bench, size, kernel, pads, columns, batch):  # noqa: F811
    height, width = ((size[i] + pads[i] + pads[i + 2] - kernel) // 2 + 1 for i in (0, 1))
    weights = np.zeros((kernel, kernel, 8, columns), np.float32)
    weights[:, :, :3] = RANDOM.normal(0, (3 * kernel * kernel) ** -0.5, (kernel, kernel, 3, columns))
    weights = weights.astype(np.float16).astype(np.float32)
    bias = RANDOM.normal(0, 1, columns).astype(np.float32)
    source = View(0, *size, 8, 8)
    target = View(1, height, width, columns, columns + 16, 8)
    finish = Finish("hard_swish" if columns == 16 else "relu6")
    step = Convolution("f", source, target, weights, bias, (2, 2), pads, (1, 1), finish)
    contents = {
        0: RANDOM.normal(0, 1, (batch, size[0] * size[1] * 8)).astype(np.float16),
        1: np.full((batch, height * width * (columns + 16)), np.nan, np.float16),
    }
    first = tactics(step, batch, bench.device)[0]
    assert first.kernel.startswith("front")
    found, plan = bench.step(step, first, contents, batch)
    memory = Memory(plan, batch)
    for buffer, values in contents.items():
        memory._slots[buffer][...] = values
    run_step(step, memory)
    wanted = memory._slots[1]
    assert (np.isnan(found) == np.isnan(wanted)).all(), "wrote elsewhere, or not everything"
    inside = ~np.isnan(wanted)
    difference = found[inside].astype(np.float64) - wanted[inside]
    assert np.linalg.norm(difference) < 2e-3 * np.linalg.norm(wanted[inside])
