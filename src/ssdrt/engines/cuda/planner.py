"""From an `SsdModel` to a `Plan`: layers are grouped by patterns, and every group becomes a step.

A group runs where its last layer stands: by then everything it reads is there.
"""

from __future__ import annotations

from ssdrt.engines.cuda.draft import Draft
from ssdrt.engines.cuda.emit import copy_loose_heads
from ssdrt.engines.cuda.memory import assign_slots
from ssdrt.engines.cuda.network import Group, Network
from ssdrt.engines.cuda.patterns import PATTERNS
from ssdrt.engines.cuda.plan import Convolution, Depthwise, Plan, Separable, Step, reads
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
    steps = joined(draft.steps)
    slots, slot_of = assign_slots(steps, draft.buffers, image.buffer, kept)
    return Plan(image, tuple(steps), head, tuple(draft.buffers), slots, slot_of)


def joined(steps: list[Step]) -> list[Step]:
    """Every depthwise step and the 1x1 that alone reads what it makes as one."""
    readers: dict[int, list[Step]] = {}
    for step in steps:
        for view in reads(step):
            readers.setdefault(view.buffer, []).append(step)
    pairs: dict[int, Depthwise] = {}
    for step in steps:
        behind = readers.get(step.target.buffer, [])
        if isinstance(step, Depthwise) and len(behind) == 1 and isinstance(behind[0], Convolution):
            only = behind[0]
            if only.source == step.target and only.weights.shape[:2] == (1, 1) and only.strides == (1, 1):
                pairs[id(only)] = step
    taken = {id(step) for step in pairs.values()}
    return [
        Separable(step.name, pairs[id(step)], step) if isinstance(step, Convolution) and id(step) in pairs else step
        for step in steps
        if id(step) not in taken
    ]
