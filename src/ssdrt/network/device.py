"""An ONNX file for the TensorRT of an old Jetson (8.0 to 8.6), with the programs that build and run it there."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np

from ssdrt.errors import ModelError
from ssdrt.legacy.facts import facts_json
from ssdrt.model import SsdModel
from ssdrt.network.export import build_onnx

PROGRAMS = ("onnx_engine.py", "detect.py")
OPSET = 13  # the newest that 8.0 and 8.2 read


def device_files(model: SsdModel, stem: str) -> dict[str, bytes]:
    """Name -> content: STEM.onnx (float32 picture in, box encodings and scores out, batch 1), STEM.json, the programs.

    Raises
    ------
    ModelError: an NMS that the program does not do.
    """
    nms = model.nms
    if nms.class_agnostic.value or nms.soft_nms_sigma.value:
        kind = "soft" if nms.soft_nms_sigma.value else "class-agnostic"
        raise ModelError(f"this graph's NMS is {kind}, which the program for the device does not do")
    facts = json.loads(facts_json(model)) | {
        "normalisation": [],  # it is in the network
        "anchors": np.round(model.anchors.value.astype(np.float64), 9).tolist(),
        "box_scales": list(model.box_coder.scales.value),
        "iou_threshold": nms.iou_threshold.value,
        "max_per_class": nms.max_per_class.value,
        "max_total": nms.max_total.value,
    }
    programs = {name: (resources.files("ssdrt.legacy") / "device" / name).read_bytes() for name in PROGRAMS}
    network = build_onnx(model, pixels="float32", tail="scores", opset=OPSET, batch=1)
    return {f"{stem}.onnx": network, f"{stem}.json": json.dumps(facts).encode(), **programs}
