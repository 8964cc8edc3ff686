"""From a group of layers to its step: one function a kind of step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ssdrt.engines.cuda.draft import Draft
from ssdrt.engines.cuda.heads import head_target
from ssdrt.engines.cuda.network import Group
from ssdrt.engines.cuda.plan import (
    Convolution,
    Depthwise,
    Elementwise,
    Enlarge,
    Finish,
    GlobalPool,
    Pool,
    Value,
    channel_sources,
    padded,
)
from ssdrt.model import (
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
    MaxPool,
    Mul,
    Pad,
    Pads,
    Resize,
)


def add_convolution(draft: Draft, group: Group) -> None:
    """A dense convolution; of a depthwise one with a multiplier, the dense one that equals it."""
    first, *others = (layer for layer in group.layers if not isinstance(layer, Pad))
    assert isinstance(first, (Conv, DepthwiseConv))
    last = group.layers[-1]
    source = draft.values[group.layers[0].inputs[0]]
    weights, bias = _dense(first), first.bias
    if isinstance(first, DepthwiseConv) and others and isinstance(others[0], Conv):
        second = others[0]
        weights, bias = weights @ second.weights[0, 0], bias @ second.weights[0, 0] + second.bias
    finish = _finish(draft, group)
    target = draft.place(last.name, weights.shape[3])
    spread = np.zeros((*weights.shape[:2], source.view.channels, target.view.channels), np.float32)
    spread[:, :, source.positions, : weights.shape[3]] = weights
    name = last.name
    bias = np.pad(bias, (0, target.view.channels - len(bias)))
    draft.push(
        Convolution(
            name, source.view, target.view, spread, bias, first.strides, _border(group), first.dilations, finish
        )
    )


def add_depthwise(draft: Draft, group: Group) -> None:
    """Channels stay where they are."""
    first = next(layer for layer in group.layers if isinstance(layer, DepthwiseConv))
    last = group.layers[-1]
    source = draft.compact(group.layers[0].inputs[0])
    target = draft.place(last.name, len(first.bias))
    extra = target.view.channels - len(first.bias)
    weights = np.pad(first.weights[..., 0], ((0, 0), (0, 0), (0, extra)))
    bias = np.pad(first.bias, (0, extra))
    draft.push(
        Depthwise(
            last.name, source.view, target.view, weights, bias, first.strides, _border(group), first.dilations,
            group.finish,
        )
    )  # fmt: skip


def add_head(draft: Draft, group: Group) -> None:
    """Convolutions whose channels go straight to the rows of their anchors."""
    first = group.layers[0]
    assert isinstance(first, Conv)
    source = draft.values[first.inputs[0]]
    view = head_target(draft.network.model, draft.head, first.name)[0]
    weights = np.zeros((*first.weights.shape[:2], source.view.channels, view.channels), np.float32)
    bias = np.zeros(view.channels, np.float32)
    for layer in group.layers:
        assert isinstance(layer, Conv)
        _, positions, logits = head_target(draft.network.model, draft.head, layer.name)
        scale = np.float32(draft.network.model.score_converter.logit_scale.value if logits else 1)
        kept = positions >= 0
        window = [np.arange(size) for size in weights.shape[:2]]
        at = np.ix_(*window, source.positions, positions[kept])
        weights[at] = layer.weights[..., kept] / scale
        bias[positions[kept]] = layer.bias[kept] / scale
        draft.written.add(layer.name)
    name = " + ".join(layer.name for layer in group.layers)
    draft.push(
        Convolution(name, source.view, view, weights, bias, first.strides, first.pads, first.dilations, Finish())
    )


def copy_loose_heads(draft: Draft) -> None:
    """Predictions that no convolution could write where they belong."""
    for name in sorted(draft.network.outputs - draft.written, key=draft.network.order.__getitem__):
        value = draft.values[name]
        view, positions, logits = head_target(draft.network.model, draft.head, name)
        sources = np.full(view.channels, -1, np.int32)
        sources[positions[positions >= 0]] = value.positions[positions >= 0]
        scale = draft.network.model.score_converter.logit_scale.value if logits else 1.0
        first, second = np.full(1, 1 / scale, np.float32), np.zeros(1, np.float32)
        draft.push(Elementwise(f"{name} to its rows", value.view, view, "affine", sources, first=first, second=second))


def add_pool(draft: Draft, group: Group) -> None:
    """Channels stay where they are."""
    layer = group.layers[0]
    assert isinstance(layer, (MaxPool, AvgPool))
    source = draft.compact(layer.inputs[0])
    target = draft.place(layer.name, len(source.positions))
    kind = "max" if isinstance(layer, MaxPool) else "average"
    draft.push(Pool(layer.name, source.view, target.view, kind, layer.window, layer.strides, layer.pads))  # type: ignore[arg-type]


def add_global_pool(draft: Draft, group: Group) -> None:
    """Channels stay where they are."""
    layer = group.layers[0]
    source = draft.compact(layer.inputs[0])
    draft.push(GlobalPool(layer.name, source.view, draft.place(layer.name, len(source.positions)).view))


def add_enlarge(draft: Draft, group: Group) -> None:
    """Channels stay where they are."""
    layer = group.layers[0]
    assert isinstance(layer, Resize)
    source = draft.compact(layer.inputs[0])
    target = draft.place(layer.name, len(source.positions))
    draft.push(
        Enlarge(layer.name, source.view, target.view, layer.method, layer.align_corners, layer.half_pixel_centers)
    )


def add_concat(draft: Draft, group: Group) -> None:
    """Parts that are written in their place need nothing; others are copied."""
    layer = group.layers[0]
    whole, offset, positions = draft.concat_view(layer.name), 0, []
    for name in layer.inputs:
        value = draft.values[name]
        view = replace(whole, channels=padded(len(value.positions)), offset=whole.offset + offset)
        if value.view != view:
            sources = channel_sources(value, view.channels)
            draft.push(Elementwise(f"{name} into {layer.name}", value.view, view, "copy", sources))
        positions.append(offset + np.arange(len(value.positions)))
        offset += view.channels
    draft.values[layer.name] = Value(whole, np.concatenate(positions))


def add_elementwise(draft: Draft, group: Group) -> None:
    """One operation on every element, or a part of the picture, or a border around it."""
    layer = group.layers[0]
    names = list(layer.inputs)
    other = None
    if isinstance(layer, (Add, Mul)):
        names.sort(key=lambda name: draft.network.shapes[name][0] * draft.network.shapes[name][1], reverse=True)
        other = draft.values[names[1]]
    source = draft.values[names[0]]
    target = draft.place(layer.name, len(source.positions)).view
    step = Elementwise(layer.name, source.view, target, "copy", channel_sources(source, target.channels))
    if isinstance(layer, (Add, Mul)) and other is not None:
        kind = "add" if isinstance(layer, Add) else "mul"
        step = replace(step, operation=kind, other=other.view, other_sources=channel_sources(other, target.channels))
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
    draft.push(step)


SINGLE: dict[type, Callable[[Draft, Group], None]] = {
    Activation: add_elementwise,
    Add: add_elementwise,
    Affine: add_elementwise,
    AvgPool: add_pool,
    Clip: add_elementwise,
    Concat: add_concat,
    Crop: add_elementwise,
    FakeQuantize: add_elementwise,
    GlobalAvgPool: add_global_pool,
    MaxPool: add_pool,
    Mul: add_elementwise,
    Pad: add_elementwise,
    Resize: add_enlarge,
}
"""Layer kind -> what makes it a step of its own."""


def _finish(draft: Draft, group: Group) -> Finish:
    if not group.residual:
        return group.finish
    return replace(group.finish, residual=draft.compact(group.residual).view)


def _border(group: Group) -> Pads:
    """Zeros around what the group's convolution reads."""
    top, left, bottom, right = np.sum(
        [layer.pads for layer in group.layers if isinstance(layer, (Pad, Conv, DepthwiseConv))][: _first_window(group)],
        axis=0,
    ).tolist()
    return top, left, bottom, right


def _first_window(group: Group) -> int:
    return 1 + next(i for i, layer in enumerate(group.layers) if isinstance(layer, (Conv, DepthwiseConv)))


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
