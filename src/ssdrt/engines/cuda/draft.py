"""A plan that grows: buffers, values that have a place in them, steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ssdrt.engines.cuda.heads import head_layout
from ssdrt.engines.cuda.network import Network
from ssdrt.engines.cuda.plan import Elementwise, Step, Value, View, channel_sources, padded
from ssdrt.model import IMAGE, Concat


class Draft:
    """Buffers, the view of every value so far, and the steps that make them."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.buffers: list[int] = []
        self.steps: list[Step] = []
        self.values: dict[str, Value] = {}
        self.concat_views: dict[str, View] = {}
        self.parts = self._parts_of_concats()
        self.values[IMAGE] = self.place(IMAGE, 3)
        self.written: set[str] = set()
        self.head = head_layout(network, self.buffers)

    def push(self, step: Step) -> None:
        """Append a step."""
        self.steps.append(step)

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
        self.push(Elementwise(f"{name} in order", value.view, view, "copy", channel_sources(value, view.channels)))
        return Value(view, np.arange(len(value.positions)))
