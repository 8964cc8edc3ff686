"""TensorFlow's NodeDef as scripts for graphsurgeon handle it, and graphsurgeon's makers of nodes.

Names and behaviour are graphsurgeon's 0.4 and protobuf's, because users' scripts call them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ssdrt.errors import GraphError
from ssdrt.graph import Node, graph_from_bytes
from ssdrt.graph.reader import parse_graph
from ssdrt.graph.tensor import DTYPES, Tensor
from ssdrt.graph.writer import NodeSpec, Shape, write_graph

_NUMBERS = {name: number for number, name in reversed(DTYPES.items())}


class DType:
    """A TensorFlow dtype, as scripts pass it: `tf.float32`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.as_datatype_enum = _NUMBERS[name]
        self.as_numpy_dtype = np.dtype(name).type


class Dim:
    """One dimension of a shape; -1 where it is free."""

    def __init__(self, size: int = 0) -> None:
        self.size = size


class ShapeProto:
    """A shape: `dim`, a list."""

    def __init__(self, sizes: Iterable[int | None] = ()) -> None:
        self.dim = [Dim(-1 if size is None else size) for size in sizes]


class ListValue:
    """A list attribute, its values in the member of their type."""

    def __init__(self, values: Iterable[Any] = ()) -> None:
        items = list(values)
        self.s = [v for v in items if isinstance(v, bytes)]
        self.f = [v for v in items if isinstance(v, float)]
        self.i = [v for v in items if isinstance(v, int) and not isinstance(v, bool)]
        self.b = [v for v in items if isinstance(v, bool)]

    def values(self) -> tuple[Any, ...]:
        """The only member that is filled.

        Raises
        ------
        GraphError: two are.
        """
        filled = [v for v in (self.s, self.f, self.i, self.b) if v]
        if len(filled) > 1:
            raise GraphError("a list attribute of values of two types")
        return tuple(filled[0]) if filled else ()


class TensorProto:
    """A constant, as an array."""

    def __init__(self, array: Any = 0.0) -> None:
        self.array = np.array(array)

    @property
    def int_val(self) -> np.ndarray:
        """The values in a row, to be changed in place: here all of them, where protobuf may have them as bytes."""
        return self.array.reshape(-1)

    float_val = int_val

    @property
    def tensor_content(self) -> bytes:
        """The values as little-endian bytes."""
        return self.array.astype(self.array.dtype.newbyteorder("<")).tobytes()

    def CopyFrom(self, other: TensorProto) -> None:  # noqa: N802 (protobuf's name)
        """Take another one's value."""
        self.array = other.array


class AttrValue:
    """One attribute. Reading a member that is not set gives that type's zero; writing one replaces what was there."""

    def __init__(self, value: Any = None, **members: Any) -> None:
        self.value = value
        for name, given in members.items():
            if name in ("shape", "list", "tensor"):
                self.value = given
            else:
                setattr(self, name, given)

    def _get(self, kind: type, default: Any) -> Any:
        return self.value if type(self.value) is kind else default

    def _made(self, kind: type) -> Any:
        """The value as a message, which the caller may change."""
        if not isinstance(self.value, kind):
            source = self.value.array() if isinstance(self.value, Tensor) else self.value
            self.value = kind(source) if isinstance(self.value, (tuple, Tensor)) else kind()
        return self.value

    @property
    def s(self) -> bytes:
        """A string."""
        value: bytes = self._get(bytes, b"")
        return value

    @s.setter
    def s(self, value: bytes | str) -> None:
        self.value = value.encode() if isinstance(value, str) else bytes(value)

    @property
    def i(self) -> int:
        """An int."""
        value: int = self._get(int, 0)
        return value

    @i.setter
    def i(self, value: int) -> None:
        self.value = int(value)

    @property
    def f(self) -> float:
        """A float."""
        value: float = self._get(float, 0.0)
        return value

    @f.setter
    def f(self, value: float) -> None:
        self.value = float(np.float32(value))

    @property
    def b(self) -> bool:
        """A bool."""
        value: bool = self._get(bool, False)
        return value

    @b.setter
    def b(self, value: bool) -> None:
        self.value = bool(value)

    @property
    def type(self) -> int:
        """A dtype's number in types.proto."""
        return _NUMBERS.get(self._get(str, ""), 0)

    @type.setter  # noqa: A003 (protobuf's name)
    def type(self, value: int) -> None:
        self.value = DTYPES.get(value, "float32")

    @property
    def shape(self) -> ShapeProto:
        """A shape."""
        made: ShapeProto = self._made(ShapeProto)
        return made

    @property
    def list(self) -> ListValue:
        """A list."""
        made: ListValue = self._made(ListValue)
        return made

    @property
    def tensor(self) -> TensorProto:
        """A constant."""
        made: TensorProto = self._made(TensorProto)
        return made

    def CopyFrom(self, other: AttrValue) -> None:  # noqa: N802 (protobuf's name)
        """Take another one's value."""
        self.value = other.value


class AttrMap(dict[str, AttrValue]):
    """Attributes by name; one that is asked for and not there is made."""

    def __missing__(self, key: str) -> AttrValue:
        self[key] = AttrValue()
        return self[key]


class NodeDef:
    """A node that scripts may change."""

    def __init__(self, name: str = "", op: str = "", input: Iterable[str] = ()) -> None:  # noqa: A002 (TensorFlow's name)
        self.name, self.op, self.input = name, op, list(input)
        self.device = ""
        self.attr = AttrMap()

    def __str__(self) -> str:
        return f"{self.op} {self.name!r} of {self.input}"


class GraphDef:
    """A graph that scripts may change: `node`, a list."""

    def __init__(self, nodes: Iterable[NodeDef] = ()) -> None:
        self.node = list(nodes)

    def ParseFromString(self, data: bytes) -> None:  # noqa: N802 (protobuf's name)
        """Take the nodes of a frozen graph's bytes."""
        self.node = [editable(node) for node in parse_graph(data)]

    def SerializeToString(self) -> bytes:  # noqa: N802 (protobuf's name)
        """The graph as a frozen graph's bytes."""
        return write_graph(_spec(node) for node in self.node)


def editable(node: Node) -> NodeDef:
    """A node of a graph, as scripts handle it."""
    result = NodeDef(node.name, node.op, node.inputs)
    for key, value in node.attributes.items():
        result.attr[key] = AttrValue(value)
        if key == "shape" and isinstance(value, tuple):
            result.attr[key].shape  # noqa: B018 (makes it a shape: in a graph's attributes, lists are tuples too)
    return result


def finished(nodes: Iterable[NodeDef]) -> list[Node]:
    """The nodes as scripts left them, for the converter."""
    return [
        Node(n.name, n.op, tuple(n.input), {key: _final(attr.value) for key, attr in n.attr.items()}) for n in nodes
    ]


def _final(value: Any) -> Any:
    """An attribute's value as `Node.attributes` has it."""
    if isinstance(value, ShapeProto):
        return tuple(None if d.size == -1 else int(d.size) for d in value.dim)
    if isinstance(value, ListValue):
        return value.values()
    if isinstance(value, TensorProto):
        array = value.array
        return Tensor(array.dtype.name, array.shape, memoryview(value.tensor_content), np.empty(0, array.dtype), 0)
    return value


def _spec(node: NodeDef) -> NodeSpec:
    """A node for the GraphDef writer; attributes that it has no form for (unknown dtypes) are left out."""
    attributes: dict[str, Any] = {}
    for key, attr in node.attr.items():
        value = _final(attr.value)
        if isinstance(attr.value, ShapeProto):
            value = Shape(value)
        elif isinstance(value, Tensor):
            value = value.array()
        if value is not None:
            attributes[key] = value
    return NodeSpec(node.name, node.op, tuple(node.input), attributes)


def read_graphdef(data: bytes) -> GraphDef:
    """The nodes of a frozen graph's file.

    Raises
    ------
    GraphError: it is none.
    """
    return GraphDef(editable(node) for node in graph_from_bytes(data).nodes.values())


# --- graphsurgeon's makers ------------------------------------------------------------------------------------------

_SUFFIXES = {int: "_u_int", float: "_u_float", str: "_u_str"}
_PLAIN = ("dtype", "shape", "inputs")  # keywords that are TensorFlow's own, also on a plugin


def create_node(name: str, op: str | None = None, trt_plugin: bool = False, **attributes: Any) -> NodeDef:
    """A node; attributes by their Python types. `trt_plugin` puts the type behind an attribute's name, as NVIDIA's
    UFF parser wants a plugin's."""
    node = NodeDef(name, op or name)
    node.attr["dtype"].type = 1  # DT_FLOAT, unless the script says otherwise: what everybody patches graphsurgeon for
    return update_node(node, trt_plugin=trt_plugin, **attributes)


def create_plugin_node(name: str, op: str | None = None, **attributes: Any) -> NodeDef:
    """A node that becomes a TensorRT plugin."""
    return create_node(name, op, trt_plugin=True, **attributes)


def update_node(
    node: NodeDef, name: str | None = None, op: str | None = None, trt_plugin: bool = False, **attributes: Any
) -> NodeDef:
    """Change a node in place, and return it."""
    node.name = name or node.name
    node.op = op or node.op
    for key, value in attributes.items():
        if key == "inputs":
            node.input[:] = [one.name if isinstance(one, NodeDef) else one for one in value]
        elif key == "shape":
            node.attr["shape"].shape.dim.extend(Dim(-1 if d is None else int(d)) for d in value)
        else:
            value = value.item() if isinstance(value, np.generic) else value
            _set(node.attr[key + _suffix(value) if trt_plugin and key not in _PLAIN else key], key, value)
    return node


def _suffix(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "_u_flist" if any(isinstance(v, float) for v in value) else "_u_ilist"
    return next((suffix for kind, suffix in _SUFFIXES.items() if isinstance(value, kind)), "")


def _set(attr: AttrValue, key: str, value: Any) -> None:
    """An attribute from a Python value; a bool counts as an int."""
    number = getattr(value, "as_datatype_enum", None)
    if number is not None:
        attr.type = number
    elif key == "dtype":
        attr.type = value if isinstance(value, int) else _NUMBERS.get(np.dtype(value).name, 1)
    elif isinstance(value, int):
        attr.i = value
    elif isinstance(value, float):
        attr.f = value
    elif isinstance(value, (str, bytes)):
        attr.s = value
    elif isinstance(value, np.ndarray):
        attr.value = TensorProto(value)
    elif isinstance(value, (list, tuple)):
        floats = any(isinstance(v, float) for v in value)
        attr.value = ListValue(float(np.float32(v)) if floats else int(v) for v in value)
    else:
        raise GraphError(f"attribute {key!r} cannot be a {type(value).__name__}")
