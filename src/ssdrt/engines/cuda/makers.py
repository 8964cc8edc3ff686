"""From a step and the tactic chosen for it to launches. No GPU is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from ssdrt.engines.cuda import hopper, pixels, portable
from ssdrt.engines.cuda.launch import Builder, Launch
from ssdrt.engines.cuda.plan import (
    Convolution,
    Depthwise,
    Elementwise,
    Enlarge,
    GlobalPool,
    Pool,
    Separable,
    Step,
)
from ssdrt.engines.cuda.tactics import Tactic

Maker: TypeAlias = Callable[[Builder, str, Any, Tactic], Launch]


def step_launches(build: Builder, index: int, tactic: Tactic) -> list[Launch]:
    """The launches of a plan's step."""
    step = build.plan.steps[index]
    if isinstance(step, Separable) and tactic.inner:
        first, second = tactic.inner
        return [
            portable.depthwise(build, f"{index} Depthwise", step.depthwise, first),
            convolution(build, f"{index} Convolution", step.point, second),
        ]
    return [MAKERS[type(step)](build, str(index), step, tactic)]


def convolution(build: Builder, index: str, step: Convolution, tactic: Tactic) -> Launch:
    """A dense convolution, by the kernel that the tactic names."""
    kernel = tactic.kernel.partition("<")[0]
    return CONVOLUTIONS.get(kernel, portable.convolution)(build, index, step, tactic)


CONVOLUTIONS: dict[str, Maker] = {"product": hopper.product, "dense": hopper.dense, "front": hopper.front}
"""Kernel -> what launches it, where it is not one of `convolution.cu`."""

MAKERS: dict[type[Step], Maker] = {
    Convolution: convolution,
    Depthwise: portable.depthwise,
    Elementwise: pixels.elementwise,
    Enlarge: pixels.enlarge,
    GlobalPool: pixels.global_pool,
    Pool: pixels.pool,
    Separable: hopper.separable,
}
"""Step kind -> what launches it."""
