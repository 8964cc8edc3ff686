"""Scales for int8 as a calibration by largest magnitudes gives them."""

import numpy as np

from ssdrt.engines.reference import ReferenceEngine, run_layer
from ssdrt.model import Conv, DepthwiseConv


def measured_scales(model, pixels):
    """Name of each value that a convolution reads to its largest magnitude / 127."""
    largest = {}

    def run(layer, *inputs):
        if isinstance(layer, (Conv, DepthwiseConv)):
            name = layer.inputs[0]
            largest[name] = max(largest.get(name, 0.0), float(np.abs(inputs[0]).max()))
        return run_layer(layer, *inputs)

    ReferenceEngine(model, run).infer(pixels)
    return {name: value / 127 for name, value in largest.items()}
