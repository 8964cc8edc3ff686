"""A plan at work: lanes, each with its own execution context, stream, buffers and captured graphs."""

from __future__ import annotations

import hashlib
import math
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines import resident
from ssdrt.engines.base import Found, Submitted
from ssdrt.engines.lanes import Lanes, Started
from ssdrt.engines.tensorrt.driver import Device
from ssdrt.engines.tensorrt.library import Library, find_library
from ssdrt.engines.tensorrt.plan_file import Facts, check_plan, unpack
from ssdrt.engines.tensorrt.suppression import Kernels, Suppression, for_plan
from ssdrt.errors import EngineError
from ssdrt.model import Floats, Pair, SsdModel
from ssdrt.postprocess import NmsParameters, decode_boxes, non_max_suppression, suppress_candidates
from ssdrt.preprocess import clip_window, to_network

Pictures = Sequence[NDArray[np.uint8]]

CANDIDATES = ("candidate_boxes", "candidate_scores", "candidate_indices")
SCORES = ("box_encodings", "class_scores")
ALIGNMENT = 256
"""Bytes; TensorRT asks for outputs at such addresses."""
MOST_MAPPED = 1 << 16
"""Bytes of candidates that the GPU writes to the host's memory itself; a copy after the plan takes 4 to 7 us of one
picture (H200). Of more at once the copy is a small part, and how long scattered writes take was not measured."""


def load_engine(model: SsdModel, data: bytes, streams: int, device: int = 0) -> TensorrtEngine:
    """An engine of a plan that `builder.build_plan` made, on the GPU of an index.

    Raises
    ------
    EngineError: the plan is not for this model, this library or this GPU, is damaged, or does not fit into the memory.
    """
    facts, plan = unpack(data)
    library = find_library()
    check_facts(facts, plan, model, library)
    with ExitStack() as undo:
        gpu = Device(device)
        undo.callback(gpu.close)
        kernels = for_plan(model, data, device)
        undo.pop_all()
    return TensorrtEngine(library, gpu, model, facts, plan, streams, kernels)


def check_facts(facts: Facts, plan: bytes, model: SsdModel, library: Library) -> None:
    """Whether plan, model and library belong together.

    Raises
    ------
    EngineError: they do not; the message says which do not.
    """
    check_plan(plan, library.family, library.version, portable=facts.options.get("portable") == "True")
    if facts.anchors != hashlib.sha256(model.anchors.value.tobytes()).hexdigest():
        raise EngineError("this plan belongs to another model: its anchors are others; build this model again")


@dataclass(frozen=True)
class _Port:
    """An input or output: shape of one picture's part, dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def size(self, batch: int) -> int:
        """Bytes of a batch."""
        return batch * math.prod(self.shape) * self.dtype.itemsize


class TensorrtEngine:
    """A `DetectingEngine`. kernels: what suppresses on the GPU, None where the host does. pictures, shortages: how many
    it detected in, and for how many of them the host looked at all scores."""

    def __init__(
        self,
        library: Library,
        device: Device,
        model: SsdModel,
        facts: Facts,
        plan: bytes,
        streams: int,
        kernels: Kernels | None = None,
    ) -> None:
        self.pictures = self.shortages = 0
        self._model, self._facts, self._device, self._kernels = model, facts, device, kernels
        self._count = threading.Lock()
        self._all: list[_Lane] = []
        with ExitStack() as undo:  # if there is no room for all of it
            undo.callback(device.close)
            if kernels is not None:
                undo.callback(kernels.close)
            self._deserialize(library, plan)
            self._ports = _ports(library, self._engine)
            for _ in range(streams):
                self._all.append(_Lane(library, device, self._engine, self._ports, facts.batch))
                undo.callback(self._all[-1].close)
                if kernels is not None:
                    self._all[-1].suppress_by(kernels, model)
            undo.pop_all()
        device.leave()
        self._lanes = Lanes(self._all, self._using)

    def _deserialize(self, library: Library, plan: bytes) -> None:
        facts = self._facts
        self._runtime = library.api.Runtime(library.logger)
        if facts.options.get("portable") == "True" and hasattr(self._runtime, "engine_host_code_allowed"):
            self._runtime.engine_host_code_allowed = True  # the lean runtime that travels inside a portable plan
        library.messages.take()
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            told = library.messages.take()
            way = (
                "the GPU's memory is full: end other programs on it, or build for fewer pictures at once"
                if re.search("out ?of ?memory", told, re.IGNORECASE)
                else f"it was built for {facts.gpu or 'RTX'}, this is {self._device.name}: build the model again here"
            )
            raise EngineError(f"TensorRT does not load this plan ({told}); {way}")

    @property
    def engine(self) -> Any:
        """TensorRT's own ICudaEngine."""
        return self._engine

    @property
    def suppresses(self) -> bool:
        """Whether the GPU does the graph's suppression."""
        return self._kernels is not None

    def infer(self, pixels: Floats) -> tuple[Floats, Floats]:
        """Box encodings (b, n, 4) and class scores (b, n, classes), see `engines.base.Engine`.

        pixels may also lie on the GPU, as `detect_on_gpu` takes them.
        """
        with self._lanes.one() as lane:
            there = lane.find(pixels) if resident.is_resident(pixels) else None
            count = there.size[0] if there else len(pixels)
            boxes, scores = (np.empty((count, *self._ports[name].shape), np.float32) for name in SCORES)
            for start in range(0, count, lane.most):
                part = slice(start, min(start + lane.most, count))
                lane.prepare(None, [])
                if there:
                    lane.take_from_gpu(there, part)
                else:
                    lane.take(pixels[part])
                boxes[part], scores[part] = lane.fetch(SCORES)
        return boxes, scores

    def detect(self, images_rgb: Pictures, parameters: NmsParameters) -> list[Found]:
        """See `engines.base.DetectingEngine`."""
        found: list[Found] = []
        with self._lanes.one() as lane:
            for start in range(0, len(images_rgb), lane.most):
                part = images_rgb[start : start + lane.most]
                self._begin(lane, part, parameters)
                found += self._suppressed(lane, part, parameters)
        return found

    def submit(self, images_rgb: Pictures, parameters: NmsParameters) -> Submitted[list[Found]]:
        """See `engines.base.SubmittingEngine`."""
        most = self._facts.batch[2]
        parts = [images_rgb[start : start + most] for start in range(0, len(images_rgb), most)]
        started = [self._start(part, parameters) for part in parts]
        return Submitted(lambda: [found for one in started for found in one.result()])

    def _start(self, part: Pictures, parameters: NmsParameters) -> Started[list[Found]]:
        return self._lanes.start(
            lambda lane: self._begin(lane, part, parameters), lambda lane: self._suppressed(lane, part, parameters)
        )

    def _begin(self, lane: _Lane, part: Pictures, parameters: NmsParameters) -> None:
        lane.prepare(parameters, [(image.shape[0], image.shape[1]) for image in part])
        lane.take(map(self._pixels, part))

    def _pixels(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """What the network takes; a picture of its size as it is, which spares a copy."""
        resizer = self._model.preprocessing.resizer.value
        if resizer.kind == "fixed_shape" and image.shape[:2] == self._model.input_size:
            return image
        return to_network(image, resizer)

    def detect_on_gpu(self, pixels: Any, parameters: NmsParameters) -> list[Found]:
        """`detect` for pictures that lie on the GPU already, in the network's size.

        Parameters
        ----------
        pixels: (b, height, width, 3) of the plan's dtype, C order, RGB 0..255, of a library that shows them by DLPack
            or `__cuda_array_interface__` (PyTorch, CuPy, JAX, Numba); or a DLPack capsule, which is not used up.

        Raises
        ------
        EngineError: pixels are something else, or on another GPU.
        """
        found: list[Found] = []
        with self._lanes.one() as lane:
            there = lane.find(pixels)
            size = (*there.size, 3)
            for start in range(0, size[0], lane.most):
                part = range(start, min(start + lane.most, size[0]))
                whole = [np.broadcast_to(np.uint8(0), size[1:])] * len(part)  # only its size matters
                lane.prepare(parameters, [(size[1], size[2])] * len(part))
                lane.take_from_gpu(there, slice(part.start, part.stop))
                found += self._suppressed(lane, whole, parameters)
        return found

    def _suppressed(self, lane: _Lane, images: Pictures, parameters: NmsParameters) -> list[Found]:
        """What the lane has found in these pictures, or NMS on what it has computed for them."""
        results: list[Found | None] = [None] * len(images)
        if lane.suppresses:
            results = lane.found()
        elif self._facts.candidates:
            everything = len(self._model.anchors.value) * self._model.num_classes.value
            boxes, scores, pairs = lane.fetch(CANDIDATES)
            for index, image in enumerate(images):
                results[index] = suppress_candidates(
                    boxes[index], scores[index], pairs[index],
                    self._model.num_classes.value, everything, parameters, clip_window(self._model, *image.shape[:2]),
                )  # fmt: skip
        short = [index for index, result in enumerate(results) if result is None]
        if short:
            encodings, scores = lane.fetch(SCORES)
            anchors, scales = self._model.anchors.value, self._model.box_coder.scales.value
            for index in short:
                decoded = decode_boxes(encodings[index], anchors, scales)
                window = clip_window(self._model, *images[index].shape[:2])
                results[index] = non_max_suppression(decoded, scores[index], parameters, window)
        with self._count:
            self.pictures += len(images)
            self.shortages += len(short)
        return [result for result in results if result is not None]

    @contextmanager
    def _using(self, lane: _Lane) -> Iterator[None]:
        """This thread works with a lane; nothing of a call that was broken off reaches the next one."""
        self._device.use()
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                lane.settle()
            self._device.leave()

    def close(self) -> None:
        """Free the plan and the context once every call that has a lane is over; those that wait for one fail."""
        if not self._lanes.close():
            return
        self._device.use()
        for lane in self._all:
            lane.close()
        self._all.clear()
        if self._kernels is not None:
            self._kernels.close()
        self._engine = self._runtime = None
        self._device.close()


def _ports(library: Library, engine: Any) -> dict[str, _Port]:
    """The tensors of a plan."""
    ports = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype = np.dtype(library.api.nptype(engine.get_tensor_dtype(name)))
        ports[name] = _Port(tuple(engine.get_tensor_shape(name))[1:], dtype)
    return ports


class _Block:
    """The candidates of a batch one after the other, so that a single copy brings them to the host."""

    def __init__(self, ports: dict[str, _Port], batch: int) -> None:
        self.offsets: dict[str, int] = {}
        self.size = 0
        for name in CANDIDATES:
            if name in ports:
                self.offsets[name] = self.size
                self.size += -(-ports[name].size(batch) // ALIGNMENT) * ALIGNMENT
        self._ports, self._batch = ports, batch

    def arrays(self, memory: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """Views of the outputs in a copy of the block."""
        found = []
        for name, offset in self.offsets.items():
            port = self._ports[name]
            part = memory[offset : offset + port.size(self._batch)]
            found.append(part.view(port.dtype).reshape(self._batch, *port.shape))
        return found


@dataclass(frozen=True)
class _Work:
    """What a batch size needs. copied: bytes of candidates to copy to the host, 0 where the GPU writes them there.
    found: their arrays. graphs: with and without the copy of the pictures; with and without suppression."""

    batch: int
    context: Any
    copied: int
    found: list[NDArray[Any]]
    graphs: dict[tuple[bool, bool], Any]


class _Lane:
    """One stream with its buffers. Batches are rounded up to a power of two, each with a context and graphs of its own:
    a graph holds on to what its context was when it was captured."""

    def __init__(
        self, library: Library, device: Device, engine: Any, ports: dict[str, _Port], batch: tuple[int, int, int]
    ) -> None:
        self._library, self._device, self._engine, self._ports = library, device, engine, ports
        self._least, _, self.most = batch
        self._kind = ports["image"].dtype.name  # which numpy makes anew each time
        self._block_size = _Block(ports, self.most).size
        self._on_device: dict[str, int] = {}
        with ExitStack() as undo:  # if there is no room for all of it
            self._stream = device.stream()
            undo.callback(device.destroy_stream, self._stream)
            for name, port in ports.items():
                if name not in CANDIDATES:
                    self._on_device[name] = device.allocate(-(-port.size(self.most) // ALIGNMENT) * ALIGNMENT)
                    undo.callback(device.free, self._on_device[name])
            self._block = device.allocate(self._block_size)
            undo.pop_all()
        self._on_host: dict[str, NDArray[Any]] = {}
        self._work: dict[int, _Work] = {}
        self._size = 0  # pictures of the last batch
        self._last: _Work | None = None
        self._suppression: Suppression | None = None
        self.suppresses = False
        """Whether the next batch goes on to detections."""

    def suppress_by(self, kernels: Kernels, model: SsdModel) -> None:
        """Have detections made behind the plan, where the kernels can."""
        encodings, scores = (self._on_device[name] for name in SCORES)
        self._suppression = Suppression(self._device, self._stream, kernels, model, self.most, (scores, encodings))

    def prepare(self, parameters: NmsParameters | None, sizes: list[Pair]) -> None:
        """What is wanted of the next batch, pictures of (height, width): detections, made here if they can be; or, with
        no parameters, predictions alone."""
        self.suppresses = False
        if parameters is not None and self._suppression is not None and self._suppression.decides(parameters):
            self._suppression.prepare(parameters, sizes)
            self.suppresses = True

    def take(self, pictures: Iterable[NDArray[Any]]) -> None:
        """Start the network on pictures (height, width, 3) from this machine's memory; rounded for a uint8 plan.

        Pictures in page-locked memory, of the plan's dtype and in C order, go to the GPU from where they are.
        """
        pictures = list(pictures)
        self._size = len(pictures)
        port = self._ports["image"]
        fits = all((one.shape, one.dtype, one.flags.c_contiguous) == (port.shape, port.dtype, True) for one in pictures)
        if fits and all(map(self._device.is_pinned, pictures)):
            for index, picture in enumerate(pictures):
                self._device.to_device(self._on_device["image"] + port.size(index), picture, self._stream)
            self._start(from_host=False)
            return
        target = self._host("image")
        for index, picture in enumerate(pictures):
            if target.dtype == np.uint8 != picture.dtype:
                np.rint(picture, out=target[index], casting="unsafe")
            else:
                target[index] = picture
        self._start(from_host=True)

    def find(self, pixels: Any) -> resident.Pictures:
        """Where on the GPU another library's pictures lie, once this stream may read them."""
        port = self._ports["image"]
        there = resident.pictures_of(pixels, int(self._stream), self._device.index, self._device.driver, self._kind)
        if (*there.size[1:], 3) != port.shape:
            raise EngineError(
                f"pictures on the GPU must be (b, {', '.join(map(str, port.shape))}) for this plan, not "
                f"{(*there.size, 3)}"
            )
        if there.written_in:
            self._device.synchronize(there.written_in)
        return there

    def take_from_gpu(self, there: resident.Pictures, part: slice) -> None:
        """Start the network on pictures that lie on the GPU."""
        self._size = part.stop - part.start
        port = self._ports["image"]
        source = there.address + port.size(part.start)
        self._device.on_device(self._on_device["image"], source, port.size(self._size), self._stream)
        self._start(from_host=False)

    def _start(self, from_host: bool) -> None:
        batch = max(self._least, min(1 << (self._size - 1).bit_length(), self.most))
        work = self._last = self._work.get(batch) or self._prepared(batch)
        kind = (from_host, self.suppresses)
        graph = work.graphs.get(kind)
        if graph is None:
            self._put(work, from_host)  # the first run of a context sets up what a capture may not
            self._device.synchronize(self._stream)
            graph = self._device.capture(self._stream, lambda: self._put(work, from_host))
            work.graphs[kind] = graph
        self._device.launch(graph, self._stream)

    def _put(self, work: _Work, from_host: bool) -> None:
        """Copies and network into the stream."""
        if from_host:
            self._device.to_device(self._on_device["image"], self._host("image")[: work.batch], self._stream)
        if not work.context.execute_async_v3(int(self._stream)):
            raise EngineError(f"TensorRT does not run: {self._library.messages.take()}")
        if self._suppression is not None and self.suppresses:
            self._suppression.put(work.batch)
        elif work.copied:
            self._device.to_host(self._candidates()[: work.copied], self._block, self._stream)

    def _prepared(self, batch: int) -> _Work:
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(f"no room for a batch of {batch}: {self._library.messages.take()}; take a smaller one")
        block, host = _Block(self._ports, batch), self._candidates()
        mapped = block.size <= MOST_MAPPED
        start = host.ctypes.data if mapped else self._block
        places = self._on_device | {name: start + offset for name, offset in block.offsets.items()}
        for name, address in places.items():
            context.set_tensor_address(name, address)
        context.set_input_shape("image", (batch, *self._ports["image"].shape))
        self._work[batch] = _Work(batch, context, 0 if mapped else block.size, block.arrays(host), {})
        return self._work[batch]

    def _candidates(self) -> NDArray[np.uint8]:
        """The block's copy on the host."""
        if "candidates" not in self._on_host:
            self._on_host["candidates"] = self._device.pinned((self._block_size,), np.dtype(np.uint8))
        return self._on_host["candidates"]

    def _host(self, name: str) -> NDArray[Any]:
        if name not in self._on_host:
            port = self._ports[name]
            self._on_host[name] = self._device.pinned((self.most, *port.shape), port.dtype)
        return self._on_host[name]

    def fetch(self, names: tuple[str, ...]) -> list[NDArray[Any]]:
        """Outputs of the last batch, once they are there; views that the next batch overwrites."""
        if names == CANDIDATES and self._last is not None:  # those come by themselves
            self._device.synchronize(self._stream)
            return [array[: self._size] for array in self._last.found]
        for name in names:
            self._device.to_host(self._host(name)[: self._size], self._on_device[name], self._stream)
        self._device.synchronize(self._stream)
        return [self._host(name)[: self._size] for name in names]

    def found(self) -> list[Found | None]:
        """Detections of the last batch, once they are there; None for what only the host can decide."""
        assert self._suppression is not None
        self._device.synchronize(self._stream)
        return self._suppression.read(self._size)

    def settle(self) -> None:
        """Until the GPU has no more to do with what was broken off: pictures of others may be on their way to it."""
        with suppress(EngineError):  # of a GPU that is lost, the next call tells
            if self._suppression is not None:
                self._suppression.clear()
            self._device.synchronize(self._stream)

    def close(self) -> None:
        """Free everything."""
        self._device.synchronize(self._stream)
        if self._suppression is not None:
            self._suppression.close()
            self._suppression = None
        for work in self._work.values():
            for graph in work.graphs.values():
                self._device.destroy_graph(graph)
        self._last = None
        self._work.clear()
        for array in self._on_host.values():
            self._device.unpin(array)
        for address in (*self._on_device.values(), self._block):
            self._device.free(address)
        self._device.destroy_stream(self._stream)
