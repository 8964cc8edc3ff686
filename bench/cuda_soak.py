"""The cuda engine under load: mixed batch and picture sizes from 8 threads; nothing wrong, memory flat.

    python bench/cuda_soak.py RESULT.json MODELS [--seconds 600] [--graph NAME] [--part load|end] [--stop FILE]

Every call's detections must equal, bit for bit, those of the same call made alone before. Memory of the process, on the
GPU (as nvidia-smi tells of it, whatever others take, and what was asked for) and on the host, is read every few
seconds; growth counts from a quarter of the time on, when all graphs have been recorded. RESULT.json is written every
few seconds, too; the load ends early when FILE is there. At the end the GPU is filled up until a large batch has no
room: that call fails with our error and a small one goes on; then a process of its own loses the GPU, which is said,
too.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from cuda_peers import model_of

from ssdrt.engines import cuda
from ssdrt.engines.cuda.driver import DeviceMemory
from ssdrt.engines.gpu import checked
from ssdrt.errors import EngineError
from ssdrt.pipeline import graph_parameters

THREADS = 8
PATIENCE = 30.0
"""Seconds that a call may take to end once the time is up."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--graph", default="coco_ssd_mobilenet_v1_075_od2020")
    parser.add_argument("--part", choices=("load", "end"))
    parser.add_argument("--stop", type=Path)
    args = parser.parse_args()
    model = model_of(args.models, args.graph)
    say("building")
    plan = cuda.build(model, "fp16")
    parameters = replace(graph_parameters(model), score_threshold=0.05)
    say("alone")
    engine, jobs = cuda.load(model, plan, "fp16", 4), made_jobs(model)
    wanted = [engine.detect(job, parameters) for job in jobs]
    report: dict = {"command": " ".join(sys.argv), "gpu": engine.gpu.name, "graph": args.graph}
    report["kernels"] = "by rules of thumb" if os.environ.get(cuda.UNTUNED) else "measured"
    if args.part != "end":
        say("load")
        for told in load(engine, parameters, jobs, wanted, args.seconds, args.stop):
            write(args.result, report | told)
        report |= told
        if report["hanging"]:
            os._exit(1)
    engine.close()
    if args.part != "load":
        say("out of memory")
        report["out_of_memory"] = out_of_memory(cuda.load(model, plan, "fp16", 1), parameters, jobs, wanted)
        write(args.result, report)
        say("lost")
        report["lost"] = lost(args.models, args.graph)
        write(args.result, report)
    print(json.dumps({key: value for key, value in report.items() if not key.startswith("memory_")}))


def say(what: str) -> None:
    print(time.strftime("%H:%M:%S"), what, flush=True)


def write(path: Path, report: dict) -> None:
    """Whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(report, indent=1))
    part.replace(path)


def load(engine, parameters, jobs: list, wanted: list, seconds: float, stop: Path | None = None) -> Iterator[dict]:
    """Calls of all threads for so long; every few seconds, and at the end, what they took."""
    begin, over, wrong = time.monotonic(), threading.Event(), []
    calls, pictures = [0] * THREADS, [0] * THREADS

    def work(number: int) -> None:
        chosen = random.Random(number)
        while not over.is_set():
            index = chosen.randrange(len(jobs))
            try:
                if not same(engine.detect(jobs[index], parameters), wanted[index]):
                    wrong.append(f"job {index}: other detections")
            except Exception as error:
                wrong.append(f"job {index}: {type(error).__name__}: {error}"[:500])
            calls[number] += 1
            pictures[number] += len(jobs[index])

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    memory: list[list[float]] = []
    while True:
        passed = time.monotonic() - begin
        if passed > seconds or wrong or (stop and stop.exists()):
            over.set()
            for thread in threads:
                thread.join(max(0.0, PATIENCE - (time.monotonic() - begin - passed)))
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        taken, own = on_gpu(engine)
        memory.append([round(passed, 1), taken, resident, asked_for()])
        steady = memory[len(memory) // 4 :]
        yield {
            "seconds": round(passed, 1),
            "ended": over.is_set(),
            "hanging": sum(thread.is_alive() for thread in threads) if over.is_set() else 0,
            "threads": THREADS,
            "lanes": len(engine._all),
            "batches": sorted({len(job) for job in jobs}),
            "calls": sum(calls),
            "pictures": sum(pictures),
            "wrong": list(wrong),
            "gpu_growth_bytes": steady[-1][1] - steady[0][1],
            "gpu_memory_of": "this process" if own else "all processes",
            "host_growth_bytes": steady[-1][2] - steady[0][2],
            "asked_for_growth_bytes": steady[-1][3] - steady[0][3],
            "memory_seconds_gpu_host_asked_for": memory,
        }
        if over.is_set():
            return
        over.wait(2)


def on_gpu(engine) -> tuple[int, bool]:
    """Bytes that this process has on the GPU, and True; where nvidia-smi does not tell, that all have, and False."""
    words = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    with suppress(OSError, ValueError):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        own = [line for line in done.stdout.splitlines() if line.split(",")[0].strip() == str(os.getpid())]
        if own:
            return int(own[0].split(",")[1]) << 20, True
    return used(engine), False


def asked_for() -> int:
    """Bytes on the GPU that our engines of this process have asked the driver for and not given back."""
    return sum(one.size for one in gc.get_objects() if isinstance(one, DeviceMemory) and one.address)


def used(engine) -> int:
    """Bytes of the GPU that are taken."""
    engine.gpu.enter()
    free, total = checked(engine.gpu.driver.cuMemGetInfo())
    engine.gpu.leave()
    return int(total - free)


def same(found: list, wanted: list) -> bool:
    """Bit for bit."""
    pairs = zip(found, wanted, strict=True)
    return all(np.array_equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


def out_of_memory(engine, parameters, jobs: list, wanted: list) -> dict:
    """What a batch too large for the memory that is left says, and whether small ones are right then and large ones
    after the memory has been given back."""
    small = min(range(len(jobs)), key=lambda index: sum(one.size for one in jobs[index]))
    first_small = same(engine.detect(jobs[small], parameters), wanted[small])
    engine.gpu.enter()
    taken: list = []
    for size in (1 << 33, 1 << 30, 1 << 27, 1 << 24):
        with suppress(EngineError):
            while True:
                taken.append(DeviceMemory(engine.gpu, size))
    large = max(range(len(jobs)), key=lambda index: len(jobs[index]))
    try:
        engine.detect(jobs[large], parameters)
        said = ""
    except EngineError as error:
        said = str(error)
    first_small = first_small and same(engine.detect(jobs[small], parameters), wanted[small])
    for memory in taken:
        memory.free()
    report = {"said": said, "small_ones_right": first_small}
    report["large_right_afterwards"] = same(engine.detect(jobs[large], parameters), wanted[large])
    engine.close()
    return report


LOSE = """
import numpy as np
from cuda_peers import model_of
from pathlib import Path
import sys
from ssdrt.engines import cuda
from ssdrt.errors import EngineError
from ssdrt.pipeline import graph_parameters
model = model_of(Path(sys.argv[1]), sys.argv[2])
engine = cuda.load(model, cuda.build(model, "fp16"), "fp16", 1)
def lose():
    with engine._lanes.one() as lane:
        lane.detect_resident([(4096, *model.input_size)], graph_parameters(model))
for call in (lose, lambda: engine.detect([np.zeros((300, 300, 3), np.uint8)], graph_parameters(model))):
    try:
        call()
        print("nothing")
    except EngineError as error:
        print(error)
engine.close()
print("closed")
"""


def lost(models: Path, graph: str) -> list[str]:
    """What two calls of a process say whose GPU failed: pictures that do not lie where they are said to."""
    words = [sys.executable, "-c", LOSE, str(models), graph]
    environment = {**os.environ, cuda.UNTUNED: "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return [*done.stdout.splitlines(), *done.stderr.splitlines()[-3:]]


def made_jobs(model) -> list[list[np.ndarray]]:
    """Batches of 1 to 70 pictures of 40 to 700 pixels, some of the network's own size."""
    chosen = np.random.default_rng(0)
    jobs = []
    for count in (1, 1, 1, 1, 2, 3, 5, 8, 13, 20, 33, 70):
        sizes = chosen.integers(40, 700, (count, 2))
        if count % 2:
            sizes[:] = model.input_size
        jobs.append([smooth(chosen, *size) for size in sizes.tolist()])
    return jobs


def smooth(chosen: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture with edges of all sizes."""
    rows, columns = np.arange(height)[:, None, None], np.arange(width)[None, :, None]
    waves = np.sin(rows * chosen.uniform(0, 0.2, 3) + columns * chosen.uniform(0, 0.2, 3) + chosen.uniform(0, 6, 3))
    return (127 + 100 * waves + chosen.normal(0, 15, (height, width, 3))).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
