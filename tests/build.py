"""Graphs that tests are made of: the demo graph in its variants, and graphs of a few nodes."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ssdrt.demo import COLOURS, DemoOptions, build_demo_graph
from ssdrt.demo.options import CellAnchors, NmsOptions, PostprocessorOptions
from ssdrt.graph import Graph, graph_from_bytes
from ssdrt.graph.writer import Attribute, NodeSpec, write_graph

VARIANTS = {
    "default": DemoOptions(),
    "softmax": DemoOptions(postprocessor=PostprocessorOptions(score_converter="softmax")),
    "box_scales": DemoOptions(postprocessor=PostprocessorOptions(box_scales=(8.0, 9.0, 4.0, 6.0))),
    "clip_before": DemoOptions(postprocessor=PostprocessorOptions(nms=NmsOptions(clip="before"))),
    "class_agnostic": DemoOptions(postprocessor=PostprocessorOptions(nms=NmsOptions(class_agnostic=True))),
    "soft_nms": DemoOptions(postprocessor=PostprocessorOptions(nms=NmsOptions(soft_nms_sigma=0.5))),
    "few": DemoOptions(postprocessor=PostprocessorOptions(nms=NmsOptions(0.002, 0.3, max_per_class=3, max_total=5))),
    "one_class": DemoOptions(colours=("blue",)),
    "six_classes": DemoOptions(colours=tuple(COLOURS)),
    "odd_size": DemoOptions(input_size=(100, 150)),
    "fixed_shape": DemoOptions(placeholder_shape=(1, 360, 480, 3)),
    "anchors_2017": DemoOptions(
        cells=(
            CellAnchors((0.1, 0.25, 0.25), (1.0, 2.0, 0.5)),
            CellAnchors((0.5, 0.5**0.5, 0.5, 0.5, 0.5, 0.5), (1.0, 1.0, 2.0, 0.5, 3.0, 1 / 3)),
        )
    ),
}


@cache
def demo_bytes(options: DemoOptions = VARIANTS["default"]) -> bytes:
    """The demo graph's file content."""
    return build_demo_graph(options)


def demo_graph(options: DemoOptions = VARIANTS["default"]) -> Graph:
    """The demo graph, read back."""
    return graph_from_bytes(demo_bytes(options))


def demo_file(folder: Path, options: DemoOptions = VARIANTS["default"]) -> Path:
    """The demo graph as folder/frozen_inference_graph.pb."""
    path = folder / "frozen_inference_graph.pb"
    path.write_bytes(demo_bytes(options))
    return path


def graph_of(*nodes: NodeSpec) -> Graph:
    """A graph of these nodes, through the file format."""
    return graph_from_bytes(write_graph(nodes))


def node(op: str, name: str, *inputs: str, **attributes: Attribute) -> NodeSpec:
    """One node; T is float32 unless given."""
    return NodeSpec(name, op, inputs, {"T": "float32", **attributes})


def const(name: str, value: Any, dtype: str = "float32") -> NodeSpec:
    """A Const of anything that numpy takes; for dtype "string", of bytes."""
    array = np.asarray(value, object if dtype == "string" else dtype)
    return NodeSpec(name, "Const", (), {"dtype": dtype, "value": array})
