"""`GraphBuilder`: nodes with the names, types and inline constants that TensorFlow 1's Python would give them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import ModelError
from ssdrt.graph.writer import Attribute, NodeSpec

Precision: TypeAlias = Literal["float32", "float16"]

Value: TypeAlias = "str | bytes | float | Sequence[int] | Sequence[float] | NDArray[Any]"
"""An input: a str is an output of a node, all else becomes a Const of its own (float32 or int32)."""


_T = {"T": 0}  # most ops have one type, that of their first input


class _Op(NamedTuple):
    """Default name of an op's nodes, names of its inputs, dtype attributes -> the input they are the type of, and its
    outputs' types (a dtype, or an attribute that holds it)."""

    name: str
    inputs: tuple[str, ...] = ()
    types: Mapping[str, int] = _T
    outputs: tuple[str, ...] = ("T",)


_UNARY = (
    "AvgPool BiasAdd Exit Exp Identity MaxPool NextIteration Relu Relu6 Round Sigmoid Softmax Squeeze Switch ZerosLike"
)
_BINARY = {"AddV2": "add", "Maximum": "Maximum", "Minimum": "Minimum", "Mul": "mul", "RealDiv": "truediv", "Sub": "sub"}
_COMPARE = "Equal Greater GreaterEqual Less"
_RESIZES = "ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor"

_OPS: dict[str, _Op] = {
    **{op: _Op(op) for op in _UNARY.split()},
    **{op: _Op(name, ("x", "y")) for op, name in _BINARY.items()},
    **{op: _Op(op, ("x", "y"), outputs=("bool",)) for op in _COMPARE.split()},
    "ArgMax": _Op("ArgMax", ("input", "dimension"), {"T": 0, "Tidx": 1}, ("output_type",)),
    "Assert": _Op("Assert/Assert", ("condition", "data_0", "data_1", "data_2"), {}, ()),
    "Cast": _Op("Cast", ("x",), {"SrcT": 0}, ("DstT",)),
    "ConcatV2": _Op("concat", types={"T": 0, "Tidx": -1}),
    "Const": _Op("Const", types={}, outputs=("dtype",)),
    "Conv2D": _Op("Conv2D"),
    "DepthwiseConv2dNative": _Op("depthwise"),
    "Enter": _Op("Enter"),
    "ExpandDims": _Op("ExpandDims", ("input", "dim"), {"T": 0, "Tdim": 1}),
    "FakeQuantWithMinMaxVars": _Op("FakeQuantWithMinMaxVars", ("inputs", "min", "max"), {}, ("float32",)),
    "Fill": _Op("ones", ("dims", "Const"), {"T": 1, "index_type": 0}),
    "GatherV2": _Op("GatherV2", ("params", "indices", "axis"), {"Tparams": 0, "Tindices": 1, "Taxis": 2}, ("Tparams",)),
    "LogicalAnd": _Op("LogicalAnd", types={}, outputs=("bool",)),
    "LoopCond": _Op("LoopCond", types={}, outputs=("bool",)),
    "Max": _Op("Max", ("input", "reduction_indices"), {"T": 0, "Tidx": 1}),
    "Mean": _Op("Mean", ("input", "reduction_indices"), {"T": 0, "Tidx": 1}),
    "Merge": _Op("Merge", outputs=("T", "int32")),
    "NonMaxSuppressionV3": _Op(
        "non_max_suppression/NonMaxSuppressionV3",
        ("boxes", "scores", "max_output_size", "iou_threshold", "score_threshold"), {}, ("int32",)
    ),
    "NonMaxSuppressionV5": _Op(
        "non_max_suppression_with_scores/NonMaxSuppressionV5",
        ("boxes", "scores", "max_output_size", "iou_threshold", "score_threshold", "soft_nms_sigma"),
        outputs=("int32", "T", "int32"),
    ),
    "Pack": _Op("stack", tuple("0123")),
    "Pad": _Op("Pad", ("tensor", "paddings"), {"T": 0, "Tpaddings": 1}),
    "PadV2": _Op("Pad", ("tensor", "paddings", "constant_values"), {"T": 0, "Tpaddings": 1}),
    "Placeholder": _Op("Placeholder", types={}, outputs=("dtype",)),
    "Range": _Op("range", ("start", "limit", "delta"), {"Tidx": 0}, ("Tidx",)),
    "Reshape": _Op("Reshape", ("tensor", "shape"), {"T": 0, "Tshape": 1}),
    **{op: _Op(f"resize/{op}", ("images", "size"), outputs=("float32",)) for op in _RESIZES.split()},
    "Select": _Op("Select", ("condition", "t", "e"), {"T": 1}),
    "Shape": _Op("Shape", outputs=("int32",)),
    "Size": _Op("Size", outputs=("int32",)),
    "Slice": _Op("Slice", ("input", "begin", "size"), {"T": 0, "Index": 1}),
    "Split": _Op("split", ("split_dim", "value"), {"T": 1}),
    "StridedSlice": _Op("strided_slice", ("input", "stack", "stack_1", "stack_2"), {"T": 0, "Index": 1}),
    "Sum": _Op("Sum", ("input", "Const"), {"T": 0, "Tidx": 1}),
    "TensorArrayGatherV3": _Op("TensorArrayGatherV3", types={}, outputs=("dtype",)),
    "TensorArrayReadV3": _Op("TensorArrayReadV3", types={}, outputs=("dtype",)),
    "TensorArrayScatterV3": _Op("TensorArrayScatter/TensorArrayScatterV3", types={"T": 2}, outputs=("float32",)),
    "TensorArrayV3": _Op("TensorArray", types={}, outputs=("resource", "float32")),
    "TensorArrayWriteV3": _Op("TensorArrayWrite/TensorArrayWriteV3", types={"T": 2}, outputs=("float32",)),
    "Tile": _Op("Tile", ("input", "multiples"), {"T": 0, "Tmultiples": 1}),
    "TopKV2": _Op("TopKV2", outputs=("T", "int32")),
    "Transpose": _Op("transpose", ("a", "perm"), {"T": 0, "Tperm": 1}),
    "Unpack": _Op("unstack"),
    "Where": _Op("Where", outputs=("int64",)),
}  # fmt: skip


class GraphBuilder:
    """Collects nodes. A method that writes one returns its name, which is also its first output; ":1" is the second."""

    def __init__(self, weights: Precision = "float32") -> None:
        self.weights = weights
        self.nodes: list[NodeSpec] = []
        self._types: dict[str, str] = {}
        self._used: Counter[str] = Counter()
        self._variables: dict[int, tuple[NDArray[np.float32], str]] = {}
        self._prefix = ""
        self.loop_step = ""
        """Inside a while loop: a node that runs in every round. Constants depend on it, or they would be outside."""

    def op(self, op: str, *inputs: Value, name: str = "", control: str = "", **attributes: Attribute) -> str:
        """Write a node. The dtype attributes follow from the inputs, all others are given.

        Parameters
        ----------
        name: instead of the op's usual one; numbered when taken, as TensorFlow does.
        control: a node that must have run before.
        """
        kind = _OPS[op]
        name = self._unique(name or kind.name)
        slots = kind.inputs or map(str, range(len(inputs)))
        sources = [
            value if isinstance(value, str) else self._constant(value, f"{name}/{slot}")
            for value, slot in zip(inputs, slots, strict=False)
        ]
        attributes |= {key: self.dtype(sources[index]) for key, index in kind.types.items()}
        self._append(NodeSpec(name, op, (*sources, *([f"^{control}"] if control else [])), attributes), kind.outputs)
        return name

    def constant(self, value: Value, name: str = "Const") -> str:
        """Write a Const."""
        return self._constant(value, self._unique(name))

    def variable(self, value: NDArray[np.float32], name: str) -> str:
        """A trained parameter as freezing leaves it: Const `name`, read through Identity `name`/read, or through Cast
        where it is kept in float16.

        The same array once more is the same variable: predictors share their weights among feature maps.

        Raises
        ------
        ModelError: a value that float16 does not hold.
        """
        if id(value) not in self._variables:
            read = self._read_half(value, name) if self.weights == "float16" else self._read(value, name)
            self._variables[id(value)] = value, read  # the array as well: while it lives, its id is its own
        return self._variables[id(value)][1]

    def _read(self, value: NDArray[np.float32], name: str) -> str:
        constant = self.constant(value, name)
        return self.op("Identity", constant, name=f"{name}/read", _class=(f"loc:@{constant}".encode(),))

    def _read_half(self, value: NDArray[np.float32], name: str) -> str:
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        if not np.isfinite(half).all():
            raise ModelError(f"a weight of {np.abs(value).max():g}, and float16 ends at 65504", node=name)
        return self.op("Cast", self.constant(half, name), name=f"{name}/read", DstT="float32")

    def concat(self, values: Sequence[Value], axis: int) -> str:
        """ConcatV2; of a single value, Identity, as `tf.concat` does."""
        if len(values) == 1:
            return self.op("Identity", values[0], name="concat")
        return self.op("ConcatV2", *values, axis, N=len(values))

    def stack(self, *values: Value, axis: int = 0) -> str:
        """Pack."""
        return self.op("Pack", *values, N=len(values), axis=axis)

    def unstack(self, value: str, count: int, axis: int = 0) -> list[str]:
        """Unpack; the outputs."""
        return _outputs(self.op("Unpack", value, num=count, axis=axis), count)

    def split(self, value: str, count: int, axis: int) -> list[str]:
        """Split; the outputs."""
        return _outputs(self.op("Split", axis, value, num_split=count), count)

    def element(self, vector: str, index: int) -> str:
        """`vector[index]`, a StridedSlice."""
        return self.op("StridedSlice", vector, [index], [index + 1], [1], shrink_axis_mask=1)

    def size(self, value: str, axis: int) -> str:
        """How long a value is along an axis, taken from its Shape."""
        return self.element(self.op("Shape", value), axis)

    def gather(self, values: Sequence[str], indices: str) -> list[str]:
        """The rows that `indices` names of each value."""
        with self.scope("Gather"):
            return [self.op("GatherV2", value, indices, 0) for value in values]

    def dtype(self, value: str) -> str:
        """The dtype of an output."""
        return self._types[value] if value in self._types else self._types[value.rpartition(":")[0]]

    @contextmanager
    def scope(self, name: str) -> Iterator[str]:
        """Put `name`/ before the names of the nodes written inside; gives the whole prefix."""
        outer, self._prefix = self._prefix, self._unique(name) + "/"
        yield self._prefix
        self._prefix = outer

    def _unique(self, name: str) -> str:
        full = self._prefix + name
        self._used[full] += 1
        return full if self._used[full] == 1 else f"{full}_{self._used[full] - 1}"

    def _constant(self, value: Value, full_name: str) -> str:
        array = np.asarray(value, dtype=object if isinstance(value, bytes) else None)
        array = array.astype({"float64": "float32", "int64": "int32"}.get(str(array.dtype), array.dtype))
        dtype = "string" if array.dtype == object else str(array.dtype)
        inputs = (f"^{self.loop_step}",) if self.loop_step else ()
        self._append(NodeSpec(full_name, "Const", inputs, {"dtype": dtype, "value": array}), ("dtype",))
        return full_name

    def _append(self, node: NodeSpec, outputs: tuple[str, ...]) -> None:
        self.nodes.append(node)
        for index, output in enumerate(outputs):
            self._types[f"{node.name}:{index}" if index else node.name] = str(node.attributes.get(output, output))


def _outputs(node: str, count: int) -> list[str]:
    return [node, *(f"{node}:{index}" for index in range(1, count))]
