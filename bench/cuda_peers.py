"""Our engine and its peers on one card in one run, in turns: TensorRT, torch.compile, JAX.

    python bench/cuda_peers.py RESULT.json MODELS [--seconds 140] [--plans FOLDER --tensorrt "COMMAND"] [--rows 0,1,2]
                               [--without KIND,...] [--tuned v1,...] [--at-once | --warm]

MODELS has graphs.json and unpack.py. Every contender is a process that gets ready and then measures a round each time
it is told to, one at a time; what uses the GPU while getting ready takes a lock. Ours is tuned at the row's batch size
in the rows that are named, by default in all; its plans are kept for later runs of the same kernels. COMMAND starts a
Python that has tensorrt and ssdrt; FOLDER has plans named ROW_bBATCH_*.plan, each of which takes part. A contender that
cannot run, or is not ready in time, is said in its row. RESULT.json is written after every row. LATE contenders start
once all rows are measured, and are then measured in turns with ours, if time is left; with --at-once they start with
the others. --warm compiles what ours and torch need, so that a later run finds it; nothing is measured.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import pickle
import select
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

ROWS = (
    ("v1", "ssd_mobilenet_v1_90_od2020", 256),
    ("v1", "ssd_mobilenet_v1_90_od2020", 1),
    ("v2", "ssd_mobilenet_v2_90_od2019", 64),
    ("inception", "ssd_inception_v2_90_od2019", 64),
    ("ssdlite", "ssdlite_mobilenet_v2_90_od2019", 64),
    ("v3small", "ssdlite_mobilenet_v3_small_320_90_od2020", 64),
    ("fpnlite", "ssd_mobilenet_v2_fpnlite_256_od2020", 64),
    ("v1", "ssd_mobilenet_v1_90_od2020", 64),
)
INCLUDES = {
    "ssdrt": "bytes on the GPU to detections there, exact NMS; class biases lowered to about 500 candidates above 0.3",
    "ssdrt as it is": "the same with the graph's own random class biases",
    "torch": "bytes on the GPU to raw heads there, torch.compile (channels last, cudnn.benchmark, CUDA graph), no NMS",
    "torch max-autotune": "the same in mode max-autotune",
    "jax": "bytes on the GPU to raw heads there, jax.jit, no NMS",
    "tensorrt": "bytes on the GPU to what the plan gives, a CUDA graph, no NMS: the candidates of a picture, or, of a "
    "plan named scores, raw heads (boxes to decode, scores)",
}
HOST = {
    "ssdrt": "picture in pinned memory to detections on the host, exact NMS",
    "ssdrt as it is": "the same",
    "torch": "picture in pinned memory, copied, raw heads on the GPU waited for; no NMS, no copy back",
    "torch max-autotune": "the same",
    "jax": "picture in ordinary memory, raw heads on the GPU waited for; no NMS, no copy back",
    "tensorrt": "picture in pinned memory to the candidates on the host, a CUDA graph with both copies, or, of a plan "
    "named scores, to raw heads on the GPU; no NMS",
}
LATE = ("torch max-autotune",)
ROUNDS = 7
LOCK = Path(tempfile.gettempdir()) / "ssdrt_peers.lock"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("result", type=Path)
    parser.add_argument("models", type=Path)
    parser.add_argument("--seconds", type=float, default=140.0)
    parser.add_argument("--plans", type=Path)
    parser.add_argument("--tensorrt", default="")
    parser.add_argument("--rows", default="")
    parser.add_argument("--without", default="")
    parser.add_argument("--at-once", action="store_true")
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--tuned", default=",".join(sorted({row[0] for row in ROWS})))
    parser.add_argument("--contender", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        kind, graph, batch = args.contender
        if args.warm and kind == "ssdrt":
            warmed(args.models, graph, int(batch))
            return
        serve(KINDS[kind](args.models, graph, int(batch), args.plans))
        return
    end = time.monotonic() + args.seconds
    rows = [ROWS[int(one)] for one in args.rows.split(",")] if args.rows else list(ROWS)
    if args.warm:
        for kind in ("ssdrt", "torch"):
            with ThreadPoolExecutor(4) as pool:
                for row, facts in zip(rows, pool.map(partial(warm, kind, args, end), rows), strict=True):
                    print(json.dumps([kind, *row, facts]), flush=True)
        return
    report = {"command": " ".join(sys.argv), "includes": INCLUDES, "host_to_host": HOST, "rows": []}
    started = [(row, start(row, args)) for row in rows]
    patience = end - 3 * len(started)  # for the rounds; nothing is measured while others get ready
    ready = [wait(contenders, patience) for _, contenders in started]
    kept = []
    for (row, contenders), facts in zip(started, ready, strict=True):
        name, graph, batch = row
        line: dict = {"row": name, "graph": graph, "batch": batch, **facts}
        report["rows"].append(line)
        measure(line, {kind: one for kind, one in contenders.items() if "ready" in facts[kind]})
        for kind, one in contenders.items():
            if kind == "ssdrt" and is_large(row) and "ready" in facts[kind]:
                kept.append((line, row, one))
            elif not isinstance(one, dict):
                one.end()
        args.result.write_text(json.dumps(report, indent=1))
        print(json.dumps(line), flush=True)
    left = args.without.split(",")
    behind = () if args.at_once else LATE
    late = [{kind: contender(kind, row, args) for kind in behind if kind not in left} for _, row, _ in kept]
    ready = [wait(contenders, end - 3) for contenders in late]
    for (line, _, own), contenders, facts in zip(kept, late, ready, strict=True):
        alive = {kind: one for kind, one in contenders.items() if "ready" in facts[kind]}
        if facts:
            line["later"] = {"batch": line["batch"], "ssdrt": {}, **facts}
        if alive:
            measure(line["later"], {"ssdrt": own, **alive})
        args.result.write_text(json.dumps(report, indent=1))
        print(json.dumps(line.get("later")), flush=True)
        for one in (own, *contenders.values()):
            one.end()


def is_large(row: tuple[str, str, int]) -> bool:
    """Whether the row is one of those that stand in the text; of the others, only what is quick to get ready."""
    return row[0] == "v1" and row[2] != 64


def start(row: tuple[str, str, int], args: argparse.Namespace) -> dict:
    """The contenders of a row, getting ready; or why there is none."""
    kinds = ("ssdrt", "ssdrt as it is", "torch", "jax") if is_large(row) else ("ssdrt", "torch")
    left = args.without.split(",")
    if args.at_once and is_large(row):
        kinds += LATE
    found = {kind: contender(kind, row, args) for kind in kinds if kind not in left}
    plans = sorted(args.plans.glob(f"{row[0]}_b{row[2]}_*.plan")) if args.plans and "tensorrt" not in left else []
    if not plans or not args.tensorrt:
        found["tensorrt"] = {"failed": "no plan of this graph and batch"}
    return found | {f"tensorrt {plan.stem}": contender("tensorrt", row, args, plan) for plan in plans if args.tensorrt}


def contender(kind: str, row: tuple[str, str, int], args: argparse.Namespace, plan: Path | None = None) -> Contender:
    """A process that gets ready."""
    python = shlex.split(args.tensorrt) if kind == "tensorrt" else [sys.executable]
    plans = ["--plans", str(plan)] if plan else []
    plans += ["--warm"] if args.warm else []
    words = [str(args.result), str(args.models), *plans, "--contender", kind, row[1], str(row[2])]
    return Contender([*python, __file__, *words], tuned=row[0] in args.tuned.split(","))


def warm(kind: str, args: argparse.Namespace, end: float, row: tuple[str, str, int]) -> dict:
    """What a contender says once it is ready, or why it is not; it is ended then."""
    if time.monotonic() > end:
        return {"failed": "not begun"}
    one = contender(kind, row, args)
    facts = one.wait_until_ready(end)
    one.end()
    return facts


def wait(contenders: dict, deadline: float) -> dict:
    """What each says when it is ready; those that are not in time, or failed, are ended."""
    facts = {kind: one if isinstance(one, dict) else one.wait_until_ready(deadline) for kind, one in contenders.items()}
    for kind, one in contenders.items():
        if "failed" in facts[kind] and not isinstance(one, dict):
            one.end()
    return facts


def measure(line: dict, alive: dict) -> None:
    """Rounds in turns; medians and 99th percentiles go to the line, and how far ahead of the best peer we are."""
    samples: dict = {kind: {} for kind in alive}
    for _ in range(ROUNDS):
        for kind, one in alive.items():
            if "failed" in line[kind]:
                continue
            found = one.ask(20.0)
            line[kind] |= {key: found.pop(key) for key in ("failed",) if key in found}
            for what, values in found.items():
                samples[kind].setdefault(what, []).extend(values)
    for kind, measured in samples.items():
        for what, values in measured.items():
            if values:
                line[kind][what] = [round(float(np.percentile(values, q)), 1) for q in (50, 99)]
        if "us" in line[kind]:
            line[kind]["pictures_a_second"] = round(line["batch"] / line[kind]["us"][0] * 1e6)
    for what in ("us", "host_us"):
        others = {kind: line[kind][what][0] for kind in alive if not kind.startswith("ssdrt") and what in line[kind]}
        if others and what in line.get("ssdrt", {}):
            best = min(others, key=others.__getitem__)
            line[f"times_the_best_peer_{what}"] = [best, round(others[best] / line["ssdrt"][what][0], 2)]


class Contender:
    """A process that says a line when it is ready, and a line a round."""

    def __init__(self, command: list[str], tuned: bool) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env={**os.environ, "SSDRT_CUDA_UNTUNED": "" if tuned else "1"},
        )  # fmt: skip
        self._left = b""

    def wait_until_ready(self, deadline: float) -> dict:
        return self._line(max(0.5, deadline - time.monotonic()))

    def ask(self, seconds: float) -> dict:
        """One round: what was measured -> microseconds; or why it was not."""
        with suppress(BrokenPipeError):
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()
        return self._line(seconds)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _line(self, seconds: float) -> dict:
        end = time.monotonic() + seconds
        while True:
            head, newline, rest = self._left.partition(b"\n")
            if newline:
                self._left = rest
                if head.startswith(b"@"):
                    return json.loads(head[1:])
                continue
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            more = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""
            if not more:
                self._errors.seek(0)
                last = self._errors.read().decode(errors="replace").strip()[-600:]
                return {"failed": f"{'ended' if ready else 'not in time'}: {last}"}
            self._left += more


def serve(contender: tuple[dict, Callable[[], dict]]) -> None:
    """Say what is ready, then measure whenever a line comes."""
    facts, measure = contender
    print("@" + json.dumps({"ready": True, **facts}), flush=True)
    for _ in sys.stdin:
        print("@" + json.dumps(measure()), flush=True)


@contextmanager
def gpu_alone():
    """While this process measures on the GPU in order to choose."""
    with open(LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kept_kernels() -> None:
    """What one process has compiled, no other one compiles."""
    from ssdrt.engines.cuda import compiler

    folder, inner = LOCK.with_name(f"ssdrt_peers_{compiler.digest()}_kernels"), compiler._compiled
    folder.mkdir(exist_ok=True)

    def compiled(nvrtc, texts, file, name, architecture):
        place = folder / hashlib.sha256(f"{file} {name} {architecture}".encode()).hexdigest()
        if not place.exists():
            part = place.with_suffix(f".{os.getpid()}_{threading.get_ident()}")
            part.write_bytes(pickle.dumps(inner(nvrtc, texts, file, name, architecture)))
            part.rename(place)
        return pickle.loads(place.read_bytes())

    compiler._compiled = compiled


def model_of(models: Path, graph: str):
    sys.path.insert(0, str(models))
    import unpack

    from ssdrt.graph import graph_from_bytes
    from ssdrt.recover import recover

    entry = next(one for one in json.loads((models / "graphs.json").read_text()) if one["name"] == graph)
    return recover(graph_from_bytes(unpack.graph_bytes(entry)))


def pictures(model, batch: int):
    """(batch, height, width, 3) uint8: those of bench/cuda_engine.py."""
    import cuda_engine

    class Sized:
        pass

    sized = Sized()
    sized.model = model
    return cuda_engine.noise(sized, batch)


# --- contenders: what they are, and a function that measures a round --------------------------------------------------


def ours(models: Path, graph: str, batch: int, _: Path | None, wanted: int = 500):
    import cuda_engine

    from ssdrt.engines import cuda
    from ssdrt.engines.cuda import compiler, runtime, tuner
    from ssdrt.engines.cuda.driver import Gpu
    from ssdrt.engines.cuda.planner import plan_network
    from ssdrt.engines.cuda.tactics import choose
    from ssdrt.pipeline import graph_parameters

    kept_kernels()
    model, gpu = model_of(models, graph), Gpu()
    if wanted:
        model = cuda_engine.biased(model, wanted)
    plan, device = plan_network(model), gpu.device()
    tuned = not os.environ.get(cuda.UNTUNED)
    tuner.BATCHES = (batch,)  # the others are not timed here
    kept = LOCK.with_name(f"ssdrt_peers_{compiler.digest()}_{graph}_{batch}_{wanted}{'' if tuned else '_untuned'}")
    seconds = None
    if not kept.exists():
        chosen = {size: choose(plan, size, device) for size in runtime.BATCHES}
        if tuned:
            tuner.compiled(plan, tuner.choices_of(plan, device), device)  # before the lock is taken
            with gpu_alone():
                start = time.perf_counter()
                chosen |= tuner.tune(gpu, plan, cuda.SECONDS, lambda _: None)
                seconds = round(time.perf_counter() - start, 1)
        kept.write_bytes(cuda.build_for(model, device, chosen))
    engine = cuda.load(model, kept.read_bytes(), "fp16", 1)
    lane = engine._all[0]
    engine.gpu.enter()
    _, table = cuda_engine.pictures_on_gpu(engine, batch)
    source = lane.prepare_resident(table, replace(graph_parameters(model), score_threshold=0.3))
    count = cuda_engine.candidates(engine)["0.3"]
    lane.prepare_resident(table, replace(graph_parameters(model), score_threshold=0.3))
    repeats = 20 if batch == 1 else 5

    def replays() -> None:
        for _ in range(repeats):
            lane.replay(source, batch)

    def measure() -> dict:
        if batch == 1:  # its staging memory is that of the other input, too
            host = cuda_engine.host_to_host(engine, 0.3, 100)
            lane.prepare_resident(table, replace(graph_parameters(model), score_threshold=0.3))
        found = {"us": [cuda_engine.timed(engine, lane.stream, replays, 3) / repeats]}
        return {**found, "host_us": host} if batch == 1 else found

    measure()
    return {"candidates_above_0.3": count, "tuning_s": seconds, "tuned": tuned}, measure


def warmed(models: Path, graph: str, batch: int) -> None:
    """The kernels of `ours`, compiled."""
    from ssdrt.engines import cuda
    from ssdrt.engines.cuda import tuner
    from ssdrt.engines.cuda.driver import Gpu
    from ssdrt.engines.cuda.planner import plan_network

    kept_kernels()
    tuner.BATCHES = (batch,)
    model, device = model_of(models, graph), Gpu().device()
    plan = plan_network(model)
    tuner.compiled(plan, tuner.choices_of(plan, device), device)
    cuda.build_for(model, device)
    print('@{"ready": true}', flush=True)


def torch_compiled(models: Path, graph: str, batch: int, _: Path | None, mode: str | None = None):
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "8" if mode else "2")
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    from ssdrt.model import IMAGE
    from ssdrt.train.network import KINDS as LAYERS
    from ssdrt.train.network import _rows, weights_of

    model = model_of(models, graph)
    weights = {}
    for name, value in weights_of(model, "cuda").items():
        value = value.detach().half()
        weights[name] = value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value
    host = torch.from_numpy(pictures(model, batch)).pin_memory()
    image = host.cuda()

    # made before recording, which takes no copies from the host
    steps = [
        (step.operation, torch.tensor(step.operand, dtype=torch.half, device="cuda").reshape(-1, 1, 1))
        for step in model.preprocessing.normalisation.value
    ]

    def network(bytes_nhwc):
        x = bytes_nhwc.permute(0, 3, 1, 2).half()
        for operation, by in steps:
            x = {"mul": torch.mul, "add": torch.add, "sub": torch.sub, "div": torch.div}[operation](x, by)
        values = {IMAGE: x}
        for layer in model.layers:
            values[layer.name] = LAYERS[type(layer)](layer, weights, False, *(values[name] for name in layer.inputs))
        boxes = [_rows(values[head.boxes], 4) for head in model.heads]
        return torch.cat(boxes, 1), torch.cat(
            [_rows(values[head.scores], model.logit_columns) for head in model.heads], 1
        )

    with torch.no_grad():
        start = time.perf_counter()
        plain = make_fx(network)(image)  # operations alone: dynamo takes minutes for the loop over layers
        compiled = torch.compile(plain, mode=mode)
        if mode is None:
            compiled(image)  # compiles
            torch.cuda.synchronize()
        with gpu_alone():
            compiled(image)  # in the other modes it measures while it compiles
            torch.cuda.synchronize()
            torch.backends.cudnn.benchmark = True
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                for _ in range(3):
                    compiled(image)
            torch.cuda.synchronize()
            recording = torch.cuda.CUDAGraph()
            with torch.cuda.graph(recording, stream=side):
                compiled(image)
            recording.replay()
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start

    def measure() -> dict:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        times = []
        for _ in range(3):
            begin.record()
            for _ in range(5):
                recording.replay()
            end.record()
            end.synchronize()
            times.append(1e3 * begin.elapsed_time(end) / 5)
        found = {"us": times}
        if batch == 1:
            walls = []
            for _ in range(100):
                start = time.perf_counter()
                image.copy_(host, non_blocking=True)
                recording.replay()
                torch.cuda.synchronize()
                walls.append(1e6 * (time.perf_counter() - start))
            found["host_us"] = walls
        return found

    return {"compile_s": round(seconds, 1), "version": torch.__version__}, measure


def jax_compiled(models: Path, graph: str, batch: int, _: Path | None):
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import jax
    from jax import lax, numpy

    from ssdrt.model import IMAGE, Activation, Conv, DepthwiseConv

    model = model_of(models, graph)
    limits = {"relu": (0, 65504), "relu6": (0, 6)}

    def convolved(layer, x, kernel, groups):
        pads = ((layer.pads[0], layer.pads[2]), (layer.pads[1], layer.pads[3]))
        order = ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(
            x, kernel.astype(numpy.float16), layer.strides, pads, rhs_dilation=layer.dilations,
            dimension_numbers=order, feature_group_count=groups,
        )  # fmt: skip
        return y + layer.bias.astype(numpy.float16)

    def network(image):
        x = image.astype(numpy.float16)
        for step in model.preprocessing.normalisation.value:
            by = np.asarray(step.operand, np.float16)
            x = {"mul": x * by, "add": x + by, "sub": x - by, "div": x / by}[step.operation]
        values = {IMAGE: x}
        for layer in model.layers:
            source = values[layer.inputs[0]]
            if isinstance(layer, Conv):
                values[layer.name] = convolved(layer, source, layer.weights, 1)
            elif isinstance(layer, DepthwiseConv):
                channels = source.shape[3]
                kernel = layer.weights.reshape(*layer.weights.shape[:2], 1, -1)
                values[layer.name] = convolved(layer, source, kernel, channels)
            elif isinstance(layer, Activation) and layer.function in limits:
                values[layer.name] = numpy.clip(source, *limits[layer.function])
            else:
                raise NotImplementedError(type(layer).__name__)
        heads = [(values[one.boxes], values[one.scores]) for one in model.heads]
        rows = [
            [value.reshape(len(image), -1, n) for value in some]
            for some, n in zip(zip(*heads, strict=True), (4, model.logit_columns), strict=True)
        ]
        return [numpy.concatenate(some, 1) for some in rows]

    host = pictures(model, batch)
    image = jax.device_put(host)
    start = time.perf_counter()
    function = jax.jit(network)
    with gpu_alone():  # it tries kernels while it compiles
        jax.block_until_ready(function(image))
    seconds = time.perf_counter() - start

    def measure() -> dict:
        start = time.perf_counter()
        jax.block_until_ready([function(image) for _ in range(10)])
        found = {"us": [1e5 * (time.perf_counter() - start)]}
        if batch == 1:
            walls = []
            for _ in range(100):
                start = time.perf_counter()
                jax.block_until_ready(function(host))
                walls.append(1e6 * (time.perf_counter() - start))
            found["host_us"] = walls
        return found

    return {"compile_s": round(seconds, 1), "version": jax.__version__}, measure


def tensorrt_plan(models: Path, graph: str, batch: int, plan: Path | None):
    import tensorrt

    from ssdrt.engines.tensorrt.runtime import CANDIDATES, load_engine

    model = model_of(models, graph)
    assert plan is not None
    engine = load_engine(model, plan.read_bytes(), 1)
    images = list(pictures(model, batch))
    borrowed = engine._lanes.one()
    lane = borrowed.__enter__()
    device, stream = engine._device, lane._stream
    lane.take(images)
    lane.fetch(CANDIDATES)
    work = lane._last
    bare = device.capture(stream, lambda: work.context.execute_async_v3(int(stream)))
    copies = work.graphs[True, False]
    repeats = 20 if batch == 1 else 10

    def replay(recording, times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            device.launch(recording, stream)
        device.synchronize(stream)
        return 1e6 * (time.perf_counter() - start) / times

    def measure(_=(borrowed, engine)) -> dict:  # which must not go: they end with the lane's context
        found = {"us": [replay(bare, repeats) for _ in range(3)]}
        if batch == 1:
            found["host_us"] = [replay(copies, 1) for _ in range(100)]
        return found

    replay(bare, 2)
    return {"plan": plan.name, "version": tensorrt.__version__}, measure


KINDS = {
    "ssdrt": ours,
    "ssdrt as it is": lambda *words: ours(*words, wanted=0),
    "torch": torch_compiled,
    "torch max-autotune": lambda *words: torch_compiled(*words, mode="max-autotune-no-cudagraphs"),
    "jax": jax_compiled,
    "tensorrt": tensorrt_plan,
}

if __name__ == "__main__":
    main()
