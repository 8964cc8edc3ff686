"""Ways to find the best (anchor, class) pairs inside a TensorRT plan: each alone in a plan, as a CUDA graph.

    python bench/tensorrt_tail.py FOLDER [TACTIC,...]

FOLDER/tail.jsonl gets a line a way and batch. pairs: one TopK over all scores. anchors: a TopK over the anchors' best
scores, then one over the scores of those, among which the best pairs are: a pair of another anchor has as many that
are at least as good before it. in_groups: the same, the second in two steps. All plans are built first; they are
measured once FOLDER/tail.go is there (the script writes FOLDER/tail.built), so that the card may be made quiet.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ssdrt.engines.tensorrt.builder import BuildOptions, _config, _Network
from ssdrt.engines.tensorrt.driver import Device
from ssdrt.engines.tensorrt.library import find_library
from ssdrt.network import tail
from ssdrt.network.onnx_file import OnnxGraph, Port

ROWS, CLASSES, COUNT = 1917, 90, 400
WAIT = 90  # seconds for a quiet card

Way = Callable[[OnnxGraph, int, int, int], str]
"""Takes the numbers of anchors, classes and pairs; candidate_scores and candidate_indices come out, and each pair's
anchor (int64)."""


def pairs(graph: OnnxGraph, rows: int, classes: int, count: int) -> str:  # noqa: ARG001
    """One TopK over all."""
    flat = graph("Reshape", "class_scores", (0, -1))
    graph.node("TopK", (flat, (count,)), ("candidate_scores", "candidates:index"), {"axis": 1})
    graph.cast("candidates:index", "int32", "candidate_indices")
    return graph("Div", "candidates:index", np.array(classes, np.int64))


def anchors(graph: OnnxGraph, rows: int, classes: int, count: int) -> str:
    """The anchors first."""
    return _write(graph, rows, classes, count, 1)


def in_groups(graph: OnnxGraph, rows: int, classes: int, count: int) -> str:
    """The anchors first, then groups."""
    return _write(graph, rows, classes, count, tail.MOST_GROUPS)


def _write(graph: OnnxGraph, rows: int, classes: int, count: int, groups: int) -> str:
    usual, tail.MOST_GROUPS = tail.MOST_GROUPS, groups
    try:
        return tail.write_best_pairs(graph, rows, classes, count, 17)
    finally:
        tail.MOST_GROUPS = usual


WAYS: tuple[Way, ...] = (pairs, anchors, in_groups)


def network(way: Way, batch: int) -> bytes:
    """class_scores -> candidate_scores, candidate_indices."""
    graph = OnnxGraph([Port("class_scores", "float32", (batch, ROWS, CLASSES))])
    graph.scope = "candidates"
    way(graph, ROWS, CLASSES, COUNT)
    shape = (batch, COUNT)
    return graph.to_bytes([Port("candidate_scores", "float32", shape), Port("candidate_indices", "int32", shape)], 17)


def built(way: Way, batch: int, tactics: tuple[str, ...]) -> tuple[bytes, float] | str:
    """The plan and the seconds it took, or what TensorRT says."""
    library, start = find_library(), time.monotonic()
    made = _Network(library, network(way, batch))
    config = _config(library, made, "fp16", BuildOptions(batch=(batch,) * 3, tactics=tactics), None)  # type: ignore[arg-type]
    plan = made.builder.build_serialized_network(made.network, config)
    return library.messages.take() if plan is None else (bytes(plan), time.monotonic() - start)


def measure(device: Device, plan: bytes, batch: int) -> dict[str, Any]:
    """Microseconds of a replay, and whether it found the best."""
    library = find_library()
    runtime = library.api.Runtime(library.logger)
    engine = runtime.deserialize_cuda_engine(plan)
    context, stream = engine.create_execution_context(), device.stream()
    given = device.pinned((batch, ROWS, CLASSES), np.dtype(np.float32))
    given[...] = np.random.default_rng(5).random(given.shape, np.float32) ** 8
    host = {"candidate_scores": device.pinned((batch, COUNT), np.dtype(np.float32))}
    host["candidate_indices"] = device.pinned((batch, COUNT), np.dtype(np.int32))
    places = {name: device.allocate(array.nbytes) for name, array in {"class_scores": given, **host}.items()}
    for name, place in places.items():
        context.set_tensor_address(name, place)
    device.to_device(places["class_scores"], given, stream)
    context.execute_async_v3(int(stream))
    device.synchronize(stream)
    graph = device.capture(stream, lambda: context.execute_async_v3(int(stream)))
    samples = []
    for _ in range(40):
        begin = time.perf_counter()
        for _ in range(10):
            device.launch(graph, stream)
        device.synchronize(stream)
        samples.append((time.perf_counter() - begin) / 10)
    for name, array in host.items():
        device.to_host(array, places[name], stream)
    device.synchronize(stream)
    flat = given.reshape(batch, -1)
    expected = -np.sort(-flat, axis=1)[:, :COUNT]
    found = np.take_along_axis(flat, host["candidate_indices"].astype(np.int64), axis=1)
    return {
        "median_us": round(float(np.median(samples[10:])) * 1e6, 1),
        "largest_difference": float(np.abs(found - expected).max()),
        "no_pair_twice": all(len(set(row)) == COUNT for row in host["candidate_indices"].tolist()),
    }


def run(folder: Path, tactics: tuple[str, ...]) -> None:
    """Build, wait, measure."""
    plans = [(way, batch, built(way, batch, tactics)) for batch in (1, 8, 64) for way in WAYS]
    (folder / "tail.built").touch()
    end = time.monotonic() + WAIT
    while not (folder / "tail.go").exists() and time.monotonic() < end:
        time.sleep(0.05)
    device = Device()
    with open(folder / "tail.jsonl", "w", encoding="utf-8") as out:
        for way, batch, made in plans:
            line: dict[str, Any] = {"way": way.__name__, "batch": batch}
            if isinstance(made, str):
                line["failed"] = made
            else:
                line |= {"build_seconds": round(made[1], 1), **measure(device, made[0], batch)}
            print(json.dumps(line), file=out, flush=True)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), tuple(filter(None, "".join(sys.argv[2:]).split(","))))
