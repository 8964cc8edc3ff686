"""Two GPUs by index: the same detections on both, pictures where they lie, a thread each, others' arrays refused.

    python bench/cuda_gpus.py RESULT.json MODELS [--graph NAME] [--seconds 5]

PyTorch makes the arrays. What may cost the process its GPU is tried in a process of its own, at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from cuda_peers import model_of
from cuda_soak import made_jobs, same

from ssdrt.engines import cuda
from ssdrt.errors import EngineError
from ssdrt.pipeline import graph_parameters


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--graph", default="coco_ssd_mobilenet_v1_075_od2020")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--foreign", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    model = model_of(args.models, args.graph)
    parameters = replace(graph_parameters(model), score_threshold=0.05)
    report: dict = {"command": " ".join(sys.argv), "graph": args.graph}
    plans = [cuda.build(model, "fp16", index) for index in ((0,) if args.foreign else (0, 1))]
    engines = [cuda.load(model, plans[0], "fp16", 1, index) for index in (0, 1)]
    if args.foreign:
        print(json.dumps(foreign_interface(engines, parameters)))
        return
    report["gpus"] = [f"{engine.gpu.index} {engine.gpu.name}" for engine in engines]
    jobs = made_jobs(model)
    wanted = [engines[0].detect(job, parameters) for job in jobs]
    report["detections"] = sum(len(one[1]) for found in wanted for one in found)
    report["one plan, equal on both"] = all(
        same(engines[1].detect(job, parameters), right) for job, right in zip(jobs, wanted, strict=True)
    )
    own = cuda.load(model, plans[1], "fp16", 1, 1)
    report["a plan built on GPU 1, equal there or near"] = nearness(own, jobs, wanted, parameters)
    own.close()
    report["by DLPack"] = by_dlpack(engines, parameters)
    report["a thread each"] = in_threads(engines, jobs, wanted, parameters, args.seconds)
    for engine in engines:
        engine.close()
    words = [sys.executable, __file__, str(args.result), str(args.models), "--graph", args.graph, "--foreign"]
    environment = {**os.environ, cuda.UNTUNED: "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    report["an array without a device, on the other GPU"] = (done.stdout or done.stderr[-600:]).strip()
    args.result.write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))


def nearness(engine, jobs: list, wanted: list, parameters) -> dict:
    """Of another choice of kernels: in how many pictures there are as many detections, and the scores' difference."""
    alike, pictures, worst = 0, 0, 0.0
    for job, right in zip(jobs, wanted, strict=True):
        for one, other in zip(engine.detect(job, parameters), right, strict=True):
            pictures += 1
            if len(one[1]) == len(other[1]):
                alike += 1
                worst = max([worst, *np.abs(one[1] - other[1]).tolist()])
    return {"pictures": pictures, "as many detections": alike, "largest difference of scores": round(worst, 4)}


def by_dlpack(engines: list, parameters) -> dict:
    """Arrays of PyTorch on each GPU, given to each engine."""
    import torch

    images = np.random.default_rng(1).integers(0, 256, (5, 240, 320, 3), dtype=np.uint8)
    wanted = engines[0].detect(list(images), parameters)
    found = {}
    for index in (0, 1):
        array = torch.from_numpy(images).to(f"cuda:{index}")
        for engine in engines:
            name = f"on GPU {index}, engine of GPU {engine.gpu.index}"
            found[name] = outcome(partial(engine.detect_on_gpu, array, parameters), wanted)
    return found


def outcome(call: Callable[[], list], wanted: list) -> str:
    """Whether the detections are right, or what the error says."""
    try:
        return "right" if same(call(), wanted) else "WRONG"
    except EngineError as error:
        return str(error)


def in_threads(engines: list, jobs: list, wanted: list, parameters, seconds: float) -> dict:
    """Calls in turn on each GPU, by a thread each, both at once."""
    end, wrong, calls = time.monotonic() + seconds, [], [0, 0]

    def work(number: int) -> None:
        chosen = np.random.default_rng(number)
        while time.monotonic() < end:
            index = int(chosen.integers(len(jobs)))
            try:
                if not same(engines[number].detect(jobs[index], parameters), wanted[index]):
                    wrong.append(f"GPU {number}, job {index}")
            except EngineError as error:
                wrong.append(f"GPU {number}, job {index}: {error}")
            calls[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"calls": calls, "wrong": wrong[:5]}


def foreign_interface(engines: list, parameters) -> dict:
    """What comes of an array that shows an address alone, of the other GPU; and of the engine afterwards."""
    import torch

    images = np.random.default_rng(1).integers(0, 256, (5, 240, 320, 3), dtype=np.uint8)
    wanted = engines[0].detect(list(images), parameters)
    array = torch.from_numpy(images).to("cuda:1")
    torch.cuda.synchronize(1)

    class Shown:
        __cuda_array_interface__ = {  # noqa: RUF012
            "shape": images.shape, "typestr": "|u1", "data": (array.data_ptr(), False), "version": 3,
        }  # fmt: skip

    calls = {
        "given to GPU 0": partial(engines[0].detect_on_gpu, Shown(), parameters),
        "given to GPU 1": partial(engines[1].detect_on_gpu, Shown(), parameters),
        "GPU 0 afterwards": partial(engines[0].detect, list(images), parameters),
    }
    return {what: outcome(call, wanted) for what, call in calls.items()}


if __name__ == "__main__":
    main()
