"""NVIDIA's TensorRT 8.6, 10.x and 11.x, and TensorRT for RTX, and NMS behind them.

The kernels of engine cuda do it on the GPU; where they cannot, the plan decodes and hands over the best candidates.

library.py says which one there is, builder.py makes plans, plan_file.py says what a plan is, driver.py talks to CUDA,
suppression.py is what comes behind a plan, runtime.py runs, inspection.py shows what is in a plan.
"""

from __future__ import annotations

from typing import Any

from ssdrt.engines.selfcheck import check_itself
from ssdrt.engines.tensorrt import inspection
from ssdrt.engines.tensorrt.builder import BuildOptions, build_plan
from ssdrt.engines.tensorrt.driver import Card, Device
from ssdrt.engines.tensorrt.library import find_library
from ssdrt.engines.tensorrt.plan_file import check_plan, unpack
from ssdrt.engines.tensorrt.runtime import TensorrtEngine, load_engine
from ssdrt.engines.tensorrt.suppression import for_build
from ssdrt.errors import EngineError
from ssdrt.model import SsdModel
from ssdrt.progress import progress

AUTO = ("fp32", "fp16")
"""Precisions that `auto` compares: each build takes minutes."""

ASKED = ("int8",)
"""Precisions that need an option of their own: int8 the scales."""

OPTIONS = (*BuildOptions.__dataclass_fields__, "device")


def unavailable(device: int = 0) -> str | None:
    """Why it cannot run here and what to type, or None."""
    try:
        find_library()
        Card(device)
    except EngineError as error:
        return str(error)
    return None


def precisions(device: int = 0) -> tuple[str, ...]:
    """tf32 and bf16 from Ampere on, bf16 from TensorRT 10 on."""
    library, ampere = find_library(), Card(device).capability >= (8, 0)
    found = ["fp32", "fp16"]
    found += ["tf32"] if ampere else []
    found += ["bf16"] if ampere and library.typed else []
    return tuple(found)


def fingerprint(device: int = 0) -> str:
    """Family and version of the library, name and compute capability of the card."""
    library, card = find_library(), Card(device)
    major, minor = card.capability
    return f"{library.family} {library.version}, {card.name}, compute capability {major}.{minor}"


def fits(plan: bytes, device: int = 0) -> bool:
    """Whether a plan of another card or version was built to be portable, and this machine is one that it may go to."""
    facts, bare = unpack(plan)
    library, ampere = find_library(), Card(device).capability >= (8, 0)
    if facts.options.get("portable") != "True" or library.is_rtx or not ampere:
        return False
    try:
        check_plan(bare, library.family, library.version, portable=True)
    except EngineError:
        return False
    return True


def build(model: SsdModel, precision: str, device: int = 0, **options: Any) -> bytes:
    """A plan for the GPU of an index, compared with the reference engine before it is handed out.

    Raises
    ------
    EngineError: TensorRT refuses the network or the options, or the plan computes something else.
    """
    library, chosen, kernels = find_library(), BuildOptions(**options), for_build(model, device)
    steps, gpu = hasattr(library.api, "IProgressMonitor"), Device(device)
    try:
        with progress(f"TensorRT builds {precision}", None, "steps" if steps else "seconds") as advance:
            plan = build_plan(library, model, precision, chosen, advance, kernels, gpu)
    finally:
        gpu.leave()  # and the context stays: a build that was interrupted may go on in its thread
    engine = load_engine(model, plan, 1, device)
    try:
        detecting = sorted({chosen.batch[0], chosen.batch[2]}) if engine.suppresses else ()
        check_itself(model, engine, precision, detecting, scales=dict(chosen.scales))
    finally:
        engine.close()
    return plan


def describe(model: SsdModel, plan: bytes) -> tuple[dict[str, Any], list[tuple[str, ...]]]:  # noqa: ARG001
    """What the plan says, and its layers where it can be loaded; for `ssdrt inspect`."""
    return inspection.describe(plan)


def split_plan(plan: bytes) -> tuple[bytes, bytes]:
    """(our facts, NVIDIA's own bytes), which together are a plan of `build`."""
    bare = unpack(plan)[1]
    return plan[: len(plan) - len(bare)], bare


def load(
    model: SsdModel,
    plan: bytes,
    precision: str,  # noqa: ARG001
    streams: int,
    device: int = 0,
) -> TensorrtEngine:
    """A plan on the GPU of an index, with `streams` lanes.

    Raises
    ------
    EngineError: the plan is damaged, of another version or for another GPU, or does not fit into the GPU's memory.
    """
    return load_engine(model, plan, streams, device)
