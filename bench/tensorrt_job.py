"""One process of bench/tensorrt_gpu.py: a job of its list, a JSON line a step.

    python bench/tensorrt_job.py MODELS COCO_VAL FOLDER NUMBER TACTIC,...

MODELS has graphs.json, goldens and photos; COCO_VAL has instances.json and images. The lines go to
FOLDER/lines/NUMBER.jsonl, plans that are kept to FOLDER/plans. TACTICS: where TensorRT comes without cuBLAS and cuDNN,
the sources of kernels that are left; "" for all.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tensorrt_list import JOBS, Job

FLOOR = 0.05
ROOM = 1000  # of detections, in which those recorded are looked for
ALLOWED = {"fp32": (1.0, 2e-3), "fp16": (2.0, 0.01), "int8": (8.0, 0.1)}  # pixels, score
WHOLE = "SSDRT_BENCH_WHOLE"  # set: jobs that try convolutions in float16 alone try everything
SHARE = {"fp32": 0.99, "fp16": 0.97, "int8": 0.0}  # of the detections of graphs with seeded weights


class Worker:
    """The files of a run and the lines of this job."""

    def __init__(self, models: Path, coco: Path, folder: Path, number: int, tactics: tuple[str, ...]) -> None:
        self.models, self.coco, self.folder, self.tactics = models, coco, folder, tactics
        self.job: Job = JOBS[number]
        self.entries = {one["name"]: one for one in json.loads((models / "graphs.json").read_text())}
        self.file = open(folder / "lines" / f"{number:02}.jsonl", "w", encoding="utf-8")  # noqa: SIM115
        self.begin = time.monotonic()

    def say(self, **line: object) -> None:
        """One line of the results."""
        words = {"job": self.job.title, **line, "at": round(time.monotonic() - self.begin, 1)}
        print(json.dumps(words, default=str), file=self.file, flush=True)

    def attempt(self, step: Callable[..., None], *words: Any) -> None:
        """A step whose failure must not end the others."""
        try:
            step(*words)
        except Exception as error:  # written down, whatever it is
            import traceback

            self.say(
                step=step.__name__,
                failed=f"{type(error).__name__}: {error}"[:800],
                trace=traceback.format_exc()[-1500:],
            )

    @functools.cached_property
    def graph(self) -> bytes:
        """The frozen graph."""
        sys.path.insert(0, str(self.models))
        import unpack

        data: bytes = unpack.graph_bytes(self.entries[self.job.graph])
        return data

    @functools.cached_property
    def model(self) -> Any:
        """The recovered graph."""
        from ssdrt.graph import graph_from_bytes
        from ssdrt.recover import recover

        return recover(graph_from_bytes(self.graph))

    @functools.cached_property
    def photos(self) -> dict[str, Any]:
        """The recorded photos, by name."""
        from PIL import Image

        entry = self.entries[self.job.graph]
        names = sorted({key.split("/")[0] for key in np.load(self.models / entry["golden"]).files if "/" in key})
        folder = self.models / entry["photos"]
        return {name: np.asarray(Image.open(folder / f"{name}.png").convert("RGB")) for name in names}

    def build(self, label: str = "") -> Any:
        """The job's plan at work, self-checked; None when it fails, with a line that says why."""
        from ssdrt.engines.cuda import ends
        from ssdrt.engines.selfcheck import check_itself
        from ssdrt.engines.tensorrt import builder, suppression
        from ssdrt.engines.tensorrt.builder import BuildOptions, build_plan
        from ssdrt.engines.tensorrt.library import find_library
        from ssdrt.engines.tensorrt.runtime import load_engine
        from ssdrt.errors import SsdrtError

        options = {"tactics": self.tactics, **self.job.options}
        if self.job.cache:
            options["timing_cache"] = str(self.folder / f"{self.job.cache}.timing.cache")
        if "equality" in self.job.steps:
            ends.MOST = ROOM
        if self.job.tail == "scores":
            builder.candidate_count = lambda *_: 0
        if self.job.half and not os.environ.get(WHOLE):
            builder._Network, builder._config = half(builder._Network), without_tf32(builder._config)
            options["flags"] = ("PREFER_PRECISION_CONSTRAINTS",)
        words = {
            "step": "build",
            "graph": self.job.graph,
            "precision": self.job.precision,
            "label": label,
            "options": str(self.job.options),
        }
        scales: dict[str, float] = {}
        if self.job.precision == "int8":
            scales = measured_scales(self.model, np.stack([np.rint(one) for one in _network_inputs(self)]))
            options["scales"] = tuple(scales.items())
        model, start = self.model, time.monotonic()
        try:
            kernels = suppression.for_build(model) if self.job.tail == "kernels" else b""
            compiled, start = time.monotonic() - start, time.monotonic()
            plan = build_plan(find_library(), model, self.job.precision, BuildOptions(**options), kernels=kernels)
            seconds = time.monotonic() - start
            if self.job.keep and not label:
                place = self.folder / "plans" / f"{self.job.keep}.plan"
                place.with_suffix(".part").write_bytes(plan)
                place.with_suffix(".part").replace(place)
            more = {"kernels": len(kernels), "compiled": round(compiled, 2)} if kernels else {}
            self.say(**words, **more, seconds=round(seconds, 2), megabytes=round(len(plan) / 1e6, 1))
            loading = time.monotonic()
            engine = load_engine(model, plan, 2)
            checked = time.monotonic()
            detecting = sorted({self.job.options["batch"][0], self.job.options["batch"][2]})
            detecting = detecting if engine.suppresses else []
            differences = check_itself(model, engine, self.job.precision, detecting, scales=scales)
            took = {"loading": round(checked - loading, 2), "seconds": round(time.monotonic() - checked, 1)}
            self.say(step="self-check", differences=differences, suppresses=engine.suppresses, **took)
        except SsdrtError as error:
            self.say(**words, after=round(time.monotonic() - start, 2), failed=str(error)[:1200])
            return None
        return engine


def half(network: Any) -> Any:
    """A `builder._Network` whose convolutions are wanted in float16: TensorRT 8 tries no others then."""

    class Half(network):  # type: ignore[misc]
        def __init__(self, library: Any, onnx: bytes) -> None:
            super().__init__(library, onnx)
            for layer in (self.network.get_layer(index) for index in range(self.network.num_layers)):
                if layer.type == library.api.LayerType.CONVOLUTION:
                    layer.precision = library.api.float16

    return Half


def without_tf32(config: Any) -> Any:
    """`builder._config` whose builder tries no TF32 kernels for what is not in float16."""

    def configured(library: Any, *words: Any) -> Any:
        made = config(library, *words)
        made.clear_flag(library.api.BuilderFlag.TF32)
        return made

    return configured


def measured_scales(model: Any, pixels: Any) -> dict[str, float]:
    """For int8: the largest magnitude of each value that a convolution reads, on the recorded photos."""
    from ssdrt.engines.reference import ReferenceEngine, run_layer
    from ssdrt.model import Conv, DepthwiseConv

    largest: dict[str, float] = {}

    def run(layer: Any, *inputs: Any) -> Any:
        if isinstance(layer, (Conv, DepthwiseConv)):
            name = layer.inputs[0]
            largest[name] = max(largest.get(name, 0.0), float(np.abs(inputs[0]).max()))
        return run_layer(layer, *inputs)

    ReferenceEngine(model, run).infer(pixels)
    return {name: value / 127 for name, value in largest.items()}


# --- steps ------------------------------------------------------------------------------------------------------------


def equality(worker: Worker, engine: Any) -> None:
    """Each recorded detection against ours, one photo at a time and all in one call."""
    from ssdrt.model import LabelMap
    from ssdrt.pipeline import detect_pictures, graph_parameters

    entry, model, precision = worker.entries[worker.job.graph], worker.model, worker.job.precision
    golden, pictures = np.load(worker.models / entry["golden"]), list(worker.photos.values())
    parameters = replace(graph_parameters(model), score_threshold=FLOOR - 0.02, max_total=ROOM)
    engine.pictures = engine.shortages = 0
    single = [detect_pictures(model, engine, [one], parameters, LabelMap({}))[0] for one in pictures]
    batched = detect_pictures(model, engine, pictures, parameters, LabelMap({}))
    seeded = entry["weights"] == "seeded"
    for how, found in (("one by one", single), ("batch", batched)):
        rows = [
            row
            for photo, one in zip(worker.photos, found, strict=True)
            for row in matches(golden, photo, one, precision, seeded)
        ]
        fits = [row for row in rows if row[0]]
        worker.say(
            step="equality",
            graph=entry["name"],
            precision=precision,
            how=how,
            suppresses=engine.suppresses,
            pictures=engine.pictures,
            shortages=engine.shortages,
            weights=entry["weights"],
            expected=len(rows),
            matched=len(fits),
            pixels=max((row[1] for row in fits), default=0),
            score=max((row[2] for row in fits), default=0),
            good=len(fits) >= (SHARE[precision] if seeded else 1) * len(rows),
            missing=[row[3] for row in rows if not row[0]][:5],
        )


def matches(golden: Any, photo: str, found: Any, precision: str, seeded: bool) -> Any:
    """(matched, corner distance, score distance, what it is) of each recorded detection of at least FLOOR, greedily,
    best first; of one without a partner also the nearest of its class."""
    pixels, tolerance = ALLOWED[precision]
    if seeded:
        pixels, tolerance = max(pixels, 2.0), max(tolerance, 6e-3)
    count = int(golden[f"{photo}/num_detections"])
    scale = np.array([found.width, found.height, found.width, found.height])
    boxes = golden[f"{photo}/detection_boxes"][:count][:, [1, 0, 3, 2]] * scale
    scores = golden[f"{photo}/detection_scores"][:count]
    classes = golden[f"{photo}/detection_classes"][:count].astype(int)
    free = np.ones(len(found), bool)
    for rank, (box, score, class_id) in enumerate(zip(boxes, scores, classes, strict=True)):
        if score < FLOOR:
            continue
        corner = np.abs(found.boxes_xyxy - box).max(1, initial=0)
        distance = np.abs(found.scores - score)
        same = found.class_ids == class_id
        fit = np.flatnonzero(free & same & (corner <= pixels) & (distance <= tolerance))
        if len(fit):
            best = fit[np.argmin(corner[fit] + 100 * distance[fit])]
            free[best] = False
            yield True, float(corner[best]), float(distance[best]), ""
        else:
            near = np.flatnonzero(same)[np.argsort(corner[same])[:1]]
            others = [f"{corner[one]:.1f} px away with {found.scores[one]:.4f}" for one in near]
            text = f"{photo} rank {rank} class {class_id} score {score:.4f}; nearest of the class: {others}"
            yield False, np.inf, np.inf, text


def candidates(worker: Worker, engine: Any) -> None:
    """What `detect` finds, by candidates or by the kernels behind the plan, against all scores with the whole NMS."""
    from tensorrt_times import on_host

    from ssdrt.pipeline import graph_parameters
    from ssdrt.postprocess import decode_boxes, non_max_suppression
    from ssdrt.preprocess import clip_window, to_network

    model = worker.model
    wanted = []
    for one in worker.photos.values():
        for parameters in (graph_parameters(model), replace(graph_parameters(model), score_threshold=0.3)):
            encodings, scores = engine.infer(to_network(one, model.preprocessing.resizer.value)[None])
            boxes = decode_boxes(encodings[0], model.anchors.value, model.box_coder.scales.value)
            whole = non_max_suppression(boxes, scores[0], parameters, clip_window(model, *one.shape[:2]))
            wanted.append((one, parameters, whole))
    for road in ("kernels", "host") if engine.suppresses else ("host",):
        engine.pictures = engine.shortages = same = to_the_bit = 0
        for one, parameters, whole in wanted:
            detect = functools.partial(engine.detect, [one], parameters)
            (ours,) = on_host(engine, detect) if road == "host" else detect()
            same += all(a.shape == b.shape and np.allclose(a, b, atol=1e-6) for a, b in zip(ours, whole, strict=True))
            to_the_bit += all(np.array_equal(a, b) for a, b in zip(ours, whole, strict=True))
        worker.say(
            step="candidates",
            road=road,
            pictures=engine.pictures,
            shortages=engine.shortages,
            same_as_all_scores=same,
            same_to_the_bit=to_the_bit,
            of=len(wanted),
        )


def threads(worker: Worker, engine: Any) -> None:
    """Four threads on two lanes, pictures on the GPU, pictures in page-locked memory: the same numbers."""
    from concurrent.futures import ThreadPoolExecutor

    from ssdrt.pipeline import graph_parameters

    model = worker.model
    parameters = replace(graph_parameters(model), score_threshold=0.05)
    pictures = np.random.default_rng(3).integers(0, 256, (8, *model.input_size, 3)).astype(np.uint8)
    alone = [engine.detect([one], parameters)[0] for one in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda index: engine.detect([pictures[index % 8]], parameters)[0], range(400)))
    same = all(
        np.array_equal(a, b) for index, one in enumerate(together) for a, b in zip(one, alone[index % 8], strict=True)
    )
    from ssdrt.engines.tensorrt.runtime import CANDIDATES, SCORES

    device, port = engine._device, engine._ports["image"]
    device.use()
    pinned = device.pinned((8, *port.shape), port.dtype)
    pinned[...] = pictures
    address, stream = device.allocate(pinned.nbytes), device.stream()
    device.to_device(address, pinned, stream)
    device.synchronize(stream)

    class OnGpu:
        __cuda_array_interface__ = {  # noqa: RUF012
            "shape": pinned.shape,
            "typestr": port.dtype.str,
            "data": (address, True),
            "version": 3,
            "strides": None,
        }

    def equal(one: Any, other: Any) -> bool:
        return all(np.array_equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))

    batched = engine.detect(list(pictures), parameters)
    with engine._lanes.one() as lane:
        lane.prepare(None, [])
        lane.take(pinned)
        ending = SCORES if worker.job.tail == "kernels" else CANDIDATES
        from_pinned = [value.copy() for value in lane.fetch(ending)]
        lane.take(list(pictures))
        copied = lane.fetch(ending)
        pinned_equal = all(np.array_equal(a, b) for a, b in zip(from_pinned, copied, strict=True))
    worker.say(
        step="threads",
        same=same,
        pictures_on_gpu_equal=equal(engine.detect_on_gpu(OnGpu(), parameters), batched),
        pinned_equal=pinned_equal,
        is_pinned=device.is_pinned(pinned[0]),
        pageable_is_pinned=device.is_pinned(pictures[0]),
        found=sum(len(one[1]) for one in alone),
    )


def inspect(worker: Worker, engine: Any) -> None:
    """How many layers the engine inspector names, by kind and by type of their outputs."""
    from collections import Counter

    from ssdrt.engines.tensorrt.inspection import read_layers
    from ssdrt.engines.tensorrt.library import find_library

    inspector = engine.engine.create_engine_inspector()
    text = inspector.get_engine_information(find_library().api.LayerInformationFormat.JSON)
    (worker.folder / "inspector").mkdir(exist_ok=True)
    (worker.folder / "inspector" / f"{worker.job.title}.json").write_text(text)
    layers = read_layers(text)
    types = Counter(output.split()[-1] for layer in layers for output in layer.outputs)
    worker.say(
        step="inspect",
        layers=len(layers),
        kinds=Counter(one.kind for one in layers),
        types=types,
        tail=[str(one)[:300] for one in layers[-6:]],
    )


def again(worker: Worker, engine: Any) -> None:
    """The same build with what the first one measured."""
    engine.close()
    worker.build("again, with the timing cache").close()


def commands(worker: Worker, _engine: Any) -> None:
    """What a user types: build, inspect, detect, eval, and plans that do not belong here."""
    folder, graph, photo = _places(worker)
    for precision, batch in (("fp32", "1:4:8"), ("fp16", "4")):  # the second fills up what has fewer pictures
        ours, bare = folder / f"{precision}.ssdrt", folder / f"{precision}.engine"
        _build(worker, graph, precision, "--batch", batch, "-o", ours, "--save-plan", bare)
        typed(worker, "detect", ours, photo, "--score", "0.3")
        typed(worker, "detect", bare, photo, "--score", "0.3")
    typed(worker, "inspect", folder / "fp16.engine")
    for precision in ("fp32", "fp16"):
        _evaluate(worker, folder, precision)
    plan = (folder / "fp16.engine").read_bytes()
    side = (folder / "fp16.engine.ssdrt").read_bytes()
    middle = len(plan) // 2
    wrong = {
        "truncated": plan[:middle],
        "of another version": plan[:25] + bytes([plan[25] + 1]) + plan[26:],
        "foreign": b"x" * 1000,
        "torn": plan[:middle] + bytes(4000) + plan[middle + 4000 :],
    }
    for kind, data in wrong.items():
        path = folder / f"{kind}.engine"
        path.write_bytes(data)
        Path(f"{path}.ssdrt").write_bytes(side)
        typed(worker, "detect", path, photo, "--score", "0.3")
    (folder / "alone.engine").write_bytes(plan)
    typed(worker, "detect", folder / "alone.engine", photo)
    typed(worker, "inspect", folder / "alone.engine")
    cut = folder / "cut.ssdrt"
    cut.write_bytes((folder / "fp16.ssdrt").read_bytes()[:-1000])
    typed(worker, "detect", cut, photo)


def rest(worker: Worker, _engine: Any) -> None:
    """More commands: one build after the other."""
    folder, graph, photo = _places(worker)
    _build(worker, graph, "fp16", "--batch", "64", "--workspace", "1", "-o", folder / "small.ssdrt")
    _build(worker, graph, "fp16", "-o", folder / "fp16.ssdrt")
    _evaluate(worker, folder, "fp16")
    _build(worker, graph, "fp32", "--portable", "-o", folder / "portable.ssdrt")
    typed(worker, "detect", folder / "portable.ssdrt", photo, "--score", "0.3")
    typed(worker, "detect", folder / "fp16.ssdrt", photo, "--engine", "tensorrt", "--precision", "tf32")


def _places(worker: Worker) -> tuple[Path, Path, Path]:
    """The folder that the files of commands are in, the graph and a photo."""
    from PIL import Image

    folder = worker.folder / "commands"
    folder.mkdir(exist_ok=True)
    graph, photo = folder / "model.pb", folder / "photo.png"
    graph.write_bytes(worker.graph)
    Image.fromarray(next(iter(worker.photos.values()))).save(photo)
    return folder, graph, photo


def _build(worker: Worker, graph: Path, precision: str, *more: Any) -> None:
    typed(worker, "build", graph, "--engine", "tensorrt", "--precision", precision, "--level", "0", *more)


def _evaluate(worker: Worker, folder: Path, precision: str) -> None:
    coco = ["--annotations", worker.coco / "instances.json", "--images", worker.coco / "images", "--engine", "tensorrt"]
    words = ("--precision", precision, "-o", folder / f"eval-{precision}")
    typed(worker, "eval", folder / f"{precision}.ssdrt", *coco, *words)


def typed(worker: Worker, *words: Any) -> None:
    """A command with what it prints and its exit status."""
    from ssdrt.cli import main

    out, err, start = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status: Any = main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code
    told = [str(word).replace(str(worker.folder), "").removeprefix("/commands/") for word in words]
    worker.say(
        step="command",
        typed=" ".join(("ssdrt", *told)),
        status=status,
        seconds=round(time.monotonic() - start, 1),
        out=_ends(out.getvalue(), 600, 1400),
        err=err.getvalue()[-1200:],
    )


def _ends(text: str, first: int, last: int) -> str:
    return text if len(text) <= first + last else f"{text[:first]} ... {text[-last:]}"


def self_test(worker: Worker, _engine: Any) -> None:
    """What `ssdrt doctor --self-test` prints here."""
    typed(worker, "doctor", "--self-test")


def serialize_portable(worker: Worker, engine: Any) -> None:
    """The bare bytes for the lean runtime of a later version, with pictures and what comes out of them."""
    pictures = [np.rint(one) for one in _network_inputs(worker)][:2]
    encodings, scores = engine.infer(np.stack(pictures))
    np.savez(worker.folder / "portable.npz", pixels=np.stack(pictures), box_encodings=encodings, class_scores=scores)
    (worker.folder / "portable.engine").write_bytes(bytes(engine.engine.serialize()))
    worker.say(step="portable", bytes=(worker.folder / "portable.engine").stat().st_size)


def _network_inputs(worker: Worker) -> list[Any]:
    from ssdrt.preprocess import to_network

    return [to_network(one, worker.model.preprocessing.resizer.value) for one in worker.photos.values()]


STEPS = {
    step.__name__: step
    for step in (equality, candidates, threads, inspect, again, commands, rest, self_test, serialize_portable)
}


def run(models: Path, coco: Path, folder: Path, number: int, tactics: tuple[str, ...]) -> None:
    """Build what the job wants, then its steps."""
    logging.basicConfig(
        filename=folder / "logs" / f"{number:02}.txt",
        level=logging.INFO,
        format="%(relativeCreated)d %(message)s",
    )
    from ssdrt.engines import tensorrt

    tensorrt.BuildOptions = functools.partial(tensorrt.BuildOptions, tactics=tactics, level=0)  # of commands
    worker = Worker(models, coco, folder, number, tactics)
    engine = worker.build() if worker.job.options else None
    if engine is not None or not worker.job.options:
        for name in worker.job.steps:
            worker.attempt(STEPS[name], worker, engine)
    worker.say(step="end")


if __name__ == "__main__":
    models_, coco_, folder_, number_, tactics_ = sys.argv[1:]
    run(Path(models_), Path(coco_), Path(folder_), int(number_), tuple(filter(None, tactics_.split(","))))
