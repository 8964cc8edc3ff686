"""The cuda engine under load: mixed batch and picture sizes from 8 threads; nothing wrong, memory flat.

    python bench/cuda_soak.py RESULT.json MODELS [--seconds 600] [--graph NAME]

Every call's detections must equal, bit for bit, those of the same call made alone before. Memory of the GPU and of the
process is read every second; growth counts from a quarter of the time on, when all graphs have been recorded.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from cuda_peers import model_of

from ssdrt.engines import cuda
from ssdrt.engines.cuda.driver import checked
from ssdrt.pipeline import graph_parameters

THREADS = 8


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--graph", default="coco_ssd_mobilenet_v1_075_od2020")
    args = parser.parse_args()
    model = model_of(args.models, args.graph)
    engine = cuda.load(model, cuda.build(model, "fp16"), "fp16", 4)
    parameters = replace(graph_parameters(model), score_threshold=0.05)
    jobs = made_jobs(model)
    wanted = [engine.detect(job, parameters) for job in jobs]
    end, wrong, calls, pictures = time.monotonic() + args.seconds, [], [0] * THREADS, [0] * THREADS

    def work(number: int) -> None:
        chosen = random.Random(number)
        while time.monotonic() < end and not wrong:
            index = chosen.randrange(len(jobs))
            try:
                found = engine.detect(jobs[index], parameters)
                for one, other in zip(found, wanted[index], strict=True):
                    for value, right in zip(one, other, strict=True):
                        np.testing.assert_array_equal(value, right)
            except Exception as error:
                wrong.append(f"job {index}: {type(error).__name__}: {error}"[:500])
            calls[number] += 1
            pictures[number] += len(jobs[index])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    memory = []
    while any(thread.is_alive() for thread in threads):
        engine.gpu.enter()
        free, _ = checked(engine.gpu.driver.cuMemGetInfo())
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        memory.append([round(args.seconds - (end - time.monotonic()), 1), free, resident])
        time.sleep(1)
    steady = memory[len(memory) // 4 :]
    report = {
        "command": " ".join(sys.argv),
        "gpu": engine.gpu.name,
        "graph": args.graph,
        "seconds": args.seconds,
        "threads": THREADS,
        "lanes": 4,
        "batches": sorted({len(job) for job in jobs}),
        "calls": sum(calls),
        "pictures": sum(pictures),
        "wrong": wrong,
        "gpu_growth_bytes": steady[0][1] - steady[-1][1],
        "host_growth_bytes": steady[-1][2] - steady[0][2],
        "memory_seconds_free_resident": memory,
    }
    args.result.write_text(json.dumps(report, indent=1))
    print(json.dumps({key: value for key, value in report.items() if key != "memory_seconds_free_resident"}))
    engine.close()


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
