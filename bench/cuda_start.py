"""How long the cuda engine takes to build, with and without tuning, and from a built plan to the first detection.

    python bench/cuda_start.py RESULT.json MODELS [--graphs a,b]

Every number is of a process of its own: nothing is compiled or cached before. Building includes the comparison with the
reference engine. "Own time" starts when libraries are imported and the driver's context is made, which come beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cuda_peers import model_of

GRAPHS = "ssd_mobilenet_v1_90_od2020,ssd_inception_v2_90_od2019"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--graphs", default=GRAPHS)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        kind, model, place = args.child
        print(json.dumps({"build": build, "load": load}[kind](pickle.loads(Path(model).read_bytes()), Path(place))))
        return
    report: dict = {"command": " ".join(sys.argv), "processors": os.cpu_count(), "graphs": {}}
    folder = Path(tempfile.mkdtemp())
    for graph in args.graphs.split(","):
        row = report["graphs"].setdefault(graph, {})
        model = folder / f"{graph}.model"
        model.write_bytes(pickle.dumps(model_of(args.models, graph)))
        for how, value in (("heuristics", "1"), ("tuned", "")):
            plan = folder / f"{graph}_{how}"
            for kind in ("build", "load"):
                words = [sys.executable, __file__, args.result, args.models, "--child", kind, model, plan]
                environment = {**os.environ, "SSDRT_CUDA_UNTUNED": value, "CUDA_CACHE_DISABLE": "1"}
                done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
                failed = {"failed": done.stderr[-400:]}
                row[f"{how} {kind}"] = json.loads(done.stdout) if done.returncode == 0 else failed
            print(graph, how, row[f"{how} build"], row[f"{how} load"], flush=True)
            args.result.write_text(json.dumps(report, indent=1))


def build(model, place: Path) -> dict:
    """Seconds of a build, of what comes before it, and of the comparison within it."""
    from ssdrt.engines import cuda, selfcheck
    from ssdrt.engines.cuda.driver import Gpu

    start = time.perf_counter()
    gpu = Gpu()
    gpu.enter()
    context, check = time.perf_counter() - start, []

    def timed_check(*words):
        begin = time.perf_counter()
        found = checked_before(*words)
        check.extend([time.perf_counter() - begin, *found])
        return found

    checked_before, selfcheck.check_itself = selfcheck.check_itself, timed_check
    start = time.perf_counter()
    plan = cuda.build(model, "fp16")
    whole = time.perf_counter() - start
    place.write_bytes(plan)
    return {
        "gpu": gpu.name, "build_s": round(whole, 2), "self_check_s": round(check[0], 2),
        "differences_score_box": check[1:], "context_s": round(context, 2), "plan_mb": round(len(plan) / 1e6, 1),
    }  # fmt: skip


def load(model, place: Path) -> dict:
    """Seconds from the plan's file to the first detection of a picture."""
    from ssdrt.engines import cuda
    from ssdrt.engines.cuda.driver import Gpu
    from ssdrt.pipeline import graph_parameters

    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    start = time.perf_counter()
    Gpu().enter()
    context = time.perf_counter() - start
    start = time.perf_counter()
    engine = cuda.load(model, place.read_bytes(), "fp16", 1)
    found = engine.detect([picture], graph_parameters(model))
    whole = time.perf_counter() - start
    engine.close()
    return {"load_to_first_detection_s": round(whole, 3), "context_s": round(context, 2), "found": len(found[0][1])}


if __name__ == "__main__":
    main()
