"""Convolutions with windows on a GPU of compute capability 9.0: the cuda engine's kernels.

    python bench/cuda_windows.py RESULT.json MODELS [--graphs a,b] [--batches 1,8,64]

MODELS is a folder of `graphs.json` and `unpack.py`. The kernels of a convolution take turns; times are medians in
microseconds, on random numbers. "network" is all steps from the resized pictures to the logits, with the fastest kernel
for every window among those named.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ssdrt.engines.cuda import compiler
from ssdrt.engines.cuda.driver import DeviceMemory, Gpu, Stream, load_functions
from ssdrt.engines.cuda.launch import Builder, Constants, Memory, slot_offsets
from ssdrt.engines.cuda.makers import step_launches
from ssdrt.engines.cuda.plan import Convolution
from ssdrt.engines.cuda.planner import plan_network
from ssdrt.engines.cuda.tactics import is_point, tactics
from ssdrt.engines.gpu import checked
from ssdrt.graph import read_graph
from ssdrt.recover import recover

AT_ONCE = 6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--graphs", default="ssd_inception_v2_90_od2019,ssd_resnet50_fpn_640_90_od2019")
    parser.add_argument("--batches", default="64,8,1")
    args = parser.parse_args()
    names, folder = args.graphs.split(","), Path(tempfile.mkdtemp())
    subprocess.run(
        [sys.executable, str(args.models / "unpack.py"), str(folder), *names], check=True, capture_output=True
    )
    gpu = Gpu()
    gpu.enter()
    report = {"command": " ".join(sys.argv), "gpu": gpu.name, "graphs": {}}
    for name in names:
        plan = plan_network(recover(read_graph(folder / f"{name}.pb")))
        for batch in map(int, args.batches.split(",")):
            row = report["graphs"].setdefault(name, {})[batch] = measure(gpu, plan, batch)
            print(name, batch, row["network_us"], flush=True)
            args.result.write_text(json.dumps(report, indent=1))


def family(tactic) -> str:
    """Which kernels are compared."""
    name = tactic.kernel.split("<")[0]
    return "portable" if name in ("convolution", "few_pixels") else name


def measure(gpu: Gpu, plan, batch: int) -> dict:
    """Times of every different window, and of the network."""
    device, stream = gpu.device(), Stream(gpu)
    choices = [
        tactics(step, batch, device)[: None if isinstance(step, Convolution) and not is_point(step) else 1]
        for step in plan.steps
    ]
    windows = {}  # of different ones
    for index, step in enumerate(plan.steps):
        if isinstance(step, Convolution) and not is_point(step):
            key = (step.source, step.weights.shape, step.strides, step.target.stride, step.target.channels)
            windows.setdefault(str(key), []).append(index)
    places = Memory((0,) * len(plan.slots), 0)
    constants, wanted = Constants(), set()
    for index, candidates in enumerate(choices):
        for tactic in candidates:
            for launch in step_launches(Builder(plan, batch, places, constants), index, tactic):
                wanted.add((launch.file, launch.name))
    functions, modules = load_functions(gpu, compiler.compile_kernels(wanted, device.architecture))
    offsets, size = slot_offsets(plan, batch)
    arena, weights = DeviceMemory(gpu, size), DeviceMemory(gpu, constants.size)
    weights.upload(constants.data())
    some = np.random.default_rng(batch).normal(0, 1, 1 << 22).astype(np.float16).tobytes()
    for start in range(0, size, len(some)):
        part = some[: size - start]
        checked(gpu.driver.cuMemcpyHtoD(arena.address + start, part, len(part)))
    build = Builder(plan, batch, Memory(tuple(arena.address + one for one in offsets), weights.address), constants)
    rows, best = [], {}
    for indices in windows.values():
        step, candidates = plan.steps[indices[0]], choices[indices[0]]
        graphs = [
            record(stream, functions, step_launches(build, indices[0], tactic) * AT_ONCE) for tactic in candidates
        ]
        times = [us / AT_ONCE for us in medians(gpu, stream, graphs, 5)]
        for index in indices:
            best[index] = {}
            for us, tactic in sorted(zip(times, candidates, strict=True), key=lambda pair: -pair[0]):
                best[index][family(tactic)] = us, tactic
        flops = 2 * batch * step.target.height * step.target.width * float(np.prod(step.weights.shape))
        row = {
            "size": [step.source.height, step.source.width], "weights": step.weights.shape, "strides": step.strides,
            "gflop": flops / 1e9, "times_in_network": len(indices),
        }  # fmt: skip
        row["us"] = {name: [round(us, 2), tactic.kernel] for name, (us, tactic) in best[indices[0]].items()}
        rows.append(row)
    graphs, names = [], (["portable"], ["portable", "dense"], ["portable", "dense", "front"])
    for allowed in names:
        launches = []
        for index, candidates in enumerate(choices):
            found = [one for name, one in best.get(index, {}).items() if name in allowed]
            tactic = min(found, key=lambda pair: pair[0])[1] if found else candidates[0]
            launches += step_launches(build, index, tactic)
        graphs.append(record(stream, functions, launches))
    network = medians(gpu, stream, graphs, 15)
    for memory in (arena, weights):
        memory.free()
    stream.destroy()
    for module in modules:
        gpu.driver.cuModuleUnload(module)
    named = {" or ".join(allowed): round(us, 1) for allowed, us in zip(names, network, strict=True)}
    return {"network_us": named, "windows": rows}


def record(stream: Stream, functions: dict, launches: list):
    """A graph of launches in a row."""
    stream.begin()
    for launch in launches:
        stream.launch(functions, launch, overlapping=True)
    return stream.end()


def medians(gpu: Gpu, stream: Stream, graphs: list, rounds: int) -> list[float]:
    """Microseconds of each graph; they take turns."""
    driver = gpu.driver
    begin, end = (checked(driver.cuEventCreate(0)) for _ in range(2))
    times = [[] for _ in graphs]
    for _ in range(rounds + 1):
        for graph, samples in zip(graphs, times, strict=True):
            checked(driver.cuEventRecord(begin, stream.handle))
            stream.replay(graph)
            checked(driver.cuEventRecord(end, stream.handle))
            checked(driver.cuEventSynchronize(end))
            samples.append(1e3 * checked(driver.cuEventElapsedTime(begin, end)))
    for graph in graphs:
        driver.cuGraphExecDestroy(graph)
    return [float(np.median(samples[1:])) for samples in times]


if __name__ == "__main__":
    main()
