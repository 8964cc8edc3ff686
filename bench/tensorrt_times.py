"""Times of kept plans on a quiet card, in turns: the bare plan, the plan with its copies, our engine, our tail.

    python bench/tensorrt_times.py MODELS FOLDER [SECONDS]

FOLDER/plans has the plans of bench/tensorrt_gpu.py, FOLDER/times.jsonl gets a line for each that has none there.

bare plan: a CUDA graph of execute_async_v3 alone, launched and waited for. plan and copies: a CUDA graph of the copy of
the pinned pictures, the plan, and the copy of the candidates. lane: our engine from pictures to candidates on the host,
the pictures in its own pinned buffer (which no copy on the host precedes), in other pinned memory, or in ordinary
memory. detect: from pictures to detections, our tail included.
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
    with engine._lane() as lane:
        device, stream = engine._device, lane._stream
        elsewhere = device.pinned((batch, *model.input_size, 3), np.dtype(np.uint8))
        elsewhere[...] = pictures
        lane.take(pictures)
        lane.fetch(CANDIDATES)
        own = lane._host("image")[:batch]
        lane.take(elsewhere)
        boxes, scores, indices = (one[0].copy() for one in lane.fetch(CANDIDATES))
        work_of = lane._last
        bare = device.capture(stream, lambda: work_of.context.execute_async_v3(int(stream)))
        copies = work_of.graphs[True]

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
        work: dict[str, Callable[[], object]] = {
            "bare plan": lambda: replay(bare),
            "plan and copies": lambda: replay(copies),
            "lane, own pinned buffer": own_buffer,
            "lane, other pinned memory": lambda: through(elsewhere),
            "lane, ordinary memory": lambda: through(pictures),
        }
        try:
            mapped = _mapped(engine, lane, batch)
            work["plan and copy in, outputs in mapped memory"] = lambda: replay(mapped)
        except (AssertionError, EngineError) as error:  # an experiment; the rest is still to be timed
            print(f"mapped memory: {error!r}", flush=True)
        repeats = 40 if batch == 1 else 4
        once = _once(work)
        table = in_turns(work, max(3, min(25, int(seconds * 0.5 / (once * repeats)))), repeats)
    work = {
        "detect at 0.3, other pinned memory": lambda: engine.detect(elsewhere, strict),
        "detect at 0.3, ordinary memory": lambda: engine.detect(pictures, strict),
        "detect at the graph's threshold, other pinned memory": lambda: engine.detect(elsewhere, whole),
    }
    if batch == 1:
        work["tail at 0.3"] = lambda: suppress_candidates(boxes, scores, indices, classes, pairs, strict)
        work["tail at the graph's threshold"] = lambda: suppress_candidates(
            boxes, scores, indices, classes, pairs, whole
        )
    once = _once(work)
    table |= in_turns(work, max(3, min(25, int(seconds * 0.5 / (once * repeats)))), repeats)
    reference = table["plan and copies"]["median_us"]
    ratios = {name: round(one["median_us"] / reference, 3) for name, one in table.items() if name.startswith("lane")}
    return {
        "table": table,
        "lane over plan and copies": ratios,
        "shortages": engine.shortages,
        "per_second": {name: round(batch / one["median_us"] * 1e6) for name, one in table.items() if batch > 1},
        "above 0.3": int((scores > 0.3).sum()),
        "candidates": len(scores),
    }


def _once(work: dict[str, Callable[[], object]]) -> float:
    """Seconds that all take."""
    for function in work.values():
        function()
    start = time.perf_counter()
    for function in work.values():
        function()
    return time.perf_counter() - start


def _mapped(engine: Any, lane: Any, batch: int) -> Any:
    """The plan with the candidates written to the host's memory by the GPU itself."""
    device, stream = engine._device, lane._stream
    context = engine.engine.create_execution_context()
    for name, address in lane._on_device.items():
        context.set_tensor_address(name, address)
    block = device.pinned((lane._block_size,), np.dtype(np.uint8))
    for name, offset in lane._last.block.offsets.items():
        context.set_tensor_address(name, block.ctypes.data + offset)
    context.set_input_shape("image", (batch, *engine._ports["image"].shape))

    def put() -> None:
        device.to_device(lane._on_device["image"], lane._host("image")[:batch], stream)
        assert context.execute_async_v3(int(stream))

    put()
    device.synchronize(stream)
    graph = device.capture(stream, put)
    device.launch(graph, stream)
    device.synchronize(stream)
    found = lane._last.block.arrays(block)
    assert all(np.array_equal(a, b) for a, b in zip(found, lane._last.found, strict=True))
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
                line |= measure(model, engine, photos, facts.batch[2], min(8.0, left / (len(plans) - number)))
                engine.close()
            except Exception as error:  # the others are still to be timed
                line["failed"] = f"{type(error).__name__}: {error}"[:800]
            print(json.dumps(line), file=out, flush=True)
            print(json.dumps(line)[:1500], flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 120.0)
