"""What an engine is, and which ones there are.

An engine module `engines/NAME.py` has these five functions, and imports its library inside them only:

    unavailable() -> str | None            why it cannot run here and what to type; None when it can
    precisions() -> tuple[str, ...]        what it can run on this machine, the exact one first ("fp32", "bf16", ...)
    fingerprint() -> str                   what a plan depends on: library version, processor
    build(model, precision, **options) -> bytes
                                           the plan (b"" when there is nothing worth keeping)
    load(model, plan, precision, streams) -> Engine
                                           streams 1: shortest time of one batch; more: that many `infer` calls at once,
                                           each on its share of the processor

It may also have OPTIONS, the names that `build` takes as options (without it, none), and with "device", the index of a
GPU, among them every function but `settings` and `describe` takes that one; AUTO, those of its precisions
that "auto" compares (without it, all); ASKED, further precisions, which need options and are taken by name only;
`untried() -> str | None`: why "auto" leaves it here, though it can run; `fits(plan) -> bool`: whether a plan of
another fingerprint runs here all the same (without it, none does); `settings() -> tuple[str, ...]`: what the
environment asks of a build, by which the cache keeps plans apart (without it, nothing); `describe(model, plan)`, for
`ssdrt inspect`: (facts by name, rows of a table of what the plan runs, the headings first), on any machine; and
`decoder() -> Decoder`: what decodes JPEG files where its engines' `detect` takes them from.

The `Engine` that `load` gives runs the network; one that can go on from there is a `DetectingEngine`, with `detect`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeGuard, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import EngineError
from ssdrt.postprocess import NmsParameters

T = TypeVar("T")
Floats = NDArray[np.float32]
Found = tuple[Floats, Floats, NDArray[np.int64]]
"""What was found in one picture, as `postprocess.non_max_suppression` returns it: boxes (k, 4) yxyx, scores (k,) and
class indices (k,), best first."""


class Engine(Protocol):
    """A network that runs. Any number of threads may call `infer`; as many of them run at once as there are streams."""

    def infer(self, pixels: Floats) -> tuple[Floats, Floats]:
        """Run the network, normalisation included and NMS not.

        Parameters
        ----------
        pixels: (b, height, width, 3) float32, C order, RGB 0..255, already resized as the graph does; any b >= 1.

        Returns
        -------
        box encodings (b, n, 4) float32 (ty, tx, th, tw) before the box coder, and class scores (b, n, classes) float32
        after the score converter and without background; rows in the order of the anchors. The arrays are the caller's.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds; it cannot run afterwards."""
        ...


@runtime_checkable
class DetectingEngine(Engine, Protocol):
    """An engine that does more than the network, wherever it does it: resize, NMS, several pictures at once.

    Whoever has pictures prefers `detect` where an engine has it (`pipeline.detect_pictures`); `infer` stays for those
    who compare numbers.
    """

    def detect(self, images_rgb: Sequence[NDArray[np.uint8]], parameters: NmsParameters) -> list[Found]:
        """From pictures to what TensorFlow's NMS leaves: never other detections than `infer` and
        `postprocess.non_max_suppression` would give, whatever the parameters, but for the rounding of the precision.

        Parameters
        ----------
        images_rgb: one or more pictures (height, width, 3) uint8 RGB of any sizes that the model's resizer brings to
            the network's, in any memory layout. Only read, and not after `detect` has returned.
        parameters: thresholds and caps, the same for all pictures; boxes are clipped to `preprocess.clip_window`.

        Returns
        -------
        one `Found` a picture, in their order; boxes in 0..1 as in the graph. The arrays are the caller's.
        """
        ...


@dataclass(frozen=True)
class Submitted(Generic[T]):
    """A call that was submitted. `result()` gives what came of it once it is over, or raises its error; any number of
    threads may ask, any number of times."""

    result: Callable[[], T]


class SubmittingEngine(Engine, Protocol):
    """An engine whose calls can be started by a thread that takes their results later."""

    def submit(self, images_rgb: Sequence[NDArray[np.uint8]], parameters: NmsParameters) -> Submitted[list[Found]]:
        """`DetectingEngine.detect` of pictures of this machine, which must stay as they are until the result is there.

        As many calls run as there are lanes; one more finishes the oldest of them first and keeps its result. `close`
        finishes all. What fails in the engine the result tells.

        Raises
        ------
        EngineError: the engine was closed.
        """
        ...


@runtime_checkable
class ResidentEngine(Engine, Protocol):
    """An engine that takes pictures from where they lie on its GPU."""

    def detect_on_gpu(self, pixels: Any, parameters: NmsParameters) -> list[Found]:
        """`DetectingEngine.detect` of (b, height, width, 3) pictures of another library, in C order and RGB; which
        dtype and sizes it takes the engine says.

        Raises
        ------
        EngineError: they are something else, or on another GPU.
        """
        ...


def does_detect(engine: object) -> TypeGuard[DetectingEngine]:
    """Whether it is a `DetectingEngine`; asked for every picture, and `isinstance` takes 20 us up to Python 3.11."""
    return hasattr(engine, "detect")


def does_submit(engine: object) -> TypeGuard[SubmittingEngine]:
    """Whether it is a `SubmittingEngine`, asked as `does_detect` is."""
    return hasattr(engine, "submit")


class Decoder(Protocol):
    """What decodes JPEG files into pictures that lie on a GPU. Any number of threads may use one."""

    def decode(self, files: Sequence[bytes], max_pixels: int) -> list[Any | None]:
        """Pictures that an engine's `detect` takes, each with its `shape` (height, width, 3), RGB and upright; None for
        what is left to those who decode on the processor, larger pictures than `max_pixels` among it."""
        ...

    def fetch(self, picture: Any) -> NDArray[np.uint8]:
        """A copy of such a picture in this machine's memory.

        Raises
        ------
        EngineError: the GPU or the host's page-locked memory fails.
        """
        ...


class EngineModule(Protocol):
    """The functions of an engine module, as this module's docstring lists them."""

    unavailable: Callable[..., str | None]
    precisions: Callable[..., tuple[str, ...]]
    fingerprint: Callable[..., str]
    build: Callable[..., bytes]
    load: Callable[..., Engine]


PREFERENCE = ("cuda", "tensorrt", "openvino", "onnxruntime", "reference")
"""Order in which `auto` tries engines; one that is not listed is used by name only. `cuda` and `tensorrt` as they were
measured on one card (docs/cuda.md)."""


def engine_names() -> list[str]:
    """Names of all engines in this installation, usable here or not: the files of this folder."""
    here = importlib.import_module("ssdrt.engines")
    found = {info.name for info in pkgutil.iter_modules(here.__path__)} - {
        "base",
        "gpu",
        "lanes",
        "resident",
        "selfcheck",
    }
    return sorted(found, key=lambda name: (PREFERENCE.index(name) if name in PREFERENCE else len(PREFERENCE), name))


def engine_module(name: str) -> EngineModule:
    """The module of one engine, whether or not it can run here.

    Raises
    ------
    EngineError: no such engine; the message lists those there are.
    """
    if name not in engine_names():
        raise EngineError(f"there is no engine {name!r}; the engines are: auto, {', '.join(engine_names())}")
    return cast("EngineModule", importlib.import_module(f"ssdrt.engines.{name}"))


def gpu_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Which GPU an engine's options say, as the functions of its module take it; {} for the one it takes by itself."""
    return {name: value for name, value in options.items() if name == "device"}


def takes_device(name: str) -> bool:
    """Whether an engine can be told the index of a GPU."""
    return "device" in getattr(engine_module(name), "OPTIONS", ())


def open_decoder(name: str, **gpu: Any) -> Decoder:
    """What decodes JPEG files for an engine, on its GPU.

    Raises
    ------
    EngineError: the engine does not take pictures from there, or what decodes is not installed or does not run here.
    """
    make: Callable[..., Decoder] | None = getattr(engine_module(name), "decoder", None)
    if make is None:
        raise EngineError(f"pictures decoded on the GPU are for engine cuda (--engine cuda), not for {name}")
    return make(**gpu)


def pick_engine(name: str, precision: str = "auto", **gpu: Any) -> str:
    """The first of `pick_engines`."""
    return pick_engines(name, precision, **gpu)[0]


def pick_engines(name: str, precision: str = "auto", **gpu: Any) -> list[str]:
    """`name` alone once it is known to be usable here, or for "auto" all that are and compute in this precision, best
    first.

    gpu: what `gpu_of` says.

    Raises
    ------
    EngineError: the engine does not exist or cannot run here; the message says what to type.
    """
    if name == "auto":
        suited = [n for n in engine_names() if n in PREFERENCE and (not gpu or takes_device(n))]
        usable = [n for n in suited if not_taken(n, **gpu) is None]
        if not usable and gpu:
            raise EngineError(f"no engine runs on GPU {gpu['device']}: {not_taken(suited[0], **gpu)}")
        if not usable:
            raise EngineError("no engine can run here: pip install 'ssdrt[openvino]'")
        fitting = [n for n in usable if precision == "auto" or precision in named_precisions(n, **gpu)]
        return fitting or usable[:1]
    if gpu and not takes_device(name):
        others = " and ".join(filter(takes_device, engine_names()))
        raise EngineError(f"engine {name} runs on the processor; a device can be chosen for {others}")
    why = engine_module(name).unavailable(**gpu)
    if why is not None:
        raise EngineError(why)
    return [name]


def named_precisions(name: str, **gpu: Any) -> tuple[str, ...]:
    """Every precision that an engine computes in here when it is asked for by name."""
    module = engine_module(name)
    asked: tuple[str, ...] = getattr(module, "ASKED", ())
    return (*module.precisions(**gpu), *asked)


def not_taken(name: str, **gpu: Any) -> str | None:
    """Why "auto" leaves an engine on this machine, or None."""
    module = engine_module(name)
    untried: Callable[..., str | None] = getattr(module, "untried", lambda **_: None)
    return module.unavailable(**gpu) or untried(**gpu)
