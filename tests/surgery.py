"""The demo graph with something changed: what recovery must follow, or must name in its error."""

import numpy as np

import mutants
from build import VARIANTS, const, demo_bytes
from ssdrt.graph import Graph, graph_from_bytes
from ssdrt.graph.writer import NodeSpec, write_graph


class Surgery:
    """Nodes by name, to be changed; `graph` reads the result through the file format."""

    def __init__(self, options=VARIANTS["default"]):
        self.nodes = {spec.name.decode(): spec for spec in mutants.decode(demo_bytes(options))}

    @property
    def graph(self) -> Graph:
        """The graph as it is now."""
        return graph_from_bytes(mutants.encode(list(self.nodes.values())))

    def add(self, *nodes: NodeSpec) -> None:
        """Add nodes, or put them in the place of those of the same name."""
        for spec in mutants.decode(write_graph(nodes)):
            self.nodes[spec.name.decode()] = spec

    def names(self, op: str, part: str = "") -> list[str]:
        """Names of the nodes of an op that hold `part`, in the file's order."""
        return [name for name, spec in self.nodes.items() if spec.op.decode() == op and part in name]

    def set(self, name: str, value, dtype="float32") -> None:
        """Give a constant another value."""
        assert self.nodes[name].op == b"Const"
        self.add(const(name, value, dtype))

    def scale(self, name: str, factor) -> None:
        """Multiply a float32 constant."""
        value = self.graph.nodes[name].attributes["value"].array()
        with np.errstate(all="ignore"):
            self.set(name, value * np.float32(factor))

    def replace_input(self, old: str, new: str, *readers: str) -> None:
        """Let these nodes, or all, read `new` where they read `old`."""
        for name in readers or [n for n in self.nodes if n != new]:
            spec = self.nodes[name]
            spec.inputs = [new.encode() if text == old.encode() else text for text in spec.inputs]

    def insert_after(self, name: str, *nodes: NodeSpec) -> None:
        """Add nodes of which the last is read in the place of `name`; constants may be among them."""
        new = nodes[-1].name
        self.replace_input(name, new, *[n for n, spec in self.nodes.items() if name.encode() in spec.inputs])
        self.add(*nodes)

    def detach(self, op: str, part: str = "") -> None:
        """Turn the nodes of an op into Identities of their first input."""
        for name in self.names(op, part):
            spec = self.nodes[name]
            spec.op, spec.inputs = b"Identity", spec.inputs[:1]
