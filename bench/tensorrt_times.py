"""Times of kept plans on a quiet card, in turns: the bare plan, the plan with its copies, our engine, our tail.

    python bench/tensorrt_times.py MODELS FOLDER [SECONDS]

FOLDER/plans has the plans of bench/tensorrt_gpu.py, FOLDER/times.jsonl gets a line for each that has none there.

bare plan: a CUDA graph of execute_async_v3 alone, launched and waited for. plan and copies: a CUDA graph of the copy
of the pinned pictures, the plan, and the copy of the candidates. mapped: a CUDA graph of the plan, which reads the
pictures, or writes the candidates, where they lie on the host. lane: our engine from pictures to candidates on the
host, the pictures in its own pinned buffer (which no copy on the host precedes), in other pinned memory, in ordinary
memory, or on the GPU already. detect: from pictures to detections, our tail included. Of a plan that ends with the
scores, the bare plan and the one with the pictures' copy.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

FIRST = ("v1_b1", "coco_b1", "v1_b64", "v1_b256")


def in_turns(work: dict[str, Callable[[], object]], rounds: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median and 99th percentile in microseconds of each."""
    samples: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            function()
            for _ in range(repeats):
                start = time.perf_counter()
                function()
                samples[name].append(time.perf_counter() - start)
    return {
        name: {
            "median_us": round(float(np.median(one)) * 1e6, 1),
            "p99_us": round(float(np.percentile(one, 99)) * 1e6, 1),
        }
        for name, one in samples.items()
    }


def measure(model: Any, engine: Any, photos: list[Any], batch: int, seconds: float) -> dict[str, Any]:
    """The table of one plan."""
    from ssdrt.engines.tensorrt.runtime import CANDIDATES
    from ssdrt.errors import EngineError
    from ssdrt.pipeline import graph_parameters
    from ssdrt.postprocess import suppress_candidates
    from ssdrt.preprocess import to_network

    whole = graph_parameters(model)
    strict = replace(whole, score_threshold=0.3)
    # as a camera of the network's own size gives them
    small = [np.rint(to_network(one, model.preprocessing.resizer.value)).astype(np.uint8) for one in photos]
    pictures = [small[index % len(small)] for index in range(batch)]
    classes = model.num_classes.value
    pairs = len(model.anchors.value) * classes
    with engine._lanes.one() as lane:
        device, stream = engine._device, lane._stream
        elsewhere = device.pinned((batch, *model.input_size, 3), np.dtype(np.uint8))
        elsewhere[...] = pictures
        lane.prepare(None, [])
        lane.take(pictures)
        lane.fetch(CANDIDATES)
        own = lane._host("image")[:batch]
        lane.take(elsewhere)
        taken = [one[0].copy() for one in lane.fetch(CANDIDATES)]
        bare, copies = (_graph(engine, lane, batch, how) for how in ("bare", "copies"))

        def replay(graph: Any) -> None:
            device.launch(graph, stream)
            device.synchronize(stream)

        def own_buffer() -> None:
            lane._size = batch
            lane._start(from_host=True)
            lane.fetch(CANDIDATES)

        def through(source: Any) -> None:
            lane.take(source)
            lane.fetch(CANDIDATES)

        assert np.array_equal(own[0], pictures[0])
        repeats = 40 if batch == 1 else 4
        address = device.allocate(elsewhere.nbytes)
        device.to_device(address, elsewhere, stream)
        device.synchronize(stream)

        class OnGpu:
            __cuda_array_interface__ = {  # noqa: RUF012
                "shape": elsewhere.shape,
                "typestr": "|u1",
                "data": (address, True),
                "version": 3,
                "strides": None,
            }

        def from_gpu() -> None:
            lane.take_from_gpu(lane.find(OnGpu()), slice(0, batch))
            lane.fetch(CANDIDATES)

        work: dict[str, Callable[[], object]] = {
            "bare plan": lambda: replay(bare),
            "plan and copies": lambda: replay(copies),
        }
        if taken:
            work |= {
                "lane, pictures on the GPU": from_gpu,
                "lane, own pinned buffer": own_buffer,
                "lane, other pinned memory": lambda: through(elsewhere),
                "lane, ordinary memory": lambda: through(pictures),
            }
            for name, how in (("copy in, outputs mapped", "outputs"), ("pictures and outputs mapped", "all")):
                try:
                    mapped = _graph(engine, lane, batch, how)
                    work[name] = lambda graph=mapped: replay(graph)  # type: ignore[misc]
                except (AssertionError, EngineError) as error:  # noqa: PERF203  the rest is still to be timed
                    print(f"{name}: {error!r}", flush=True)

        def timed(work: dict[str, Callable[[], object]], share: float) -> dict[str, dict[str, float]]:
            rounds = int(seconds * share / (_once(work) * repeats))
            return in_turns(work, max(3, min(25, rounds)), repeats)

        table = timed(work, 0.4)
        for name, parameters in (("0.3", strict), ("the graph's threshold", whole)) if engine.suppresses else ():
            lane.prepare(parameters, [model.input_size] * batch)
            alone = device.capture(stream, lambda: lane._suppression.put(batch))
            table |= timed({f"suppression at {name}": lambda graph=alone: replay(graph)}, 0.05)  # type: ignore[misc]
    work = {
        "detect at 0.3, other pinned memory": lambda: engine.detect(elsewhere, strict),
        "detect at 0.3, ordinary memory": lambda: engine.detect(pictures, strict),
        "detect at 0.3, pictures on the GPU": lambda: engine.detect_on_gpu(OnGpu(), strict),
    }
    if taken:
        boxes, scores, indices = taken
    if taken and batch == 1:
        work["tail at 0.3"] = lambda: suppress_candidates(boxes, scores, indices, classes, pairs, strict)
        work["tail at the graph's threshold"] = lambda: suppress_candidates(
            boxes, scores, indices, classes, pairs, whole
        )
    table |= timed(work, 0.4)
    name = "detect at the graph's threshold, other pinned memory"  # by itself: in turns, thresholds are sent every time
    table |= timed({name: lambda: engine.detect(elsewhere, whole)}, 0.1)
    shortages = engine.shortages
    if engine.suppresses:
        name = "host, detect at 0.3, other pinned memory"
        table |= timed({name: lambda: on_host(engine, lambda: engine.detect(elsewhere, strict))}, 0.1)
    reference = table["plan and copies"]["median_us"]
    bare_alone = table["bare plan"]["median_us"]
    lanes = {name: one["median_us"] for name, one in table.items() if "lane" in name or "mapped" in name}
    told = {
        "table": table,
        "ends": f"{len(taken[1])} candidates" if taken else "scores",
        "suppresses": engine.suppresses,
        "over plan and copies": {name: round(one / reference, 3) for name, one in lanes.items()},
        "over bare plan": {name: round(one / bare_alone, 3) for name, one in lanes.items()},
        "shortages": shortages,
        "per_second": {name: round(batch / one["median_us"] * 1e6) for name, one in table.items() if batch > 1},
    }
    if engine.suppresses:
        whole_time = table["detect at 0.3, other pinned memory"]["median_us"]
        told["share of suppression"] = round(table["suppression at 0.3"]["median_us"] / whole_time, 3)
    if taken:
        told["above 0.3"] = int((scores > 0.3).sum())
    return told


def on_host(engine: Any, function: Callable[[], object]) -> object:
    """What `function` does without the kernels."""
    kept = [lane._suppression for lane in engine._all]
    try:
        for lane in engine._all:
            lane._suppression = None
        return function()
    finally:
        for lane, one in zip(engine._all, kept, strict=True):
            lane._suppression = one


def _once(work: dict[str, Callable[[], object]]) -> float:
    """Seconds that all take."""
    for function in work.values():
        function()
    start = time.perf_counter()
    for function in work.values():
        function()
    return time.perf_counter() - start


def _graph(engine: Any, lane: Any, batch: int, how: str) -> Any:
    """The plan alone ("bare"), with its copies, with the candidates written to the host's memory by the GPU itself
    ("outputs"), or also with the pictures read from there ("all")."""
    from ssdrt.engines.tensorrt.runtime import _Block

    device, stream, block = engine._device, lane._stream, _Block(engine._ports, batch)
    context = engine.engine.create_execution_context()
    host = device.pinned((lane._block_size,), np.dtype(np.uint8))
    start = host.ctypes.data if how in ("outputs", "all") else lane._block
    places = lane._on_device | {name: start + offset for name, offset in block.offsets.items()}
    if how == "all":
        places["image"] = lane._host("image").ctypes.data
    for name, address in places.items():
        context.set_tensor_address(name, address)
    context.set_input_shape("image", (batch, *engine._ports["image"].shape))

    def put() -> None:
        if how in ("copies", "outputs"):
            device.to_device(lane._on_device["image"], lane._host("image")[:batch], stream)
        assert context.execute_async_v3(int(stream))
        if how == "copies" and block.size:
            device.to_host(host[: block.size], lane._block, stream)

    put()
    device.synchronize(stream)
    graph = device.capture(stream, put)
    device.launch(graph, stream)
    device.synchronize(stream)
    if how != "bare":
        assert all(np.array_equal(a, b) for a, b in zip(block.arrays(host), lane._last.found, strict=True))
    _KEPT.append(context)
    return graph


_KEPT: list[Any] = []  # contexts whose graphs are still launched


def run(models: Path, folder: Path, seconds: float) -> None:
    """Every plan of the folder, those of FIRST first."""
    from PIL import Image

    from ssdrt.engines.tensorrt.plan_file import unpack
    from ssdrt.engines.tensorrt.runtime import load_engine
    from ssdrt.graph import graph_from_bytes
    from ssdrt.recover import recover

    sys.path.insert(0, str(models))
    import unpack as graphs

    end = time.monotonic() + seconds
    entries = json.loads((models / "graphs.json").read_text())
    plans = sorted(
        (folder / "plans").glob("*.plan"),
        key=lambda path: next((i for i, one in enumerate(FIRST) if path.stem.startswith(one)), len(FIRST)),
    )
    table = folder / "times.jsonl"
    timed = {json.loads(line)["plan"] for line in table.read_text().splitlines()} if table.exists() else set()
    plans = [path for path in plans if path.stem not in timed]
    known: dict[str, Any] = {}
    with open(table, "a", encoding="utf-8") as out:
        for number, path in enumerate(plans):
            left = end - time.monotonic()
            if left < 3:
                break
            data = path.read_bytes()
            facts = unpack(data)[0]
            if facts.digest not in known:
                entry = next(one for one in entries if one["sha256"] == facts.digest)
                known[facts.digest] = entry, recover(graph_from_bytes(graphs.graph_bytes(entry)))
            entry, model = known[facts.digest]
            photos = [
                np.asarray(Image.open(one).convert("RGB")) for one in sorted((models / entry["photos"]).glob("*.png"))
            ]
            line: dict[str, Any] = {"plan": path.stem, "graph": entry["name"], "megabytes": round(len(data) / 1e6, 1)}
            try:
                engine = load_engine(model, data, 1)
                line |= measure(model, engine, photos, facts.batch[2], min(5.0, left / (len(plans) - number)))
                engine.close()
            except Exception as error:  # the others are still to be timed
                line["failed"] = f"{type(error).__name__}: {error}"[:800]
            print(json.dumps(line), file=out, flush=True)
            print(json.dumps(line)[:1500], flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 120.0)
