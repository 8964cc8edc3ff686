"""Damaged and hostile files by the ten thousand: only SsdrtError may come out, within the limits of time and memory.

    python bench/fuzz.py [--count 100000] [--seed 1] [--models ../shared/models] [--keep FOLDER] [--result FILE.json]

COUNT mutants of graphs, and a tenth as many of label maps, bundles and pictures each. An input follows from its kind
and seed alone: `python bench/fuzz.py --only graph --seed 4711 --count 1` makes it again. What breaks a promise is
written to FOLDER. The mutator and the limits are those of the tests (tests/mutants.py, tests/limits.py).
"""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import json
import platform
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from PIL import Image

import build
import limits
import mutants
from ssdrt.bundle import Bundle, load_bundle, save_bundle
from ssdrt.demo import demo_picture
from ssdrt.engines import reference
from ssdrt.graph import graph_from_bytes
from ssdrt.graph.tensor import MAX_REPEATED
from ssdrt.labels import read_labels
from ssdrt.model import Conv, DepthwiseConv, LabelMap, SsdModel
from ssdrt.pipeline import detect_picture, graph_parameters
from ssdrt.recover import recover
from ssdrt.sources.photo import decode_photo

MEMORY = 6 << 30  # bytes of address space; beyond, allocations fail
RUN_EVERY = 20  # accepted graphs of which one is run
RUN_AT_MOST = 2e9  # multiplications of a network that is run
PIXELS = 4_000_000

LABELS = {
    ".pbtxt": b'item { id: 1 name: "/m/0" display_name: "person" }\nitem {\n id: 2  # two\n name: "d\\303\\266g"\n}\n',
    ".txt": b"1: person\n2: dog\n7: traffic light\n",
    ".json": b'{"1": "person", "2": "d\\u00f6g"}',
}


class Kind(NamedTuple):
    """mutant: the bytes of a seed. read: what a user does with such a file."""

    mutant: Callable[[int], bytes]
    read: Callable[[bytes], object]


def graph_seeds(models: Path) -> list[bytes]:
    """Graphs without weights: the demo's in a few variants, most often, and exports of several years where they are."""
    names = ("default", "clip_before", "class_agnostic", "softmax", "fixed_shape", "soft_nms")
    small = build.DemoOptions(colours=("blue",), input_size=(32, 48))
    demos = [build.demo_bytes(options) for options in (small, *(build.VARIANTS[name] for name in names))]
    exports = [gzip.decompress(path.read_bytes()) for path in sorted(models.glob("graphs/*.skel.pb.gz"))]
    exports += [path.read_bytes() for path in sorted(models.glob("graphs/*.pb"))]
    exports = sorted((graph for graph in exports if len(graph) < MAX_REPEATED // 16), key=len)[:4]
    return [mutants.without_weights(graph) for graph in demos * 3 + exports]


def read_graph(data: bytes) -> SsdModel:
    """The model of a graph."""
    return recover(graph_from_bytes(data))


def run(model: SsdModel) -> None:
    """Detect in a picture, unless the network is larger than anybody would wait for."""
    convolutions = [layer for layer in model.layers if isinstance(layer, (Conv, DepthwiseConv))]
    if sum(layer.weights.size for layer in convolutions) * model.input_size[0] * model.input_size[1] < RUN_AT_MOST:
        engine = reference.load(model, b"", "fp32", 1)
        picture = np.zeros((*model.input_size, 3), np.uint8)
        detect_picture(model, engine, picture, graph_parameters(model), LabelMap({}))


def kinds(models: Path, folder: Path) -> dict[str, Kind]:
    """What is fuzzed."""
    graphs = graph_seeds(models)
    bundle = folder / "whole.ssdrt"
    save_bundle(Bundle(read_graph(build.demo_bytes()), "reference", "fp32", "here", b"plan" * 100), bundle)
    whole, pictures = bundle.read_bytes(), list(picture_seeds())

    def labels(suffix: str) -> Kind:
        path = folder / f"labels{suffix}"
        return Kind(lambda seed: mutants.damage(LABELS[suffix], seed), lambda data: read_labels(written(path, data)))

    return {
        "graph": Kind(lambda seed: mutants.mutate(graphs[seed % len(graphs)], seed)[1], read_graph),
        **{f"labels {suffix}": labels(suffix) for suffix in LABELS},
        "bundle": Kind(lambda seed: damaged_bundle(whole, seed), lambda d: load_bundle(written(folder / "a.ssdrt", d))),
        "picture": Kind(
            lambda seed: mutants.damage(pictures[seed % len(pictures)], seed),
            lambda data: decode_photo(io.BytesIO(data), "picture", PIXELS),
        ),
    }


def damaged_bundle(whole: bytes, seed: int) -> bytes:
    """Every other one has a digest that agrees, so that what lies behind it is reached."""
    if seed % 2:
        return mutants.damage(whole, seed)
    return mutants.signed_bundle(whole, seed)


def picture_seeds() -> Iterator[bytes]:
    """A small picture in the formats that are read."""
    small = Image.fromarray(demo_picture()).resize((64, 48))
    for name in ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP"):
        file = io.BytesIO()
        small.save(file, name)
        yield file.getvalue()


def written(path: Path, data: bytes) -> Path:
    """The path of a file with this content."""
    path.write_bytes(data)
    return path


def fuzz(name: str, kind: Kind, seeds: range, keep: Path) -> dict[str, object]:
    """Judge the mutants of one kind; how many had which end."""
    ends: collections.Counter[str] = collections.Counter()
    slowest = largest = 0.0
    for seed in seeds:
        data = kind.mutant(seed)
        result: list[object] = []
        verdict = limits.judge(lambda data=data, result=result: result.append(kind.read(data)), len(data))
        if verdict.kind == "loaded" and isinstance(result[0], SsdModel) and seed % RUN_EVERY == 0:
            ends["run"] += 1
            verdict = limits.judge(lambda model=result[0]: run(model), 1 << 40)
        ends[verdict.kind] += 1
        slowest, largest = max(slowest, verdict.seconds), max(largest, verdict.bytes)
        if (seed - seeds.start + 1) % 5000 == 0:
            print(f"{name}, {seed - seeds.start + 1} so far: {dict(ends)}", flush=True)
        if not verdict.good:
            keep.mkdir(parents=True, exist_ok=True)
            written(keep / f"{name}_{seed}", data)
            print(f"{name} {seed}: {verdict}", flush=True)
    print(f"{name}: {dict(ends)}, slowest {slowest:.2f} s, largest {largest / 1e6:.0f} MB", flush=True)
    return {"inputs": len(seeds), **ends, "slowest_s": round(slowest, 3), "largest_mb": round(largest / 1e6, 1)}


def main() -> int:
    """Fuzz; exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first mutant")
    parser.add_argument("--only", help='one kind: graph, "labels .pbtxt", ..., bundle or picture')
    parser.add_argument("--models", type=Path, default=Path(__file__).parents[2] / "shared" / "models")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "ssdrt-crashers")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    numbers = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in kinds(options.models, Path(folder)).items():
            if options.only in (None, name):
                share = 1 if options.only or name == "graph" else 10 * len(LABELS) if "labels" in name else 10
                count = -(-options.count // share)
                numbers[name] = fuzz(name, kind, range(options.seed, options.seed + count), options.keep)
    if options.result:
        command = f"python bench/fuzz.py --count {options.count} --seed {options.seed}"
        result = {"command": command, "python": platform.python_version(), "numpy": np.__version__, "numbers": numbers}
        options.result.write_text(json.dumps(result, indent=1) + "\n")
    fine = {"inputs", "run", "loaded", "refused", "slowest_s", "largest_mb"}
    return int(any(set(ends) - fine for ends in numbers.values()))


if __name__ == "__main__":
    raise SystemExit(main())
