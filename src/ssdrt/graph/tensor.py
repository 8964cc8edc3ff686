"""TensorProto: a constant of the graph, checked when read and made an array when asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import GraphError

DTYPES: dict[int, str] = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 9: "int64",
    10: "bool", 11: "int8", 12: "uint8", 13: "int32", 14: "bfloat16", 17: "uint16", 19: "float16", 22: "uint32",
    23: "uint64",
}  # fmt: skip
"""DataType numbers (tensorflow/core/framework/types.proto) of the dtypes that constants come in; 11 to 13 are qint8,
quint8 and qint32, whose range is another input of the op that reads them."""

SIZES = {"string": 1, "bfloat16": 2} | {
    d: np.dtype(d).itemsize for d in DTYPES.values() if d not in ("string", "bfloat16")
}

MAX_REPEATED = 1 << 24
"""Elements that a file's constants may claim beyond the values they store (the last one repeats): 64 MB of float32."""


@dataclass(frozen=True)
class Tensor:
    """A constant. Either `content` (little-endian bytes) or `values`, of which the last repeats to fill the shape."""

    dtype: str
    shape: tuple[int, ...]
    content: memoryview
    values: NDArray[Any]
    offset: int

    @property
    def repeated(self) -> int:
        """How many elements repeat the last value that is stored."""
        return 0 if len(self.content) else math.prod(self.shape) - len(self.values)

    def check(self) -> None:
        """Compare the claimed shape with the bytes that are there, before anything is allocated.

        Raises
        ------
        GraphError: a negative dimension, an impossible size, or bytes that do not fit the shape.
        """
        if any(d < 0 for d in self.shape) or len(self.shape) > 254:
            raise GraphError(f"a constant of impossible shape {list(self.shape[:8])}", offset=self.offset)
        count = math.prod(self.shape)
        if len(self.content):
            if self.dtype != "string" and count * SIZES.get(self.dtype, 1) != len(self.content) and self.dtype in SIZES:
                raise GraphError(
                    f"a constant of shape {list(self.shape[:8])} {self.dtype} holds {len(self.content)} bytes",
                    offset=self.offset,
                )
        elif self.repeated < 0:
            raise GraphError(
                f"a constant of shape {list(self.shape[:8])} holds {len(self.values)} values", offset=self.offset
            )
        elif self.repeated > MAX_REPEATED:
            raise GraphError(f"a constant claims {count} elements and stores {len(self.values)}", offset=self.offset)

    def array(self) -> NDArray[Any]:
        """The value; bfloat16 and float16 come as float32, strings as an object array of bytes. Read-only.

        Raises
        ------
        GraphError: a dtype that no detection graph computes with.
        """
        if self.dtype not in SIZES or (self.dtype == "string" and len(self.content)):
            raise GraphError(f"a constant of type {self.dtype}, which ssdrt does not read", offset=self.offset)
        count = math.prod(self.shape)
        if len(self.content):
            raw = np.frombuffer(
                self.content, "<u2" if self.dtype == "bfloat16" else np.dtype(self.dtype).newbyteorder("<")
            )
            flat = raw if self.dtype == "bfloat16" else raw.astype(self.dtype, copy=False)
        elif len(self.values) == count:
            flat = self.values
        else:
            fill = self.values[-1:] if len(self.values) else np.zeros(1, self.values.dtype)
            rest = np.broadcast_to(fill, count - len(self.values))
            flat = np.concatenate([self.values, rest]) if len(self.values) > 1 else np.broadcast_to(fill, count)
        if self.dtype == "bfloat16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        elif self.dtype == "float16":
            flat = (flat if flat.dtype == np.float16 else flat.astype(np.uint16).view(np.float16)).astype(np.float32)
        result = flat.reshape(self.shape)
        result.flags.writeable = False
        return result
