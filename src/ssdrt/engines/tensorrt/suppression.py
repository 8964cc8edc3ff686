"""Suppression behind a plan: the kernels of engine cuda, from class scores and box encodings to detections on the GPU.

Their machine code is compiled when a plan is built and travels before it; where it does not fit, it is compiled anew.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from ssdrt.engines.base import Found
from ssdrt.engines.cuda import OLDEST, compiler, ends, staging
from ssdrt.engines.cuda.compiler import Code, Wanted
from ssdrt.engines.cuda.driver import Gpu, launch_in, load_functions
from ssdrt.engines.cuda.launch import Launch
from ssdrt.engines.tensorrt.driver import Device
from ssdrt.engines.tensorrt.plan_file import kernels_of, unpack
from ssdrt.errors import EngineError, MissingExtra
from ssdrt.model import Pair, SsdModel
from ssdrt.postprocess import NmsParameters
from ssdrt.preprocess import clip_window

log = logging.getLogger("ssdrt")

ALIGNMENT = 256
"""Bytes."""


def why_not(model: SsdModel, gpu: Gpu) -> str:
    """Why the kernels do not do a graph's suppression on a GPU; empty if they do."""
    nms, device = model.nms, gpu.device()
    anchors, classes = len(model.anchors.value), model.num_classes.value
    if nms.soft_nms_sigma.value > 0:
        return "soft NMS"
    if nms.clip.value == "before" and nms.change_coordinate_frame.value:
        return "suppression in the frame of the window"
    if max(anchors * classes, anchors << 12) >= 1 << 32 or anchors * classes >= 1 << 31 or classes > 1 << 12:
        return f"{anchors} anchors of {classes} classes"
    if device.generation < OLDEST or device.shared < ends.SHARED + 4 * classes:
        return f"a GPU of {device.architecture}"
    return ""


def compiled(model: SsdModel, gpu: Gpu) -> bytes:
    """The kernels for a graph and a GPU.

    Raises
    ------
    EngineError: they do not do it.
    MissingExtra: nothing compiles them here.
    """
    why = why_not(model, gpu)
    if why:
        raise EngineError(f"the kernels do not know {why}")
    architecture = gpu.device().architecture
    code = compiler.compile_kernels(ends.suppression_kernels(model, "wide scores"), architecture)
    return compiler.dump_code({"architecture": architecture, "kernels": compiler.digest()}, code, b"")


def for_build(model: SsdModel, device: int = 0) -> bytes:
    """What goes before a plan that is built here: kernels for the GPU of an index, b"" where the host suppresses."""
    try:
        gpu = Gpu(device)
        data = compiled(model, gpu)
        gpu.enter()
        try:
            Kernels(gpu, compiler.load_code(data)[1]).close()  # the driver may be older than the compiler
        finally:
            gpu.leave()
            gpu.release()
    except (EngineError, MissingExtra) as error:
        log.info("suppression stays on the host: %s", error)
        return b""
    return data


def for_plan(model: SsdModel, data: bytes, device: int = 0) -> Kernels | None:
    """The kernels for what `plan_file.pack` made, in the context of this thread, which is that of the GPU of the index;
    None where suppression is the host's.

    A plan that was built for them and hands over no candidates says in the log that it will take longer.
    """
    try:
        gpu, kept = Gpu(device), kernels_of(data)
        wanted = {"architecture": gpu.device().architecture, "kernels": compiler.digest()}
        has, code, _ = compiler.load_code(kept) if kept else ({}, {}, b"")
        return Kernels(gpu, code if has == wanted else compiler.load_code(compiled(model, gpu))[1])
    except (EngineError, MissingExtra) as error:
        facts = unpack(data)[0]
        level = logging.WARNING if facts.kernels and not facts.candidates else logging.INFO
        log.log(level, "suppression stays on the host, which looks at all scores that the plan gives: %s", error)
    return None


class Kernels:
    """Functions on a GPU, in the context that is this thread's."""

    def __init__(self, gpu: Gpu, code: dict[Wanted, Code]) -> None:
        self._gpu = gpu
        self._functions, self._modules = load_functions(gpu, code)

    def put(self, launches: Sequence[Launch], stream: Any) -> None:
        """Into a stream, or what is captured from it."""
        for index, launch in enumerate(launches):
            launch_in(self._gpu, stream, self._functions, launch, overlapping=index > 0)

    def close(self) -> None:
        """Unload them."""
        for module in self._modules:
            self._gpu.driver.cuModuleUnload(module)
        self._modules.clear()


class Suppression:
    """The kernels at work behind a plan: memory for up to `most` pictures at once of one stream.

    predictions: addresses of class_scores and box_encodings.
    """

    def __init__(
        self, device: Device, stream: Any, kernels: Kernels, model: SsdModel, most: int, predictions: tuple[int, int]
    ) -> None:
        self._device, self._stream, self._kernels, self._model = device, stream, kernels, model
        self._predictions, self._kind = predictions, ends.kind_of(model)
        self._room = ends.room_of(model)
        self._layout = staging.Layout(most, model.num_classes.value)
        self._written: tuple[NmsParameters, list[Pair]] | None = None  # what the head on the GPU is known to say
        anchors = ends.centred(model.anchors.value)
        sizes = {
            "head": self._layout.pictures,
            "anchors": anchors.nbytes,
            "counts": 4 * most,
            "histograms": 4 * most * ends.BINS,
            "lists": 8 * most * ends.CAPACITY,
            "found": 4 * most * ends.found_size(self._room),
        }
        starts = np.cumsum([0, *(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes.values())]).tolist()
        with ExitStack() as undo:  # if there is no room for all of it
            self._memory = device.allocate(starts[-1])
            undo.callback(device.free, self._memory)
            self._places = {name: self._memory + start for name, start in zip(sizes, starts, strict=False)}
            self._head = device.pinned((starts[2],), np.dtype(np.uint8))
            undo.callback(device.unpin, self._head)
            self._found = device.pinned((most, ends.found_size(self._room)), np.dtype(np.float32))
            undo.callback(device.unpin, self._found)
            self._head[starts[1] :][: anchors.nbytes] = anchors.reshape(-1).view(np.uint8)
            self._windows = self._head[self._layout.windows : self._layout.pictures].view(np.float32).reshape(-1, 4)
            self._windows[:] = 0, 0, 1, 1
            device.to_device(self._memory, self._head, stream)
            self._counters = starts[4] - starts[2]
            self.clear()
            device.synchronize(stream)
            undo.pop_all()

    def clear(self) -> None:
        """Counters of candidates, in stream order. `tail` leaves them so, if it is not missing behind a `collect`."""
        self._device.clear(self._places["counts"], self._counters, self._stream)

    def decides(self, parameters: NmsParameters) -> bool:
        """Whether this suppression is done here; else it is the host's."""
        return ends.decides(self._kind, self._room, parameters)

    def prepare(self, parameters: NmsParameters, sizes: list[Pair]) -> None:
        """Thresholds, caps and what boxes are clipped to for pictures of (height, width), in stream order. What is on
        the GPU already, from the call before, is not sent again."""
        plain = isinstance(parameters.score_threshold, (int, float))  # an array may have been changed since
        if plain and (parameters, sizes) == self._written:
            return
        self._written = None
        staging.write_parameters(self._head, self._layout, self._model, parameters)
        self._windows[: len(sizes)] = [clip_window(self._model, *size) for size in sizes]
        self._device.to_device(self._memory, self._head[: self._layout.pictures], self._stream)
        self._written = (parameters, sizes) if plain else None

    def put(self, batch: int) -> None:
        """Behind the network's last kernel: from its predictions of a batch to detections on the host."""
        scores, encodings = self._predictions
        heads = ends.Heads("wide scores", 0, encodings, 0, 4 * len(self._model.anchors.value), 0, 4)
        places, mapped = dict(self._places), batch <= ends.MAPPED
        head = places.pop("head")
        places |= {name: head + getattr(self._layout, name) for name in ("options", "thresholds", "windows")}
        places |= {"scores": scores, "found": self._found.ctypes.data if mapped else places["found"]}
        self._kernels.put(ends.suppression(self._model, batch, heads, places, self._room), self._stream)
        if not mapped:
            self._device.to_host(self._found[:batch], places["found"], self._stream)

    def read(self, count: int) -> list[Found | None]:
        """Of the first pictures of the batch, once they are there; None for what only the host can decide."""
        found = (ends.read_found(row, self._room) for row in self._found[:count])
        return [(boxes, scores, classes) if complete else None for boxes, scores, classes, complete in found]

    def close(self) -> None:
        """Free the memory."""
        self._device.unpin(self._head)
        self._device.unpin(self._found)
        self._device.free(self._memory)
