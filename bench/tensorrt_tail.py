"""Ways to find the best (anchor, class) pairs inside a TensorRT plan: each alone in a plan, as a CUDA graph.

    python bench/tensorrt_tail.py FOLDER [TACTIC,...]

FOLDER/tail.jsonl gets a line a way and batch. pairs: what network/tail.py writes, one TopK over all scores. anchors: a
TopK over the anchors' best scores, then one over the scores of those, among which the best pairs are: a pair of another
anchor has as many that are at least as good before it. in_groups: the same, the second in two steps.

It has not run on a GPU yet. By what TensorRT measured while it built, all that follows the heads takes 311 of the 571
us of an SSD-MobileNet-v1 plan at batch 1 (bench/results/tensorrt_h200.json).
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
from ssdrt.network.onnx_file import OnnxGraph, Port

ROWS, CLASSES, COUNT, GROUPS = 1917, 90, 400, 20


def pairs(graph: OnnxGraph) -> None:
    """One TopK over all."""
    flat = graph("Reshape", "class_scores", (0, -1))
    graph.node("TopK", (flat, (COUNT,)), ("scores", "index"), {"axis": 1})
    graph.cast("index", "int32", "indices")


def anchors(graph: OnnxGraph, groups: int = 1) -> None:
    """The anchors first."""
    best = graph("ReduceMax", "class_scores", axes=(2,), keepdims=0)
    graph.node("TopK", (best, (COUNT,)), ("best", "rows"), {"axis": 1})
    wide = graph("Expand", graph("Reshape", "rows", (0, -1, 1)), (1, 1, CLASSES))
    scores = graph("GatherElements", "class_scores", wide, axis=1)
    classes = np.array(CLASSES, np.int64)
    if groups == 1:
        graph.node("TopK", (graph("Reshape", scores, (0, -1)), (COUNT,)), ("scores", "index"), {"axis": 1})
        index = "index"
    else:
        size = COUNT * CLASSES // groups
        graph.node("TopK", (graph("Reshape", scores, (0, groups, size)), (COUNT,)), ("few", "place"), {"axis": 2})
        starts = (np.arange(groups, dtype=np.int64) * size)[None, :, None]
        places = graph("Reshape", graph("Add", "place", starts), (0, -1))
        graph.node("TopK", (graph("Reshape", "few", (0, -1)), (COUNT,)), ("scores", "second"), {"axis": 1})
        index = graph("GatherElements", places, "second", axis=1)
    row = graph("Div", index, classes)
    column = graph("Sub", index, graph("Mul", row, classes))
    pair = graph("Add", graph("Mul", graph("GatherElements", "rows", row, axis=1), classes), column)
    graph.cast(pair, "int32", "indices")


def in_groups(graph: OnnxGraph) -> None:
    """The anchors first, then groups."""
    anchors(graph, GROUPS)


WAYS: tuple[Callable[[OnnxGraph], None], ...] = (pairs, anchors, in_groups)


def network(way: Callable[[OnnxGraph], None], batch: int) -> bytes:
    """class_scores -> scores, indices."""
    graph = OnnxGraph([Port("class_scores", "float32", (batch, ROWS, CLASSES))])
    way(graph)
    return graph.to_bytes([Port("scores", "float32", (batch, COUNT)), Port("indices", "int32", (batch, COUNT))], 17)


def measure(way: Callable[[OnnxGraph], None], batch: int, tactics: tuple[str, ...]) -> dict[str, Any]:
    """Microseconds of a replay, and whether it found the best."""
    library, device = find_library(), Device()
    built = _Network(library, network(way, batch))
    config = _config(library, built, "fp16", BuildOptions(batch=(batch,) * 3, tactics=tactics), None)  # type: ignore[arg-type]
    start = time.monotonic()
    plan = built.builder.build_serialized_network(built.network, config)
    if plan is None:
        return {"failed": library.messages.take()}
    seconds = time.monotonic() - start
    engine = library.api.Runtime(library.logger).deserialize_cuda_engine(bytes(plan))
    context, stream = engine.create_execution_context(), device.stream()
    given = device.pinned((batch, ROWS, CLASSES), np.dtype(np.float32))
    given[...] = np.random.default_rng(5).random(given.shape, np.float32) ** 8
    host = {"scores": device.pinned((batch, COUNT), np.dtype(np.float32))}
    host["indices"] = device.pinned((batch, COUNT), np.dtype(np.int32))
    places = {name: device.allocate(array.nbytes) for name, array in {"class_scores": given, **host}.items()}
    for name, place in places.items():
        context.set_tensor_address(name, place)
    device.to_device(places["class_scores"], given, stream)
    context.execute_async_v3(int(stream))
    device.synchronize(stream)
    graph = device.capture(stream, lambda: context.execute_async_v3(int(stream)))
    samples = []
    for _ in range(60):
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
    found = np.take_along_axis(flat, host["indices"].astype(np.int64), axis=1)
    return {
        "build_seconds": round(seconds, 1),
        "median_us": round(float(np.median(samples[10:])) * 1e6, 1),
        "largest_difference": float(np.abs(found - expected).max()),
        "different_indices": all(len(set(row)) == COUNT for row in host["indices"].tolist()),
    }


if __name__ == "__main__":
    folder_, tactics_ = Path(sys.argv[1]), tuple(filter(None, "".join(sys.argv[2:]).split(",")))
    with open(folder_ / "tail.jsonl", "w", encoding="utf-8") as out:
        for batch_ in (1, 256, 8):
            for way_ in WAYS:
                line = {"way": way_.__name__, "batch": batch_, **measure(way_, batch_, tactics_)}
                print(json.dumps(line), file=out, flush=True)
                print(json.dumps(line), flush=True)
