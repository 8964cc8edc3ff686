"""One picture at a time on the cuda engine: the whole graph and the network, with predictions on branches and without;
each kernel in its place; pinned picture to detections on the host.

    python bench/cuda_latency.py RESULT.json MODEL.pb [--candidates 500] [--without few_separable]

With --without, a second engine that may not choose that kernel takes turns with the first.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from cuda_engine import AT_ONCE, biased, host_to_host, pictures_on_gpu, timed

from ssdrt.engines import cuda
from ssdrt.engines.cuda import driver, ends, runtime, tuner
from ssdrt.engines.cuda.planner import plan_network
from ssdrt.engines.cuda.tactics import tactics
from ssdrt.graph import read_graph
from ssdrt.pipeline import graph_parameters
from ssdrt.recover import recover

THRESHOLD, TURNS, STARTS = 0.3, 3, 1100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--candidates", type=int, default=500, help="of a picture above 0.3, by lower class biases")
    parser.add_argument("--without", default="")
    args = parser.parse_args()
    model = biased(recover(read_graph(args.model)), args.candidates)
    engines = {"all kernels": built(model, "")}
    if args.without:
        engines[f"without {args.without}"] = built(model, args.without)
    report = {"command": " ".join(sys.argv), "fingerprint": cuda.fingerprint(), "us": {}}
    for _ in range(TURNS):
        for name, engine in engines.items():
            row = report["us"].setdefault(name, {})
            for beside in (runtime.BESIDE, 0):
                launches, memory = prepared(engine, beside)
                network = launches[: 1 - len(ends.tail_kernels(model))]  # of two kernels that list, one is launched
                where = "branches" if beside else "one queue"
                times = [graph_time(engine, some) for some in (launches, network)]
                row.setdefault(f"graph, network alone; {where}", []).append(times)
                memory.free()
            starts = host_to_host(engine, THRESHOLD, STARTS)[100:]
            percentiles = [round(float(np.percentile(starts, q)), 1) for q in (50, 99)]
            row.setdefault("host to host: median, 99th percentile", []).append(percentiles)
    report["in place"] = in_place(engines["all kernels"])
    args.result.write_text(json.dumps(report, indent=1))
    print(json.dumps(report["us"], indent=1))


def built(model, without: str):
    """An engine whose kernels were measured here, all but one of them."""
    if without:
        tuner.tactics = lambda *what: [one for one in tactics(*what) if not one.kernel.startswith(without)]
    gpu = driver.Gpu()
    measured = tuner.tune(gpu, plan_network(model), cuda.SECONDS, lambda _: None)
    tuner.tactics = tactics
    return cuda.load(model, cuda.build_for(model, gpu.device(), measured), "fp16", 1)


def prepared(engine, beside: int):
    """The launches for a picture on the GPU, up to so many pictures with predictions on branches; and its memory."""
    kept, runtime.BESIDE = runtime.BESIDE, beside
    engine.gpu.enter()
    lane = engine._all[0]
    memory, table = pictures_on_gpu(engine, 1)
    parameters = replace(graph_parameters(engine.model), score_threshold=THRESHOLD)
    launches = lane.launches(lane.prepare_resident(table, parameters), 1)
    runtime.BESIDE = kept
    return launches, memory


def graph_time(engine, launches) -> float:
    """Microseconds of a graph of these launches."""
    stream = engine._all[0].stream
    graph = stream.record(lambda: stream.launch_all(engine.functions, launches))

    def work() -> None:
        for _ in range(AT_ONCE):
            stream.replay(graph)

    us = timed(engine, stream, work, 9) / AT_ONCE
    engine.gpu.driver.cuGraphExecDestroy(graph)
    return round(us, 2)


def in_place(engine) -> list:
    """[kernel, what, blocks, microseconds that it adds to the graph of those before it], predictions left out."""
    launches, memory = prepared(engine, runtime.BESIDE)
    network = [one for one in launches if one.branch != "aside"][: 1 - len(ends.tail_kernels(engine.model))]
    rows, before = [], 0.0
    for count, launch in enumerate(network, 1):
        us = graph_time(engine, network[:count])
        rows.append([launch.name, launch.step[-40:], launch.grid[0] * launch.grid[1], round(us - before, 2)])
        before = us
    memory.free()
    return rows


if __name__ == "__main__":
    main()
