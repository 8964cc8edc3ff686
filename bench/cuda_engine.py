"""The cuda engine on a GPU: detections against TensorFlow's recorded ones; time of batches, of kernels, of one picture.

    python bench/cuda_engine.py RESULT.json MODELS [--graphs a,b] [--batches 1,8,64,256] [--kernels a]

MODELS is a folder of `graphs.json`, `unpack.py`, photos and recorded detections. Times are medians. Batches lie on the
GPU already, as bytes of the network's size, and end with detections; "host to host" starts with a picture in the host's
pinned memory and ends when its detections can be read there.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import itertools
import json
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np

from ssdrt.detector import Detector
from ssdrt.engines import cuda
from ssdrt.engines.cuda import ends, stem
from ssdrt.engines.cuda.driver import DeviceMemory, Gpu
from ssdrt.engines.cuda.plan import Chain, Convolution, Depthwise, Excited, Inverted, Separable, Several, Squeezed
from ssdrt.engines.gpu import checked
from ssdrt.graph import read_graph
from ssdrt.pipeline import graph_parameters
from ssdrt.recover import recover
from ssdrt.sources.photo import read_photo

MEMORY, MATRIX = 4.26e12, 746e12
"""Bytes a second of a copy, and operations a second of a large fp16 product, as measured on an H200."""

TOGETHER = 8
"""Photos of a batch that is compared with recorded detections."""

FUSED = ("separable", "chain", "inverted", "squeezed", "excited")
"""Kernels that compute more than one convolution."""

AT_ONCE = 10
"""Replays between two events, so that the time of a start from Python is hidden."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--graphs", default="")
    parser.add_argument("--batches", default="1,8,64,256")
    parser.add_argument("--kernels", default="ssd_mobilenet_v1_90_od2020")
    parser.add_argument("--no-goldens", action="store_true")
    parser.add_argument("--only-goldens", action="store_true")
    parser.add_argument(
        "--biased", type=int, default=0, help="candidates of a picture above 0.3, by lower class biases"
    )
    args = parser.parse_args()
    wanted = [name for name in args.graphs.split(",") if name]
    entries = [
        one for one in json.loads((args.models / "graphs.json").read_text()) if not wanted or one["name"] in wanted
    ]
    report = {"command": " ".join(sys.argv), "fingerprint": cuda.fingerprint(), "graphs": {}}
    folder = Path(tempfile.mkdtemp())
    names = [entry["name"] for entry in entries]
    subprocess.run(
        [sys.executable, str(args.models / "unpack.py"), str(folder), *names], check=True, capture_output=True
    )
    for entry in entries:
        row = report["graphs"].setdefault(entry["name"], {})
        try:
            measure(row, entry, folder / f"{entry['name']}.pb", args)
        except Exception as error:  # one graph must not cost the others' numbers
            row["error"] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        print(entry["name"], json.dumps({key: value for key, value in row.items() if key != "kernels"}), flush=True)
        args.result.write_text(json.dumps(report, indent=1))


def measure(row: dict, entry: dict, path: Path, args: argparse.Namespace) -> None:
    """Fill one graph's row."""
    if args.only_goldens:
        goldens(row, entry, path, args.models)
        return
    if not args.no_goldens:
        goldens(row, entry, path, args.models)
    model = recover(read_graph(path))
    if args.biased:
        model = biased(model, args.biased)
        row["class_biases"] = f"lowered so that about {args.biased} candidates of a picture exceed 0.3"
    start = time.perf_counter()
    plan = cuda.build(model, "fp16")
    row["build_s"] = round(time.perf_counter() - start, 2)
    start = time.perf_counter()
    engine = cuda.load(model, plan, "fp16", 1)
    engine.detect([np.zeros((*model.input_size, 3), np.uint8)], graph_parameters(model))
    row["load_to_first_detection_s"] = round(time.perf_counter() - start, 3)
    batches = [int(text) for text in args.batches.split(",") if text]
    row["us"] = {batch: batch_time(engine, batch) for batch in batches}
    row["pictures_a_second"] = {batch: round(batch / us * 1e6) for batch, us in row["us"].items()}
    row["candidates"] = candidates(engine)
    row["tail_us"] = {
        str(threshold): {batch: tail_time(engine, batch, threshold) for batch in batches}
        for threshold in (0.3, 0.7, 0.0)
    }
    row["host_to_host_us"] = {str(threshold): latency(engine, threshold) for threshold in (0.3, 0.7)}
    if entry["name"] in args.kernels.split(","):
        row["kernels"] = {batch: kernel_times(engine, batch) for batch in batches}
    engine.close()


def goldens(row: dict, entry: dict, path: Path, models: Path) -> None:
    """How many of TensorFlow's detections with a score of at least 0.05 have one of ours within 2 px and 0.01, with
    photos one by one and in batches of TOGETHER."""
    recorded = np.load(models / entry["golden"])
    names = sorted({key.split("/")[0] for key in recorded.files if "/" in key})
    photos = [read_photo(models / entry["photos"] / f"{name}.png") for name in names]
    with Detector.open(path, "cuda", "fp16") as detector:
        alone = [detector.detect(photo, score_threshold=0.03) for photo in photos]
        batch = [photos[index % len(photos)] for index in range(max(TOGETHER, len(photos)))]
        together = detector.detect_batch(batch, score_threshold=0.03)
    row["goldens"] = {
        "one by one": compared(recorded, names, alone),
        f"batch {len(batch)}": compared(recorded, names, together[: len(names)]),
    }


def compared(recorded, names: list[str], detections: list) -> dict:
    """What of each photo's recorded detections is there, and how far the worst score is off where a box is near."""
    matched = total = 0
    worst = 0.0
    for photo, found in zip(names, detections, strict=True):
        count = int(recorded[f"{photo}/num_detections"])
        scale = [found.width, found.height, found.width, found.height]
        boxes = recorded[f"{photo}/detection_boxes"][:count][:, [1, 0, 3, 2]] * scale
        values, ids = (recorded[f"{photo}/detection_{name}"][:count] for name in ("scores", "classes"))
        for box, value, class_id in zip(boxes, values, ids.astype(int), strict=True):
            if value < 0.05:
                continue
            near = np.abs(found.boxes_xyxy - box).max(axis=1) <= 2
            near &= found.class_ids == class_id
            off = np.abs(found.scores - value)
            total += 1
            matched += bool((near & (off <= 0.01)).any())
            worst = max(worst, float(off[near].min())) if near.any() else worst
    return {"matched": matched, "total": total, "share": matched / max(total, 1), "worst_score": round(worst, 4)}


def pictures_on_gpu(engine, batch: int):
    """Memory with a batch of noise on a gradient, and the table for `prepare_resident`."""
    data = noise(engine, batch)
    memory = DeviceMemory(engine.gpu, data.nbytes)
    memory.upload(data.tobytes())
    each, (height, width) = data[0].size, engine.model.input_size
    return memory, [(memory.address + index * each, height, width) for index in range(batch)]


def noise(engine, batch: int):
    """(batch, height, width, 3) uint8."""
    return noise_of(*engine.model.input_size, batch)


@functools.cache
def noise_of(height: int, width: int, batch: int):
    """The same for a size; of many pictures it takes seconds."""
    random = np.random.default_rng(batch)
    ramp = np.add.outer(np.arange(height), np.arange(width))[..., None]
    pictures = (
        ramp * random.uniform(0.1, 0.5, (batch, 1, 1, 3)) + random.normal(64, 30, (batch, height, width, 3))
    ).clip(0, 255)
    return pictures.astype(np.uint8)


def candidates(engine) -> dict:
    """How many (anchor, class) pairs of a picture exceed a threshold: the mean over 8 of those that are timed."""
    _, scores = engine.infer(noise(engine, 256)[:8].astype(np.float32))
    return {str(threshold): round(float((scores > threshold).sum() / len(scores))) for threshold in (0.3, 0.7)}


def timed(engine, stream, work, repeats: int) -> float:
    """Median microseconds of `work` by events, after three times for warmth."""
    driver = engine.gpu.driver
    begin, end = (checked(driver.cuEventCreate(0)) for _ in range(2))
    samples = []
    for index in range(repeats + 3):
        checked(driver.cuEventRecord(begin, stream.handle))
        work()
        checked(driver.cuEventRecord(end, stream.handle))
        checked(driver.cuEventSynchronize(end))
        if index >= 3:
            samples.append(1e3 * checked(driver.cuEventElapsedTime(begin, end)))
    return float(np.median(samples))


def batch_time(engine, batch: int, threshold: float = 0.3, repeats: int = 10) -> float:
    """Microseconds from bytes on the GPU to detections there."""
    lane = engine._all[0]
    engine.gpu.enter()
    memory, table = pictures_on_gpu(engine, batch)
    source = lane.prepare_resident(table, replace(graph_parameters(engine.model), score_threshold=threshold))
    lane.replay(source, batch)
    lane.stream.wait()

    def work() -> None:
        for _ in range(AT_ONCE):
            lane.replay(source, batch)

    result = timed(engine, lane.stream, work, repeats) / AT_ONCE
    memory.free()
    return round(result, 2)


def biased(model, wanted: int):
    """The model with class biases lowered by one number, so that so many candidates of a picture exceed 0.3."""
    engine = cuda.load(model, cuda.build_for(model, Gpu().device()), "fp16", 1)
    _, scores = engine.infer(noise(engine, 256)[:8].astype(np.float32))
    engine.close()
    logits = np.sort((np.log(scores) - np.log1p(-scores)).ravel())[::-1]
    shift = np.float32(np.log(0.3 / 0.7) - logits[wanted * len(scores)])
    heads = {head.scores for head in model.heads}
    layers = tuple(replace(one, bias=one.bias + shift) if one.name in heads else one for one in model.layers)
    return replace(model, layers=layers)


def tail_time(engine, batch: int, threshold: float) -> dict:
    """Microseconds of the whole graph, of the one without decoding and suppression, in turns, and of these alone."""
    lane = engine._all[0]
    engine.gpu.enter()
    memory, table = pictures_on_gpu(engine, batch)
    source = lane.prepare_resident(table, replace(graph_parameters(engine.model), score_threshold=threshold))
    launches = lane.launches(source, batch)
    behind = len(ends.tail_kernels(engine.model)) - 1  # of two kernels that list, one is launched
    graphs = {}
    for name, some in (("whole", launches), ("network", launches[:-behind]), ("alone", launches[-behind:])):
        lane.stream.begin()
        lane.stream.launch_all(engine.functions, some)
        graphs[name] = lane.stream.end()
    samples = {name: [] for name in graphs}
    for _ in range(15 if batch < 64 else 5):
        for name, graph in graphs.items():

            def work(graph=graph) -> None:
                for _ in range(AT_ONCE):
                    lane.stream.replay(graph)

            samples[name].append(timed(engine, lane.stream, work, 1) / AT_ONCE)
    for graph in graphs.values():
        engine.gpu.driver.cuGraphExecDestroy(graph)
    memory.free()
    row = {name: round(float(np.median(values)), 2) for name, values in samples.items()}
    return {**row, "tail": round(row["whole"] - row["network"], 2)}


def split(step) -> tuple:
    """The parts of `Several`."""
    return step.parts if isinstance(step, Several) else (step,)


def floors(plan, batch: int) -> dict:
    """(what, FUSED kernel or "") -> least microseconds: every value that it reads or writes once at MEMORY, or its
    products at MATRIX, whichever is longer."""

    def least(source, target, *dense, others=0) -> float:
        numbers = source.height * source.width * source.channels + target.height * target.width * target.channels
        numbers = batch * numbers + sum(one.weights.size for one in dense) + others
        products = sum(2 * batch * one.target.height * one.target.width * one.weights.size for one in dense)
        return round(1e6 * max(2 * numbers / MEMORY, products / MATRIX), 1)

    found = {}
    for step in plan.steps:
        if isinstance(step, Chain):
            end = step.second.depthwise
            found[end.name, "chain"] = least(step.source, end.target, step.first.point)
        if isinstance(step, Inverted):
            found[step.name, "inverted"] = least(step.source, step.target, step.first, step.second.point)
        if isinstance(step, Squeezed):
            dense = (step.expand,) if step.expand else ()
            found[step.name, "squeezed"] = least(step.source, step.depthwise.target, *dense)
        if isinstance(step, Excited):
            found[step.name, "excited"] = least(step.scale.source, step.target, step.point)
    for step in itertools.chain.from_iterable(map(split, plan.steps)):
        parts = [step.depthwise, step.point] if isinstance(step, Separable) else [step]
        for part in parts:
            if isinstance(part, Convolution):
                found[part.name, ""] = least(part.source, part.target, part)
            if isinstance(part, Depthwise):
                found[part.name, ""] = least(part.source, part.target, others=part.weights.size)
        if isinstance(step, Separable):
            found[step.name, "separable"] = least(step.source, step.target, step.point)
    for name, count in (("first", 1), ("stem", stem.steps(plan))):  # of bytes
        front = plan.steps[:count]
        target = front[-1].target if front else plan.image
        products = sum(
            2 * one.target.height * one.target.width * (one.point if isinstance(one, Separable) else one).weights.size
            for one in front
            if isinstance(one, (Convolution, Separable))
        )
        moved = 3 * plan.image.height * plan.image.width + 2 * target.height * target.width * target.channels
        found[name, ""] = round(1e6 * batch * max(moved / MEMORY, products / MATRIX), 1)
    return found


def kernel_times(engine, batch: int) -> list:
    """[what, kernel, blocks, microseconds, least microseconds, ratio] of each kernel alone, ten in a row."""
    lane = engine._all[0]
    engine.gpu.enter()
    memory, table = pictures_on_gpu(engine, batch)
    source = lane.prepare_resident(table, replace(graph_parameters(engine.model), score_threshold=0.3))
    lane.replay(source, batch)
    lane.stream.wait()
    rows, limits = [], floors(engine.plan, batch)
    for launch in lane.launches(source, batch):

        def work(launch=launch):
            for _ in range(10):
                lane.stream.launch(engine.functions, launch, False)

        lane.stream.begin()
        work()
        graph = lane.stream.end()
        us = timed(engine, lane.stream, lambda graph=graph: lane.stream.replay(graph), 5) / 10
        engine.gpu.driver.cuGraphExecDestroy(graph)
        fused = next((one for one in FUSED if launch.name.removeprefix("few_").startswith(one)), "")
        least = limits.get((launch.step, fused))
        ratio = round(us / least, 2) if least else None
        rows.append([launch.step[-60:], launch.name, launch.grid[0] * launch.grid[1], round(us, 2), least, ratio])
    memory.free()
    return rows


def latency(engine, threshold: float, repeats: int = 600) -> dict:
    """Microseconds of one picture, host to host: from Python's `detect`, and of the graph alone with a polled flag."""
    parameters = replace(graph_parameters(engine.model), score_threshold=threshold)
    picture = noise(engine, 1)[0]
    engine.detect([picture], parameters)
    whole = []
    for _ in range(repeats):
        start = time.perf_counter()
        engine.detect([picture], parameters)
        whole.append(1e6 * (time.perf_counter() - start))
    alone = host_to_host(engine, threshold, repeats)
    return {
        name: [round(float(np.percentile(values[100:], q)), 1) for q in (50, 99)]
        for name, values in (("detect", whole), ("graph", alone))
    }


def host_to_host(engine, threshold: float, repeats: int) -> list[float]:
    """Microseconds of every one of many starts: a picture in pinned memory to its detections on the host."""
    engine.detect(list(noise(engine, 1)), replace(graph_parameters(engine.model), score_threshold=threshold))
    lane = engine._all[0]
    graph = next(one for (source, batch), one in lane._graphs.items() if batch == 1 and " " in source)
    found = lane._rest[1].found
    flag = ctypes.c_float.from_address(found.address + found.size - 4)
    times = []
    for _ in range(repeats):
        flag.value = -1
        start = time.perf_counter()
        lane.stream.replay(graph)
        while flag.value < 0:
            pass
        times.append(1e6 * (time.perf_counter() - start))
    lane.stream.wait()
    return times


if __name__ == "__main__":
    main()
