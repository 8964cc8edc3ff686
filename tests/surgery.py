"""Exported graphs with something changed: what recovery must follow, or must name in its error.

data/exported holds graphs of the demo's detector in a few variants of `build.VARIANTS`, with their anchors computed by
nodes, as the Object Detection API of early 2020 exported them (clip_before: its NMS of mid-2018).
"""

import lzma
from functools import cache
from pathlib import Path

import numpy as np

import mutants
from build import const, node
from ssdrt.graph import Graph, graph_from_bytes
from ssdrt.graph.writer import NodeSpec, write_graph

EXPORTED = Path(__file__).parent / "data" / "exported"
LOOP = "Preprocessor/map/while/"
RESIZE = f"{LOOP}ResizeImage/resize/ResizeBilinear"


@cache
def exported_bytes(name: str = "default") -> bytes:
    """The file content of an exported graph."""
    return lzma.decompress((EXPORTED / f"{name}.pb.xz").read_bytes())


def exported(name: str = "default") -> Graph:
    """An exported graph."""
    return graph_from_bytes(exported_bytes(name))


class Surgery:
    """Nodes by name, to be changed; `graph` reads the result through the file format."""

    def __init__(self, name: str = "default"):
        self.nodes = {spec.name.decode(): spec for spec in mutants.decode(exported_bytes(name))}

    @property
    def data(self) -> bytes:
        """The file content as it is now."""
        return mutants.encode(list(self.nodes.values()))

    @property
    def graph(self) -> Graph:
        """The graph as it is now."""
        return graph_from_bytes(self.data)

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


def cast(name: str, source: str, dtype: str, to: str) -> NodeSpec:
    """A Cast node."""
    return NodeSpec(name, "Cast", (source,), {"SrcT": dtype, "DstT": to})


def keep_aspect_ratio(minimum: float, maximum: float, pad: float | None = None) -> Surgery:
    """An exported graph with resize_to_range, `pad` being the value of pad_to_max_dimension; the picture's part of the
    network input is then the window of the NMS."""
    surgery = Surgery()
    surgery.add(
        node("Shape", "shape", f"{LOOP}TensorArrayReadV3", out_type="int32"), const("zero", [0], "int32"),
        const("two", [2], "int32"), const("one", [1], "int32"),
        NodeSpec("sides", "StridedSlice", ("shape", "zero", "two", "one")),
        cast("sides_f", "sides", "int32", "float32"), const("first", 0, "int32"),
        node("Min", "short", "sides_f", "first"), node("Max", "long", "sides_f", "first"),
        const("minimum", minimum), const("maximum", maximum), node("RealDiv", "by_short", "minimum", "short"),
        node("RealDiv", "by_long", "maximum", "long"), node("Minimum", "factor", "by_short", "by_long"),
        node("Mul", "scaled", "sides_f", "factor"), node("Round", "rounded", "scaled"),
        cast("size", "rounded", "float32", "int32"),
    )  # fmt: skip
    surgery.nodes[RESIZE].inputs[1] = b"size"
    if pad is not None:
        surgery.insert_after(
            RESIZE, const("square", [maximum] * 2, "int32"), node("Sub", "rest", "square", "size", T="int32"),
            const("zeros", [0, 0], "int32"), node("Pack", "pairs", "zeros", "rest", axis=1),
            const("no_batch", [[0, 0]], "int32"), const("no_channel", [[0, 0]], "int32"),
            node("ConcatV2", "pads", "no_batch", "pairs", "no_channel", "first"), const("grey", pad),
            node("PadV2", "padded", RESIZE, "pads", "grey"),
        )  # fmt: skip
        surgery.add(const("three", [3], "int32"))
        surgery.add(node("ConcatV2", f"{LOOP}ResizeImage/stack_1", "size", "three", "first"))
    return surgery
