"""From a step and the tactic chosen for it to launches. No GPU is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from ssdrt.engines.cuda import few, hopper, pixels, portable
from ssdrt.engines.cuda.chain import chain
from ssdrt.engines.cuda.excite import excited, squeezed
from ssdrt.engines.cuda.inverted import inverted
from ssdrt.engines.cuda.launch import Builder, Launch
from ssdrt.engines.cuda.plan import (
    Chain,
    Convolution,
    Depthwise,
    Elementwise,
    Enlarge,
    Excited,
    GlobalPool,
    Inverted,
    Pool,
    Separable,
    Several,
    Squeezed,
    Step,
    key_of,
)
from ssdrt.engines.cuda.tactics import Tactic

Maker: TypeAlias = Callable[[Builder, str, Any, Tactic], Launch]


def step_launches(build: Builder, index: int, tactic: Tactic) -> list[Launch]:
    """The launches of a plan's step."""
    return launches(build, str(index), build.plan.steps[index], tactic)


def launches(build: Builder, key: str, step: Step, tactic: Tactic) -> list[Launch]:
    """The launches of a step, or of a part of one; `key` names its constants."""
    if isinstance(step, Several) and tactic.kernel == "apart":
        each = zip(step.parts, tactic.inner, strict=True)
        return [one for i, (part, of) in enumerate(each) for one in launches(build, key_of(key, i), part, of)]
    if isinstance(step, Chain):
        first, second = tactic.inner
        point = convolution(build, f"{key} second Convolution", step.second.point, second)
        return [chain(build, f"{key} chain", step, first), point]
    if isinstance(step, Separable) and tactic.inner:
        first, second = tactic.inner
        return [
            portable.depthwise(build, f"{key} Depthwise", step.depthwise, first),
            convolution(build, f"{key} Convolution", step.point, second),
        ]
    return [MAKERS[type(step)](build, key, step, tactic)]


def convolution(build: Builder, index: str, step: Convolution, tactic: Tactic) -> Launch:
    """A dense convolution, by the kernel that the tactic names."""
    kernel = tactic.kernel.partition("<")[0]
    return CONVOLUTIONS.get(kernel, portable.convolution)(build, index, step, tactic)


def separable(build: Builder, index: str, step: Separable, tactic: Tactic) -> Launch:
    """A depthwise convolution and a 1x1 as the one kernel that the tactic names."""
    maker = few.few_separable if tactic.kernel.startswith("few") else hopper.separable
    return maker(build, index, step, tactic)


CONVOLUTIONS: dict[str, Maker] = {"product": hopper.product, "dense": hopper.dense, "front": hopper.front}
"""Kernel -> what launches it, where it is not one of `convolution.cu`."""

MAKERS: dict[type[Step], Maker] = {
    Convolution: convolution,
    Depthwise: portable.depthwise,
    Elementwise: pixels.elementwise,
    Enlarge: pixels.enlarge,
    Excited: excited,
    GlobalPool: pixels.global_pool,
    Inverted: inverted,
    Pool: pixels.pool,
    Separable: separable,
    Squeezed: squeezed,
}
"""Step kind -> what launches it."""
