"""A new plan against the reference engine: the same network, in float32 on the processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from ssdrt.engines.base import DetectingEngine, Found
from ssdrt.errors import EngineError, OutOfMemory
from ssdrt.model import IMAGE, Conv, DepthwiseConv, Floats, SsdModel
from ssdrt.network.int8 import Scales, whole_values, whole_weights
from ssdrt.postprocess import NmsParameters, decode_boxes, non_max_suppression
from ssdrt.preprocess import clip_window, resized_size

SCORE = {"fp32": 1e-3, "tf32": 1e-2, "fp16": 2e-2, "bf16": 8e-2, "int8": 8e-2}
BOX = {"fp32": 2e-3, "tf32": 1e-2, "fp16": 2e-2, "bf16": 8e-2, "int8": 8e-2}
"""What the scores, and the corners of boxes that some score takes above LIKELY, may differ by; corners in units of the
network input. Trained networks stay far below (fp16: 0.002)."""

AMPLIFIED = 4
"""Networks that amplify rounding may differ by as many times what rounding every layer's values does in numpy."""

MOST, MANY = 100, 4000
"""Detections of a sample picture that are compared, with nothing suppressed; those among which they must be."""

LIKELY = 0.1
"""Boxes that no score takes above it may be anywhere."""


class Network(Protocol):
    """What is checked; `infer` as `engines.base.Engine` has it."""

    def infer(self, pixels: Floats) -> tuple[Floats, Floats]:
        """Box encodings and class scores."""
        ...


def check_itself(
    model: SsdModel, engine: Network, precision: str, detecting: Sequence[int] = (), scales: Scales | None = None
) -> tuple[float, float]:
    """(score, box): the largest differences of two sample pictures' predictions.

    Parameters
    ----------
    detecting: batch sizes, rising, at which `engine.detect` is compared, too, for an engine that has kernels of its
        own there; those that this machine has no room for are left out, but for the first.
    scales: of an int8 plan.

    Raises
    ------
    EngineError: they are beyond the tolerance; the message names the layer that loses most in half precision.
    """
    from ssdrt.engines.reference import ReferenceEngine  # not needed to run a plan

    pixels = sample_pixels(model)
    expected = _one_by_one(ReferenceEngine(model), pixels)
    score, box = _differences(model, engine.infer(pixels), expected)
    found = _detected(model, engine, pixels, detecting)
    limits = SCORE[precision], BOX[precision]
    fault = _fault(model, (score, box), found, expected, limits)
    if fault and precision != "fp32":
        run = rounding(precision, scales)
        natural = _differences(model, _one_by_one(ReferenceEngine(model, run), pixels), expected)
        limits = max(limits[0], AMPLIFIED * natural[0]), max(limits[1], AMPLIFIED * natural[1])
        fault = _fault(model, (score, box), found, expected, limits)
    if fault:
        raise EngineError(
            f"the plan that was built does not compute this network: {fault} ({precision} allows {limits[0]:.2g} and "
            f"{limits[1]:.2g} here); {suspect(model, pixels[:1], precision, scales)}"
        )
    return score, box


def _one_by_one(engine: Network, pixels: Floats) -> tuple[Floats, Floats]:
    """Predictions of pictures, for which the memory of one is enough."""
    boxes, scores = zip(*(engine.infer(one[None]) for one in pixels), strict=True)
    return np.concatenate(boxes), np.concatenate(scores)


def _fault(
    model: SsdModel,
    differences: tuple[float, float],
    detected: dict[tuple[int, int], Found],
    expected: tuple[Floats, Floats],
    limits: tuple[float, float],
) -> str:
    """What is beyond (score, box) limits, in words; empty if nothing is."""
    score, box = differences
    if not (score <= limits[0] and box <= limits[1]):
        return f"scores differ by up to {score:.2g}, boxes by {box:.2g} of the picture"
    for (batch, index), found in detected.items():
        if not _same_detections(model, found, (expected[0][index % 2], expected[1][index % 2]), limits):
            return f"detections in batches of {batch} are not those of the same scores and boxes"
    return ""


def _detected(model: SsdModel, engine: Network, pixels: Floats, sizes: Sequence[int]) -> dict[tuple[int, int], Found]:
    """(batch size, place in the batch) -> detections of the two pictures in turns: the first of each, and those that
    are not equal to them."""
    size, resizer = model.input_size, model.preprocessing.resizer.value
    if not sizes or resized_size(resizer, *size) != size:  # the engine would see other pixels than the reference
        return {}
    assert isinstance(engine, DetectingEngine)
    pictures = pixels.astype(np.uint8)
    kept: dict[tuple[int, int], Found] = {}
    for batch in sizes:
        images = [pictures[index % 2] for index in range(batch)]
        try:
            detected = engine.detect(images, _unsuppressed(model, MOST))
        except OutOfMemory:  # the host's, say, of which an engine needs some that cannot be paged
            if batch == sizes[0]:
                raise
            break
        for index, found in enumerate(detected):
            first = kept.setdefault((batch, index % 2), found)
            if (found[0].tobytes(), found[1].tobytes()) != (first[0].tobytes(), first[1].tobytes()):
                kept[batch, index] = found
    return kept


def _unsuppressed(model: SsdModel, most: int) -> NmsParameters:
    """The graph's NMS, as one that no box overlaps too much for."""
    nms = model.nms
    return NmsParameters(
        0.0, 2.0, most, most, nms.class_agnostic.value, 0.0,
        nms.clip.value, nms.drop_zero_area.value, nms.change_coordinate_frame.value,
    )  # fmt: skip


def _same_detections(
    model: SsdModel, found: Found, expected: tuple[Floats, Floats], limits: tuple[float, float]
) -> bool:
    """Whether each detection is one of those expected, and none of these is missing, within (score, box) limits."""
    score_limit, box_limit = limits
    decoded = decode_boxes(expected[0], model.anchors.value, model.box_coder.scales.value)
    window = clip_window(model, *model.input_size)
    boxes, scores, classes = non_max_suppression(decoded, expected[1], _unsuppressed(model, MANY), window)
    boxes = np.clip(boxes, 0, 1)
    near = np.abs(found[1][:, None] - scores) <= score_limit
    if not model.nms.class_agnostic.value:  # there the best of nearly equal classes may be another
        near &= found[2][:, None] == classes
    near &= (np.abs(np.clip(found[0], 0, 1)[:, None] - boxes).max(-1) <= box_limit) | (scores <= LIKELY)
    lowest = found[1][-1] if len(found[1]) == MOST else 0.0
    sides = (boxes[:, 2:] - boxes[:, :2]).min(-1)  # rounding decides whether what has no area becomes a detection
    wanted = (scores > lowest + score_limit) & (scores > LIKELY) & (sides > box_limit)
    return bool(near.any(1).all() and near[:, wanted].any(0).all())


def _differences(model: SsdModel, found: tuple[Floats, Floats], expected: tuple[Floats, Floats]) -> tuple[float, float]:
    """Of the scores, and of the corners of boxes that some score takes above 0.1; NaN when something is."""
    anchors, scales = model.anchors.value, model.box_coder.scales.value
    likely = expected[1].max(-1) > LIKELY
    corners = [
        np.clip([decode_boxes(one, anchors, scales) for one in encodings], 0, 1)[likely]
        for encodings in (found[0], expected[0])
    ]
    score, box = np.abs(found[1] - expected[1]).max(), np.abs(corners[0] - corners[1]).max(initial=0)
    return float(score), float(box)


def rounding(precision: str, scales: Scales | None = None) -> Callable[..., Floats]:
    """`reference.run_layer` on rounded weights and values; of int8 those of convolutions alone."""
    from ssdrt.engines.reference import run_layer

    def run(layer: Any, *inputs: Floats) -> Floats:
        if precision == "int8":
            scale = (scales or {}).get(layer.inputs[0]) if isinstance(layer, (Conv, DepthwiseConv)) else None
            if scale is None:
                return run_layer(layer, *inputs)
            whole, steps = whole_weights(layer)
            return run_layer(replace(layer, weights=whole * steps), whole_values(inputs[0], scale))
        held = {name: getattr(layer, name) for name in ("weights", "bias") if hasattr(layer, name)}
        narrow = replace(layer, **{name: rounded(values, precision) for name, values in held.items()})
        return rounded(run_layer(narrow, *(rounded(one, precision) for one in inputs)), precision)

    return run


def sample_pixels(model: SsdModel) -> Floats:
    """Two pictures (2, height, width, 3) of 0..255, whole numbers: smooth colours, edges and noise."""
    generator = np.random.default_rng(11)
    height, width = model.input_size
    rows, columns = np.mgrid[:height, :width]
    waves = np.stack([np.sin(rows / (7.0 + k)) + np.cos(columns / (11.0 - k)) for k in range(3)], -1)
    smooth = 128 + 55 * waves
    noisy = smooth.copy()
    for _ in range(30):
        top, left = generator.integers(0, height - 1), generator.integers(0, width - 1)
        bottom, right = top + generator.integers(1, height), left + generator.integers(1, width)
        noisy[top:bottom, left:right] = generator.integers(0, 256, 3)
    pictures = np.stack([smooth + generator.normal(0, 4, smooth.shape), noisy + generator.normal(0, 8, noisy.shape)])
    pixels: Floats = np.rint(np.clip(pictures, 0, 255)).astype(np.float32)
    return pixels


def suspect(model: SsdModel, pixels: Floats, precision: str, scales: Scales | None) -> str:
    """Which layer to look at: the one whose values suffer most when they are rounded, by the size of its own error."""
    if precision == "fp32":
        return (
            "in this precision no rounding explains that; please report it with what `ssdrt doctor --self-test` prints"
        )
    from ssdrt.engines.reference import normalise, run_layer

    values: dict[str, Floats] = {IMAGE: normalise(pixels, model.preprocessing.normalisation.value)}
    narrow = rounding(precision, scales)
    worst, name = 0.0, model.layers[0].name
    for layer in model.layers:
        inputs = [values[one] for one in layer.inputs]
        exact = run_layer(layer, *inputs)
        found = narrow(layer, *inputs)
        size = float(np.sqrt(np.mean(exact**2))) or 1.0
        error = float(np.abs(found - exact).max()) / size if np.isfinite(found).all() else np.inf
        if error > worst:
            worst, name = error, layer.name
        values[layer.name] = exact
    way = "leave the scale of what it reads out, or take fp16" if precision == "int8" else "take fp32"
    return f"layer {name!r} loses most by rounding (its largest error is {worst:.2g} of its values); {way}"


def rounded(values: Floats, precision: str) -> Floats:
    """float32 values that have the mantissa, and for fp16 the range, of a precision."""
    if precision == "fp16":
        with np.errstate(over="ignore"):  # what becomes infinite is what is looked for
            return values.astype(np.float16).astype(np.float32)
    dropped = {"bf16": 16, "tf32": 13}[precision]
    bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64) + (1 << (dropped - 1))
    kept: Floats = ((bits >> dropped) << dropped).astype(np.uint32).view(np.float32)
    return kept
