"""How many inputs TensorFlow's ops take: checked once, so that whoever reads an input by its position finds it.

Source: the op's page in tensorflow.org/api_docs/python/tf/raw_ops. Ops that are read by name only are not listed.
"""

from __future__ import annotations

_EXACT = {
    0: "Const Placeholder",
    1: "Identity Enter RefEnter Exit RefExit NextIteration RefNextIteration LoopCond StopGradient PreventGradient "
    "CheckNumerics PlaceholderWithDefault Snapshot Shape Size Rank Cast Squeeze Unpack Relu Relu6 Sigmoid Softmax Exp "
    "Log Neg Abs Sqrt Rsqrt Square Reciprocal Round Floor Ceil LogicalNot ZerosLike OnesLike MaxPool AvgPool "
    "FakeQuantWithMinMaxArgs Where",
    2: "Add AddV2 BiasAdd Sub Mul RealDiv Div FloorDiv FloorMod Mod Maximum Minimum Pow Greater GreaterEqual Less "
    "LessEqual Equal NotEqual LogicalAnd LogicalOr Conv2D DepthwiseConv2dNative MatMul Reshape ExpandDims Transpose "
    "Tile BroadcastTo Fill Pad Split Gather Sum Max Min Mean Prod All Any ArgMax ArgMin ResizeBilinear "
    "ResizeNearestNeighbor ResizeBicubic ResizeArea Switch RefSwitch TopKV2",
    3: "Slice GatherV2 SplitV PadV2 Range Select SelectV2 Dequantize FakeQuantWithMinMaxVars "
    "FakeQuantWithMinMaxVarsPerChannel NonMaxSuppression TensorArrayReadV3 TensorArrayGatherV3",
    4: "StridedSlice NonMaxSuppressionV2 TensorArrayWriteV3 TensorArrayScatterV3",
    5: "FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 NonMaxSuppressionV3 NonMaxSuppressionV4",
    6: "NonMaxSuppressionV5 CombinedNonMaxSuppression",
}
_AT_LEAST = {1: "Pack AddN ShapeN Merge RefMerge TopK", 2: "Concat ConcatV2"}

INPUTS: dict[str, tuple[int, int | None]] = {
    **{op: (count, count) for count, ops in _EXACT.items() for op in ops.split()},
    **{op: (count, None) for count, ops in _AT_LEAST.items() for op in ops.split()},
}
"""op -> fewest and most data inputs."""


def wrong_inputs(op: str, count: int) -> str:
    """What is wrong with a node of this op that has `count` data inputs; "" when nothing is."""
    fewest, most = INPUTS.get(op, (0, None))
    if fewest <= count and (most is None or count <= most):
        return ""
    return f"{op} takes {fewest}{' or more' if most is None else ''} inputs and has {count}"
