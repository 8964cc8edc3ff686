"""TensorFlow nodes as a `Uff`, node for node as NVIDIA's converter writes them; one function a kind of op.

Nodes are walked from the outputs, the last input of a node first, so that each stands before its inputs. An Identity
between two nodes is passed over, one level deep. What no rule is for becomes a custom operation: `_` and the op's name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import ModelError
from ssdrt.graph import Node
from ssdrt.graph.tensor import Tensor
from ssdrt.legacy.uff import DTYPES, Data, Uff, UffNode, of_nodes

log = logging.getLogger("ssdrt")

UNKNOWN_DTYPE = 7  # what the converter writes for dtypes that UFF does not have

INCREMENT, DECREMENT = 2147483647, -2147483648
ORDERS = {
    "N+C": (0, 2, INCREMENT, 1), "NC+": (0, 1, 2, INCREMENT), "+CK": (2, INCREMENT, 1, 0), "KC+": (0, 1, 2, INCREMENT),
    "+KC": (2, INCREMENT, 0, 1), "NC": (0, 1), "CN": (1, 0), "KC": (0, 1), "CK": (1, 0),
}  # fmt: skip
"""Letters of a tensor's dimensions (batch, channels in, channels out, + all spatial) -> their places in UFF's own order
NC+ or KC+."""

Fields = dict[str, Data | None]


def to_uff(nodes: Iterable[Node], outputs: Iterable[str]) -> Uff:
    """The nodes that the outputs compute from, and a MarkOutput for each output.

    Raises
    ------
    ModelError: an input that is missing, or an op in a form that UFF cannot hold; with its node.
    """
    conversion = _Conversion({node.name: node for node in nodes})
    kept = list(outputs)
    todo = list(kept)
    while todo:
        name = todo.pop()
        if name not in conversion.written:
            todo += conversion.convert(name)
    for i, name in enumerate(kept):
        conversion.emit(f"MarkOutput_{i}", "MarkOutput", [name], {})
    return of_nodes(conversion.written.values(), conversion.referenced)


@dataclass
class _Conversion:
    """The TensorFlow nodes by name, and what is written so far."""

    nodes: dict[str, Node]
    written: dict[str, UffNode] = field(default_factory=dict)
    referenced: dict[str, Data] = field(default_factory=dict)

    def convert(self, name: str) -> list[str]:
        """Write one node; the names it computes from."""
        if name not in self.nodes:
            raise ModelError(f"an input {name[:80]!r} that is not in the graph")
        node = self.nodes[name]
        rule = RULES.get(node.op)
        if rule is None:
            log.info("No conversion function registered for layer: %s yet; converting %s as custom op", node.op, name)
            return _custom(self, node)
        return rule(self, node)

    def inputs(self, node: Node) -> list[str]:
        """Names of a node's inputs, control inputs too, Identities passed over."""
        return [self.behind_identity(text) for text in node.inputs]

    def behind_identity(self, text: str) -> str:
        name = text.lstrip("^").split(":")[0]
        node = self.nodes.get(name)
        return node.inputs[0].lstrip("^").split(":")[0] if node is not None and node.op == "Identity" else name

    def emit(self, name: str, operation: str, inputs: list[str], fields: Fields) -> list[str]:
        """Add a node; fields that are None are left out."""
        kept = {key: data for key, data in fields.items() if data is not None}
        self.written[name] = UffNode(name, tuple(inputs), operation, kept)
        return inputs

    def value(self, node: Node, name: str) -> NDArray[Any]:
        """The array of an input that must be constant."""
        maker = self.nodes.get(name)
        tensor = maker.attributes.get("value") if maker is not None and maker.op == "Const" else None
        if not isinstance(tensor, Tensor):
            raise ModelError(f"input {name[:80]!r} of op {node.op} is no constant, and UFF needs one", node=node.name)
        return tensor.array()

    def integers(self, node: Node, name: str) -> tuple[int, ...]:
        return tuple(int(v) for v in np.ravel(self.value(node, name)))

    def orders(self, *names: str) -> Data:
        """The reference to the orders of a node's inputs."""
        key = "_".join(("orders", *names))
        self.referenced.setdefault(key, Data("dim_orders_list", tuple({-1: ORDERS[name]} for name in names)))
        return Data("ref", key)

    def constant(self, name: str, array: NDArray[Any]) -> None:
        """Write a Const and its weights."""
        data = Data("s", array.item().decode("latin-1")) if array.dtype == object else Data("blob", _little(array))
        self.referenced[f"weights_{name}"] = data
        fields: Fields = {
            "shape": Data("i_list", array.shape),
            "dtype": Data("dtype", DTYPES.get(array.dtype.name, UNKNOWN_DTYPE)),
            "values": Data("ref", f"weights_{name}"),
        }
        self.emit(name, "Const", [], fields)


def _little(array: NDArray[Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _text(value: str) -> Data:
    return Data("s", value)


# --- rules ----------------------------------------------------------------------------------------------------------

Rule = Callable[[_Conversion, Node], list[str]]


def _plain(operation: str, **fields: str) -> Rule:
    """All inputs; string fields that are the same for every node of this op."""
    return lambda c, node: c.emit(
        node.name, operation, c.inputs(node), {key: _text(value) for key, value in fields.items()}
    )


def _const(c: _Conversion, node: Node) -> list[str]:
    tensor = node.attributes.get("value")
    if not isinstance(tensor, Tensor):
        raise ModelError("a Const without a value", node=node.name)
    array = tensor.array()
    c.constant(node.name, array.astype("float16") if tensor.dtype == "float16" else array)
    return []


def _placeholder(c: _Conversion, node: Node) -> list[str]:
    shape = node.attributes.get("shape")
    dims = tuple(-1 if d is None else d for d in shape) if isinstance(shape, tuple) else ()
    dtype = DTYPES.get(node.text("dtype", "float32"), UNKNOWN_DTYPE)
    return c.emit(node.name, "Input", [], {"shape": Data("i_list", dims), "dtype": Data("dtype", dtype)})


def _nchw(node: Node) -> bool:
    return node.text("data_format", "NHWC") == "NCHW"


def _data_order(node: Node) -> str:
    return "NC+" if _nchw(node) else "N+C"


def _spatial(node: Node, key: str) -> Data | None:
    values = node.integers(key)
    return Data("i_list", values[2:] if _nchw(node) else values[1:3]) if len(values) == 4 else None


def _padding(c: _Conversion, node: Node, inputs: list[str]) -> tuple[Data | None, Data | None]:
    """(padding, implicit_padding). SAME is implicit; a symmetric Pad before VALID is taken into the op."""
    kind = node.text("padding")
    if kind == "SAME":
        return None, _text("same")
    if kind != "VALID":
        raise ModelError(f"padding {kind!r}, which UFF does not have", node=node.name)
    before = c.nodes.get(inputs[0])
    if before is None or before.op != "Pad":
        return None, None
    widths = np.array(c.integers(before, c.inputs(before)[1])).reshape(-1, 2)
    if len(widths) != 4 or (widths[:, 0] != widths[:, 1]).any():
        return None, None
    inputs[0] = c.inputs(before)[0]
    amounts = widths[2:, 0] if _nchw(node) else widths[1:3, 0]
    return Data("i_list", tuple(amounts.tolist())), None


def _convolution(c: _Conversion, node: Node) -> list[str]:
    inputs = c.inputs(node)
    padding, implicit = _padding(c, node, inputs)
    groups = None
    if node.op == "DepthwiseConv2dNative":
        groups = Data("i", int(c.value(node, inputs[1]).shape[2]))
    fields = {
        "padding": padding,
        "strides": _spatial(node, "strides"),
        "dilation": _spatial(node, "dilations"),
        "number_groups": groups,
        "inputs_orders": c.orders(_data_order(node), "+CK"),
        "implicit_padding": implicit,
    }
    return c.emit(node.name, "Conv", inputs, fields)


def _deconvolution(c: _Conversion, node: Node) -> list[str]:
    shape, weights, data = c.inputs(node)[:3]
    inputs = [data, weights, shape]
    padding, implicit = _padding(c, node, inputs)
    fields = {
        "padding": padding,
        "strides": _spatial(node, "strides"),
        "dilation": _spatial(node, "dilations"),
        "inputs_orders": c.orders(_data_order(node), "+KC"),
        "implicit_padding": implicit,
    }
    return c.emit(node.name, "ConvTranspose", inputs, fields)


def _pool(c: _Conversion, node: Node) -> list[str]:
    inputs = c.inputs(node)
    padding, implicit = _padding(c, node, inputs)
    fields = {
        "func": _text("max" if node.op == "MaxPool" else "avg"),
        "kernel": _spatial(node, "ksize"),
        "padding": padding,
        "strides": _spatial(node, "strides"),
        "inputs_orders": c.orders(_data_order(node)),
        "implicit_padding": implicit,
    }
    return c.emit(node.name, "Pool", inputs, fields)


def _bias_add(c: _Conversion, node: Node) -> list[str]:
    """The bias is written here, before the addition."""
    data, bias = c.inputs(node)[:2]
    array = c.value(node, bias)
    if bias not in c.written:
        c.constant(bias, array.reshape(-1, 1, 1) if _nchw(node) else array)
    c.emit(node.name, "Binary", [data, bias], {"func": _text("add")})
    return [data]


def _batch_norm(c: _Conversion, node: Node) -> list[str]:
    fields: Fields = {
        "epsilon": Data("d", node.number("epsilon", 1e-4)),
        "inputs_orders": c.orders(_data_order(node)),
    }
    return c.emit(node.name, "BatchNorm", c.inputs(node), fields)


def _matmul(c: _Conversion, node: Node) -> list[str]:
    data = "CN" if node.attributes.get("transpose_a") else "NC"
    weights = "KC" if node.attributes.get("transpose_b") else "CK"
    return c.emit(node.name, "FullyConnected", c.inputs(node), {"inputs_orders": c.orders(data, weights)})


def _softmax(c: _Conversion, node: Node) -> list[str]:
    inputs = c.inputs(node)
    axis = c.integers(node, inputs[1])[0] if len(inputs) > 1 else 0
    fields: Fields = {"axis": Data("i", axis), "inputs_orders": c.orders(_data_order(node))}
    return c.emit(node.name, "Softmax", inputs[:1], fields)


def _lrn(c: _Conversion, node: Node) -> list[str]:
    fields: Fields = {"window_size": Data("i", node.integer("depth_radius", 5))}
    for name, attribute, default in (("alpha", "alpha", 1.0), ("beta", "beta", 0.5), ("k", "bias", 1.0)):
        fields[name] = Data("d", node.number(attribute, default))
    return c.emit(node.name, "LRN", c.inputs(node), {**fields, "inputs_orders": c.orders(_data_order(node))})


def _with_axis(operation: str) -> Rule:
    """The axis is a constant last input, and becomes a field."""

    def rule(c: _Conversion, node: Node) -> list[str]:
        inputs = c.inputs(node)
        if "axis" in node.attributes:
            axis, data = node.integer("axis"), inputs
        else:
            axis, data = c.integers(node, inputs[-1])[0], inputs[:-1]
        return c.emit(node.name, operation, data, {"axis": Data("i", axis)})

    return rule


def _stack(c: _Conversion, node: Node) -> list[str]:
    return c.emit(node.name, "Stack", c.inputs(node), {"axis": Data("i", node.integer("axis"))})


def _reshape(c: _Conversion, node: Node) -> list[str]:
    scopes = node.name.split("/")
    if len(scopes) > 1 and "flatten" in scopes[-2].lower():
        return c.emit(node.name, "Flatten", c.inputs(node)[:1], {})
    return c.emit(node.name, "Reshape", c.inputs(node), {})


def _transpose(c: _Conversion, node: Node) -> list[str]:
    data, permutation = c.inputs(node)[:2]
    return c.emit(node.name, "Transpose", [data], {"permutation": Data("i_list", c.integers(node, permutation))})


def _squeeze(c: _Conversion, node: Node) -> list[str]:
    axes = node.integers("squeeze_dims")
    return c.emit(node.name, "Squeeze", c.inputs(node), {"axes": Data("i_list", axes) if axes else None})


def _strided_slice(c: _Conversion, node: Node) -> list[str]:
    if node.integer("ellipsis_mask") or node.integer("new_axis_mask"):
        raise ModelError("a StridedSlice with an ellipsis or a new axis, which UFF does not have", node=node.name)
    masks = ("begin_mask", "end_mask", "shrink_axis_mask")
    return c.emit(node.name, "StridedSlice", c.inputs(node), {m: Data("i", node.integer(m)) for m in masks})


def _reduce(c: _Conversion, node: Node) -> list[str]:
    data, axes = c.inputs(node)[:2]
    fields: Fields = {
        "func": _text(node.op.lower()),
        "axes": Data("i_list", c.integers(node, axes)),
        "keepdims": Data("b", bool(node.attributes.get("keep_dims", False))),
    }
    return c.emit(node.name, "Reduce", [data], fields)


def _gather(c: _Conversion, node: Node) -> list[str]:
    inputs = c.inputs(node)
    fields: Fields = {}
    if node.op == "GatherV2":
        fields["axis"] = Data("i", c.integers(node, inputs[2])[0] if len(inputs) > 2 else 0)
    for name, attribute in (("indices_dtype", "Tindices"), ("params_dtype", "Tparams")):
        fields[name] = Data("dtype", DTYPES.get(node.text(attribute), UNKNOWN_DTYPE))
    if node.op == "Gather":
        fields["validate_indices"] = Data("b", bool(node.attributes.get("validate_indices", True)))
    return c.emit(node.name, node.op, inputs[:2], fields)


def _leaky_relu(c: _Conversion, node: Node) -> list[str]:
    return c.emit(node.name, "LeakyRelu", c.inputs(node), {"alpha": Data("d", node.number("alpha", 0.2))})


def _custom(c: _Conversion, node: Node) -> list[str]:
    """Every attribute becomes a field; this is how plugins get their parameters."""
    fields = {key: _attribute(node, key, value) for key, value in node.attributes.items()}
    return c.emit(node.name, f"_{node.op}", c.inputs(node), fields)


def _attribute(node: Node, key: str, value: Any) -> Data | None:
    """A field; an empty list is left out, a free dimension of a shape is -1."""
    if value is None or (value == () and key != "shape"):
        return None
    if isinstance(value, tuple):
        items = [_single(-1 if one is None else one) for one in value]
        members = {one.member if one else "" for one in items} or {"i"}
        if members == {"i", "d"}:
            members = {"d"}
        if len(members) == 1 and members <= {"i", "d", "b", "s", "dtype"}:
            return Data(f"{members.pop()}_list", tuple(one.value for one in items if one))
    single = _single(value)
    if single is None:
        raise ModelError(f"attribute {key[:40]!r} of op {node.op} cannot be a field of a custom op", node=node.name)
    return single


def _single(value: Any) -> Data | None:
    for kind, member in ((bool, "b"), (int, "i"), (float, "d")):
        if isinstance(value, kind):
            return Data(member, value)
    if isinstance(value, bytes):
        return _text(value.decode("latin-1"))
    return Data("dtype", DTYPES.get(value, UNKNOWN_DTYPE)) if isinstance(value, str) else None


RULES: dict[str, Rule] = {
    "Const": _const,
    "Placeholder": _placeholder,
    "Identity": _plain("Identity"),
    "Shape": _plain("Shape"),
    "Pad": _plain("Pad"),
    "Conv2D": _convolution,
    "DepthwiseConv2dNative": _convolution,
    "Conv2DBackpropInput": _deconvolution,
    "MaxPool": _pool,
    "AvgPool": _pool,
    "BiasAdd": _bias_add,
    "FusedBatchNorm": _batch_norm,
    "MatMul": _matmul,
    "Softmax": _softmax,
    "LRN": _lrn,
    "ExpandDims": _with_axis("ExpandDims"),
    "ArgMax": _with_axis("ArgMax"),
    "ArgMin": _with_axis("ArgMin"),
    "ConcatV2": _with_axis("Concat"),
    "Pack": _stack,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
    "Gather": _gather,
    "GatherV2": _gather,
    "ResourceGather": _gather,
    "LeakyRelu": _leaky_relu,
}
RULES |= dict.fromkeys(("Sum", "Prod", "Min", "Max", "Mean"), _reduce)
for _op, _func in (
    ("Add", "add"), ("AddV2", "add"), ("Sub", "sub"), ("Mul", "mul"), ("Div", "div"), ("RealDiv", "div"),
    ("Minimum", "min"), ("Maximum", "max"), ("Pow", "pow"),
):  # fmt: skip
    RULES[_op] = _plain("Binary", func=_func)
for _op in ("Relu", "Relu6", "Tanh", "Sigmoid", "Elu", "Selu", "Softsign", "Softplus"):
    RULES[_op] = _plain("Activation", func=_op.lower())
for _op in (
    "Neg", "Abs", "Exp", "Log", "Sqrt", "Rsqrt", "Square", "Sin", "Cos", "Tan", "Sinh", "Cosh", "Asin", "Acos", "Atan",
    "Asinh", "Acosh", "Atanh", "Ceil", "Floor",
):  # fmt: skip
    RULES[_op] = _plain("Unary", func=_op.lower())
