"""`Uff`: the content of a `.uff` file as plain data, and the one table that says how it lies in binary and in text.

proto3, package `uff`, one serialised MetaGraph a file. Nodes stand before their inputs. Weights and orders are in
`referenced_data`; a node's field names them by a `ref`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import GraphError

DTYPES = {
    "int8": 0x10008, "int16": 0x10010, "int32": 0x10020, "int64": 0x10040, "float16": 0x20010, "float32": 0x20020,
}  # fmt: skip
"""UFF's DataType: 1 (integer) or 2 (float) in the high half, the width in bits in the low one."""

DTYPE_NAMES = {number: name for name, number in DTYPES.items()}

MEMBERS = {
    "s": (1, "text"), "s_list": (2, "text"), "d": (3, "double"), "d_list": (4, "double"), "b": (5, "bool"),
    "b_list": (6, "bool"), "i": (7, "int"), "i_list": (8, "int"), "blob": (9, "bytes"), "ref": (100, "text"),
    "dtype": (101, "dtype"), "dtype_list": (102, "dtype"), "dim_orders": (103, "orders"),
    "dim_orders_list": (104, "orders"),
}  # fmt: skip
"""Member of Data -> (field number, kind); a *_list is a message whose field 1 holds the values."""


FIELDS = {
    **dict.fromkeys(("dtype",), "dtype"),
    **dict.fromkeys(("values", "inputs_orders", "outputs_orders"), "ref"),
    **dict.fromkeys(("func", "implicit_padding"), "s"),
    **dict.fromkeys(("shape", "strides", "dilation", "padding", "kernel", "axes", "permutation"), "i_list"),
    **dict.fromkeys(("axis", "number_groups"), "i"),
    **dict.fromkeys(("epsilon",), "d"),
    # of the plugins, by the name before `_u_`
    **dict.fromkeys(("featureMapShapes", "inputOrder"), "i_list"),
    **dict.fromkeys(("aspectRatios", "variance"), "d_list"),
    **dict.fromkeys(("minSize", "maxSize", "confidenceThreshold", "nmsThreshold"), "d"),
    **dict.fromkeys(("numLayers", "numClasses", "topK", "keepTopK", "backgroundLabelId", "codeType"), "i"),
    **dict.fromkeys(("shareLocation", "varianceEncodedInTarget", "confSigmoid", "isNormalized"), "i"),
}
"""Field -> the member of Data it must be; ints may stand for doubles."""


@dataclass(frozen=True)
class Data:
    """One value. member: a key of MEMBERS, "" when none is set; a list's value is a tuple; orders are dicts of int to
    tuple of ints; a dtype is its number."""

    member: str = ""
    value: Any = None


@dataclass(frozen=True)
class UffNode:
    """One node; `inputs` are ids of nodes."""

    id: str = ""
    inputs: tuple[str, ...] = ()
    operation: str = ""
    fields: dict[str, Data] = field(default_factory=dict)
    extra_fields: dict[str, Data] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """A field's value; a plugin's by its name without the `_u_int`, `_u_float`, ... behind it."""
        for key, data in self.fields.items():
            if key.split("_u_")[0] == name:
                return data.value
        return default


@dataclass(frozen=True)
class UffGraph:
    """One graph of a file; genuine files have one, called `main`."""

    id: str = "main"
    nodes: tuple[UffNode, ...] = ()
    extra_fields: dict[str, Data] = field(default_factory=dict)


@dataclass(frozen=True)
class Descriptor:
    """A set of operations that the file uses."""

    id: str = ""
    version: int = 0
    optional: bool = False


@dataclass(frozen=True)
class Uff:
    """A whole file. Dictionaries keep the file's order, so that reading and writing gives the same bytes back."""

    version: int = 0
    descriptor_core_version: int = 0
    descriptors: tuple[Descriptor, ...] = ()
    graphs: tuple[UffGraph, ...] = ()
    referenced_data: dict[str, Data] = field(default_factory=dict)
    extra_fields: dict[str, Data] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[UffNode, ...]:
        """The nodes of all graphs."""
        return tuple(node for graph in self.graphs for node in graph.nodes)


class Field(NamedTuple):
    """A message's field. kind: "int", "bool", "text", "data" or a message class; many: "", "list" or "map"."""

    number: int
    kind: Any
    many: str = ""


SCHEMA: dict[type, dict[str, Field]] = {
    Uff: {
        "version": Field(1, "int"),
        "descriptor_core_version": Field(2, "int"),
        "descriptors": Field(3, Descriptor, "list"),
        "graphs": Field(4, UffGraph, "list"),
        "referenced_data": Field(5, "data", "map"),
        "extra_fields": Field(100, "data", "map"),
    },
    Descriptor: {"id": Field(1, "text"), "version": Field(2, "int"), "optional": Field(3, "bool")},
    UffGraph: {
        "id": Field(1, "text"),
        "nodes": Field(2, UffNode, "list"),
        "extra_fields": Field(100, "data", "map"),
    },
    UffNode: {
        "id": Field(1, "text"),
        "inputs": Field(2, "text", "list"),
        "operation": Field(3, "text"),
        "fields": Field(4, "data", "map"),
        "extra_fields": Field(100, "data", "map"),
    },
}
"""Message -> field -> where and what it is, in the order in which it is written."""


def of_nodes(nodes: Iterable[UffNode], referenced_data: dict[str, Data]) -> Uff:
    """A file as NVIDIA's converter heads it."""
    kept = tuple(nodes)
    custom = any(node.operation.startswith("_") for node in kept)
    names = ("tensorflow_extension", "custom") if custom else ("tensorflow_extension",)
    return Uff(1, 1, tuple(Descriptor(name, 1) for name in names), (UffGraph("main", kept),), referenced_data)


def checked_nodes(uff: Uff) -> dict[str, UffNode]:
    """The nodes by id, once it is certain that ids are unique, inputs and references there, and fields of their kind.

    Raises
    ------
    GraphError: with the node.
    """
    nodes: dict[str, UffNode] = {}
    for node in uff.nodes:
        if node.id in nodes:
            raise GraphError("two nodes of the same id in this .uff", node=node.id)
        nodes[node.id] = node
    for node in uff.nodes:
        for name in node.inputs:
            if name not in nodes:
                raise GraphError(f"its input {name[:80]!r} is not in this .uff", node=node.id)
        for key, data in node.fields.items():
            expected = FIELDS.get(key.split("_u_")[0], data.member)
            if data.member not in (expected, {"d": "i", "d_list": "i_list"}.get(expected, expected)):
                raise GraphError(f"field {key[:40]!r} is {data.member or 'nothing'}, not {expected}", node=node.id)
            if data.member == "ref" and data.value not in uff.referenced_data:
                raise GraphError(f"refers to {data.value[:80]!r}, which is not in this .uff", node=node.id)
    if not nodes:
        raise GraphError("no nodes: not a .uff file")
    return nodes


def constant(uff: Uff, node: UffNode) -> NDArray[Any]:
    """The array of a Const.

    Raises
    ------
    GraphError: no Const, a dtype that is none, bytes that do not fill the shape, or weights that a dump left out.
    """
    dtype = DTYPE_NAMES.get(node.get("dtype", DTYPES["float32"]), "")
    shape = node.get("shape", ())
    blob = uff.referenced_data.get(str(node.get("values")), Data())
    if node.operation != "Const" or not dtype or blob.member != "blob" or not _is_shape(shape):
        raise GraphError("a constant without an array of numbers", node=node.id)
    missing = skipped_bytes(blob.value)
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if missing is not None and missing == size != len(blob.value):
        raise GraphError("its weights were left out of this text dump: give the .uff file itself", node=node.id)
    if len(blob.value) != size:
        raise GraphError(f"a constant of shape {list(shape[:8])} {dtype} holds {len(blob.value)} bytes", node=node.id)
    array: NDArray[Any] = np.frombuffer(blob.value, np.dtype(dtype).newbyteorder("<")).reshape(shape)
    return array.astype(dtype, copy=False)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and len(shape) <= 32 and all(isinstance(d, int) and d >= 0 for d in shape)


_SKIPPED = re.compile(rb"\(\.\.\.(\d{1,10}) bytes skipped\.\.\.\)")


def skipped_bytes(blob: bytes) -> int | None:
    """How many bytes a text dump left out here; None where it left none out."""
    match = _SKIPPED.fullmatch(blob)
    return int(match[1]) if match else None
