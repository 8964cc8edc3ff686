"""ONNX Runtime on the processor: the engine for machines that OpenVINO does not support."""

from __future__ import annotations

import os
from typing import Any

from ssdrt.errors import MissingExtra, import_extra
from ssdrt.model import Floats, SsdModel
from ssdrt.network.export import build_onnx


def unavailable() -> str | None:
    """Why it cannot run here and what to type, or None."""
    try:
        _onnxruntime()
    except MissingExtra as error:
        return str(error)
    return None


def precisions() -> tuple[str, ...]:
    """float32 alone."""
    return ("fp32",)


def fingerprint() -> str:
    """The plan is ONNX, which every version reads."""
    return "onnx"


def build(model: SsdModel, precision: str) -> bytes:  # noqa: ARG001
    """The network as ONNX, batch free."""
    return build_onnx(model, pixels="float32", tail="scores")


def load(model: SsdModel, plan: bytes, precision: str, streams: int) -> OnnxruntimeEngine:  # noqa: ARG001
    """A session on the plan. The callers' threads work too, so the session's own are as many as make up the cores."""
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    if streams > 1:
        options.intra_op_num_threads = max(1, (os.cpu_count() or 1) - streams + 1)
    return OnnxruntimeEngine(onnxruntime.InferenceSession(plan, options, providers=["CPUExecutionProvider"]))


class OnnxruntimeEngine:
    """A session, which any number of threads may run at once."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def infer(self, pixels: Floats) -> tuple[Floats, Floats]:
        """Box encodings (b, n, 4) and class scores (b, n, classes), see `engines.base.Engine`."""
        boxes, scores = self._session.run(["box_encodings", "class_scores"], {"image": pixels})
        return boxes, scores

    def close(self) -> None:
        """Free the session."""
        self._session = None


def _onnxruntime() -> Any:
    return import_extra("onnxruntime", "onnxruntime", "engine onnxruntime")
