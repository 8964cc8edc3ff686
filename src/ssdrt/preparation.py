"""From a file to something an engine can load: read, recover, choose engine and precision, build, cache."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt import __version__
from ssdrt.bundle import Bundle, cache_path, home, load_bundle, prune_cache, save_bundle
from ssdrt.compare import EXACT, difference
from ssdrt.engines.base import Engine, engine_module, gpu_of, named_precisions, pick_engine, pick_engines
from ssdrt.errors import BundleError, EngineError, ModelError
from ssdrt.graph import graph_from_bytes, read_bytes
from ssdrt.labels import BESIDE, labels_beside
from ssdrt.model import Fact, LabelMap, Pair, SsdModel
from ssdrt.pipeline import detect_picture, graph_parameters
from ssdrt.recover import recover
from ssdrt.zoo import model_path

log = logging.getLogger("ssdrt")


PLANS = (".engine", ".plan", ".trt")
"""How names of bare TensorRT plans end."""

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Preparation:
    """A model with its engine chosen, and built for the model's own input size; other sizes follow on demand.

    cached: whether it came from the cache. options: of the engine's build, and on which GPU.
    """

    bundle: Bundle
    cached: bool
    options: Options = field(default_factory=dict)

    def load(self, size: Pair, picture: Pair, streams: int) -> tuple[SsdModel, Engine]:
        """The model for a network input of `size`, which a picture of `picture` (height, width) gets, and its engine.

        Raises
        ------
        SsdrtError: the model cannot be recovered for this size, or the engine cannot be built or loaded.
        """
        bundle = self.bundle if size == self.bundle.model.input_size else self._resized(size, picture)
        module, gpu = engine_module(bundle.engine), gpu_of(self.options)
        return bundle.model, module.load(bundle.model, bundle.plan, bundle.precision, streams, **gpu)

    def _resized(self, size: Pair, picture: Pair) -> Bundle:
        first = self.bundle
        told = _told(first.engine, self.options)
        choices = (__version__, first.engine, first.precision, first.fingerprint, size, *told)
        place = cache_path(first.model.digest, *choices)
        bundle = _cached(place, first.fingerprint)
        if bundle is None:
            model = recover(graph_from_bytes(first.graph), picture)
            options = _complete(self.options, first.engine, first.fingerprint)
            plan = engine_module(first.engine).build(model, first.precision, **options)
            bundle = replace(first, model=model, plan=plan, graph=b"")
            _store(bundle, place)
        return bundle


def prepare(
    path: str | Path, engine: str = "auto", precision: str = "auto", options: Options | None = None
) -> Preparation:
    """Read a graph, a bundle or a zoo model, and build or take from the cache what the engine needs.

    Parameters
    ----------
    options: {"device": 1} for the GPU of that index; the others are of the engine's build, and each engine with any
        documents them (`engines.tensorrt.builder.BuildOptions`).

    Raises
    ------
    SsdrtError: the file, the engine, the precision or an option cannot be used; the message says why.
    """
    path = model_path(path)
    if path.suffix == ".ssdrt":
        return _from_bundle(path, engine, precision, options or {})
    if path.suffix in PLANS:
        return _from_plan(path, engine, gpu_of(options or {}))
    data = read_bytes(path)
    return _named(_from_graph(data, str(path), engine, precision, options or {}), path)


def _named(preparation: Preparation, path: Path) -> Preparation:
    """With the names of classes that lie beside the graph; the cache knows graphs by content, and no files' names."""
    labels = labels_beside(path)
    if labels is None:
        return preparation
    bundle = preparation.bundle
    named = replace(bundle.model, labels=Fact(labels, "", BESIDE))
    return replace(preparation, bundle=replace(bundle, model=named))


def _from_graph(data: bytes, name: str, engine: str, precision: str, options: Options) -> Preparation:
    engines, digest = _engines(engine, precision, options), hashlib.sha256(data).hexdigest()
    bundle = _cached(*_place(digest, engines[0], precision, options))
    if bundle is not None:
        return Preparation(bundle, True, options)
    model = recover(graph_from_bytes(data, name))  # what fails here is no engine's fault: no other one is tried

    def prepared(taken: str) -> Preparation:
        place, fingerprint = _place(digest, taken, precision, options)
        cached = _cached(place, fingerprint) if taken != engines[0] else None  # that one was looked for above
        bundle = cached or build(model, taken, precision, data, options)
        if cached is None:
            _store(bundle, place)
        return Preparation(bundle, cached is not None, options)

    return _first(engines, prepared)


def _engines(name: str, precision: str, options: Options) -> list[str]:
    """What `name` may mean, the best first: of several, those that take these options, if some do."""
    found = pick_engines(name, precision, **gpu_of(options))
    return [one for one in found if options.keys() <= set(getattr(engine_module(one), "OPTIONS", ()))] or found[:1]


def prepare_model(
    model: SsdModel, engine: str = "auto", precision: str = "auto", options: Options | None = None
) -> Preparation:
    """`prepare` of a model that is in memory; nothing is cached.

    Raises
    ------
    EngineError: as `build`.
    """

    def prepared(taken: str) -> Preparation:
        return Preparation(build(model, taken, precision, b"", options), False, options or {})

    return _first(_engines(engine, precision, options or {}), prepared)


def _first(engines: Sequence[str], prepared: Callable[[str], Preparation]) -> Preparation:
    """With the first engine that does not fail: one that cannot build a model must not keep "auto" from the others."""
    engine, *others = engines
    try:
        return prepared(engine)
    except (EngineError, ModelError) as error:
        if not others:
            raise
        log.warning(
            "engine %s fails, so %s is tried (--engine %s does at once): %s", engine, others[0], others[0], error
        )
    return _first(others, prepared)


def _place(digest: str, engine: str, precision: str, options: Options) -> tuple[Path, str]:
    """Where a model's bundle for this engine is in the cache, and the fingerprint that it has here."""
    fingerprint, told = engine_module(engine).fingerprint(**gpu_of(options)), _told(engine, options)
    return cache_path(digest, __version__, engine, precision, fingerprint, *told), fingerprint


def _told(engine: str, options: Options) -> tuple[object, ...]:
    """What a build is told, by options and by the environment."""
    settings: Callable[[], tuple[str, ...]] = getattr(engine_module(engine), "settings", tuple)
    return (*settings(), *sorted(_of_build(options).items()))


def _of_build(options: Options) -> dict[str, Any]:
    """Options that make another plan; one for a GPU runs on each of its kind, which is in the fingerprint."""
    return {name: value for name, value in options.items() if name not in gpu_of(options)}


def _from_plan(path: Path, engine: str, gpu: Options) -> Preparation:
    """A bare plan with what lies beside it; there is no network that it could be rebuilt from."""
    plan = read_plan(path)
    beside = beside_plan(path)
    if not beside.exists():
        raise BundleError(
            f"{path}: {beside.name}, which says what the outputs of a bare plan mean, is not beside it: "
            "`ssdrt build MODEL --save-plan` writes both; or open the model itself"
        )
    bundle = load_bundle(beside, beside_plan=True)
    if engine not in ("auto", bundle.engine):
        raise EngineError(f"{path} is a plan of engine {bundle.engine}: give the model itself for --engine {engine}")
    bundle = replace(bundle, plan=bundle.plan + plan)
    here = engine_module(pick_engine(bundle.engine, **gpu)).fingerprint(**gpu)
    if not _fits(bundle, gpu):
        raise EngineError(
            f"{path} was built for {bundle.fingerprint}, this is {here}: build the model again on this machine"
        )
    return Preparation(bundle, True, gpu)


def beside_plan(path: Path) -> Path:
    """Where what else a bare plan needs lies."""
    return Path(f"{path}.ssdrt")


def read_plan(path: Path) -> bytes:
    """The content of a bare plan.

    Raises
    ------
    BundleError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error


def plan_splitter(engine: str) -> Callable[[bytes], tuple[bytes, bytes]]:
    """What parts a plan of an engine into ours and what other programs take.

    Raises
    ------
    EngineError: there is no such engine, or other programs do not take its plans.
    """
    split: Callable[[bytes], tuple[bytes, bytes]] | None = getattr(engine_module(engine), "split_plan", None)
    if split is None:
        raise EngineError(f"engine {engine} makes no plans that other programs take: --engine tensorrt does")
    return split


def save_plan(bundle: Bundle, path: Path) -> None:
    """Write NVIDIA's own bytes of a plan for TensorRT to `path`, and what else is needed to run it beside it.

    Raises
    ------
    SsdrtError: the bundle is for another engine, or a file cannot be written.
    """
    facts, plan = plan_splitter(bundle.engine)(bundle.plan)
    try:
        path.write_bytes(plan)
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error.strerror or error}") from error
    save_bundle(replace(bundle, model=replace(bundle.model, layers=()), plan=facts, graph=b""), beside_plan(path))


def _from_bundle(path: Path, engine: str, precision: str, options: Options) -> Preparation:
    """A bundle as it is, or rebuilt from its own model when it was built for something else."""
    bundle, gpu = load_bundle(path), gpu_of(options)
    engines = _engines(engine, precision, options)
    if engine == "auto" and _usable(bundle.engine, gpu):
        engines = [bundle.engine, *(one for one in engines if one != bundle.engine)]
    same_precision = precision in ("auto", bundle.precision)
    if engines[0] == bundle.engine and same_precision and options == gpu and _fits(bundle, gpu):
        return Preparation(bundle, True, gpu)

    def prepared(taken: str) -> Preparation:
        place, fingerprint = _place(bundle.model.digest, taken, precision, options)
        cached = _cached(place, fingerprint)
        if cached is not None:
            return Preparation(cached, True, options)
        told = options == gpu and _of_build(dict.fromkeys(getattr(engine_module(taken), "OPTIONS", ())))
        log.warning(
            "%s was built for %s %s on %s; rebuilding it for %s here%s",
            path, bundle.engine, bundle.precision, bundle.fingerprint, taken,
            ", without what `ssdrt build` was told" if told else "",
        )  # fmt: skip
        rebuilt = build(bundle.model, taken, precision, bundle.graph, options)
        _store(rebuilt, place)
        return Preparation(rebuilt, False, options)

    return _first(engines, prepared)


def _fits(bundle: Bundle, gpu: Options) -> bool:
    """Whether the plan runs on this machine, which can run its engine, as it is."""
    module = engine_module(bundle.engine)
    fits: Callable[..., bool] = getattr(module, "fits", lambda _plan, **_gpu: False)
    return module.fingerprint(**gpu) == bundle.fingerprint or fits(bundle.plan, **gpu)


def _usable(engine: str, gpu: Options) -> bool:
    try:
        pick_engine(engine, **gpu)
    except EngineError:
        return False
    return True


def build(model: SsdModel, engine: str, precision: str, graph: bytes, options: Options | None = None) -> Bundle:
    """A bundle of a model for one engine of this machine.

    Parameters
    ----------
    options: of the engine's build, and on which GPU.
    precision: "auto" builds every precision the engine has here, measures them, and says why it took one.
    graph: the frozen graph; kept in the bundle if the network's size depends on the picture.

    Raises
    ------
    EngineError: the engine does not compute in this precision here, or cannot build this model.
    """
    module, gpu = engine_module(engine), gpu_of(options or {})
    offered = module.precisions(**gpu)
    named = named_precisions(engine, **gpu)
    if precision not in ("auto", *named):
        raise EngineError(f"engine {engine} does not compute in {precision} here; it does in {', '.join(named)}")
    kept = graph if model.preprocessing.resizer.value.kind != "fixed_shape" else b""
    fingerprint = module.fingerprint(**gpu)
    chosen_options = _complete(options or {}, engine, fingerprint)
    if precision != "auto" or len(offered) == 1:
        chosen = offered[0] if precision == "auto" else precision
        why = "asked for" if precision != "auto" else "the only precision of this engine here"
        plan = module.build(model, chosen, **chosen_options)
        return Bundle(model, engine, chosen, fingerprint, plan, why, kept)
    chosen, plan, why = _fastest_exact(model, engine, getattr(module, "AUTO", offered), chosen_options)
    log.info("precision %s: %s", chosen, why)
    return Bundle(model, engine, chosen, fingerprint, plan, why, kept)


def _complete(options: Options, engine: str, fingerprint: str) -> dict[str, Any]:
    """Options that the engine has, and a place for what its builds measure: one serves the next, of any model."""
    taken = getattr(engine_module(engine), "OPTIONS", ())
    stranger = next((name for name in options if name not in taken), None)
    if stranger is not None:
        raise EngineError(f"engine {engine} has no option {stranger!r}; it has {', '.join(taken) or 'none'}")
    if "timing_cache" not in taken:
        return dict(options)
    place = home() / "timing" / hashlib.sha256(fingerprint.encode()).hexdigest()[:20]
    return {"timing_cache": str(place), **options}


def _fastest_exact(model: SsdModel, engine: str, offered: tuple[str, ...], options: Options) -> tuple[str, bytes, str]:
    """(precision, plan, reason): the fastest whose detections on probe pictures are those of the exact one."""
    module = engine_module(engine)
    plans = {name: module.build(model, name, **options) for name in offered}
    engines = {name: module.load(model, plan, name, 1, **gpu_of(options)) for name, plan in plans.items()}
    times = _median_times(engines, model.input_size)
    exact = offered[0]
    words, best = [f"{exact} {times[exact] * 1e3:.1f} ms"], exact
    for name in offered[1:]:
        kept = all(_agree(model, engines[exact], engines[name], seed) for seed in range(3))
        words.append(
            f"{name} {times[name] * 1e3:.1f} ms, "
            + ("the same detections" if kept else f"but other detections than {exact} on test pictures")
        )
        if kept and times[name] < times[best]:
            best = name
    for loaded in engines.values():
        loaded.close()
    hint = (
        "" if best != exact or min(times.values()) == times[exact] else "; --precision takes a faster one all the same"
    )
    return best, plans[best], f"{'; '.join(words)}{hint}"


def _median_times(engines: dict[str, Engine], size: Pair, rounds: int = 9) -> dict[str, float]:
    """Median seconds of one picture on each engine, measured in turns."""
    pixels = _probe(size, 0).astype(np.float32)[None]
    samples: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.infer(pixels)
            samples[name].append(time.perf_counter() - start)
    return {name: float(np.median(values[1:])) for name, values in samples.items()}


def _agree(model: SsdModel, exact: Engine, other: Engine, seed: int) -> bool:
    """Whether both engines give the same detections of a probe picture."""
    picture = _probe(model.input_size, seed)
    parameters = replace(graph_parameters(model), score_threshold=0.05)
    low = replace(parameters, score_threshold=0.04)
    expected = detect_picture(model, exact, picture, parameters, LabelMap({}))
    return difference(expected, detect_picture(model, other, picture, low, LabelMap({}))).within(EXACT)


def _probe(size: Pair, seed: int) -> NDArray[np.uint8]:
    """A picture of random coloured rectangles and noise: edges and colours, no photo needed."""
    generator = np.random.default_rng(seed)
    height, width = size
    picture = np.full((height, width, 3), generator.integers(60, 200, 3), np.float32)
    for _ in range(40):
        top, left = generator.integers(0, height), generator.integers(0, width)
        bottom, right = top + generator.integers(4, height), left + generator.integers(4, width)
        picture[top:bottom, left:right] = generator.integers(0, 256, 3)
    picture += generator.normal(0, 8, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _cached(place: Path, fingerprint: str) -> Bundle | None:
    """A bundle of the cache, or None; one that is damaged is forgotten with a line."""
    if not place.exists():
        return None
    try:
        bundle = load_bundle(place)
    except BundleError as error:
        log.warning("rebuilding: %s", error)
        return None
    with contextlib.suppress(OSError):  # a cache that is read-only is still a cache
        os.utime(place)
    return bundle if bundle.fingerprint == fingerprint else None


def _store(bundle: Bundle, place: Path) -> None:
    """Keep a bundle for the next start; a cache that cannot be written costs time, nothing else."""
    try:
        save_bundle(bundle, place)
        prune_cache()
    except BundleError as error:
        log.warning("not cached: %s", error)
