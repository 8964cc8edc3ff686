"""`SsdModel`: what a frozen SSD graph says, as plain data for one size of network input.

Activations are NHWC. Boxes are (ymin, xmin, ymax, xmax) in 0..1 of the network input, as in the graph,
unless a name says otherwise. Every scalar that was recovered is a `Fact`: its value, its node, and how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Floats = NDArray[np.float32]
Pads = tuple[int, int, int, int]  # top, left, bottom, right, in rows and columns
Pair = tuple[int, int]  # along the rows (y), along the columns (x)

IMAGE = "image"
"""Name of the value that the first layers read: the normalised network input, (n, height, width, 3) float32."""


@dataclass(frozen=True)
class Fact(Generic[T]):
    """A recovered value, the graph node it was read from ("" when none), and how it was found."""

    value: T
    node: str
    how: str = ""


# --- layers ---------------------------------------------------------------------------------------------------------
# A short SSA list: `name` is the value a layer makes (readable, unique), `inputs` the values it reads.


@dataclass(frozen=True)
class Conv:
    """2-D convolution. weights (kh, kw, in, out); bias (out,); batch norm already folded in; pads are zeros."""

    name: str
    inputs: tuple[str]
    weights: Floats
    bias: Floats
    strides: Pair
    pads: Pads
    dilations: Pair = (1, 1)


@dataclass(frozen=True)
class DepthwiseConv:
    """Depthwise convolution. weights (kh, kw, channels, multiplier); bias by output channel, c * multiplier + m."""

    name: str
    inputs: tuple[str]
    weights: Floats
    bias: Floats
    strides: Pair
    pads: Pads
    dilations: Pair = (1, 1)


@dataclass(frozen=True)
class Activation:
    """Elementwise function. hard_sigmoid: relu6(x + 3) / 6; hard_swish: x * hard_sigmoid(x); swish: x * sigmoid(x)."""

    name: str
    inputs: tuple[str]
    function: Literal["relu", "relu6", "sigmoid", "hard_sigmoid", "hard_swish", "swish"]


@dataclass(frozen=True)
class Affine:
    """x * scale + offset; each () or (channels,) float32."""

    name: str
    inputs: tuple[str]
    scale: Floats
    offset: Floats


@dataclass(frozen=True)
class Add:
    """Sum of two values; one of them may be (n, 1, 1, c)."""

    name: str
    inputs: tuple[str, str]


@dataclass(frozen=True)
class Mul:
    """Product of two values; one of them may be (n, 1, 1, c) (squeeze-excite)."""

    name: str
    inputs: tuple[str, str]


@dataclass(frozen=True)
class Concat:
    """Joined along the channels."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class MaxPool:
    """Largest of each window; padding never wins."""

    name: str
    inputs: tuple[str]
    window: Pair
    strides: Pair
    pads: Pads


@dataclass(frozen=True)
class AvgPool:
    """Mean of each window; padding is not counted (TensorFlow's SAME)."""

    name: str
    inputs: tuple[str]
    window: Pair
    strides: Pair
    pads: Pads


@dataclass(frozen=True)
class GlobalAvgPool:
    """Mean over rows and columns, (n, 1, 1, c)."""

    name: str
    inputs: tuple[str]


@dataclass(frozen=True)
class Resize:
    """To (height, width). Source of row y, bilinear: y * in / out, (y + 0.5) * in / out - 0.5 with half_pixel_centers,
    y * (in - 1) / (out - 1) with align_corners. Nearest: floor of y * in / out, of (y + 0.5) * in / out with
    half_pixel_centers; with align_corners as bilinear, rounded half up."""

    name: str
    inputs: tuple[str]
    height: int
    width: int
    method: Literal["nearest", "bilinear"]
    align_corners: bool = False
    half_pixel_centers: bool = False


@dataclass(frozen=True)
class Pad:
    """Constant border."""

    name: str
    inputs: tuple[str]
    pads: Pads
    value: float = 0.0


@dataclass(frozen=True)
class Crop:
    """Rows top..top+height and columns left..left+width."""

    name: str
    inputs: tuple[str]
    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class FakeQuantize:
    """Rounding to multiples of `step` within minimum..maximum (quantisation-aware training).

    The range is TensorFlow's nudged one, in which zero is exactly representable.
    y = floor((clip(x) - minimum) / step - round(-minimum / step) + 0.5) * step, in float32.
    """

    name: str
    inputs: tuple[str]
    minimum: float
    maximum: float
    step: float


@dataclass(frozen=True)
class Clip:
    """Each element brought into minimum..maximum."""

    name: str
    inputs: tuple[str]
    minimum: float
    maximum: float


Layer: TypeAlias = (
    Conv
    | DepthwiseConv
    | Activation
    | Affine
    | Add
    | Mul
    | Concat
    | MaxPool
    | AvgPool
    | GlobalAvgPool
    | Resize
    | Pad
    | Crop
    | FakeQuantize
    | Clip
)


# --- around the layers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resizer:
    """How a picture becomes the network input, in pixels, before normalisation.

    kind fixed_shape: to (height, width). keep_aspect_ratio: scaled so that the short side is `height` (min_dimension)
    unless the long side would pass `width` (max_dimension), then so that the long side is `width`; with `pad` the rest
    of a width x width square is filled with pad_value below and right. none: the picture is taken as it is.
    """

    kind: Literal["fixed_shape", "keep_aspect_ratio", "none"]
    height: int = 0
    width: int = 0
    method: Literal["bilinear", "nearest", "bicubic", "area"] = "bilinear"
    align_corners: bool = False
    half_pixel_centers: bool = False
    pad: bool = False
    pad_value: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Normalisation:
    """One float32 operation on RGB pixels 0..255: `pixels <operation> operand`, the operand () or (3,)."""

    operation: Literal["mul", "add", "sub", "div"]
    operand: Floats


@dataclass(frozen=True)
class Preprocessing:
    """input: name of the Placeholder; its shape (batch, height, width, channels), None where free."""

    input: Fact[tuple[int | None, int | None, int | None, int | None]]
    resizer: Fact[Resizer]
    normalisation: Fact[tuple[Normalisation, ...]]


@dataclass(frozen=True)
class Head:
    """One feature map's predictions: values (n, height, width, anchors_per_cell * 4) box encodings and
    (n, height, width, anchors_per_cell * (classes + background)) class logits; rows run y, x, anchor."""

    boxes: str
    scores: str
    height: int
    width: int
    anchors_per_cell: int


@dataclass(frozen=True)
class BoxCoder:
    """Faster R-CNN box coder: encodings (ty, tx, th, tw) are divided by scales (y, x, h, w), then
    centre = t * anchor_size + anchor_centre, size = exp(t) * anchor_size."""

    scales: Fact[tuple[float, float, float, float]]


@dataclass(frozen=True)
class ScoreConverter:
    """logits / logit_scale, then the function. background: column 0 is "sliced_before" the function, "sliced_after"
    it (they differ for softmax), or there is "none"."""

    function: Fact[Literal["sigmoid", "softmax", "identity"]]
    logit_scale: Fact[float]
    background: Fact[Literal["sliced_before", "sliced_after", "none"]]


@dataclass(frozen=True)
class Nms:
    """TensorFlow's BatchMultiClassNonMaxSuppression as this graph holds it.

    clip: boxes are cut to the window "before" the NMS (until mid-2018) or "after" it (then zero-area boxes drop out and
    a re-sort follows), or "never". clip_to_image: the window is the picture's part of a padded input, not all of it.
    change_coordinate_frame: boxes end up relative to that window. class_agnostic: one NMS over the best class of each
    anchor. soft_nms_sigma 0 is plain NMS.
    """

    score_threshold: Fact[float]
    iou_threshold: Fact[float]
    max_per_class: Fact[int]
    max_total: Fact[int]
    class_agnostic: Fact[bool]
    soft_nms_sigma: Fact[float]
    clip: Fact[Literal["before", "after", "never"]]
    clip_to_image: Fact[bool]
    change_coordinate_frame: Fact[bool]
    drop_zero_area: Fact[bool]


@dataclass(frozen=True)
class LabelMap:
    """Class id (TensorFlow's: class index + label_offset) -> name."""

    names: dict[int, str]

    def name(self, class_id: int) -> str:
        """The name of a class id, or "class 7" when the map does not hold 7."""
        return self.names.get(class_id, f"class {class_id}")


@dataclass(frozen=True)
class SsdModel:
    """An SSD, whole: from pixels to detections. Plain data; `input_size` (height, width) is the network input that the
    layers' paddings and the anchors are resolved for (a graph with a free input size gives one SsdModel a size)."""

    digest: str  # sha256 of the graph file, hexadecimal
    input_size: Pair
    preprocessing: Preprocessing
    layers: tuple[Layer, ...]
    heads: tuple[Head, ...]
    anchors: Fact[Floats]  # (n, 4) yxyx, rows in the order of the heads
    box_coder: BoxCoder
    score_converter: ScoreConverter
    num_classes: Fact[int]  # without background
    nms: Nms
    label_offset: Fact[int]
    labels: Fact[LabelMap]

    @property
    def class_ids(self) -> range:
        """The ids of all classes, without background."""
        first = self.label_offset.value
        return range(first, first + self.num_classes.value)

    @property
    def logit_columns(self) -> int:
        """Class logits of one anchor, background included."""
        return self.num_classes.value + (self.score_converter.background.value != "none")
