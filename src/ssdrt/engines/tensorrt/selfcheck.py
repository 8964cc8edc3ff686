"""A new plan against the reference engine: the same network, in float32 on the processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from ssdrt.errors import EngineError
from ssdrt.model import IMAGE, Floats, SsdModel
from ssdrt.postprocess import decode_boxes

SCORE = {"fp32": 1e-3, "tf32": 1e-2, "fp16": 2e-2, "bf16": 8e-2}
BOX = {"fp32": 2e-3, "tf32": 1e-2, "fp16": 2e-2, "bf16": 8e-2}
"""What the scores, and the corners of boxes that some score takes above 0.1, may differ by; corners in units of the
network input. Trained networks stay far below (fp16: 0.002)."""

AMPLIFIED = 4
"""Networks that amplify rounding may differ by as many times what rounding every layer's values does in numpy."""


class Network(Protocol):
    """What is checked; `infer` as `engines.base.Engine` has it."""

    def infer(self, pixels: Floats) -> tuple[Floats, Floats]:
        """Box encodings and class scores."""
        ...


def check_itself(model: SsdModel, engine: Network, precision: str) -> tuple[float, float]:
    """(score, box): the largest differences on two sample pictures.

    Raises
    ------
    EngineError: they are beyond the tolerance; the message names the layer that loses most in half precision.
    """
    from ssdrt.engines.reference import ReferenceEngine  # not needed to run a plan

    pixels = sample_pixels(model)
    expected = ReferenceEngine(model).infer(pixels)
    score, box = _differences(model, engine.infer(pixels), expected)
    score_limit, box_limit = SCORE[precision], BOX[precision]
    if precision != "fp32" and (score > score_limit or box > box_limit):
        natural = _differences(model, ReferenceEngine(model, rounding(precision)).infer(pixels), expected)
        score_limit, box_limit = max(score_limit, AMPLIFIED * natural[0]), max(box_limit, AMPLIFIED * natural[1])
    if not (score <= score_limit and box <= box_limit):
        raise EngineError(
            f"the plan that TensorRT built does not compute this network: scores differ by up to {score:.2g}, boxes by "
            f"{box:.2g} of the picture ({precision} allows {score_limit:.2g} and {box_limit:.2g} here); "
            f"{suspect(model, pixels[:1], precision)}"
        )
    return score, box


def _differences(model: SsdModel, found: tuple[Floats, Floats], expected: tuple[Floats, Floats]) -> tuple[float, float]:
    """Of the scores, and of the corners of boxes that some score takes above 0.1; NaN when something is."""
    anchors, scales = model.anchors.value, model.box_coder.scales.value
    likely = expected[1].max(-1) > 0.1
    corners = [
        np.clip([decode_boxes(one, anchors, scales) for one in encodings], 0, 1)[likely]
        for encodings in (found[0], expected[0])
    ]
    score, box = np.abs(found[1] - expected[1]).max(), np.abs(corners[0] - corners[1]).max(initial=0)
    return float(score), float(box)


def rounding(precision: str) -> Callable[..., Floats]:
    """`reference.run_layer` on rounded weights, its values rounded."""
    from ssdrt.engines.reference import run_layer

    def run(layer: Any, *inputs: Floats) -> Floats:
        held = {name: getattr(layer, name) for name in ("weights", "bias") if hasattr(layer, name)}
        narrow = replace(layer, **{name: rounded(values, precision) for name, values in held.items()})
        return rounded(run_layer(narrow, *inputs), precision)

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


def suspect(model: SsdModel, pixels: Floats, precision: str) -> str:
    """Which layer to look at: the one whose values suffer most when they are rounded, by the size of its own error."""
    if precision == "fp32":
        return (
            "in this precision no rounding explains that; please report it with what `ssdrt doctor --self-test` prints"
        )
    from ssdrt.engines.reference import normalise, run_layer

    values: dict[str, Floats] = {IMAGE: normalise(pixels, model.preprocessing.normalisation.value)}
    narrow = rounding(precision)
    worst, name = 0.0, model.layers[0].name
    for layer in model.layers:
        inputs = [values[one] for one in layer.inputs]
        exact = run_layer(layer, *inputs)
        found = narrow(layer, *(rounded(one, precision) for one in inputs))
        size = float(np.sqrt(np.mean(exact**2))) or 1.0
        error = float(np.abs(found - exact).max()) / size if np.isfinite(found).all() else np.inf
        if error > worst:
            worst, name = error, layer.name
        values[layer.name] = exact
    return f"layer {name!r} loses most by rounding (its largest error is {worst:.2g} of its values); take fp32"


def rounded(values: Floats, precision: str) -> Floats:
    """float32 values that have the mantissa, and for fp16 the range, of a precision."""
    if precision == "fp16":
        with np.errstate(over="ignore"):  # what becomes infinite is what is looked for
            return values.astype(np.float16).astype(np.float32)
    dropped = {"bf16": 16, "tf32": 13}[precision]
    bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64) + (1 << (dropped - 1))
    kept: Floats = ((bits >> dropped) << dropped).astype(np.uint32).view(np.float32)
    return kept
