"""What a `.uff` holds in short, and what of it TensorRT will stumble on: known before the build, not in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.legacy.plugins import nms_of
from ssdrt.legacy.reader import Nodes, head_of
from ssdrt.legacy.uff import Uff, UffNode, checked_nodes, constant

PLUGINS = (
    "BatchedNMS_TRT", "FlattenConcat_TRT", "GridAnchorRect_TRT", "GridAnchor_TRT", "NMS_TRT", "Normalize_TRT",
    "PriorBox_TRT",
)  # fmt: skip
"""Plugins for SSDs that TensorRT 5.1 to 8.6 has; a custom operation is the plugin's name behind a `_`."""


def summary(uff: Uff) -> str:
    """Inputs, outputs, operations and their number, plugins with their fields, and `problems`."""
    nodes = checked_nodes(uff)
    counts = Counter(node.operation for node in nodes.values())
    lines = [f"{len(nodes)} nodes: " + ", ".join(f"{n} {op}" for op, n in counts.most_common())]
    lines += [
        f"input   {node.id}  {list(node.get('shape', ()))}" for node in nodes.values() if node.operation == "Input"
    ]
    lines += [
        f"output  {node.id}  {', '.join(node.inputs)}" for node in nodes.values() if node.operation == "MarkOutput"
    ]
    for node in nodes.values():
        if node.operation.startswith("_"):
            lines.append(f"plugin  {node.id}  {node.operation[1:]} of {', '.join(node.inputs)}")
            lines += [
                f"          {key.split('_u_')[0]} {_short(data.value)}" for key, data in sorted(node.fields.items())
            ]
    lines += [f"note    {text}" for text in problems(uff)]
    return "\n".join(lines)


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_short, value)) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def input_order(nodes: Nodes, nms: UffNode) -> tuple[int, int, int] | None:
    """Positions of loc, conf and prior among NMS_TRT's inputs, as the graph has them; None when it cannot be told."""
    joints = [nodes[head_of(nodes, name)[0]] for name in nms.inputs]
    flattened = [i for i, node in enumerate(joints) if node.operation == "_FlattenConcat_TRT"]
    if len(joints) != 3 or len(flattened) != 2:
        return None
    channels = [sum(_channels(nodes, name) for name in joints[i].inputs) for i in flattened]
    classes = nms.get("numClasses", 0)
    if classes == 4 or 0 in channels:
        return None
    first_is_loc = channels[0] * classes == channels[1] * 4
    if not first_is_loc and channels[1] * classes != channels[0] * 4:
        return None
    loc, conf = (flattened[0], flattened[1]) if first_is_loc else (flattened[1], flattened[0])
    return loc, conf, 3 - loc - conf


def _channels(nodes: Nodes, name: str) -> int:
    """Channels of the convolution that a head's rows come from; 0 where there is none."""
    node = nodes[head_of(nodes, name)[0]]
    for _ in range(len(nodes)):
        if node.operation == "Conv":
            shapes = [nodes[name].get("shape", ()) for name in node.inputs[1:2]]
            return int(shapes[0][3]) if shapes and len(shapes[0]) == 4 else 0
        if not node.inputs:
            return 0
        node = nodes[node.inputs[0]]
    return 0


def problems(uff: Uff) -> list[str]:
    """One sentence for each thing that TensorRT's UFF parser or an SSD plugin is known to refuse, or to crash on."""
    nodes = checked_nodes(uff)
    found: list[str] = []
    for node in nodes.values():
        if node.operation.startswith("_"):
            found += _plugin_problems(nodes, node)
        elif node.operation == "Reshape" and len(node.inputs) == 2 and _unknown_sizes(uff, nodes, node) > 1:
            found.append(f"Reshape {node.id!r} has two unknown sizes; the parser takes one")
    outputs = sum(node.operation == "MarkOutput" for node in nodes.values())
    if outputs > 1 and any(node.operation == "_NMS_TRT" for node in nodes.values()):
        found.append(f"{outputs} outputs; an SSD has NMS alone")
    return found


def _plugin_problems(nodes: Nodes, node: UffNode) -> Iterator[str]:
    name = node.operation[1:]
    if name not in PLUGINS:
        yield f"no plugin of TensorRT is called {name!r} ({node.id!r})"
    if not node.inputs:
        yield f"{node.id!r} has no input; the parser crashes on such a plugin"
    if name != "NMS_TRT":
        return
    try:
        plugin = nms_of(node)
    except ModelError as error:
        yield str(error)
        return
    order = input_order(nodes, node)
    if order is not None and order != plugin.input_order:
        yield f"inputOrder is {list(plugin.input_order)}, and the inputs stand as {list(order)}"


def _unknown_sizes(uff: Uff, nodes: Nodes, node: UffNode) -> int:
    """How many sizes of a Reshape are -1; one that is computed, as the batch is, counts."""
    shape = nodes[node.inputs[1]]
    makers = [nodes[name] for name in shape.inputs] if shape.operation == "Stack" else [shape]
    known = [constant(uff, maker) if maker.operation == "Const" else np.array(-1) for maker in makers]
    return sum(int(np.sum(sizes == -1)) for sizes in known)
