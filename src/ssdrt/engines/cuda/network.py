"""A model's layers and who reads them; a group of layers that becomes one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ssdrt.engines.cuda.plan import Finish
from ssdrt.model import IMAGE, Layer, SsdModel
from ssdrt.statistics import Shape, layer_costs

if TYPE_CHECKING:
    from ssdrt.engines.cuda.draft import Draft


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
