"""Our own engine for NVIDIA GPUs: fused fp16 kernels, compiled by NVRTC when a plan is built, replayed as one graph.

What can be chosen and how it all fits together: docs/cuda.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ssdrt.engines.cuda import compiler, driver
from ssdrt.engines.cuda.bytes_in import front_in, front_of
from ssdrt.engines.cuda.ends import plan_kernels, tail
from ssdrt.engines.cuda.launch import Builder, Constants, Memory
from ssdrt.engines.cuda.makers import step_launches
from ssdrt.engines.cuda.planner import plan_network
from ssdrt.engines.cuda.tactics import Device, Tactic, as_lists, choose, from_lists
from ssdrt.errors import EngineError, MissingExtra
from ssdrt.model import SsdModel
from ssdrt.progress import progress

if TYPE_CHECKING:
    from ssdrt.engines.cuda.jpeg import JpegDecoder
    from ssdrt.engines.cuda.plan import Plan
    from ssdrt.engines.cuda.runtime import CudaEngine

OPTIONS = ("device",)

UNTUNED = "SSDRT_CUDA_UNTUNED"
"""Set in the environment, it leaves out the measuring of kernels when a plan is built; such plans are cached apart."""

SECONDS = 60.0
"""Of measuring, at most."""

RUN_ON = 90
"""Generation of the GPUs on which the kernels have been run, and which "auto" takes."""

OLDEST = 75
"""Generation (compute capability 7.5) of the oldest GPU that the kernels are written for."""


def unavailable(device: int = 0) -> str | None:
    """Why it cannot run here and what to type, or None."""
    try:
        gpu = driver.Gpu(device)
    except (MissingExtra, EngineError) as error:
        return str(error)
    kind, name = gpu.device(), gpu.name
    if kind.generation < OLDEST:
        return f"engine cuda needs a GPU of compute capability 7.5 or later, not {name} ({kind.architecture})"
    return None


def precisions(device: int = 0) -> tuple[str, ...]:  # noqa: ARG001
    """fp16 values and operands, fp32 sums."""
    return ("fp16",)


def fingerprint(device: int = 0) -> str:
    """The GPU's kind, and the text of the kernels and of this package."""
    gpu = driver.Gpu(device)
    return f"{gpu.name}, {gpu.device().architecture}, kernels {compiler.digest()}"


def settings() -> tuple[str, ...]:
    """A plan by rules of thumb must not be taken for a measured one later."""
    return (UNTUNED,) if os.environ.get(UNTUNED) else ()


def untried(device: int = 0) -> str | None:
    """Why `auto` leaves this GPU alone, or None."""
    gpu = driver.Gpu(device)
    kind = gpu.device()
    if kind.generation == RUN_ON:
        return None
    return f"its kernels have not been run on {gpu.name} ({kind.architecture}), only on compute capability 9.0"


def decoder(device: int = 0) -> JpegDecoder:
    """What decodes JPEG files on the GPU of an index.

    Raises
    ------
    EngineError: it is not installed, or does not run here.
    """
    from ssdrt.engines.cuda.jpeg import JpegDecoder

    return JpegDecoder(device)


def build(model: SsdModel, precision: str, device: int = 0) -> bytes:
    """Machine code for the GPU of an index, and the kernel that each step runs on at each batch size; compared with the
    reference engine at each of these before it is handed out.

    Raises
    ------
    EngineError: NVRTC is missing or refuses a kernel, or the plan computes something else than the network.
    """
    from ssdrt.engines.selfcheck import check_itself

    gpu, measured = driver.Gpu(device), None
    if not os.environ.get(UNTUNED):
        from ssdrt.engines.cuda.tuner import tune

        with progress("choosing kernels", None, "compiled or measured") as advance:
            measured = tune(gpu, plan_network(model), SECONDS, advance)
    with progress("compiling kernels", None, "kernels") as advance:
        plan = build_for(model, gpu.device(), measured, advance)
    engine = load(model, plan, precision, 1, device)
    try:
        check_itself(model, engine, precision, engine.sizes_with_room())
    finally:
        engine.close()
    return plan


def build_for(
    model: SsdModel,
    device: Device,
    measured: dict[int, list[Tactic]] | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> bytes:
    """A plan for any GPU, present or not; with measured tactics of some batch sizes, or by rules of thumb.

    Parameters
    ----------
    advance: called with 1 for each kernel.

    Raises
    ------
    EngineError: as `build`.
    """
    from ssdrt.engines.cuda.runtime import BATCHES

    plan, constants = plan_network(model), Constants()
    chosen = {batch: choose(plan, batch, device) for batch in BATCHES}
    if measured is not None:
        chosen = {batch: measured[min(size for size in measured if size >= batch)] for batch in BATCHES}
    wanted = {*plan_kernels(model), *network_kernels(plan, model, chosen, constants)}
    front = front_of(plan, model) if device.generation == 90 else None
    if front is not None:
        front.launch(Builder(plan, 1, Memory((0,) * len(plan.slots), 0), constants), model, 0)
        wanted |= set(front.kernels(plan, model))
    code = compiler.compile_kernels(wanted, device.architecture, advance)
    facts = {
        "architecture": device.architecture,
        "kernels": compiler.digest(),
        "tactics": [[batch, [as_lists(tactic) for tactic in steps]] for batch, steps in chosen.items()],
        "constants": constants.places,
    }
    return compiler.dump_code(facts, code, constants.data())


def network_kernels(
    plan: Plan, model: SsdModel, chosen: dict[int, list[Tactic]], constants: Constants
) -> set[tuple[str, str]]:
    """The kernels of a plan's steps, as (file, C++ name); what they read goes to `constants`."""
    wanted = set()
    for batch, steps in chosen.items():
        maker = Builder(plan, batch, Memory((0,) * len(plan.slots), 0), constants)
        for index, tactic in enumerate(steps):
            wanted |= {(one.file, one.name) for one in step_launches(maker, index, tactic)}
        tail(maker, model, {}, 1)
    return wanted


SHOWN = (1, 8, 64, 256)
"""Batches whose kernels `describe` tells."""


def describe(model: SsdModel, plan: bytes) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """What a plan was built for, and the kernels of each step at some batch sizes; for `ssdrt inspect`.

    Raises
    ------
    EngineError: it is no plan, or one of another version.
    """
    facts, code, constants = compiler.load_code(plan)
    told = {
        "architecture": facts["architecture"],
        "kernels": f"{len(code)}, {sum(len(one.cubin) for one in code.values()) / 1e6:.1f} MB",
        "weights and tables": f"{len(constants) / 1e6:.1f} MB",
    }
    if facts["kernels"] != compiler.digest():
        return {**told, "steps": "can be shown by the version of ssdrt that built it only"}, []
    tactics = {batch: [from_lists(values) for values in steps] for batch, steps in facts["tactics"]}
    network = plan_network(model)
    steps = network.steps
    rows = [(*(tactics[batch][index].words for batch in SHOWN), step.name) for index, step in enumerate(steps)]
    front = front_in({file for file, _ in code})
    if front is not None:
        names = [name for file, name in code if file == front.FILE]
        count = front.steps(network)
        told["pictures of its size"] = f"the first {count} steps by {' or '.join(names)}"
    return told, [(*(f"batch {batch}" for batch in SHOWN), "what it computes"), *rows]


def load(
    model: SsdModel,
    plan: bytes,
    precision: str,  # noqa: ARG001
    streams: int,
    device: int = 0,
) -> CudaEngine:
    """A plan on the GPU of that index; as many calls at once as there are streams, up to four: more share it no better.

    Raises
    ------
    EngineError: the plan is for another GPU or another version, or the GPU has no room for it.
    """
    from ssdrt.engines.cuda.runtime import CudaEngine

    facts, code, constants = compiler.load_code(plan)
    gpu = driver.Gpu(device)
    architecture = gpu.device().architecture
    if facts["architecture"] != architecture or facts["kernels"] != compiler.digest():
        raise EngineError(
            f"this plan is for {facts['architecture']} and kernels {facts['kernels']}, not for {architecture} "
            f"and {compiler.digest()}; build it again"
        )
    tactics = {batch: [from_lists(values) for values in steps] for batch, steps in facts["tactics"]}
    return CudaEngine(
        gpu, model, plan_network(model), tactics, code, Constants(facts["constants"], constants), min(streams, 4)
    )
