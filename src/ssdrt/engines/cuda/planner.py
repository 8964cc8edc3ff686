"""From an `SsdModel` to a `Plan`: layers are grouped by patterns, and every group becomes a step.

A group runs where its last layer stands: by then everything it reads is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from ssdrt.engines.cuda.draft import Draft
from ssdrt.engines.cuda.emit import copy_loose_heads
from ssdrt.engines.cuda.memory import assign_slots
from ssdrt.engines.cuda.network import Group, Network
from ssdrt.engines.cuda.patterns import PATTERNS
from ssdrt.engines.cuda.plan import (
    Chain,
    Convolution,
    Depthwise,
    Elementwise,
    Excited,
    GlobalPool,
    Inverted,
    Plan,
    Separable,
    Squeezed,
    Step,
    View,
    reads,
)
from ssdrt.engines.cuda.tactics import HIDDEN, MOST_PAIRS, MOST_STEPS, NARROW, is_plain, is_point, is_scaled
from ssdrt.errors import ModelError
from ssdrt.model import IMAGE, SsdModel


def plan_network(model: SsdModel) -> Plan:
    """The steps of a model's network, from the normalised input to logits and box codes.

    Raises
    ------
    ModelError: nobody has said how a layer kind becomes a step.
    """
    network = Network(model)
    groups: dict[str, Group] = {}
    claimed: set[str] = set()
    for pattern in PATTERNS:
        for layer in model.layers:
            group = None if layer.name in claimed else pattern(network, layer, claimed)
            if group is not None:
                groups[max(group.layers, key=lambda one: network.order[one.name]).name] = group
                claimed |= {one.name for one in group.layers}
    draft = Draft(network)
    for layer in model.layers:
        if layer.name in groups:
            groups[layer.name].emit(draft, groups[layer.name])
        elif layer.name not in claimed:
            raise ModelError(
                f"no step for {type(layer).__name__} layers: add a pattern to engines/cuda/patterns.py", node=layer.name
            )
    copy_loose_heads(draft)
    image, head = draft.values[IMAGE].view, draft.head
    kept = {head.logits_buffer, head.boxes_buffer}
    steps = draft.steps
    for one_of in (joined, chained, inverted):
        steps = paired(steps, one_of)
    for several_of in (squeezed, excited):
        steps = several(steps, several_of)
    slots, slot_of = assign_slots(steps, draft.buffers, image.buffer, kept)
    return Plan(image, tuple(steps), head, tuple(draft.buffers), slots, slot_of)


def paired(steps: list[Step], one_of: Callable[[Step, Step], Step | None]) -> list[Step]:
    """Steps of which the second alone reads what the first makes, as the one that `one_of` makes of them, if any."""
    readers = _readers(steps)
    pairs: dict[int, Step] = {}
    taken: set[int] = set()
    for step in steps:
        behind = readers.get(step.target.buffer, [])
        one = one_of(step, behind[0]) if len(behind) == 1 and id(step) not in pairs else None
        if one is not None:
            pairs[id(behind[0])] = one
            taken.add(id(step))
    return [pairs.get(id(step), step) for step in steps if id(step) not in taken]


Makers: TypeAlias = dict[View, Step]
Readers: TypeAlias = dict[int, list[Step]]
"""Of a view, of a buffer."""


def several(steps: list[Step], one_of: Callable[[Step, Makers, Readers], Squeezed | Excited | None]) -> list[Step]:
    """Steps, where `one_of` finds one for several of them that one in the place of the step that it looked at; a step
    that an earlier one has is in no other."""
    makers, readers = {step.target: step for step in steps}, _readers(steps)
    found: dict[int, Step] = {}
    taken: set[int] = set()
    for step in steps:
        one = one_of(step, makers, readers)
        if one is not None and taken.isdisjoint(map(id, one.parts)):
            found[id(step)] = one
            taken |= set(map(id, one.parts))
    return [found.get(id(step), step) for step in steps if id(step) in found or id(step) not in taken]


def squeezed(step: Step, makers: Makers, readers: Readers) -> Squeezed | None:
    """A depthwise convolution of 3x3 or 5x5 with the mean behind it and the 1x1 before it that nothing else reads."""
    if not isinstance(step, Depthwise) or step.strides not in ((1, 1), (2, 2)) or step.dilations != (1, 1):
        return None
    pools = [one for one in readers.get(step.target.buffer, []) if isinstance(one, GlobalPool)]
    if step.weights.shape[:2] not in ((3, 3), (5, 5)) or len(pools) != 1 or pools[0].source != step.target:
        return None
    before = makers.get(step.source)
    fits = (
        isinstance(before, Convolution)
        and is_point(before)
        and _is_alone(before, readers)
        and before.finish.residual is None
        and before.source.channels <= 16 * MOST_STEPS
    )
    return Squeezed(step.name, before if isinstance(before, Convolution) and fits else None, step, pools[0])


def excited(step: Step, makers: Makers, readers: Readers) -> Excited | None:
    """A 1x1 with squeeze-excite's weights on what it reads."""
    scale = makers.get(step.source)
    if not (isinstance(step, Convolution) and isinstance(scale, Elementwise) and is_scaled(scale)):
        return None
    assert scale.other is not None
    excite = makers.get(scale.other)
    squeeze = makers.get(excite.source) if excite else None
    if not (isinstance(excite, Convolution) and isinstance(squeeze, Convolution)):
        return None
    alone = all(_is_alone(one, readers) for one in (squeeze, excite, scale))
    small = (squeeze.source.height, squeeze.source.width) == (1, 1)
    points = all(is_point(one) for one in (squeeze, excite, step))
    ends = squeeze.finish.residual is None and excite.finish.residual is None and step.finish.upsampling == 1
    fits = squeeze.source.channels == scale.source.channels and step.target.channels <= 16 * MOST_PAIRS
    return Excited(step.name, squeeze, excite, scale, step) if alone and small and points and ends and fits else None


def _is_alone(step: Step, readers: Readers) -> bool:
    """Whether one step alone reads what it makes."""
    return len(readers.get(step.target.buffer, [])) == 1


def joined(first: Step, second: Step) -> Separable | None:
    """A depthwise step and a 1x1."""
    if not (isinstance(first, Depthwise) and isinstance(second, Convolution) and second.source == first.target):
        return None
    fits = second.weights.shape[:2] == (1, 1) and second.strides == (1, 1)
    return Separable(second.name, first, second) if fits else None


def chained(first: Step, second: Step) -> Chain | None:
    """Two `Separable` that chain.cu computes as far as the second 1x1."""
    if not (isinstance(first, Separable) and isinstance(second, Separable) and second.source == first.target):
        return None
    return Chain(second.name, first, second) if _is_chain(first, second) else None


def inverted(first: Step, second: Step) -> Inverted | None:
    """A 1x1 that widens and a `Separable`, where inverted.cu can compute them."""
    if not (isinstance(first, Convolution) and isinstance(second, Separable) and second.source == first.target):
        return None
    return Inverted(second.name, first, second) if _is_inverted(first, second) else None


WIDE = (64, 256)
"""Channels, more than the first and at most the second, for which chain.cu is; the front of MobileNet v1 has fewer."""


def _is_chain(first: Separable, second: Separable) -> bool:
    ends = [part.finish for part in (first.depthwise, first.point, second.depthwise)]
    one, two = first.depthwise, second.depthwise
    return (
        all(is_plain(end) and end.activation != "none" for end in ends)
        and (one.weights.shape[:2], one.strides, one.pads, one.dilations) == ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
        and (two.weights.shape[:2], two.strides, two.dilations) == ((3, 3), (2, 2), (1, 1))
        and max(two.pads) <= 1
        and all(WIDE[0] < view.channels <= WIDE[1] for view in (first.source, first.target))
    )


def _is_inverted(first: Convolution, second: Separable) -> bool:
    depthwise, point = second.depthwise, second.point
    window = (depthwise.weights.shape[:2], depthwise.dilations)
    same = (depthwise.strides, depthwise.pads) == ((1, 1), (1, 1, 1, 1))
    halving = depthwise.strides == (2, 2) and max(depthwise.pads) <= 1
    end = point.finish
    added = end.residual is None or (same and end.upsampling == 1 and end.residual == first.source)
    return (
        is_point(first)
        and is_point(point)
        and all(is_plain(one) for one in (first.finish, depthwise.finish))
        and first.finish.activation == depthwise.finish.activation in ("relu", "relu6")
        and window == ((3, 3), (1, 1))
        and (same or halving)
        and added
        and (end.activation, end.scale) == ("none", 1)
        and first.source.channels <= NARROW
        and first.source.channels < first.target.channels <= 4 * HIDDEN
        and point.target.channels <= NARROW
        and second.target.height * second.target.width >= SMALLEST
        and _is_moderate(first, second)
    )


SMALLEST = 256
"""Pixels of the target of an `Inverted`: strips of fewer do not fill up."""

MODERATE = 1000.0
"""Weights and biases of an `Inverted`, at most: inverted.cu has up to 64 times as much in fp16."""


def _is_moderate(first: Convolution, second: Separable) -> bool:
    """Whether inverted.cu can hold all weights and biases."""
    parts = (first, second.depthwise, second.point)
    return all(bool((np.abs(values) <= MODERATE).all()) for one in parts for values in (one.weights, one.bias))


def _readers(steps: list[Step]) -> Readers:
    readers: Readers = {}
    for step in steps:
        for view in reads(step):
            readers.setdefault(view.buffer, []).append(step)
    return readers
