"""`Detector`: pictures in, `Detections` out, on whatever engine is there."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ssdrt.detections import Detections
from ssdrt.engines.base import (
    Decoder,
    Engine,
    ResidentEngine,
    Submitted,
    does_detect,
    does_submit,
    gpu_of,
    open_decoder,
)
from ssdrt.errors import EngineError, LabelError, SsdrtError
from ssdrt.labels import read_labels
from ssdrt.model import LabelMap, Pair, SsdModel
from ssdrt.pipeline import as_rgb, detect_picture, detect_pictures, graph_parameters, in_pixels
from ssdrt.postprocess import NmsParameters
from ssdrt.preparation import Preparation, prepare, prepare_model
from ssdrt.preprocess import network_size

log = logging.getLogger("ssdrt")

Image = NDArray[Any]
Scores = float | Mapping[str | int, float]

SCORE = 0.3
"""Default score threshold, as the well-known demos use it; the graph's own keeps 100 boxes of every picture."""

EXTRA = 1
"""Worker threads beyond one a processor: while one waits for the network another decodes (1.1 times the pictures/s of
none extra on 2 processors, and no less than two extra)."""

AT_ONCE = 64
"""Files that a GPU decodes in one call."""

MAX_SIZES = 8
"""Network sizes held at once, for graphs whose input size depends on the picture."""

CLOSED = "this detector was closed"

T = TypeVar("T")


class Readable(Protocol):
    """Something that becomes a frame when it is read, as `sources` give it."""

    def read(self) -> Any:
        """An object whose `image` is (height, width, 3) uint8 RGB; or SourceError."""
        ...


class File(Readable, Protocol):
    """Something that may be a file and nothing else, as `sources` give it."""

    @property
    def file(self) -> str | None:
        """Its path, or None."""
        ...

    def frame(self, pixels: Callable[[], Image]) -> Any:
        """What `read` gives, with pixels that someone else decoded; they are made when its `image` is asked for."""
        ...


@dataclass(frozen=True)
class Outcome:
    """One item's way through the detector: its frame and what was found, or the error that ended it."""

    item: Any
    frame: Any = None
    found: Detections | None = None
    error: SsdrtError | None = None


@dataclass
class _Loaded:
    """A network of one size. users: calls that it is in; dropped: whether the last of them closes it."""

    model: SsdModel
    engine: Engine
    users: int = 0
    dropped: bool = False


class Detector:
    """Detects objects in pictures. Any number of threads may use one; close it, or use it in a `with`.

    >>> with Detector.open("frozen_inference_graph.pb") as detector:      # doctest: +SKIP
    ...     found = detector.detect(image_rgb)
    """

    def __init__(self, preparation: Preparation, labels: LabelMap | None = None) -> None:
        """Use `Detector.open`."""
        self._preparation = preparation
        self._labels = labels or preparation.bundle.model.labels.value
        self._networks: OrderedDict[tuple[Pair, int], _Loaded] = OrderedDict()
        self._decoder: Decoder | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | Path,
        engine: str = "auto",
        precision: str = "auto",
        labels: str | Path | LabelMap | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Detector:
        """Open a frozen graph (.pb, .pbtxt), a bundle (.ssdrt) or a zoo name. The first time builds and caches a plan.

        Parameters
        ----------
        engine: "openvino", "onnxruntime", "reference", ... or "auto": the fastest that can run here.
        precision: "fp32", "bf16", ... or "auto": the fastest that keeps the detections of fp32 (measured when built).
        labels: a label file (.pbtxt, .txt, .json) or a LabelMap; None takes COCO's for 90 classes, else "class 1", ...
        options: {"device": 1} for the GPU of that index, of those that CUDA shows to cuda and tensorrt; and of the
            engine's build, as {"batch": (1, 4, 8)} for TensorRT (`engines.tensorrt.builder.BuildOptions`).

        Raises
        ------
        SsdrtError: GraphError, ModelError, BundleError, EngineError, LabelError or ZooError: what, where, what to do.
        """
        if isinstance(labels, (str, Path)):
            labels = read_labels(labels)  # a mistake is told before a build that takes minutes
        return cls(prepare(path, engine, precision, options), labels)

    @classmethod
    def of_model(
        cls,
        model: SsdModel,
        engine: str = "auto",
        precision: str = "auto",
        options: Mapping[str, Any] | None = None,
    ) -> Detector:
        """A detector of a model that is in memory; nothing is cached, and only pictures of its input size fit a model
        whose input size depends on the picture.

        Raises
        ------
        EngineError: as `open`.
        """
        return cls(prepare_model(model, engine, precision, options))

    @property
    def model(self) -> SsdModel:
        """What was recovered from the graph."""
        return self._preparation.bundle.model

    @property
    def labels(self) -> LabelMap:
        """The labels in use."""
        return self._labels

    @property
    def engine(self) -> str:
        """Name of the engine that runs."""
        return self._preparation.bundle.engine

    @property
    def precision(self) -> str:
        """Precision that the engine computes in."""
        return self._preparation.bundle.precision

    def class_ids(self, classes: Iterable[str | int]) -> list[int]:
        """The class ids of some classes, given by name or id.

        Raises
        ------
        LabelError: a class that the model does not have.
        """
        ids = self._preparation.bundle.model.class_ids
        return [ids[self._class_index(name)] for name in classes]

    def detect(
        self,
        image_rgb: Image,
        *,
        score_threshold: Scores = SCORE,
        iou_threshold: float | None = None,
        max_per_class: int | None = None,
        max_total: int | None = None,
        classes: Iterable[str | int] | None = None,
    ) -> Detections:
        """Detect in one picture.

        Parameters
        ----------
        image_rgb: (height, width, 3) uint8 in RGB order (OpenCV's frames are BGR: give `frame[:, :, ::-1]`).
            Grey (height, width), alpha (..., 4) and uint16 pictures are converted.
        score_threshold: only higher scores count; one number, or one for each class name or id (others: 0.3).
        iou_threshold, max_per_class, max_total: of the NMS; None is the graph's own.
        classes: names or ids of the only classes wanted.

        Raises
        ------
        SourceError: the array is no picture.
        LabelError: a class that the model does not have.
        EngineError: the engine fails.
        """
        options = self._options(score_threshold, iou_threshold, max_per_class, max_total, classes)
        return self._detect(as_rgb(image_rgb), options, 1)

    def detect_batch(self, images_rgb: Sequence[Image], **options: Any) -> list[Detections]:
        """Detect in several pictures at once: one call of the engine for all that its network takes in one size.

        For pictures that come together, as from several cameras; `detect_many` is for those of a folder.

        Parameters
        ----------
        images_rgb, options: as for `detect`.

        Returns
        -------
        what `detect` gives for each, in their order.
        """
        return self._detect_batch([as_rgb(image) for image in images_rgb], self._options(**options))

    def submit(self, images_rgb: Sequence[Image], **options: Any) -> Submitted[list[Detections]]:
        """Start a `detect_batch` and go on; its `result()` waits for what was found. So a thread has several under way:

            batches = [detector.submit(images) for images in ...]
            found = [batch.result() for batch in batches]

        On a GPU (`cuda`, `tensorrt`) the pictures are on their way when this returns, while it works on those before.
        It takes `streams` calls at once, `cuda` four at most; one more waits for the oldest, whose result is kept.
        Other engines compute in `streams` threads, and what is submitted beyond waits in a queue. Results may be asked
        for in any order, more than once or not at all.

        Parameters
        ----------
        images_rgb, options: as for `detect_batch`. The pictures must stay as they are until their result is there.

        Raises
        ------
        SsdrtError: at once for wrong arguments and networks that cannot be loaded; what fails later, `result()` tells.
            `close` finishes what has begun; the rest fails.
        """
        pictures, chosen = [as_rgb(image) for image in images_rgb], self._options(**options)
        started = []
        for size, indices in self._by_size(pictures).items():
            part = [pictures[index] for index in indices]
            with self._network(size, part[0].shape[:2], self.streams) as (model, engine):
                if not does_submit(engine):
                    return Submitted(self._in_thread(pictures, chosen).result)
                sizes = [picture.shape[:2] for picture in part]  # pictures are not held longer than the engine does
                started.append((indices, sizes, model, engine.submit(part, chosen)))

        def result() -> list[Detections]:
            found: dict[int, Detections] = {}
            for indices, sizes, model, call in started:
                for index, size, one in zip(indices, sizes, call.result(), strict=True):
                    found[index] = in_pixels(model, size, one, self._labels)
            return [found[index] for index in sorted(found)]

        return Submitted(result)

    def _in_thread(self, pictures: Sequence[Any], chosen: NmsParameters) -> Future[list[Detections]]:
        """A submitted call of an engine that does not take them."""
        with self._lock:
            if self._closed:
                raise SsdrtError(CLOSED)
            self._pool = self._pool or ThreadPoolExecutor(self.streams, thread_name_prefix="ssdrt-submit")
            return self._pool.submit(self._detect_batch, pictures, chosen, self.streams)

    def _by_size(self, pictures: Sequence[Any]) -> dict[Pair, list[int]]:
        """Which of the pictures the network takes in one size."""
        resizer = self._preparation.bundle.model.preprocessing.resizer.value
        alike: dict[Pair, list[int]] = {}
        for index, picture in enumerate(pictures):
            alike.setdefault(network_size(resizer, *picture.shape[:2]), []).append(index)
        return alike

    def _detect_batch(self, pictures: Sequence[Any], chosen: NmsParameters, streams: int = 1) -> list[Detections]:
        found: dict[int, Detections] = {}
        for size, indices in self._by_size(pictures).items():
            chosen_pictures = [pictures[index] for index in indices]
            shape = chosen_pictures[0].shape[:2]
            with ExitStack() as stack:
                model, engine = stack.enter_context(self._network(size, shape, streams))
                if len(indices) > 1 and not does_detect(engine):  # which takes several by itself
                    model, engine = stack.enter_context(self._network(size, shape, self.streams))
                results = detect_pictures(model, engine, chosen_pictures, chosen, self._labels)
            found |= zip(indices, results, strict=True)
        return [found[index] for index in range(len(pictures))]

    def detect_on_gpu(self, pixels: Any, **options: Any) -> list[Detections]:
        """`detect_batch` of pictures that lie on the engine's GPU already, of one size, without a copy to the host.

        Parameters
        ----------
        pixels: (b, height, width, 3) uint8 in RGB order and C order, of a library that shows them by DLPack or
            `__cuda_array_interface__` (PyTorch, CuPy, JAX, Numba). Engine `cuda` takes any size; `tensorrt` the
            network's, uint8 for a plan built with {"pixels": "uint8"} and else float32.
        options: as for `detect`.

        Raises
        ------
        EngineError: they are something else or on another GPU, or the engine runs on none.
        """
        chosen, shape = self._options(**options), tuple(getattr(pixels, "shape", ()))
        if len(shape) != 4:
            raise EngineError(f"pictures on the GPU must be (b, height, width, 3), not {shape}")
        picture = (int(shape[1]), int(shape[2]))
        size = network_size(self._preparation.bundle.model.preprocessing.resizer.value, *picture)
        with self._network(size, picture, 1) as (model, engine):
            if not isinstance(engine, ResidentEngine):
                raise EngineError(
                    f"engine {self.engine} takes no pictures from a GPU; give `detect_batch` those of this machine"
                )
            found = engine.detect_on_gpu(pixels, chosen)
        return [in_pixels(model, picture, one, self._labels) for one in found]

    def detect_many(self, images_rgb: Iterable[Image], **options: Any) -> Iterator[Detections]:
        """Detect in many pictures on all cores; results come in order while later pictures are being worked on.

        Parameters
        ----------
        images_rgb: as for `detect`; read only a few pictures ahead.
        options: as for `detect`.
        """
        chosen = self._options(**options)
        streams = self.streams
        yield from in_order(lambda image: self._detect(as_rgb(image), chosen, streams), images_rgb, streams + EXTRA)

    def detect_items(self, items: Iterable[Readable], **options: Any) -> Iterator[Outcome]:
        """Read and detect many items of a source on all cores, in order. An item that fails carries its error.

        Parameters
        ----------
        items: what `ssdrt.sources.open_source` gives; reading happens in the worker threads.
        options: as for `detect`.
        """
        chosen = self._options(**options)
        streams = self.streams

        yield from in_order(lambda item: self._outcome(item, chosen, streams), items, streams + EXTRA)

    def detect_files(self, items: Iterable[File], max_pixels: int, **options: Any) -> Iterator[Outcome]:
        """`detect_items` for a GPU that decodes JPEG files, too: AT_ONCE are decoded there and detected in at once.

        Other files, JPEGs that it leaves alone, and all of a call that fails are read as by `detect_items`. Its pixels
        are not quite those of Pillow (docs/cuda.md); they stay on the GPU as long as their frame does, and are copied
        from there when `frame.image` is asked for.

        Parameters
        ----------
        items: what `ssdrt.sources.open_source` gives.
        max_pixels: width * height of the largest picture that the GPU decodes.
        options: as for `detect`.

        Raises
        ------
        EngineError: the engine takes no such pictures, or what decodes is not installed.
        """
        chosen, decoder = self._options(**options), self._file_decoder()
        with ThreadPoolExecutor(self.streams, thread_name_prefix="ssdrt-read") as readers:

            def work(group: Sequence[File]) -> list[Outcome]:
                return self._detect_group(group, decoder, max_pixels, readers, chosen)

            for outcomes in in_order(work, in_groups(items, AT_ONCE), 2):  # one decodes, one detects
                yield from outcomes

    def _file_decoder(self) -> Decoder:
        """What decodes files; opened once."""
        with self._lock:
            if self._closed:
                raise SsdrtError(CLOSED)
            if self._decoder is None:
                self._decoder = open_decoder(self.engine, **gpu_of(self._preparation.options))
            return self._decoder

    def _detect_group(
        self, group: Sequence[File], decoder: Decoder, max_pixels: int, readers: ThreadPoolExecutor,
        chosen: NmsParameters,
    ) -> list[Outcome]:  # fmt: skip
        outcomes: list[Outcome | None] = [None] * len(group)
        decoded = decoder.decode(list(readers.map(_bytes_of, group)), max_pixels)
        there = [index for index, picture in enumerate(decoded) if picture is not None]
        try:
            results = self._detect_batch([decoded[index] for index in there], chosen)
        except SsdrtError as error:  # which may be one picture's fault
            log.warning("reading %d files one by one, because detecting in all at once fails: %s", len(there), error)
            there, results = [], []
        for index, found in zip(there, results, strict=True):
            outcomes[index] = Outcome(group[index], group[index].frame(partial(decoder.fetch, decoded[index])), found)
        rest = [item for item, one in zip(group, outcomes, strict=True) if one is None]
        left = readers.map(lambda item: self._outcome(item, chosen, 1), rest)
        return [next(left) if one is None else one for one in outcomes]

    @property
    def streams(self) -> int:
        """How many networks `detect_many` runs at once: the processors this process may use."""
        return available_processors()

    def close(self) -> None:
        """Free the engines."""
        with self._lock:
            self._closed = True
        if self._pool is not None:
            self._pool.shutdown()
        with self._lock:
            for loaded in self._networks.values():
                loaded.engine.close()
            self._networks.clear()
            self._decoder = None

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _outcome(self, item: Readable, options: NmsParameters, streams: int) -> Outcome:
        frame = None
        try:
            frame = item.read()
            return Outcome(item, frame, self._detect(frame.image, options, streams))
        except SsdrtError as error:
            return Outcome(item, frame, error=error)

    def _detect(self, image: Image, options: NmsParameters, streams: int) -> Detections:
        height, width = image.shape[:2]
        size = network_size(self._preparation.bundle.model.preprocessing.resizer.value, height, width)
        with self._network(size, (height, width), streams) as (model, engine):
            return detect_picture(model, engine, image, options, self._labels)

    @contextmanager
    def _network(self, size: Pair, picture: Pair, streams: int) -> Iterator[tuple[SsdModel, Engine]]:
        """The network for one input size, loaded once, for a call. Of too many the least recently used goes; it is
        closed when no call is in it any more."""
        key = (size, streams)
        with self._lock:
            if self._closed:
                raise SsdrtError(CLOSED)
            if key not in self._networks:
                self._networks[key] = _Loaded(*self._preparation.load(size, picture, streams))
                if len(self._networks) > MAX_SIZES:
                    _, oldest = self._networks.popitem(last=False)
                    oldest.dropped = True
                    self._close_unused(oldest)
            self._networks.move_to_end(key)
            loaded = self._networks[key]
            loaded.users += 1
        try:
            yield loaded.model, loaded.engine
        finally:
            with self._lock:
                loaded.users -= 1
                self._close_unused(loaded)

    @staticmethod
    def _close_unused(loaded: _Loaded) -> None:
        if loaded.dropped and not loaded.users:
            loaded.engine.close()

    def _options(
        self,
        score_threshold: Scores = SCORE,
        iou_threshold: float | None = None,
        max_per_class: int | None = None,
        max_total: int | None = None,
        classes: Iterable[str | int] | None = None,
    ) -> NmsParameters:
        threshold: float | NDArray[np.float32]
        if classes is None and not isinstance(score_threshold, Mapping):
            threshold = score_threshold
        else:
            threshold = self._thresholds(score_threshold, classes)
        limits = {"iou_threshold": iou_threshold, "max_per_class": max_per_class, "max_total": max_total}
        given: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
        return replace(graph_parameters(self._preparation.bundle.model), score_threshold=threshold, **given)

    def _thresholds(self, score: Scores, classes: Iterable[str | int] | None) -> NDArray[np.float32]:
        """One threshold a class; infinite for a class that is not wanted."""
        count = self._preparation.bundle.model.num_classes.value
        thresholds = np.full(count, SCORE if isinstance(score, Mapping) else score, np.float32)
        if isinstance(score, Mapping):
            for name, value in score.items():
                thresholds[self._class_index(name)] = value
        if classes is not None:
            wanted = [self._class_index(name) for name in classes]
            unwanted = np.ones(count, bool)
            unwanted[wanted] = False
            thresholds[unwanted] = np.inf
        return thresholds

    def _class_index(self, name: str | int) -> int:
        ids = self._preparation.bundle.model.class_ids
        by_name = {text: class_id for class_id, text in self._labels.names.items()}
        class_id = by_name.get(str(name))
        if class_id is None and str(name).removeprefix("class ").isdigit():
            class_id = int(str(name).removeprefix("class "))
        if class_id is None or class_id not in ids:
            known = ", ".join(list(by_name)[:12]) or f"ids {ids[0]} to {ids[-1]}"
            raise LabelError(f"the model has no class {name!r}; it has {known}{', ...' if len(by_name) > 12 else ''}")
        return ids.index(class_id)


def available_processors() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one perhaps shorter."""
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group


def _bytes_of(item: File) -> bytes:
    """What is in the file; nothing if it cannot be read, which reading the item says better."""
    if item.file is None or not os.path.isfile(item.file):
        return b""
    try:
        return Path(item.file).read_bytes()
    except OSError:
        return b""


def in_order(function: Callable[[Any], T], items: Iterable[Any], workers: int) -> Iterator[T]:
    """`function` of every item, computed by `workers` threads, in the items' order.

    Twice as many items as workers are under way, so memory stays flat however many there are. When the caller stops, so
    do the threads.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ssdrt")
    under_way: deque[Future[T]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) >= 2 * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
