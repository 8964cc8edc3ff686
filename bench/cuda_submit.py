"""Pictures a second from the host, in calls of 1, 8 and 64: one call after the other, submitted by one thread, and by a
thread for each lane, in turns.

    python bench/cuda_submit.py RESULT.json MODEL.pb [--lanes 2 4] [--seconds 2]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from ssdrt.engines import cuda
from ssdrt.graph import read_graph
from ssdrt.pipeline import graph_parameters
from ssdrt.recover import recover

BATCHES, TURNS = (1, 8, 64), 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--lanes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    args = parser.parse_args()
    model = recover(read_graph(args.model))
    parameters, plan = replace(graph_parameters(model), score_threshold=0.3), cuda.build(model, "fp16")
    report: dict = {"command": " ".join(sys.argv), "fingerprint": cuda.fingerprint(), "pictures a second": {}}
    for lanes in args.lanes:
        engine = cuda.load(model, plan, "fp16", lanes)
        for batch in BATCHES:
            images = list(np.random.default_rng(batch).integers(0, 256, (batch, *model.input_size, 3), dtype=np.uint8))
            ways = {"in turn": in_turn, "submitted": submitted, "threads": threads}
            row = report["pictures a second"][f"{lanes} lanes, {batch} pictures"] = {name: [] for name in ways}
            wanted = engine.detect(images, parameters)
            for _ in range(TURNS):
                for name, way in ways.items():
                    calls, elapsed = way(engine, images, parameters, lanes, args.seconds)
                    row[name].append(round(calls * batch / elapsed))
            last = engine.submit(images, parameters).result()
            pairs = [pair for one, right in zip(last, wanted, strict=True) for pair in zip(one, right, strict=True)]
            row["equal"] = all(np.array_equal(*pair) for pair in pairs)
        engine.close()
    args.result.write_text(json.dumps(report, indent=1))
    print(json.dumps(report["pictures a second"], indent=1))


def repeated(call: Callable[[], object], seconds: float) -> tuple[int, float]:
    """How many calls, and the seconds they took; the first 20 are not counted."""
    for _ in range(20):
        call()
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        call()
        calls += 1
    return calls, time.perf_counter() - begin


def in_turn(engine, images: list, parameters, _lanes: int, seconds: float) -> tuple[int, float]:
    return repeated(lambda: engine.detect(images, parameters), seconds)


def submitted(engine, images: list, parameters, lanes: int, seconds: float) -> tuple[int, float]:
    under_way = deque(engine.submit(images, parameters) for _ in range(lanes))

    def call() -> None:
        under_way.popleft().result()
        under_way.append(engine.submit(images, parameters))

    done = repeated(call, seconds)
    for one in under_way:
        one.result()
    return done


def threads(engine, images: list, parameters, lanes: int, seconds: float) -> tuple[int, float]:
    with ThreadPoolExecutor(lanes) as pool:
        runs = [pool.submit(in_turn, engine, images, parameters, lanes, seconds) for _ in range(lanes)]
        done = [run.result() for run in runs]
    return sum(calls for calls, _ in done), max(elapsed for _, elapsed in done)


if __name__ == "__main__":
    main()
