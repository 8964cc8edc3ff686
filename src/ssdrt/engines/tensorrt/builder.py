"""From an `SsdModel` to a plan: ONNX, TensorRT's own parser, its builder."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ssdrt.engines.tensorrt.driver import Device
from ssdrt.engines.tensorrt.library import Library
from ssdrt.engines.tensorrt.plan_file import Facts, pack
from ssdrt.errors import EngineError
from ssdrt.model import SsdModel
from ssdrt.network.export import build_onnx

log = logging.getLogger("ssdrt")

MOST_CANDIDATES = 3840
"""What a TopK of TensorRT hands over at most, in every version."""

FLOATS: dict[str, Literal["float32", "float16", "bfloat16"]] = {
    "fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "float32",
}  # fmt: skip
"""Precision -> type of the network's body. It is in the file that TensorRT reads; 8.6 gets float32 and a flag.
int8 is written into the network, and what has no scale stays as it is (8.6 may take float16 for it)."""

Advance = Callable[[int], None]
"""Takes the number of steps that the builder has done since the last call; of seconds where it does not say (8.6)."""


@dataclass(frozen=True)
class BuildOptions:
    """What a user may choose, all as plain values.

    batch: (least, best, most) pictures at once. pixels: dtype of the input; "uint8" rounds resized pixels, and
    takes pictures of the network's size as they are. candidates: (anchor, class) pairs that the plan hands over; 0:
    none if they are not needed here, else four times as many as there may be detections. bare: other programs take
    the plan. level: builder_optimization_level 0 to 5, -1: TensorRT's own choice. workspace: MB that a layer may
    use while it runs, 0: as TensorRT likes. portable: runs on other cards from Ampere on, and on later versions.
    dla: number of the core, -1: none. flags: names of BuilderFlag. tactics: names of TacticSource, if not all.
    gpus: names of ComputeCapability (TensorRT for RTX). timing_cache: a file, "" for none. scales: (name, scale) of
    the values that convolutions read, for int8 (`network.int8.read_scales`).
    """

    batch: tuple[int, int, int] = (1, 1, 1)
    pixels: Literal["float32", "uint8"] = "float32"
    candidates: int = 0
    bare: bool = False
    level: int = -1
    workspace: int = 0
    portable: bool = False
    dla: int = -1
    flags: tuple[str, ...] = ()
    tactics: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    timing_cache: str = ""
    scales: tuple[tuple[str, float], ...] = ()


def candidate_count(model: SsdModel, options: BuildOptions, kernels: bool) -> int:
    """How many pairs the plan hands over; 0 for a kind of NMS that has to see all of them, and where our kernels do it
    (`suppression.py`), unless the plan may go where they cannot."""
    nms = model.nms
    if nms.class_agnostic.value or nms.soft_nms_sigma.value > 0:
        return 0
    leaves = options.bare or options.portable or options.gpus
    if kernels and not leaves and not options.candidates:
        return 0
    wanted = options.candidates or max(256, 4 * nms.max_total.value)
    return min(wanted, MOST_CANDIDATES, len(model.anchors.value) * model.num_classes.value)


def network_bytes(
    library: Library, model: SsdModel, precision: str, options: BuildOptions, kernels: bool = False
) -> bytes:
    """The very ONNX file that TensorRT gets."""
    least, _, most = options.batch
    count = candidate_count(model, options, kernels)
    floats = FLOATS[precision] if library.typed else "float32"
    return build_onnx(
        model,
        pixels=options.pixels,
        floats=floats,
        tail="candidates" if count else "scores",
        candidates=count,
        opset=22 if floats == "bfloat16" else 17,  # 8.6 reads 17; the first with convolutions of bfloat16
        batch=most if least == most else None,
        scales=dict(options.scales) if precision == "int8" else None,
    )


def build_plan(
    library: Library,
    model: SsdModel,
    precision: str,
    options: BuildOptions,
    advance: Advance = lambda _steps: None,
    kernels: bytes = b"",
    gpu: Device | None = None,
) -> bytes:
    """Our plan, facts and `kernels` (`suppression.for_build`) included. Ctrl-C stops the build where the version has
    IProgressMonitor (not 8.6).

    Parameters
    ----------
    gpu: what it is built on, which this thread uses; RTX builds without one.

    Raises
    ------
    EngineError: TensorRT refuses the network, an option or the whole; the message is its own and names the node.
    """
    begin = time.perf_counter()
    if not 1 <= options.batch[0] <= options.batch[1] <= options.batch[2]:
        raise EngineError(
            f"batch {options.batch}: give least, best and most, each at least 1 and none below the one before"
        )
    if options.scales and precision != "int8":
        raise EngineError(f"scales are for int8, and this build is in {precision}: --precision int8, or leave them out")
    network = _Network(library, network_bytes(library, model, precision, options, bool(kernels)))
    config = _config(library, network, precision, options, model)
    cache = _TimingCache(library, config, options.timing_cache if options.level else "")  # level 0 measures nothing
    stop = _monitor(library, config, advance)
    work = functools.partial(network.builder.build_serialized_network, network.network, config)
    if gpu is not None:
        work = functools.partial(gpu.run, work)  # in its thread, too
    plan = _in_thread(work, stop, advance)
    if plan is None:
        raise EngineError(f"TensorRT cannot build this network: {library.messages.take()}{_advice(options)}")
    cache.save()
    data = bytes(plan)
    log.info("TensorRT built %.1f MB in %.1f s", len(data) / 1e6, time.perf_counter() - begin)
    return pack(_facts(library, model, precision, options, bool(kernels), gpu), data, kernels)


def _facts(
    library: Library, model: SsdModel, precision: str, options: BuildOptions, kernels: bool, gpu: Device | None
) -> Facts:
    name, capability = ("", (0, 0)) if gpu is None else (gpu.name, gpu.capability)
    left_out = ("batch", "pixels", "timing_cache", "scales")
    told = {name: str(value) for name, value in asdict(options).items() if name not in left_out}
    if options.scales:
        told["scales"] = f"of {len(options.scales)} values"
    return Facts(
        library.family, library.version, name, capability, precision, options.batch, options.pixels,
        candidate_count(model, options, kernels), model.digest,
        hashlib.sha256(model.anchors.value.tobytes()).hexdigest(), told,
    )  # fmt: skip


class _Network:
    """Builder, network and parser, which must outlive each other in this order."""

    def __init__(self, library: Library, onnx: bytes) -> None:
        api = library.api
        library.messages.take()
        try:
            self.builder = api.Builder(library.logger)
        except TypeError as error:  # "factory function returned nullptr", where there is no driver
            raise EngineError(
                f"TensorRT's builder does not start; is there an NVIDIA driver? ({library.messages.take()})"
            ) from error
        flags = 0
        for name in ("STRONGLY_TYPED",) if library.typed else ("EXPLICIT_BATCH",):
            flags |= 1 << int(getattr(api.NetworkDefinitionCreationFlag, name))
        self.network = self.builder.create_network(flags)
        if self.network is None:
            raise EngineError(f"TensorRT makes no network: {library.messages.take()}")
        self.parser = api.OnnxParser(self.network, library.logger)
        if not self.parser.parse(onnx):
            told = [_parser_error(self.parser.get_error(index)) for index in range(self.parser.num_errors)]
            raise EngineError(f"TensorRT cannot read this network: {'; '.join(told) or library.messages.take()}")


def _parser_error(error: Any) -> str:
    node = getattr(error, "node_name", lambda: "")()
    return " ".join(error.desc().split()) + (f" (node {node!r})" if node else "")


def _config(library: Library, network: _Network, precision: str, options: BuildOptions, model: SsdModel) -> Any:
    api = library.api
    config = network.builder.create_builder_config()
    if options.workspace:
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, options.workspace << 20)
    if options.level >= 0:
        config.builder_optimization_level = options.level
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED  # layers' names and types, for `ssdrt inspect`
    if precision == "fp32":
        config.clear_flag(api.BuilderFlag.TF32)
    flags = []
    if not library.typed and precision == "fp16":
        # No constraints: with float32 asked for in decoding and scores, 8.6.0 has no implementation of them (H200).
        flags.append("FP16")
    if not library.typed and precision == "int8":
        flags += ["INT8", "FP16"]
    if options.portable and not library.is_rtx:
        flags.append("VERSION_COMPATIBLE")  # before EXCLUDE_LEAN_RUNTIME, which is refused without it
        config.hardware_compatibility_level = api.HardwareCompatibilityLevel.AMPERE_PLUS
    sharing = getattr(getattr(api, "PreviewFeature", None), "PROFILE_SHARING_0806", None)
    if sharing is not None:  # or a profile serves one context alone; later versions share without being asked
        config.set_preview_feature(sharing, True)
    for name in (*flags, *options.flags):
        config.set_flag(_named(library, api.BuilderFlag, name))
    if options.tactics:
        sources = 0
        for name in options.tactics:
            sources |= 1 << int(_named(library, api.TacticSource, name))
        config.set_tactic_sources(sources)
    if options.gpus:
        _set_gpus(library, config, options.gpus)
    if options.dla >= 0:
        _use_dla(library, network.builder, config, options.dla)
    least, best, most = options.batch
    if least != most:
        profile = network.builder.create_optimization_profile()
        profile.set_shape("image", *((size, *model.input_size, 3) for size in (least, best, most)))
        config.add_optimization_profile(profile)
    return config


def _named(library: Library, kind: Any, name: str) -> Any:
    found = getattr(kind, "__members__", {}).get(name)
    if found is None:
        raise EngineError(
            f"{library.family} {library.version} has no {kind.__name__} {name}; it has {', '.join(kind.__members__)}"
        )
    return found


def _set_gpus(library: Library, config: Any, names: tuple[str, ...]) -> None:
    if not library.is_rtx:
        raise EngineError("only TensorRT for RTX builds for cards that are not here (gpus); use portable")
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config.set_compute_capability(_named(library, library.api.ComputeCapability, name), index)


def _use_dla(library: Library, builder: Any, config: Any, core: int) -> None:
    cores = getattr(builder, "num_DLA_cores", 0)
    if core >= cores:
        raise EngineError(f"there is no DLA core {core} here: TensorRT {library.version} sees {cores} of them")
    config.default_device_type = library.api.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(library.api.BuilderFlag.GPU_FALLBACK)


def _advice(options: BuildOptions) -> str:
    if options.workspace:
        return f" (the workspace was limited to {options.workspace} MB; a larger one may help)"
    return ""


class _TimingCache:
    """What the builder measured, kept for the next build of this version on this card; RTX measures nothing."""

    def __init__(self, library: Library, config: Any, place: str) -> None:
        self._config = config
        self._place = Path(place) if place and not library.is_rtx else None
        if self._place is None:
            return
        try:
            data = self._place.read_bytes()
        except OSError:  # the first time, or a folder that cannot be read: then it is measured again
            data = b""
        cache = config.create_timing_cache(data)
        if cache is None or not config.set_timing_cache(cache, False):
            log.warning("the timing cache %s is of another version or damaged; it is made anew", self._place)
            library.messages.take()
            config.set_timing_cache(config.create_timing_cache(b""), False)

    def save(self) -> None:
        """Write what is known now, as a whole or not at all."""
        if self._place is None:
            return
        data = bytes(self._config.get_timing_cache().serialize())
        temporary = self._place.with_name(f"{self._place.name}.{os.getpid()}.part")
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(self._place)
        except OSError as error:
            log.warning("the timing cache %s cannot be written: %s", self._place, error)


class _Stop(threading.Event):
    """Set by Ctrl-C; the builder asks between its steps."""


def _monitor(library: Library, config: Any, advance: Advance) -> _Stop | None:
    """What is told to stop the build; None where the version asks nobody."""
    base = getattr(library.api, "IProgressMonitor", None)
    if base is None:
        return None
    stop = _Stop()

    class Monitor(base):  # type: ignore[misc, valid-type]
        """TensorRT calls it from its own threads. It must not raise: that would end the process."""

        def __init__(self) -> None:
            base.__init__(self)  # type: ignore[misc]

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            pass

        def phase_finish(self, phase: str) -> None:
            pass

        def step_complete(self, phase: str, step: int) -> bool:  # noqa: ARG002
            advance(1)
            return not stop.is_set()

    config.progress_monitor = Monitor()
    return stop


def _in_thread(work: Callable[[], Any], stop: _Stop | None, advance: Advance) -> Any:
    """`work` in a thread, so that Ctrl-C reaches this one. Without a monitor the thread is left behind, and ends with
    the process."""
    result: list[Any] = []
    finished = threading.Event()

    def run() -> None:
        try:
            result.append(work())
        finally:
            finished.set()

    thread = threading.Thread(target=run, name="ssdrt-tensorrt-build", daemon=True)
    try:
        thread.start()
        while thread.is_alive():
            thread.join(1.0)  # a join without end would not let Ctrl-C through on every system
            if stop is None:
                advance(1)
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, SIGTERM
        if stop is not None and thread.ident is not None:  # it may come before `start` is back
            stop.set()
            finished.wait()
        raise
    return result[0] if result else None
