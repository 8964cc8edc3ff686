"""What a graph without the parts of an SSD seems to be: the sentence of the error."""

from __future__ import annotations

from ssdrt.graph import Graph

_WANTED = "ssdrt reads SSD detectors of the TensorFlow Object Detection API (frozen_inference_graph.pb)"


def what_it_seems(graph: Graph) -> str:
    """One sentence on what the graph seems to be, and what is wanted instead."""
    ops = {node.op for node in graph.nodes.values()}
    return f"{_kind(ops)}; {_WANTED}"


def _kind(ops: set[str]) -> str:
    if "CropAndResize" in ops:
        return "this seems to be a Faster R-CNN or Mask R-CNN (it crops regions for a second stage), not an SSD"
    if "TFLite_Detection_PostProcess" in ops:
        return (
            "this is an export for TensorFlow Lite (its post-processing is one TFLite op): "
            "give the frozen_inference_graph.pb of the same training"
        )
    if ops & {"PartitionedCall", "StatefulPartitionedCall", "TensorListReserve", "While", "StatelessWhile"}:
        return "this seems to be a TensorFlow 2 export (its loops and calls are TensorFlow 2's)"
    if any(op.startswith("_Fused") for op in ops):
        return (
            "TensorFlow's optimiser has fused this graph's ops for its own run time; give the graph as it was exported"
        )
    if ops & {"VariableV2", "Variable", "VarHandleOp", "ReadVariableOp"} and "Placeholder" in ops:
        return (
            "this graph is not frozen, its weights are variables: "
            "run the exporter (export_inference_graph.py) on the checkpoint"
        )
    if "QueueDequeueManyV2" in ops or "ApplyMomentum" in ops or "IteratorGetNext" in ops:
        return "this seems to be a training graph"
    if ops & {"Conv2D", "DepthwiseConv2dNative"}:
        kind = "a classifier" if ops & {"Softmax", "MatMul", "ArgMax"} else "a network without non-maximum suppression"
        return f"this seems to be {kind}, not a detector"
    return "this graph holds no convolutional network"
