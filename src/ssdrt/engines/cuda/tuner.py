"""Measures which kernel computes each step fastest on this GPU, at a few batch sizes, in bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ssdrt.engines.cuda import compiler
from ssdrt.engines.cuda.driver import DeviceMemory, Gpu, Stream, checked, load_functions
from ssdrt.engines.cuda.launch import Builder, Constants, Launch, Memory, slot_offsets
from ssdrt.engines.cuda.makers import step_launches
from ssdrt.engines.cuda.plan import Plan
from ssdrt.engines.cuda.tactics import Device, Tactic, tactics

BATCHES = (1, 8, 64, 256)
"""Batch sizes that are measured; one in between takes what the nearest larger one took."""

ROUND = 8  # runs of a kernel in one recording
ROUNDS = 4  # recordings, of which the fastest counts


def tune(gpu: Gpu, plan: Plan, seconds: float, advance: Callable[[int], None]) -> dict[int, list[Tactic]]:
    """The fastest tactic of each step at each of BATCHES; once the time is up, the likely best of what is left.

    The same kernels win again unless they are within a few per cent of each other.

    Parameters
    ----------
    seconds: of measuring; compiling comes before it.
    advance: called with 1 after every measurement.
    """
    gpu.enter()
    device = gpu.device()
    choices = {batch: [tactics(step, batch, device) for step in plan.steps] for batch in BATCHES}
    functions, modules = load_functions(gpu, _compiled(plan, choices, device))
    stream = Stream(gpu)
    deadline = time.monotonic() + seconds
    best: dict[int, list[Tactic]] = {}
    for batch, steps in choices.items():
        measuring = _Measuring(gpu, plan, batch, steps, stream, functions)
        best[batch] = []
        for index, candidates in enumerate(steps):
            times = measuring.microseconds(index, candidates) if time.monotonic() < deadline else {}
            pair = best_pair(times)
            if pair is not None:
                times |= measuring.microseconds(index, [pair, min(times, key=times.__getitem__)])
            advance(len(candidates))
            best[batch].append(min(times, key=times.__getitem__) if times else candidates[0])
        measuring.free()
    stream.destroy()
    for module in modules:
        gpu.driver.cuModuleUnload(module)
    return best


def best_pair(times: dict[Tactic, float]) -> Tactic | None:
    """The fastest first kernel with the fastest second one, if they were not measured together."""
    pairs = {tactic.inner: time for tactic, time in times.items() if tactic.inner}
    if not pairs:
        return None
    usual = next(iter(pairs))
    first = min((pair for pair in pairs if pair[1] == usual[1]), key=pairs.__getitem__)[0]
    second = min((pair for pair in pairs if pair[0] == usual[0]), key=pairs.__getitem__)[1]
    return None if (first, second) in pairs else Tactic("apart", inner=(first, second))


def _compiled(
    plan: Plan, choices: dict[int, list[list[Tactic]]], device: Device
) -> dict[compiler.Wanted, compiler.Code]:
    wanted = set()
    for batch, steps in choices.items():
        maker = Builder(plan, batch, Memory((0,) * len(plan.slots), 0), Constants())
        for index, candidates in enumerate(steps):
            wanted |= {(one.file, one.name) for tactic in candidates for one in step_launches(maker, index, tactic)}
    return compiler.compile_kernels(wanted, device.architecture)


class _Measuring:
    """Memory of a batch, and all weights that any candidate reads."""

    def __init__(
        self, gpu: Gpu, plan: Plan, batch: int, steps: list[list[Tactic]], stream: Stream, functions: dict[Any, Any]
    ) -> None:
        offsets, size = slot_offsets(plan, batch)
        self._gpu, self._stream, self._functions = gpu, stream, functions
        constants = Constants()
        maker = Builder(plan, batch, Memory((0,) * len(plan.slots), 0), constants)
        for index, candidates in enumerate(steps):
            for tactic in candidates:
                step_launches(maker, index, tactic)
        self._weights, self._arena = DeviceMemory(gpu, constants.size), DeviceMemory(gpu, size)
        self._weights.upload(constants.data())
        self._arena.fill(0x2E)  # fp16 0.1 everywhere: no sums of nothing
        places = Memory(tuple(self._arena.address + offset for offset in offsets), self._weights.address)
        self._builder = Builder(plan, batch, places, constants)

    def microseconds(self, index: int, candidates: list[Tactic]) -> dict[Tactic, float]:
        """Of one run of each. They take turns, because a GPU that gets warm slows down."""
        if len(candidates) == 1:
            return dict.fromkeys(candidates, 0.0)
        launches = [step_launches(self._builder, index, tactic) for tactic in candidates]
        found = time_launches(self._gpu, self._stream, self._functions, launches)
        return dict(zip(candidates, found, strict=True))

    def free(self) -> None:
        """Give the memory back."""
        self._stream.wait()
        self._weights.free()
        self._arena.free()


def time_launches(gpu: Gpu, stream: Stream, functions: dict[Any, Any], candidates: list[list[Launch]]) -> list[float]:
    """Microseconds of each list of launches, in a row; the fastest of a few recordings of several rows."""
    driver = gpu.driver
    graphs = []
    for launches in candidates:
        stream.begin()
        for _ in range(ROUND):
            for launch in launches:
                stream.launch(functions, launch, overlapping=True)
        graphs.append(stream.end())
        stream.replay(graphs[-1])
    begin, end = (checked(driver.cuEventCreate(0)) for _ in range(2))
    fastest = [float("inf")] * len(graphs)
    for _ in range(ROUNDS):
        for index, graph in enumerate(graphs):
            checked(driver.cuEventRecord(begin, stream.handle))
            stream.replay(graph)
            checked(driver.cuEventRecord(end, stream.handle))
            checked(driver.cuEventSynchronize(end))
            fastest[index] = min(fastest[index], 1e3 * checked(driver.cuEventElapsedTime(begin, end)) / ROUND)
    for graph in graphs:
        driver.cuGraphExecDestroy(graph)
    for event in (begin, end):
        driver.cuEventDestroy(event)
    return fastest
