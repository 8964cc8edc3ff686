"""OpenVINO on the processor: the fast engine where there is no GPU."""

from __future__ import annotations

import ctypes
import io
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from ssdrt.errors import EngineError, MissingExtra, import_extra
from ssdrt.model import Floats, SsdModel
from ssdrt.network.export import build_onnx


def unavailable() -> str | None:
    """Why it cannot run here and what to type, or None."""
    try:
        _openvino()
    except MissingExtra as error:
        return str(error)
    return None


def precisions() -> tuple[str, ...]:
    """bf16 where the processor multiplies it (avx512_bf16 or AMX)."""
    with _core() as core:
        capable = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("fp32", "bf16") if capable else ("fp32",)


def fingerprint() -> str:
    """Version of the library, name of the processor and what it can do."""
    with _core() as core:
        name, abilities = (core.get_property("CPU", key) for key in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES"))
    return f"openvino {_openvino().get_version()}, {name}, {' '.join(sorted(abilities))}"


def build(model: SsdModel, precision: str) -> bytes:
    """The compiled network; importing it takes half the time of reading ONNX (v1: 0.12 against 0.24 s of CPU time).

    Its batch is 1: with a free one each picture took 1.1 times as long.

    Raises
    ------
    EngineError: OpenVINO refuses the network; the message is its own.
    """
    stream = io.BytesIO()
    try:
        with _core() as core:
            network = core.read_model(build_onnx(model, pixels="float32", tail="scores", batch=1))
            core.compile_model(network, "CPU", _options(precision, 1)).export_model(stream)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot compile this network: {error}") from error
    return stream.getvalue()


def load(model: SsdModel, plan: bytes, precision: str, streams: int) -> OpenvinoEngine:  # noqa: ARG001
    """Import a plan.

    Raises
    ------
    EngineError: OpenVINO does not take the plan; the message is its own.
    """
    try:
        with _core() as core:
            compiled = core.import_model(plan, "CPU", _options(precision, streams))
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot load this plan; build it again: {error}") from error
    return OpenvinoEngine(compiled, streams)


class OpenvinoEngine:
    """A compiled network and one infer request a stream; a thread that finds none free waits.

    A batch goes through those that are free, a picture each.
    """

    def __init__(self, compiled: Any, streams: int) -> None:
        self._shapes = [tuple(output.shape)[1:] for output in compiled.outputs]
        self._requests: queue.SimpleQueue[Any] | None = queue.SimpleQueue()
        for _ in range(streams):
            self._requests.put(compiled.create_infer_request())

    def infer(self, pixels: Floats) -> tuple[Floats, Floats]:
        """Box encodings (b, n, 4) and class scores (b, n, classes), see `engines.base.Engine`.

        Raises
        ------
        EngineError: the engine was closed.
        """
        requests = self._requests
        if requests is None:
            raise EngineError("this engine was closed")
        boxes, scores = (np.empty((len(pixels), *shape), np.float32) for shape in self._shapes)
        held = [requests.get()]
        with suppress(queue.Empty):
            while len(held) < len(pixels):
                held.append(requests.get_nowait())
        try:
            for begin in range(0, len(pixels), len(held)):
                # Shared on both sides: the only copy is the one into the caller's arrays.
                started = list(enumerate(held[: len(pixels) - begin], begin))
                for index, request in started:
                    request.start_async({0: pixels[index : index + 1]}, share_inputs=True)
                for index, request in started:
                    request.wait()
                    boxes[index], scores[index] = (request.get_output_tensor(output).data[0] for output in (0, 1))
        finally:
            for request in held:
                with suppress(RuntimeError):  # its error, which it repeats, is on its way up already
                    request.wait()  # after an error others may still be at it
                requests.put(request)
        return boxes, scores

    def close(self) -> None:
        """Free the network once the last `infer` has returned."""
        self._requests = None


def _openvino() -> Any:
    """The library, its numpy support made ready: two threads that first used it at once would wait for each other."""
    library = import_extra("openvino", "openvino", "engine openvino")
    library.Tensor(np.zeros(1, np.float32))  # a microsecond, except for the first
    return library


@contextmanager
def _core() -> Iterator[Any]:
    """An `openvino.Core`; the thread has its own stack for signals back afterwards. Each Core sets another and frees it
    when it goes, also where a newer one has noted it as the one to go back to: the next Ctrl-C is a crash then."""
    stack, system = ctypes.create_string_buffer(64), ctypes.CDLL(None) if sys.platform == "linux" else None
    if system is not None:
        system.sigaltstack(None, stack)
    try:
        yield _openvino().Core()
    finally:
        if system is not None:
            system.sigaltstack(stack, None)


def _options(precision: str, streams: int) -> dict[str, str]:
    options = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision]}
    if streams == 1:
        return {**options, "PERFORMANCE_HINT": "LATENCY"}
    return {**options, "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(streams)}
