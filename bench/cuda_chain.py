"""Chains, inverted residuals and squeeze-excite (`chain.cu`, `inverted.cu`, `squeezed.cu`, `excited.cu`) against the
kernels that they replace, on a GPU, in turns, on random numbers.

    python bench/cuda_chain.py RESULT.json MODEL.pb [--batches 256,64,8]

Microseconds of each kernel that can compute a chain as far as its second depthwise convolution, or any of the others,
and of the likely best kernels of its parts.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from ssdrt.engines import cuda
from ssdrt.engines.cuda import compiler
from ssdrt.engines.cuda.driver import DeviceMemory, Gpu, Stream, load_functions
from ssdrt.engines.cuda.launch import Builder, Constants, Launch, Memory, slot_offsets
from ssdrt.engines.cuda.makers import launches
from ssdrt.engines.cuda.plan import Excited, Plan, Several, TwoSteps, key_of
from ssdrt.engines.cuda.planner import plan_network
from ssdrt.engines.cuda.tactics import tactics
from ssdrt.engines.cuda.tuner import time_launches
from ssdrt.engines.gpu import checked
from ssdrt.graph import read_graph
from ssdrt.recover import recover


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--batches", default="256,64,8")
    args = parser.parse_args()
    plan = plan_network(recover(read_graph(args.model)))
    gpu = Gpu()
    gpu.enter()
    report = {"command": " ".join(sys.argv), "fingerprint": cuda.fingerprint(), "us": {}}
    for batch in map(int, args.batches.split(",")):
        for name, rows in measure(gpu, plan, batch).items():
            report["us"][f"{name}, batch {batch}"] = rows
            print(name, batch, *(f"\n  {us:8.1f}  {label}" for label, us in rows.items()), flush=True)
            args.result.write_text(json.dumps(report, indent=1))


def measure(gpu: Gpu, plan: Plan, batch: int) -> dict[str, dict[str, float]]:
    """Name of a step -> kernel -> microseconds."""
    constants, stream = Constants(), Stream(gpu)
    rows = candidates(Builder(plan, batch, Memory((0,) * len(plan.slots), 0), constants), gpu)
    offsets, size = slot_offsets(plan, batch)
    arena, weights = DeviceMemory(gpu, size), DeviceMemory(gpu, constants.size)
    weights.upload(constants.data())
    some = np.abs(np.random.default_rng(batch).normal(0, 1, 1 << 22)).astype(np.float16).tobytes()
    for start in range(0, size, len(some)):
        part = some[: size - start]
        checked(gpu.driver.cuMemcpyHtoD(arena.address + start, part, len(part)))
    places = Memory(tuple(arena.address + one for one in offsets), weights.address)
    rows = candidates(Builder(plan, batch, places, constants), gpu)
    wanted = {(launch.file, launch.name) for row in rows.values() for each in row.values() for launch in each}
    functions, modules = load_functions(gpu, compiler.compile_kernels(wanted, gpu.device().architecture))
    found = {}
    for name, row in rows.items():
        times = time_launches(gpu, stream, functions, list(row.values()))
        found[name] = {label: round(us, 1) for label, us in zip(row, times, strict=True)}
    stream.destroy()
    for module in modules:
        gpu.driver.cuModuleUnload(module)
    for memory in (arena, weights):
        memory.free()
    return found


def candidates(build: Builder, gpu: Gpu) -> dict[str, dict[str, list[Launch]]]:
    """Name of a step -> kernel -> its launches."""
    found: dict[str, dict[str, list[Launch]]] = {}
    device = gpu.device()
    for index, step in enumerate(build.plan.steps):
        if not isinstance(step, Several):
            continue
        row = found.setdefault(step.name, {})
        for tactic in tactics(step, build.batch, device):
            if tactic.kernel != "apart":
                whole = launches(build, str(index), step, tactic)[0]
                row[f"{whole.name} of {tactic.rows}" if isinstance(step, Excited) else whole.name] = [whole]
        parts = [(part, key_of(str(index), i), part.name) for i, part in enumerate(step.parts)]
        if isinstance(step, TwoSteps):
            parts = [
                (step.first, f"{index} first", "what comes first"),
                (step.second.depthwise, f"{index} second Depthwise", "the depthwise convolution of the second"),
                (step.second.point, f"{index} second Convolution", "the 1x1 behind it"),
            ]
        for part, key, say in parts:
            for tactic in tactics(part, build.batch, device)[:4]:
                kernels = " and ".join(one.kernel for one in tactic.inner or (tactic,))
                row[f"{say}: {kernels}"] = launches(build, key, part, tactic)
    return found


if __name__ == "__main__":
    main()
