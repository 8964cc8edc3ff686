"""What a `.uff` does not hold about its detector, as JSON: the picture's preprocessing, class names.

It lies beside the file for `detect.py` (model.json), and inside it (`extra_fields`, which UFF has and nobody uses).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from ssdrt.model import LabelMap, Normalisation, Pair, Resizer, SsdModel

KEY = "ssdrt"

DEFAULT_NORMALISATION = (
    Normalisation("mul", np.array(2 / 255, np.float32)),
    Normalisation("sub", np.array(1, np.float32)),
)
"""What SSDs of MobileNet and Inception take, and all that users of .uff files have written down."""


def facts_json(model: SsdModel) -> str:
    """The facts, for one size of network input."""
    resizer = model.preprocessing.resizer.value
    if resizer.kind != "fixed_shape" and not resizer.pad:
        resizer = _fixed(model.input_size, resizer)  # a .uff is for one size
    facts = {
        "input_size": list(model.input_size),
        "resizer": asdict(resizer),
        "normalisation": [
            [step.operation, np.broadcast_to(step.operand, 3).tolist()]
            for step in model.preprocessing.normalisation.value
        ],
        "label_offset": model.label_offset.value,
        "background": model.score_converter.background.value != "none",
        "labels": {str(class_id): name for class_id, name in sorted(model.labels.value.names.items())},
    }
    return json.dumps(facts, indent=1)


def _fixed(size: Pair, resizer: Resizer) -> Resizer:
    return Resizer("fixed_shape", *size, resizer.method, resizer.align_corners, resizer.half_pixel_centers)


def facts_of(text: str | None, size: Pair) -> tuple[Resizer, tuple[Normalisation, ...], int, LabelMap]:
    """(resizer, normalisation, label offset, labels) that `facts_json` wrote, or what a foreign file most likely means.

    Raises
    ------
    ValueError: the text is something else.
    """
    if text is None:
        return Resizer("fixed_shape", *size), DEFAULT_NORMALISATION, 1, LabelMap({})
    facts: dict[str, Any] = json.loads(text)
    try:
        values = dict(facts["resizer"])
        values["pad_value"] = tuple(float(v) for v in values["pad_value"])
        resizer = Resizer(**values)
        steps = tuple(
            Normalisation(str(operation), np.array(operand, np.float32).reshape(3))  # type: ignore[arg-type]
            for operation, operand in facts["normalisation"]
        )
        labels = LabelMap({int(class_id): str(name) for class_id, name in facts["labels"].items()})
        offset = int(facts["label_offset"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    known = resizer.kind == "fixed_shape" or (resizer.kind == "keep_aspect_ratio" and resizer.pad is True)
    if not known or any(step.operation not in ("mul", "add", "sub", "div") for step in steps):
        raise ValueError("an unknown resizer or operation")
    return resizer, steps, offset, labels
