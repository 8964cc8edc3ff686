"""From an `SsdModel` back to a frozen graph, as the Object Detection API of early 2020 exported it."""

from ssdrt.export.frozen_graph import write_frozen_graph

__all__ = ["write_frozen_graph"]
