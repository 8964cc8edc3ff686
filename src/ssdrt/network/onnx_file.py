"""ONNX files: a graph written node by node as protobuf bytes, without the onnx package.

Field numbers: onnx/onnx.proto. A message is a list of byte strings that is joined once, at the end: weights are not
copied again at each level of nesting.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import ModelError

Array = NDArray[Any]
Operand = str | float | tuple[int, ...] | Array
"""What a node reads: a value by its name, or a constant; a number is a float32 scalar, a tuple an int64 vector."""
Attribute = int | float | str | tuple[int, ...] | Array

IR_VERSIONS = {11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10}
"""Opsets that can be written, and the oldest file format (IR version) that holds each."""

DATA_TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "bfloat16": 16,
}  # fmt: skip
_FLOAT, _INT, _STRING, _TENSOR, _INTS = 1, 2, 3, 4, 7  # AttributeProto.AttributeType


@dataclass(frozen=True)
class Port:
    """An input or output of the whole graph. shape: sizes, or names of free dimensions."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class OnnxGraph:
    """A graph being written. Call it to add a node; nodes are named after their first output.

    scope: prefix of the names of values that get no name of their own; a colon, which no TensorFlow node name holds,
    keeps them apart from those that do.
    floats: type that float32 constants are written in, "float32", "float16" or "bfloat16"; of an empty one it is kept.
    scales: of the values that convolutions read in int8.
    """

    def __init__(self, inputs: Sequence[Port]) -> None:
        self.scope = ""
        self.floats = "float32"
        self.scales: Mapping[str, float] = {}
        self._inputs = inputs
        self._names = {port.name for port in inputs}
        self._nodes: list[bytes] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def __call__(self, op: str, *inputs: Operand, name: str = "", **attributes: Attribute) -> str:
        """Add an operation of one output and return the output's name.

        Raises
        ------
        ModelError: another value has this name.
        """
        output = name or f"{self.scope}:{op}:{len(self._names)}"
        self.node(op, inputs, (output,), attributes)
        return output

    def node(
        self, op: str, inputs: Sequence[Operand], outputs: tuple[str, ...], attributes: dict[str, Attribute]
    ) -> None:
        """Add an operation of any number of outputs; an equal constant is stored once.

        Raises
        ------
        ModelError: another value has one of these names.
        """
        parts: list[bytes] = []
        for index, operand in enumerate(inputs):
            parts += _text(1, operand if isinstance(operand, str) else self._constant(operand, f"{outputs[0]}:{index}"))
        for output in outputs:
            if output in self._names:
                raise ModelError("two values of the network have one name", node=output)
            self._names.add(output)
            parts += _text(2, output)
        parts += _text(3, outputs[0]) + _text(4, op)
        for key, value in attributes.items():
            parts += _message(5, _text(1, key) + _attribute(value))
        self._nodes += _message(1, parts)

    def _constant(self, operand: float | tuple[int, ...] | Array, name: str) -> str:
        if not isinstance(operand, np.ndarray):
            operand = np.array(operand, np.int64 if isinstance(operand, tuple) else np.float32)
        dtype = operand.dtype.name
        if dtype == "float32" and self.floats != dtype and operand.size:
            dtype, operand = self.floats, _narrowed(operand, self.floats)
        return self._constants.setdefault((dtype, operand.shape, operand.tobytes()), name)

    def cast(self, value: str, dtype: str, name: str = "") -> str:
        """Add a conversion to a type of `DATA_TYPES`."""
        return self("Cast", value, name=name, to=DATA_TYPES[dtype])

    def to_bytes(self, outputs: Sequence[Port], opset: int) -> bytes:
        """The whole file (ModelProto)."""
        graph = self._nodes + _text(2, "ssd")
        for (dtype, shape, data), name in self._constants.items():
            graph += _message(5, _tensor(dtype, shape, data) + _text(8, name))
        for field, ports in ((11, self._inputs), (12, outputs)):
            for port in ports:
                graph += _message(field, _port(port))
        header = _number(1, IR_VERSIONS[opset]) + _text(2, "ssdrt")
        return b"".join(header + _message(7, graph) + _message(8, _text(1, "") + _number(2, opset)))


def _narrowed(values: Array, dtype: str) -> Array:
    """float32 values as float16, the largest finite ones for those beyond, or as the 16 bits of bfloat16."""
    if dtype == "float16":
        return np.clip(values, -65504, 65504).astype(np.float16)
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)  # to the nearest, halves to even


def _attribute(value: Attribute) -> list[bytes]:
    if isinstance(value, int):
        return _number(3, value) + _number(20, _INT)
    if isinstance(value, float):
        return [_varint(2 << 3 | 5), struct.pack("<f", value), *_number(20, _FLOAT)]
    if isinstance(value, str):
        return _text(4, value) + _number(20, _STRING)
    if isinstance(value, tuple):
        return [part for number in value for part in _number(8, number)] + _number(20, _INTS)
    return _message(5, _tensor(value.dtype.name, value.shape, value.tobytes())) + _number(20, _TENSOR)


def _tensor(dtype: str, shape: tuple[int, ...], data: bytes) -> list[bytes]:
    dims = [part for size in shape for part in _number(1, size)]
    return dims + _number(2, DATA_TYPES[dtype]) + _message(9, [data])


def _port(port: Port) -> list[bytes]:
    shape: list[bytes] = []
    for size in port.shape:
        shape += _message(1, _number(1, size) if isinstance(size, int) else _text(2, size))
    tensor = _number(1, DATA_TYPES[port.dtype]) + _message(2, shape)
    return _text(1, port.name) + _message(2, _message(1, tensor))


# --- protobuf's wire format -----------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF  # a negative number is its 64-bit two's complement
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _number(field: int, value: int) -> list[bytes]:
    return [_varint(field << 3), _varint(value)]


def _message(field: int, parts: list[bytes]) -> list[bytes]:
    return [_varint(field << 3 | 2), _varint(sum(map(len, parts))), *parts]


def _text(field: int, text: str) -> list[bytes]:
    return _message(field, [text.encode()])
