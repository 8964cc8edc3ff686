"""Measures which kernel computes each step fastest on this GPU, at a few batch sizes, in bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from ssdrt.engines.cuda import compiler
from ssdrt.engines.cuda.driver import DeviceMemory, Gpu, Stream, load_functions
from ssdrt.engines.cuda.launch import Builder, Constants, Launch, Memory, slot_offsets
from ssdrt.engines.cuda.makers import launches
from ssdrt.engines.cuda.plan import Plan, Separable, Several, Step, key_of
from ssdrt.engines.cuda.tactics import Device, Tactic, tactics
from ssdrt.engines.gpu import checked
from ssdrt.errors import OutOfMemory

BATCHES = (1, 8, 64, 256)
"""Batch sizes that are measured; one in between takes what the nearest larger one took."""

ROUND = 8  # runs of a kernel in one recording
ROUNDS = 4  # recordings, of which the fastest counts


def tune(gpu: Gpu, plan: Plan, seconds: float, advance: Callable[[int], None]) -> dict[int, list[Tactic]]:
    """The fastest tactic of each step at each of BATCHES; once the time is up, or where a batch finds no room on the
    GPU, the likely best, made of parts that were measured if some were.

    The same kernels win again unless they are within a few per cent of each other.

    Parameters
    ----------
    seconds: of measuring; compiling comes before it.
    advance: called with the number of kernels that were compiled, and of tactics that were measured.
    """
    with ExitStack() as held:
        held.callback(gpu.release)
        gpu.enter()
        held.callback(gpu.leave)
        device = gpu.device()
        choices = choices_of(plan, device)
        fastest = {batch: {key: one[0] for key, (_, one) in choice.items()} for batch, choice in choices.items()}
        constants = Constants()
        functions, modules = load_functions(gpu, compiled(plan, choices, device, constants, advance))
        for module in modules:
            held.callback(gpu.driver.cuModuleUnload, module)
        stream = Stream(gpu)
        held.callback(stream.destroy)
        with suppress(OutOfMemory):
            weights = DeviceMemory(gpu, constants.size)
            held.callback(weights.free)
            weights.upload(constants.data())
            deadline = time.monotonic() + seconds
            for batch, choice in choices.items():
                with suppress(OutOfMemory), _arena(gpu, plan, batch, stream) as slots:
                    build = Builder(plan, batch, Memory(slots, weights.address), constants)
                    improve(fastest[batch], choice, _Measure(gpu, stream, functions, build, choice, deadline), advance)
    return {batch: [found[str(index)] for index in range(len(plan.steps))] for batch, found in fastest.items()}


def parts(key: str, step: Step) -> list[tuple[str, Step]]:
    """What is measured for a step, each with its key: the parts of `Several` come before it."""
    if not isinstance(step, Several):
        return [(key, step)]
    return [*((key_of(key, i), part) for i, part in enumerate(step.parts)), (key, step)]


def improve(
    fastest: dict[str, Tactic],
    choice: Choice,
    measure: Callable[[str, list[Tactic]], dict[Tactic, float]],
    advance: Callable[[int], None],
) -> None:
    """Put what is measured to be fastest where the likely best stands.

    Parameters
    ----------
    measure: microseconds of each tactic of a key; of none once the time is up.
    advance: called with the number of tactics after every key.
    """
    for key, (step, candidates) in choice.items():
        if isinstance(step, Several):  # its parts by themselves are the best of each
            apart = Tactic("apart", inner=tuple(fastest[key_of(key, i)] for i in range(len(step.parts))))
            candidates = [apart if one.kernel == "apart" else one for one in candidates]
            fastest[key] = candidates[0]
        times = measure(key, candidates)
        pair = best_pair(times) if isinstance(step, Separable) else None
        if pair is not None:
            times |= measure(key, [pair, min(times, key=times.__getitem__)])
        advance(len(candidates))
        if times:
            fastest[key] = min(times, key=times.__getitem__)


def best_pair(times: dict[Tactic, float]) -> Tactic | None:
    """The fastest first kernel with the fastest second one, if they were not measured together."""
    pairs = {tactic.inner: time for tactic, time in times.items() if tactic.kernel == "apart"}
    if not pairs:
        return None
    usual = next(iter(pairs))
    first = min((pair for pair in pairs if pair[1] == usual[1]), key=pairs.__getitem__)[0]
    second = min((pair for pair in pairs if pair[0] == usual[0]), key=pairs.__getitem__)[1]
    return None if (first, second) in pairs else Tactic("apart", inner=(first, second))


Choice: TypeAlias = dict[str, tuple[Step, list[Tactic]]]
"""Key of a step or a part of one -> it, and the tactics that can compute it at a batch size."""


def choices_of(plan: Plan, device: Device) -> dict[int, Choice]:
    """What is measured, at each of BATCHES."""
    every = [part for index, step in enumerate(plan.steps) for part in parts(str(index), step)]
    return {batch: {key: (step, tactics(step, batch, device)) for key, step in every} for batch in BATCHES}


def compiled(
    plan: Plan,
    choices: dict[int, Choice],
    device: Device,
    constants: Constants | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[compiler.Wanted, compiler.Code]:
    """The kernels of all of them; what they read goes to `constants`."""
    constants, wanted = constants or Constants(), set()
    for batch, choice in choices.items():
        maker = Builder(plan, batch, Memory((0,) * len(plan.slots), 0), constants)
        for key, (step, candidates) in choice.items():
            wanted |= {(one.file, one.name) for tactic in candidates for one in launches(maker, key, step, tactic)}
    return compiler.compile_kernels(wanted, device.architecture, advance)


@contextmanager
def _arena(gpu: Gpu, plan: Plan, batch: int, stream: Stream) -> Iterator[tuple[int, ...]]:
    """Addresses of the plan's slots for a batch."""
    offsets, size = slot_offsets(plan, batch)
    memory = DeviceMemory(gpu, size)
    try:
        memory.fill(0x2E)  # fp16 0.1 everywhere: no sums of nothing
        yield tuple(memory.address + offset for offset in offsets)
    finally:
        stream.settle()
        memory.free()


@dataclass(frozen=True)
class _Measure:
    """Microseconds of each tactic of a key; of none after `end`, as `time.monotonic` has it."""

    gpu: Gpu
    stream: Stream
    functions: dict[Any, Any]
    build: Builder
    choice: Choice
    end: float

    def __call__(self, key: str, candidates: list[Tactic]) -> dict[Tactic, float]:
        """They take turns: a GPU that gets warm slows down."""
        if time.monotonic() > self.end:
            return {}
        if len(candidates) == 1:
            return dict.fromkeys(candidates, 0.0)
        step = self.choice[key][0]
        each = [launches(self.build, key, step, tactic) for tactic in candidates]
        return dict(zip(candidates, time_launches(self.gpu, self.stream, self.functions, each), strict=True))


def time_launches(gpu: Gpu, stream: Stream, functions: dict[Any, Any], candidates: list[list[Launch]]) -> list[float]:
    """Microseconds of each list of launches, in a row; the fastest of a few recordings of several rows."""
    driver = gpu.driver
    graphs, fastest = [], [float("inf")] * len(candidates)
    with ExitStack() as held:
        for row in candidates:
            graphs.append(stream.record(partial(_in_a_row, stream, functions, row)))
            held.callback(driver.cuGraphExecDestroy, graphs[-1])
            stream.replay(graphs[-1])
        begin, end = (checked(driver.cuEventCreate(0)) for _ in range(2))
        for event in (begin, end):
            held.callback(driver.cuEventDestroy, event)
        held.callback(stream.settle)
        for _ in range(ROUNDS):
            for index, graph in enumerate(graphs):
                checked(driver.cuEventRecord(begin, stream.handle))
                stream.replay(graph)
                checked(driver.cuEventRecord(end, stream.handle))
                checked(driver.cuEventSynchronize(end))
                fastest[index] = min(fastest[index], 1e3 * checked(driver.cuEventElapsedTime(begin, end)) / ROUND)
    return fastest


def _in_a_row(stream: Stream, functions: dict[Any, Any], row: list[Launch]) -> None:
    for _ in range(ROUND):
        for launch in row:
            stream.launch(functions, launch, overlapping=True)
