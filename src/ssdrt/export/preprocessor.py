"""The exporter's Preprocessor: a loop that brings each picture to the network's size, then normalisation, as nodes."""

from __future__ import annotations

from ssdrt.export.builder import GraphBuilder
from ssdrt.export.loop import Dims, map_pictures
from ssdrt.graph.writer import Attribute, Shape
from ssdrt.model import Preprocessing, Resizer

_RESIZE = {
    "bilinear": "ResizeBilinear", "nearest": "ResizeNearestNeighbor", "bicubic": "ResizeBicubic", "area": "ResizeArea",
}  # fmt: skip
_ARITHMETIC = {"mul": "Mul", "add": "AddV2", "sub": "Sub", "div": "RealDiv"}


def has_fixed_size(resizer: Resizer) -> bool:
    """Whether the network input has one size, whatever the picture's."""
    return resizer.kind == "fixed_shape" or resizer.pad


def write_preprocessor(g: GraphBuilder, preprocessing: Preprocessing) -> tuple[str, str]:
    """Nodes from the placeholder image_tensor (uint8 RGB) on.

    Returns
    -------
    The normalised network input, and (batch, 3) int32: height, width and channels of each picture in it.
    """
    resizer = preprocessing.resizer.value
    shape = Shape(preprocessing.input.value)
    pixels = g.op("Cast", g.op("Placeholder", name="image_tensor", dtype="uint8", shape=shape), DstT="float32")
    with g.scope("Preprocessor"):
        kinds = [("float32", _network_shape(resizer)), ("int32", (3,))]
        image, true_shapes = map_pictures(g, [pixels], kinds, lambda picture: _resize(g, resizer, picture))
        for step in preprocessing.normalisation.value:
            image = g.op(_ARITHMETIC[step.operation], image, step.operand)
    return image, true_shapes


def _network_shape(resizer: Resizer) -> Dims:
    if resizer.kind == "fixed_shape":
        return resizer.height, resizer.width, 3
    return (resizer.width, resizer.width, 3) if resizer.pad else (None, None, 3)


def _resize(g: GraphBuilder, resizer: Resizer, picture: str) -> list[str]:
    """The picture (height, width, 3) in the network's size, and the shape of what is picture in it."""
    if resizer.kind == "none":
        return [picture, g.op("Shape", picture)]
    if resizer.kind == "fixed_shape":
        with g.scope("ResizeImage"):
            size = [resizer.height, resizer.width]
            return [_resized(g, resizer, picture, g.constant(size, "stack")), g.constant([*size, 3], "stack_1")]
    with g.scope("ResizeToRange"):
        height, width = _size_in_range(g, resizer, picture)
        resized = _resized(g, resizer, picture, g.stack(height, width))
        return [_padded(g, resizer, resized, height, width) if resizer.pad else resized, g.stack(height, width, 3)]


def _resized(g: GraphBuilder, resizer: Resizer, picture: str, size: str) -> str:
    options: dict[str, Attribute] = {"align_corners": resizer.align_corners}
    if resizer.method != "area":  # that op does not have it
        options["half_pixel_centers"] = resizer.half_pixel_centers
    resized = g.op(_RESIZE[resizer.method], g.op("ExpandDims", picture, 0), size, name="", control="", **options)
    return g.op("Squeeze", resized, squeeze_dims=(0,))


def _size_in_range(g: GraphBuilder, resizer: Resizer, picture: str) -> tuple[str, str]:
    """Height and width: the short side as long as it may be, unless the long side would be too long."""
    sides = [g.op("Cast", g.size(picture, axis), DstT="float32") for axis in (0, 1)]
    short = g.op("RealDiv", float(resizer.height), g.op("Minimum", *sides))
    long = g.op("RealDiv", float(resizer.width), g.op("Maximum", *sides))
    scale = g.op("Minimum", short, long)
    height, width = (g.op("Cast", g.op("Round", g.op("Mul", scale, side)), DstT="int32") for side in sides)
    return height, width


def _padded(g: GraphBuilder, resizer: Resizer, picture: str, height: str, width: str) -> str:
    """Each channel filled up below and right with its own value."""
    missing = [g.stack(0, g.op("Sub", resizer.width, side)) for side in (height, width)]
    paddings = g.stack(*missing)
    channels = zip(g.unstack(picture, 3, axis=2), resizer.pad_value, strict=True)
    return g.stack(*(g.op("PadV2", channel, paddings, value) for channel, value in channels), axis=2)
