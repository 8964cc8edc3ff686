"""A TensorFlow frozen graph: bytes to checked nodes and numpy constants. Knows TensorFlow's file, not SSD."""

from ssdrt.graph.file import graph_from_bytes, read_bytes, read_graph
from ssdrt.graph.nodes import Graph, Node, Ref

__all__ = ["Graph", "Node", "Ref", "graph_from_bytes", "read_bytes", "read_graph"]
