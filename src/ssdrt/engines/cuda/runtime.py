"""`CudaEngine`: a plan and its machine code on a GPU. One lane a stream; a lane replays one graph a batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines import resident
from ssdrt.engines.base import Found, Submitted
from ssdrt.engines.cuda import ends, staging
from ssdrt.engines.cuda.bytes_in import front_in
from ssdrt.engines.cuda.driver import DeviceMemory, Gpu, PinnedMemory, Stream, load_functions
from ssdrt.engines.cuda.launch import Builder, Constants, Launch, Memory, slot_offsets
from ssdrt.engines.cuda.makers import step_launches
from ssdrt.engines.cuda.plan import Plan
from ssdrt.engines.cuda.tactics import Tactic
from ssdrt.engines.gpu import checked
from ssdrt.engines.lanes import Lanes, Started
from ssdrt.errors import EngineError
from ssdrt.model import Floats, Pair, SsdModel
from ssdrt.postprocess import NmsParameters, decode_boxes, non_max_suppression
from ssdrt.preprocess import clip_window, to_network

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""A batch is filled up to the next of these; there is one graph each."""

FETCHED = 1 << 20
"""Bytes up to which a single picture is read by a kernel from the host's memory, instead of being copied first."""

FETCH = 1 << 15
"""Bytes that such a kernel reads are a multiple of this: there is a graph for each number of them."""

BESIDE = 8
"""Pictures up to which predictions are made beside the network; of more, every kernel fills the GPU by itself."""

PATIENCE = 0.5
"""Seconds of polling after which the driver is waited for, which says what is wrong."""


class CudaEngine:
    """Runs a plan. Any number of threads may call it; as many at once as there are lanes, the others wait."""

    def __init__(
        self, gpu: Gpu, model: SsdModel, plan: Plan, tactics: dict[int, list[Tactic]], code: dict[tuple[str, str], Any],
        constants: Constants, lanes: int,
    ) -> None:  # fmt: skip
        self.gpu, self.model, self.plan, self.tactics = gpu, model, plan, tactics
        self.most = ends.room_of(model)
        self.front = front_in({file for file, _ in code})
        self.constants = constants
        self.arena_sizes = {batch: slot_offsets(plan, batch)[1] for batch in BATCHES}
        self._kind = ends.kind_of(model)
        self._resizes = model.preprocessing.resizer.value.method in ("bilinear", "nearest")
        self._all: list[Lane] = []
        with ExitStack() as held:  # given back at once if something of it fails
            held.callback(gpu.release)
            gpu.enter()
            held.callback(gpu.leave)
            self.functions, modules = load_functions(gpu, code)
            for module in modules:
                held.callback(gpu.driver.cuModuleUnload, module)
            self.constant_memory = DeviceMemory(gpu, constants.size)
            held.callback(self.constant_memory.free)
            self.constant_memory.upload(constants.data())
            for _ in range(lanes):
                self._all.append(Lane(self))
                held.callback(self._all[-1].free)
            self._held = held.pop_all()
        gpu.leave()
        self._lanes = Lanes(self._all, self._using)

    def infer(self, pixels: Floats) -> tuple[Floats, Floats]:
        """Box encodings (b, n, 4) and class scores (b, n, classes), see `engines.base.Engine`.

        Raises
        ------
        EngineError: the engine was closed, or the GPU failed.
        """
        with self._lanes.one() as lane:
            return self._predict(lane, pixels)

    def _predict(self, lane: Lane, pixels: Floats) -> tuple[Floats, Floats]:
        count, anchors, classes = len(pixels), self.plan.head.anchors, self.model.num_classes.value
        boxes, scores = np.empty((count, anchors, 4), np.float32), np.empty((count, anchors, classes), np.float32)
        for start in range(0, count, BATCHES[-3]):
            part = slice(start, min(start + BATCHES[-3], count))
            lane.infer(pixels[part], boxes[part], scores[part])
        return boxes, scores

    def detect(self, images_rgb: Sequence[NDArray[np.uint8]], parameters: NmsParameters) -> list[Found]:
        """What is found in each picture, see `engines.base.DetectingEngine`.

        Raises
        ------
        EngineError: the engine was closed, or the GPU failed.
        """
        if images_rgb and not isinstance(images_rgb[0], np.ndarray):
            return self.detect_on_gpu(images_rgb, parameters)
        if not self._on_gpu(parameters):
            return self._completed(images_rgb, [None] * len(images_rgb), parameters, self.infer)
        found: list[Found | None] = []
        with self._lanes.one() as lane:
            for start in range(0, len(images_rgb), BATCHES[-1]):
                found += lane.detect(images_rgb[start : start + BATCHES[-1]], parameters)
        return self._completed(images_rgb, found, parameters, self.infer)

    def submit(self, images_rgb: Sequence[NDArray[np.uint8]], parameters: NmsParameters) -> Submitted[list[Found]]:
        """See `engines.base.SubmittingEngine`. What is left to the host is computed when the call is finished."""
        parts = [images_rgb[start : start + BATCHES[-1]] for start in range(0, len(images_rgb), BATCHES[-1])]
        started = [self._start(part, parameters) for part in parts]
        return Submitted(lambda: [one for part in started for one in part.result()])

    def _start(self, part: Sequence[NDArray[np.uint8]], parameters: NmsParameters) -> Started[list[Found]]:
        on_gpu = self._on_gpu(parameters)

        def begin(lane: Lane) -> None:
            if on_gpu:
                lane.begin(part, parameters)

        def finish(lane: Lane) -> list[Found]:
            found = lane.finish() if on_gpu else [None] * len(part)
            return self._completed(part, found, parameters, partial(self._predict, lane))

        return self._lanes.start(begin, finish)

    def _completed(
        self, images_rgb: Sequence[NDArray[np.uint8]], found: Sequence[Found | None], parameters: NmsParameters,
        infer: Callable[[Floats], tuple[Floats, Floats]],
    ) -> list[Found]:  # fmt: skip
        """With what the GPU could not finish computed by the host."""
        return [
            one if one is not None else self._on_host(image, parameters, infer)
            for image, one in zip(images_rgb, found, strict=True)
        ]

    def detect_on_gpu(self, pixels: Any, parameters: NmsParameters) -> list[Found]:
        """`detect` for pictures that lie on the GPU already; none of them is copied.

        Parameters
        ----------
        pixels: (b, height, width, 3) uint8, C order, RGB, any size, of a library that shows them by DLPack or
            `__cuda_array_interface__` (PyTorch, CuPy, JAX, Numba); or a DLPack capsule, which is not used up. A list of
            such, or of single pictures (height, width, 3), may hold any sizes: all go in one launch.

        Raises
        ------
        EngineError: pixels are something else or on another GPU, the kernels do not know the suppression or the
            resizing, or as `detect`.
        """
        if not self._on_gpu(parameters):
            raise EngineError("this suppression or resizing is not done on the GPU; give `detect` the pictures")
        found: list[Found | None] = []
        with self._lanes.one() as lane:
            driver, stream, table = self.gpu.driver, int(lane.stream.handle), []
            several = pixels if isinstance(pixels, (list, tuple)) else (pixels,)
            held = [resident.pictures_of(one, stream, self.gpu.index, driver) for one in several]
            for written_in in {one.written_in for one in held if one.written_in}:
                checked(driver.cuStreamSynchronize(driver.CUstream(written_in)))
            for pictures in held:
                count, height, width = pictures.size
                table += [(pictures.address + 3 * height * width * index, height, width) for index in range(count)]
            for start in range(0, len(table), BATCHES[-1]):
                found += lane.detect_resident(table[start : start + BATCHES[-1]], parameters)
            lane.stream.wait()  # whoever owns the pictures may write others over them now
            results = []
            for (address, height, width), one in zip(table, found, strict=True):
                if one is None:
                    image = np.empty((height, width, 3), np.uint8)
                    checked(self.gpu.driver.cuMemcpyDtoH(image.ctypes.data, address, image.nbytes))
                results.append(image if one is None else one)
        return [self._on_host(one, parameters, self.infer) if isinstance(one, np.ndarray) else one for one in results]

    def sizes_with_room(self) -> list[int]:
        """The batches that would take no more than half of the GPU's free memory."""
        with self._lanes.one():
            free, _ = checked(self.gpu.driver.cuMemGetInfo())
        height, width = self.model.input_size
        each = 4 * height * width + rest_sizes(self, 1)[-1]
        return [batch for batch, size in self.arena_sizes.items() if 2 * (size + batch * each) <= free]

    def close(self) -> None:
        """Free the GPU once every call that has a lane is over; those that wait for one fail."""
        if not self._lanes.close():
            return
        with suppress(EngineError):  # a lost GPU frees everything by itself
            self.gpu.enter()
            self._held.close()

    @contextmanager
    def _using(self, lane: Lane) -> Iterator[None]:
        """This thread works with a lane; nothing of a call that was broken off reaches the next one."""
        self.gpu.enter()
        done = False
        try:
            yield
            done = True
        finally:
            if not done:
                lane.stream.settle()
            self.gpu.leave()

    def _on_gpu(self, parameters: NmsParameters) -> bool:
        """Whether the kernels know this NMS and this resizer; what they do not know, the host computes."""
        return ends.decides(self._kind, self.most, parameters) and self._resizes

    def _on_host(
        self, image: NDArray[np.uint8], parameters: NmsParameters, infer: Callable[[Floats], tuple[Floats, Floats]]
    ) -> Found:
        encodings, scores = infer(to_network(image, self.model.preprocessing.resizer.value)[None])
        boxes = decode_boxes(encodings[0], self.model.anchors.value, self.model.box_coder.scales.value)
        return non_max_suppression(boxes, scores[0], parameters, clip_window(self.model, *image.shape[:2]))


class Lane:
    """A stream with its memory and graphs: one call at a time."""

    def __init__(self, engine: CudaEngine) -> None:
        self._engine, self._gpu = engine, engine.gpu
        self.stream = Stream(engine.gpu)
        self._graphs: dict[tuple[str, int], Any] = {}
        self._arena: DeviceMemory | None = None
        self._host: PinnedMemory | None = None
        self._device: DeviceMemory | None = None
        self._rest: dict[int, Rest] = {}
        self._parameters: NmsParameters | None = None  # that stand in the staging memory
        self._pictures: tuple[Any, ...] = ()  # address and sizes of the table that does
        self._running: tuple[Rest, int, int] | None = None  # of how large a batch, and how many pictures

    def detect(self, images: Sequence[NDArray[np.uint8]], parameters: NmsParameters) -> list[Found | None]:
        """Detections of a batch; None where the GPU could not finish."""
        self.begin(images, parameters)
        return self.finish()

    def begin(self, images: Sequence[NDArray[np.uint8]], parameters: NmsParameters) -> None:
        """Start a batch, of which everything is in the staging memory afterwards; `finish` waits for it."""
        engine, batch = self._engine, filled_up(len(images))
        layout = staging.Layout(batch, engine.model.num_classes.value)
        size = layout.pixels + sum(staging.aligned(image.size) for image in images)
        self._reserve(batch, size)
        assert self._host is not None
        assert self._device is not None
        array, sizes = self._host.array, [(image.shape[0], image.shape[1]) for image in images]
        self._write_head(layout, sizes, self._device.address + layout.pixels, parameters)
        at = layout.pixels
        for image in images:
            np.copyto(array[at : at + image.size].reshape(image.shape), image)
            at += staging.aligned(image.size)
        fetched = batch == 1 and size <= FETCHED
        source = self._kind(sizes)
        if not fetched:
            self.stream.copy(self._device.address, self._host.address, size)
        if fetched:
            source = f"{source} {-(-size // FETCH)}"
        self._launch(source, batch, len(images))

    def _write_head(self, layout: staging.Layout, sizes: list[Pair], first: int, parameters: NmsParameters) -> None:
        """What stands in the head of the staging memory already, from the call before, is not written again."""
        assert self._host is not None
        array, model = self._host.array, self._engine.model
        plain = isinstance(parameters.score_threshold, (int, float))  # an array may have been changed since
        if not plain or parameters != self._parameters:
            self._parameters = None
            staging.write_parameters(array, layout, model, parameters)
            self._parameters = parameters if plain else None
        pictures = (first, *sizes)
        if pictures != self._pictures:
            self._pictures = ()
            staging.write_pictures(array, layout, model, sizes, first)
            self._pictures = pictures

    def _kind(self, sizes: Sequence[Pair]) -> str:
        """Whether pictures of these sizes can be read as they are, or go through the resizer."""
        engine = self._engine
        own_size = all(size == engine.model.input_size for size in sizes)
        return "bytes" if engine.front is not None and own_size else "pictures"

    def detect_resident(
        self, pictures: Sequence[tuple[int, int, int]], parameters: NmsParameters
    ) -> list[Found | None]:
        """Detections of pictures that are on the GPU already: (address, height, width) each, bytes in C order."""
        source = self.prepare_resident(pictures, parameters)
        self._launch(source, filled_up(len(pictures)), len(pictures))
        return self.finish()

    def prepare_resident(self, pictures: Sequence[tuple[int, int, int]], parameters: NmsParameters) -> str:
        """The head of the staging memory for pictures on the GPU; the kind of input that a graph of them has."""
        engine, batch = self._engine, filled_up(len(pictures))
        layout = staging.Layout(batch, engine.model.num_classes.value)
        self._reserve(batch, layout.pixels)
        assert self._host is not None
        assert self._device is not None
        sizes = [(height, width) for _, height, width in pictures]
        self._write_head(layout, sizes, 0, parameters)
        table = (ends.PictureStruct * batch).from_address(self._host.address + layout.pictures)
        for index in range(batch):
            table[index].pixels = pictures[min(index, len(pictures) - 1)][0]
        self.stream.copy(self._device.address, self._host.address, layout.pixels)
        self.stream.wait()
        aligned = all(address % 4 == 0 for address, _, _ in pictures)
        return self._kind(sizes) if aligned else "pictures"

    def replay(self, source: str, batch: int) -> None:
        """Start a graph; its input must have been prepared."""
        self.stream.replay(self.graph(source, batch))

    def infer(self, pixels: Floats, boxes: Floats, scores: Floats) -> None:
        """Raw predictions of a batch."""
        batch = filled_up(len(pixels))
        layout = staging.Layout(batch, self._engine.model.num_classes.value)
        each = 4 * int(np.prod(pixels.shape[1:]))
        self._reserve(batch, layout.pixels + batch * each)
        self._pictures = ()  # pixels begin where a table of more pictures is
        assert self._host is not None
        assert self._device is not None
        start, end = layout.pixels, layout.pixels + len(pixels) * each
        np.copyto(self._host.array[start:end].view(np.float32).reshape(pixels.shape), pixels)
        self.stream.copy(self._device.address + start, self._host.address + start, end - start)
        self.replay("floats", batch)
        rest = self._rest[batch]
        self.stream.wait()
        driver = self._gpu.driver
        checked(driver.cuMemcpyDtoH(boxes.ctypes.data, rest.boxes, boxes.nbytes))
        checked(driver.cuMemcpyDtoH(scores.ctypes.data, rest.scores, scores.nbytes))

    def _launch(self, source: str, batch: int, count: int) -> None:
        rest = self._rest_of(batch)
        if batch <= ends.MAPPED:
            rest.flags[:] = -1
        self.replay(source, batch)
        self._running = rest, batch, count

    def finish(self) -> list[Found | None]:
        """Detections of the batch that was started last; None where the GPU could not finish."""
        assert self._running is not None
        rest, batch, count = self._running
        if batch <= ends.MAPPED:
            self._poll(rest.flags)  # of what fills the batch up, too, or the next call may take it for its own
        else:
            self.stream.wait()
        results: list[Found | None] = []
        for row in rest.numbers[:count]:
            boxes, scores, classes, complete = ends.read_found(row, self._engine.most)
            results.append((boxes, scores, classes) if complete else None)
        return results

    def _poll(self, flags: Floats) -> None:
        """Until the GPU has written every flag."""
        patience = time.monotonic() + PATIENCE
        last = len(flags) - 1
        while flags[last] < 0 or (last and flags.min() < 0):
            if time.monotonic() > patience:
                self.stream.wait()  # raises what is wrong
                if flags.min() < 0:
                    raise EngineError("the GPU finished without writing its detections; this is a bug of ssdrt")

    # memory and graphs

    def _reserve(self, batch: int, size: int) -> None:
        """Memory for a batch and for `size` bytes of staging; growing forgets the graphs, which hold addresses."""
        needed = self._engine.arena_sizes[batch]
        arena_grows = self._arena is None or self._arena.size < needed
        staging_grows = self._host is None or self._host.size < size
        if arena_grows or staging_grows:
            self.stream.wait()
            self._forget_graphs()
        if arena_grows:
            if self._arena is not None:
                self._arena.free()
            self._arena = None  # if there is no room for more, the next call must not take it
            self._arena = DeviceMemory(self._gpu, needed)
        if staging_grows:
            for memory in (self._host, self._device):
                if memory is not None:
                    memory.free()
            self._host = self._device = self._parameters = None
            self._pictures = ()
            room = staging.aligned(max(size * 5 // 4, FETCHED))
            with ExitStack() as undo:  # if there is no room for the second
                device = DeviceMemory(self._gpu, room)
                undo.callback(device.free)
                self._host, self._device = PinnedMemory(self._gpu, room), device
                undo.pop_all()

    def _rest_of(self, batch: int) -> Rest:
        if batch not in self._rest:
            self._rest[batch] = Rest(self._engine, batch)
        return self._rest[batch]

    def builder(self, batch: int) -> Builder:
        """What makes launches for this lane's memory."""
        engine, arena = self._engine, self._arena
        assert arena is not None
        offsets, _ = slot_offsets(engine.plan, batch)
        memory = Memory(tuple(arena.address + offset for offset in offsets), engine.constant_memory.address)
        return Builder(engine.plan, batch, memory, engine.constants)

    def launches(self, source: str, batch: int) -> list[Launch]:
        """Everything that a graph runs, in order; the memory of the batch must have been reserved."""
        engine, rest = self._engine, self._rest_of(batch)
        assert self._host is not None
        assert self._device is not None
        build, layout, start = (
            self.builder(batch),
            staging.Layout(batch, engine.model.num_classes.value),
            self._device.address,
        )
        if source == "floats":
            first = ends.image(build, engine.model, "floats", start + layout.pixels)
            network = self._network(build, batch)
            return [first, *network, joining(ends.scores(build, engine.model, rest.scores, rest.boxes))]
        places = {name: start + getattr(layout, name) for name in ("options", "thresholds", "windows")}
        places |= {"scores": rest.scores, "found": rest.found_at}
        places |= {"lists": rest.lists, "counts": rest.counts, "histograms": rest.histograms}
        kind, *pieces = source.split()
        before = [ends.fetch(self._host.address, start, int(one) * FETCH // 16) for one in pieces]
        if kind == "bytes" and engine.front is not None:
            first = engine.front.launch(build, engine.model, start + layout.pictures)
            network = self._network(build, batch, engine.front.steps(engine.plan))
        else:
            first = ends.image(build, engine.model, "pictures", start + layout.pictures)
            network = self._network(build, batch)
        last, *others = ends.tail(build, engine.model, places, engine.most)
        return [*before, first, *network, joining(last), *others]

    def _network(self, build: Builder, batch: int, first: int = 0) -> list[Launch]:
        """The plan's steps from `first` on. Of small batches, predictions go aside: no step waits for them."""
        plan, found = self._engine.plan, []
        predictions = (plan.head.logits_buffer, plan.head.boxes_buffer) if batch <= BESIDE else ()
        for index, tactic in enumerate(self._engine.tactics[batch][first:], first):
            aside = plan.steps[index].target.buffer in predictions and index + 1 < len(plan.steps)
            launches = step_launches(build, index, tactic)
            found += [replace(launch, branch="aside") for launch in launches] if aside else launches
        return found

    def graph(self, source: str, batch: int) -> Any:
        """The graph from a kind of input to detections, or, of floats, to scores; recorded when first needed."""
        if (source, batch) not in self._graphs:
            launches = self.launches(source, batch)
            rest = self._rest_of(batch)

            def fill() -> None:
                self.stream.launch_all(self._engine.functions, launches)
                if source != "floats" and rest.found_at != rest.found.address:
                    self.stream.copy(rest.found.address, rest.found_at, rest.found.size)

            self._graphs[source, batch] = self.stream.record(fill)
        return self._graphs[source, batch]

    def _forget_graphs(self) -> None:
        for graph in self._graphs.values():
            self._gpu.driver.cuGraphExecDestroy(graph)
        self._graphs.clear()

    def free(self) -> None:
        """Everything."""
        self.stream.settle()
        self._forget_graphs()
        for rest in self._rest.values():
            rest.free()
        for memory in (self._arena, self._host, self._device):
            if memory is not None:
                memory.free()
        self.stream.destroy()


class Rest:
    """Memory behind the network for one batch size: scores, box codes, candidate lists, detections."""

    def __init__(self, engine: CudaEngine, batch: int) -> None:
        starts = rest_sizes(engine, batch)
        with ExitStack() as undo:  # if there is no room for the second
            self._memory = DeviceMemory(engine.gpu, starts[-1])
            undo.callback(self._memory.free)
            self._memory.fill(0)  # the counters of candidates; `tail` leaves them so
            self.found = PinnedMemory(engine.gpu, 4 * batch * ends.found_size(engine.most))
            undo.pop_all()
        addresses = [self._memory.address + at for at in starts]
        self.scores, self.boxes, self.lists, self.counts, self.histograms, on_gpu, _ = addresses
        self.numbers = self.found.array.view(np.float32).reshape(batch, -1)
        self.flags = self.numbers[:, -1]
        self.found_at = self.found.address if batch <= ends.MAPPED else on_gpu

    def free(self) -> None:
        """Give it back."""
        self._memory.free()
        self.found.free()


def rest_sizes(engine: CudaEngine, batch: int) -> list[int]:
    """Where each part of a `Rest` starts, and the bytes of all."""
    anchors, classes = engine.plan.head.anchors, engine.model.num_classes.value
    sizes = (
        4 * batch * anchors * classes,
        16 * batch * anchors,
        *(batch * size for size in (8 * ends.CAPACITY, 4, 4 * ends.BINS)),
        4 * batch * ends.found_size(engine.most),
    )
    starts: list[int] = np.cumsum([0, *(-(-size // 256) * 256 for size in sizes)]).tolist()
    return starts


def joining(launch: Launch) -> Launch:
    """It waits for all that went aside."""
    return replace(launch, branch="join")


def filled_up(count: int) -> int:
    """The batch that `count` pictures run as."""
    return next(batch for batch in BATCHES if batch >= count)
