"""From an `SsdModel` to a `Plan`: layers are grouped by patterns, and every group becomes a step.

A pattern looks at one layer and says which layers behind it one step computes with it. A group runs where its last
layer stands: by then everything it reads is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.memory import assign_slots
from ssdrt.engines.cuda.plan import (
    Convolution,
    Depthwise,
    Elementwise,
    Enlarge,
    Finish,
    GlobalPool,
    HeadLayout,
    Plan,
    Pool,
    Separable,
    Step,
    Value,
    View,
    padded,
    reads,
)
from ssdrt.errors import ModelError
from ssdrt.model import (
    IMAGE,
    Activation,
    Add,
    Affine,
    AvgPool,
    Clip,
    Concat,
    Conv,
    Crop,
    DepthwiseConv,
    FakeQuantize,
    Floats,
    GlobalAvgPool,
    Layer,
    MaxPool,
    Mul,
    Pad,
    Pads,
    Resize,
    SsdModel,
)
from ssdrt.statistics import Shape, layer_costs


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
            draft.add(groups[layer.name])
        elif layer.name not in claimed:
            raise ModelError(
                f"no step for {type(layer).__name__} layers: add a pattern to engines/cuda/planner.py", node=layer.name
            )
    draft.copy_loose_heads()
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


class Network:
    """A model's layers and who reads them."""

    def __init__(self, model: SsdModel) -> None:
        self.model = model
        self.layers = {layer.name: layer for layer in model.layers}
        self.order = {layer.name: index for index, layer in enumerate(model.layers)}
        self.shapes: dict[str, Shape] = {IMAGE: (*model.input_size, 3)}
        self.shapes.update({cost.name: cost.shape for cost in layer_costs(model)})
        self.readers: dict[str, list[Layer]] = {name: [] for name in self.shapes}
        for layer in model.layers:
            for name in layer.inputs:
                self.readers[name].append(layer)
        self.outputs = {name for head in model.heads for name in (head.boxes, head.scores)}

    def only_reader(self, layer: Layer) -> Layer | None:
        """The layer that alone reads this one's value, if the value is needed for nothing else."""
        readers = self.readers[layer.name]
        return readers[0] if len(readers) == 1 and layer.name not in self.outputs else None


@dataclass(frozen=True)
class Group:
    """Layers that become one step, and the function that adds it to a draft."""

    layers: tuple[Layer, ...]
    emit: Callable[[Draft, Group], None]
    finish: Finish = field(default_factory=Finish)
    residual: str = ""  # name of the value that is added


# --- patterns -------------------------------------------------------------------------------------------------------


def shared_head(network: Network, layer: Layer, claimed: set[str]) -> Group | None:  # noqa: ARG001
    """Boxes and scores of a map from one product, if that is so for every map: two convolutions of the same window."""
    pairs = [(network.layers.get(h.boxes), network.layers.get(h.scores)) for h in network.model.heads]
    if not all(isinstance(b, Conv) and isinstance(s, Conv) and _same_windows(b, s) for b, s in pairs):
        return None
    for boxes, scores in pairs:
        if boxes is layer and scores is not None:
            return Group((layer, scores), Draft.add_head)
    return None


def own_head(network: Network, layer: Layer, claimed: set[str]) -> Group | None:  # noqa: ARG001
    """A convolution that makes the boxes or the scores of a map, and nothing else reads it."""
    makes = [name for head in network.model.heads for name in (head.boxes, head.scores) if name == layer.name]
    if not isinstance(layer, Conv) or len(makes) != 1 or network.readers[layer.name]:
        return None
    return Group((layer,), Draft.add_head)


def convolution(network: Network, layer: Layer, claimed: set[str]) -> Group | None:
    """A convolution, a sum with something that is there already, an activation, a factor."""
    if not isinstance(layer, Conv):
        return None
    group = Group((layer,), Draft.add_convolution)
    return _with_factor(network, _with_activation(network, _with_residual(network, group, claimed), claimed), claimed)


def bordered(network: Network, layer: Layer, claimed: set[str]) -> Group | None:
    """Borders of zeros, one or several, and the convolution behind them, whose own border grows."""
    borders: list[Layer] = []
    behind: Layer | None = layer
    while isinstance(behind, Pad) and behind.value == 0 and behind.name not in claimed:
        borders.append(behind)
        behind = network.only_reader(behind)
    if not borders or behind is None or behind.name in claimed:
        return None
    for pattern in (convolution, depthwise):
        inner = pattern(network, behind, claimed)
        if inner is not None:
            return replace(inner, layers=(*borders, *inner.layers))
    return None


def widened_depthwise(network: Network, layer: Layer, claimed: set[str]) -> Group | None:
    """A depthwise convolution that makes several channels of each, as the dense one it equals; with the 1x1 convolution
    behind it, if nothing stands between, as one (Inception v2's first layer: 7x7x3 to 24 to 64)."""
    if not isinstance(layer, DepthwiseConv) or layer.weights.shape[3] == 1:
        return None
    behind = network.only_reader(layer)
    if isinstance(behind, Conv) and behind.name not in claimed and is_point(behind):
        inner = convolution(network, behind, claimed)
        if inner is not None:
            return replace(inner, layers=(layer, *inner.layers))
    group = Group((layer,), Draft.add_convolution)
    return _with_activation(network, group, claimed)


def depthwise(network: Network, layer: Layer, claimed: set[str]) -> Group | None:
    """A depthwise convolution and its activation."""
    if not isinstance(layer, DepthwiseConv) or layer.weights.shape[3] != 1:
        return None
    return _with_activation(network, Group((layer,), Draft.add_depthwise), claimed)


def single(network: Network, layer: Layer, claimed: set[str]) -> Group | None:  # noqa: ARG001
    """What no other pattern took: a step of its own."""
    emit = SINGLE.get(type(layer))
    return None if emit is None else Group((layer,), emit)


PATTERNS = (shared_head, own_head, bordered, widened_depthwise, convolution, depthwise, single)
"""Tried one after the other on all layers; what an earlier one took, a later one does not see."""


def is_point(layer: Conv) -> bool:
    """Whether each output pixel depends on the input pixel at its place alone."""
    return layer.weights.shape[:2] == (1, 1) and layer.strides == (1, 1) and not any(layer.pads)


def _same_windows(a: Conv, b: Conv) -> bool:
    kinds = [(c.inputs, c.weights.shape[:3], c.strides, c.pads, c.dilations) for c in (a, b)]
    return kinds[0] == kinds[1]


def _with_residual(network: Network, group: Group, claimed: set[str]) -> Group:
    """The sum of what the group makes and another value of the same size, or of half the size and enlarged."""
    last = group.layers[-1]
    behind = network.only_reader(last)
    if not isinstance(behind, Add) or behind.name in claimed:
        return group
    other = next(name for name in behind.inputs if name != last.name)
    if network.shapes[other] != network.shapes[last.name]:
        return group
    layer = network.layers.get(other)
    if isinstance(layer, Resize) and _doubles(network, layer) and network.only_reader(layer) is behind:
        finish = replace(group.finish, upsampling=2)
        return replace(group, layers=(*group.layers, layer, behind), finish=finish, residual=layer.inputs[0])
    return replace(group, layers=(*group.layers, behind), residual=other)


def _doubles(network: Network, layer: Resize) -> bool:
    height, width, _ = network.shapes[layer.inputs[0]]
    return (
        layer.method == "nearest" and not layer.align_corners and (2 * height, 2 * width) == (layer.height, layer.width)
    )


def _with_activation(network: Network, group: Group, claimed: set[str]) -> Group:
    behind = network.only_reader(group.layers[-1])
    if not isinstance(behind, Activation) or behind.name in claimed:
        return group
    finish = replace(group.finish, activation=behind.function)
    return replace(group, layers=(*group.layers, behind), finish=finish)


def _with_factor(network: Network, group: Group, claimed: set[str]) -> Group:
    behind = network.only_reader(group.layers[-1])
    if not isinstance(behind, Affine) or behind.name in claimed or np.ptp(behind.scale) or np.any(behind.offset):
        return group
    finish = replace(group.finish, scale=float(np.ravel(behind.scale)[0]))
    return replace(group, layers=(*group.layers, behind), finish=finish)


# --- steps ----------------------------------------------------------------------------------------------------------


class Draft:
    """A plan that grows: buffers, values that have a place, steps."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.buffers: list[int] = []
        self.steps: list[Step] = []
        self.values: dict[str, Value] = {}
        self.group = Group((), Draft.add_convolution)
        self.concat_views: dict[str, View] = {}
        self.parts = self._parts_of_concats()
        self.values[IMAGE] = self.place(IMAGE, 3)
        self.written: set[str] = set()
        self.head = self._head_layout()

    def add(self, group: Group) -> None:
        """The step of a group."""
        self.group = group
        group.emit(self, group)

    def push(self, step: Step) -> None:
        """Append a step."""
        self.steps.append(step)

    # places

    def _parts_of_concats(self) -> dict[str, tuple[str, int]]:
        """Value name -> the concatenation that it can be written into, and at which channel."""
        parts: dict[str, tuple[str, int]] = {}
        for layer in self.network.model.layers:
            if isinstance(layer, Concat):
                offset = 0
                for name in layer.inputs:
                    if name != IMAGE and name not in parts and name not in self.network.outputs:
                        parts[name] = (layer.name, offset)
                    offset += padded(self.network.shapes[name][2])
        return parts

    def view_of(self, name: str) -> View:
        """A new view for a value of the model, inside its concatenation if it belongs to one."""
        height, width, channels = self.network.shapes[name]
        if name in self.parts:
            parent, offset = self.parts[name]
            whole = self.concat_view(parent)
            return replace(whole, channels=padded(channels), offset=whole.offset + offset)
        return self.new_view(height, width, padded(channels))

    def concat_view(self, name: str) -> View:
        """The view of a concatenation, whichever of its parts comes first."""
        if name not in self.concat_views:
            layer = self.network.layers[name]
            channels = sum(padded(self.network.shapes[part][2]) for part in layer.inputs)
            if name in self.parts and channels == padded(self.network.shapes[name][2]):
                parent, offset = self.parts[name]
                whole = self.concat_view(parent)
                self.concat_views[name] = replace(whole, channels=channels, offset=whole.offset + offset)
            else:
                self.parts.pop(name, None)
                height, width, _ = self.network.shapes[name]
                self.concat_views[name] = self.new_view(height, width, channels)
        return self.concat_views[name]

    def new_view(self, height: int, width: int, channels: int) -> View:
        """A view that is all of a new buffer."""
        self.buffers.append(height * width * channels)
        return View(len(self.buffers) - 1, height, width, channels, channels)

    def place(self, name: str, channels: int) -> Value:
        """A value whose logical channels come first and in order."""
        self.values[name] = Value(self.view_of(name), np.arange(channels))
        return self.values[name]

    def compact(self, name: str) -> Value:
        """A value with its channels first and in order, copied if it is not so already."""
        value = self.values[name]
        if value.is_compact and value.view.channels == padded(len(value.positions)):
            return value
        view = self.new_view(value.view.height, value.view.width, padded(len(value.positions)))
        self.push(Elementwise(f"{name} in order", value.view, view, "copy", _sources(value, view.channels)))
        return Value(view, np.arange(len(value.positions)))

    # heads

    def _head_layout(self) -> HeadLayout:
        model = self.network.model
        converter = model.score_converter
        background = converter.background.value
        softmax_first = converter.function.value == "softmax" and background == "sliced_after"
        columns = model.num_classes.value + softmax_first
        first = model.layers[0]
        shared = any(shared_head(self.network, layer, set()) for layer in model.layers) if first else False
        anchors = len(model.anchors.value)
        row = padded(columns + 4) if shared else padded(columns)
        self.buffers.append(anchors * row)
        logits = len(self.buffers) - 1
        if shared:
            return HeadLayout(anchors, columns, row, row, columns, logits, logits)
        self.buffers.append(anchors * 8)
        return HeadLayout(anchors, columns, row, 8, 0, logits, logits + 1)

    def _head_target(self, name: str) -> tuple[View, NDArray[np.int64], bool]:
        """(view of a map's rows in the head buffer, position of each channel of value `name` in it or -1, logits?)."""
        model, layout, first_anchor = self.network.model, self.head, 0
        for head in model.heads:
            cells = head.height * head.width
            logits = head.scores == name
            if name in (head.boxes, head.scores):
                row = layout.row if logits else layout.box_row
                buffer = layout.logits_buffer if logits else layout.boxes_buffer
                width = head.anchors_per_cell * row
                view = View(buffer, head.height, head.width, width, width, first_anchor * row)
                per_anchor = model.logit_columns if logits else 4
                anchor, column = np.divmod(np.arange(head.anchors_per_cell * per_anchor), per_anchor)
                skipped = model.logit_columns - layout.columns if logits else 0
                column = column - skipped if logits else column + layout.box_offset
                return view, np.where(column >= 0, anchor * row + column, -1), logits
            first_anchor += cells * head.anchors_per_cell
        raise ModelError("the value is no head", node=name)

    def add_head(self, group: Group) -> None:
        """Convolutions whose channels go straight to the rows of their anchors."""
        first = group.layers[0]
        assert isinstance(first, Conv)
        source = self.values[first.inputs[0]]
        view = self._head_target(first.name)[0]
        weights = np.zeros((*first.weights.shape[:2], source.view.channels, view.channels), np.float32)
        bias = np.zeros(view.channels, np.float32)
        for layer in group.layers:
            assert isinstance(layer, Conv)
            _, positions, logits = self._head_target(layer.name)
            scale = np.float32(self.network.model.score_converter.logit_scale.value if logits else 1)
            kept = positions >= 0
            window = [np.arange(size) for size in weights.shape[:2]]
            at = np.ix_(*window, source.positions, positions[kept])
            weights[at] = layer.weights[..., kept] / scale
            bias[positions[kept]] = layer.bias[kept] / scale
            self.written.add(layer.name)
        name = " + ".join(layer.name for layer in group.layers)
        self.push(
            Convolution(name, source.view, view, weights, bias, first.strides, first.pads, first.dilations, Finish())
        )

    def copy_loose_heads(self) -> None:
        """Predictions that no convolution could write where they belong."""
        for name in sorted(self.network.outputs - self.written, key=self.network.order.__getitem__):
            self.group = Group((self.network.layers[name],), Draft.add_convolution)
            value = self.values[name]
            view, positions, logits = self._head_target(name)
            sources = np.full(view.channels, -1, np.int32)
            sources[positions[positions >= 0]] = value.positions[positions >= 0]
            scale = self.network.model.score_converter.logit_scale.value if logits else 1.0
            first, second = np.full(1, 1 / scale, np.float32), np.zeros(1, np.float32)
            self.push(
                Elementwise(f"{name} to its rows", value.view, view, "affine", sources, first=first, second=second)
            )

    # layers

    def _finish(self, group: Group) -> Finish:
        if not group.residual:
            return group.finish
        return replace(group.finish, residual=self.compact(group.residual).view)

    def add_convolution(self, group: Group) -> None:
        """A dense convolution; of a depthwise one with a multiplier, the dense one that equals it."""
        first, *others = (layer for layer in group.layers if not isinstance(layer, Pad))
        assert isinstance(first, (Conv, DepthwiseConv))
        last = group.layers[-1]
        source = self.values[group.layers[0].inputs[0]]
        weights, bias = _dense(first), first.bias
        if isinstance(first, DepthwiseConv) and others and isinstance(others[0], Conv):
            second = others[0]
            weights, bias = weights @ second.weights[0, 0], bias @ second.weights[0, 0] + second.bias
        finish = self._finish(group)
        target = self.place(last.name, weights.shape[3])
        spread = np.zeros((*weights.shape[:2], source.view.channels, target.view.channels), np.float32)
        spread[:, :, source.positions, : weights.shape[3]] = weights
        name = last.name
        bias = np.pad(bias, (0, target.view.channels - len(bias)))
        self.push(
            Convolution(
                name, source.view, target.view, spread, bias, first.strides, _border(group), first.dilations, finish
            )
        )

    def add_depthwise(self, group: Group) -> None:
        """Channels stay where they are."""
        first = next(layer for layer in group.layers if isinstance(layer, DepthwiseConv))
        last = group.layers[-1]
        source = self.compact(group.layers[0].inputs[0])
        target = self.place(last.name, len(first.bias))
        extra = target.view.channels - len(first.bias)
        weights = np.pad(first.weights[..., 0], ((0, 0), (0, 0), (0, extra)))
        bias = np.pad(first.bias, (0, extra))
        self.push(
            Depthwise(
                last.name, source.view, target.view, weights, bias, first.strides, _border(group), first.dilations,
                group.finish,
            )
        )  # fmt: skip

    def add_pool(self, group: Group) -> None:
        """Channels stay where they are."""
        layer = group.layers[0]
        assert isinstance(layer, (MaxPool, AvgPool))
        source = self.compact(layer.inputs[0])
        target = self.place(layer.name, len(source.positions))
        kind = "max" if isinstance(layer, MaxPool) else "average"
        self.push(Pool(layer.name, source.view, target.view, kind, layer.window, layer.strides, layer.pads))  # type: ignore[arg-type]

    def add_global_pool(self, group: Group) -> None:
        """Channels stay where they are."""
        layer = group.layers[0]
        source = self.compact(layer.inputs[0])
        self.push(GlobalPool(layer.name, source.view, self.place(layer.name, len(source.positions)).view))

    def add_enlarge(self, group: Group) -> None:
        """Channels stay where they are."""
        layer = group.layers[0]
        assert isinstance(layer, Resize)
        source = self.compact(layer.inputs[0])
        target = self.place(layer.name, len(source.positions))
        self.push(
            Enlarge(layer.name, source.view, target.view, layer.method, layer.align_corners, layer.half_pixel_centers)
        )

    def add_concat(self, group: Group) -> None:
        """Parts that are written in their place need nothing; others are copied."""
        layer = group.layers[0]
        whole, offset, positions = self.concat_view(layer.name), 0, []
        for name in layer.inputs:
            value = self.values[name]
            view = replace(whole, channels=padded(len(value.positions)), offset=whole.offset + offset)
            if value.view != view:
                self.push(
                    Elementwise(f"{name} into {layer.name}", value.view, view, "copy", _sources(value, view.channels))
                )
            positions.append(offset + np.arange(len(value.positions)))
            offset += view.channels
        self.values[layer.name] = Value(whole, np.concatenate(positions))

    def add_elementwise(self, group: Group) -> None:
        """One operation on every element, or a part of the picture, or a border around it."""
        layer = group.layers[0]
        names = list(layer.inputs)
        other = None
        if isinstance(layer, (Add, Mul)):
            names.sort(key=lambda name: self.network.shapes[name][0] * self.network.shapes[name][1], reverse=True)
            other = self.values[names[1]]
        source = self.values[names[0]]
        target = self.place(layer.name, len(source.positions)).view
        step = Elementwise(layer.name, source.view, target, "copy", _sources(source, target.channels))
        if isinstance(layer, (Add, Mul)) and other is not None:
            kind = "add" if isinstance(layer, Add) else "mul"
            step = replace(step, operation=kind, other=other.view, other_sources=_sources(other, target.channels))
        elif isinstance(layer, Activation):
            step = replace(step, operation=layer.function)
        elif isinstance(layer, Affine):
            first, second = (_by_channel(values, target.channels) for values in (layer.scale, layer.offset))
            step = replace(step, operation="affine", first=first, second=second)
        elif isinstance(layer, (Clip, FakeQuantize)):
            first, second = np.full(1, layer.minimum, np.float32), np.full(1, layer.maximum, np.float32)
            kind = "clip" if isinstance(layer, Clip) else "quantize"
            third = 0.0 if isinstance(layer, Clip) else layer.step
            step = replace(step, operation=kind, first=first, second=second, third=third)
        elif isinstance(layer, Pad):
            step = replace(step, top=-layer.pads[0], left=-layer.pads[1], fill=layer.value)
        elif isinstance(layer, Crop):
            step = replace(step, top=layer.top, left=layer.left)
        self.push(step)


SINGLE: dict[type, Callable[[Draft, Group], None]] = {
    Activation: Draft.add_elementwise,
    Add: Draft.add_elementwise,
    Affine: Draft.add_elementwise,
    AvgPool: Draft.add_pool,
    Clip: Draft.add_elementwise,
    Concat: Draft.add_concat,
    Crop: Draft.add_elementwise,
    FakeQuantize: Draft.add_elementwise,
    GlobalAvgPool: Draft.add_global_pool,
    MaxPool: Draft.add_pool,
    Mul: Draft.add_elementwise,
    Pad: Draft.add_elementwise,
    Resize: Draft.add_enlarge,
}
"""Layer kind -> what makes it a step of its own."""


def _border(group: Group) -> Pads:
    """Zeros around what the group's convolution reads."""
    top, left, bottom, right = np.sum(
        [layer.pads for layer in group.layers if isinstance(layer, (Pad, Conv, DepthwiseConv))][: _first_window(group)],
        axis=0,
    ).tolist()
    return top, left, bottom, right


def _first_window(group: Group) -> int:
    return 1 + next(i for i, layer in enumerate(group.layers) if isinstance(layer, (Conv, DepthwiseConv)))


def _sources(value: Value, channels: int) -> NDArray[np.int32]:
    sources = np.full(channels, -1, np.int32)
    sources[: len(value.positions)] = value.positions
    return sources


def _by_channel(values: Floats, channels: int) -> Floats:
    """One number, or one a physical channel."""
    flat = np.ravel(values).astype(np.float32)
    return flat if len(flat) == 1 else np.pad(flat, (0, channels - len(flat)))


def _dense(layer: Conv | DepthwiseConv) -> Floats:
    """(kh, kw, in, out) weights."""
    if isinstance(layer, Conv):
        return layer.weights
    height, width, channels, multiplier = layer.weights.shape
    dense = np.zeros((height, width, channels, channels, multiplier), np.float32)
    every = np.arange(channels)
    dense[:, :, every, every] = layer.weights
    return dense.reshape(height, width, channels, channels * multiplier)
