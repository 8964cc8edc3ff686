"""A small SSD graph and a picture for it, both made by the project itself: what the demo and the tests run on."""

from ssdrt.demo.graph import build_demo_graph, demo_model
from ssdrt.demo.options import DemoOptions
from ssdrt.demo.picture import SHAPES, DrawnShape, demo_picture
from ssdrt.demo.weights import COLOURS

__all__ = ["COLOURS", "SHAPES", "DemoOptions", "DrawnShape", "build_demo_graph", "demo_model", "demo_picture"]
