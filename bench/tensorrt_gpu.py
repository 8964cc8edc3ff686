"""The TensorRT engine on a GPU: detections against TensorFlow's recorded ones, times, timing cache, accuracy.

    python bench/tensorrt_gpu.py run MODELS COCO_VAL OUT SECONDS [TACTIC,...]
                                          on the GPU: tensorrt, cuda-bindings, numpy, Pillow; a line a step in
                                          OUT/tensorrt.jsonl as it ends; what does not fit into SECONDS is skipped
    python bench/tensorrt_gpu.py report COCO_VAL OUT RESULT.json

MODELS has graphs.json, goldens and photos; COCO_VAL has instances.json and images. Builds run one after the other:
several at once disturb each other's measurements.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

COCO, V1 = "coco_ssd_mobilenet_v1_075_od2020", "ssd_mobilenet_v1_90_od2020"
OTHERS = (
    "pets37_ssd_mobilenet_v1_075_od2019",
    V1,
    "ssd_mobilenet_v2_90_od2019",
    "one_ssdlite_mobilenet_v2_od2020",
    "ssd_inception_v2_90_od2019",
)
ROUNDS = 12
FLOOR = 0.05
ALLOWED = {"fp32": (1.0, 2e-3), "fp16": (2.0, 0.01)}  # pixels, score
SHARE = {"fp32": 0.99, "fp16": 0.97}  # of the detections of graphs with seeded weights


class Run:
    """The steps, their lines, and the time that is left."""

    def __init__(self, models: Path, coco: Path, out: Path, seconds: float, tactics: tuple[str, ...]) -> None:
        self.models, self.coco, self.out, self.tactics = models, coco, out, tactics
        self.end = time.monotonic() + seconds
        self.entries = {one["name"]: one for one in json.loads((models / "graphs.json").read_text())}
        self.recovered: dict[str, object] = {}
        self.cost = 60.0  # seconds that the last build at level 0 took
        self.file = open(out / "tensorrt.jsonl", "w", encoding="utf-8")  # noqa: SIM115  as long as the process

    def attempt(self, step, *words) -> None:
        """A step whose failure must not end the others."""
        try:
            step(*words)
        except Exception as error:
            import traceback

            self.say(
                step=step.__name__,
                failed=f"{type(error).__name__}: {error}"[:800],
                trace=traceback.format_exc()[-1500:],
            )

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def say(self, **line: object) -> None:
        """One line of the results."""
        line["left"] = round(self.left())
        print(json.dumps(line), file=self.file, flush=True)
        print(json.dumps(line)[:1500], flush=True)

    def model(self, name: str):
        """The recovered model of a graph."""
        if name not in self.recovered:
            sys.path.insert(0, str(self.models))
            import unpack

            from ssdrt.graph import graph_from_bytes
            from ssdrt.recover import recover

            self.recovered[name] = recover(graph_from_bytes(unpack.graph_bytes(self.entries[name])))
        return self.recovered[name]

    def built(self, name: str, precision: str, label: str = "", **options):
        """A plan, self-checked; None when it fails, with a line that says why."""
        from ssdrt.engines.tensorrt.builder import BuildOptions, build_plan
        from ssdrt.engines.tensorrt.library import find_library
        from ssdrt.engines.tensorrt.runtime import load_engine
        from ssdrt.engines.tensorrt.selfcheck import check_itself
        from ssdrt.errors import SsdrtError

        options = {"batch": (1, 4, 8), "level": 0, "tactics": self.tactics, **options}
        words = {"step": "build", "name": name, "precision": precision, "label": label}
        start = time.monotonic()
        try:
            model = self.model(name)
            start = time.monotonic()
            plan = build_plan(find_library(), model, precision, BuildOptions(**options))
            seconds = time.monotonic() - start
            engine = load_engine(model, plan, 2)
            checked = time.monotonic()
            differences = check_itself(model, engine, precision)
            self.say(
                **words,
                seconds=round(seconds, 2),
                megabytes=round(len(plan) / 1e6, 1),
                options=str(options),
                self_check=differences,
                self_check_seconds=round(time.monotonic() - checked, 1),
            )
        except (SsdrtError, RuntimeError, AttributeError, TypeError, ValueError) as error:
            self.say(
                **words, seconds=round(time.monotonic() - start, 2), failed=f"{type(error).__name__}: {error}"[:1200]
            )
            return None
        if options["level"] == 0 and not label:
            self.cost = seconds
        return engine

    def equality(self, name: str, precision: str, engine) -> None:
        """Each recorded detection against ours, one photo at a time and all in one call."""
        from PIL import Image

        from ssdrt.model import LabelMap
        from ssdrt.pipeline import detect_pictures, graph_parameters
        from ssdrt.postprocess import decode_boxes, non_max_suppression
        from ssdrt.preprocess import clip_window, to_network

        entry, model = self.entries[name], self.model(name)
        golden, folder = np.load(self.models / entry["golden"]), self.models / entry["photos"]
        photos = sorted({key.split("/")[0] for key in golden.files if "/" in key})
        pictures = [np.asarray(Image.open(folder / f"{photo}.png").convert("RGB")) for photo in photos]
        parameters = replace(graph_parameters(model), score_threshold=FLOOR - 0.02, max_total=1000)
        engine.pictures = engine.shortages = 0
        single = [detect_pictures(model, engine, [one], parameters, LabelMap({}))[0] for one in pictures]
        batched = detect_pictures(model, engine, pictures, parameters, LabelMap({}))
        seeded = entry["weights"] == "seeded"
        for kind, found in (("one by one", single), ("batch", batched)):
            rows = [
                row
                for photo, one in zip(photos, found, strict=True)
                for row in _matches(golden, photo, one, precision, seeded)
            ]
            fits = [row for row in rows if row[0]]
            self.say(
                step="equality",
                name=name,
                precision=precision,
                how=kind,
                expected=len(rows),
                matched=len(fits),
                pixels=max((row[1] for row in fits), default=0),
                score=max((row[2] for row in fits), default=0),
                good=len(fits) >= (SHARE[precision] if seeded else 1) * len(rows),
                weights=entry["weights"],
            )
        engine.pictures = engine.shortages = 0
        same = 0
        for one in pictures:
            for parameters in (graph_parameters(model), replace(graph_parameters(model), score_threshold=0.3)):
                (ours,) = engine.detect([one], parameters)
                encodings, scores = engine.infer(to_network(one, model.preprocessing.resizer.value)[None])
                boxes = decode_boxes(encodings[0], model.anchors.value, model.box_coder.scales.value)
                whole = non_max_suppression(boxes, scores[0], parameters, clip_window(model, *one.shape[:2]))
                equal = [np.allclose(a, b, atol=1e-6) and a.shape == b.shape for a, b in zip(ours, whole, strict=True)]
                same += all(equal)
        self.say(
            step="candidates",
            name=name,
            precision=precision,
            pictures=engine.pictures,
            shortages=engine.shortages,
            same_as_all_scores=same,
        )

    def inspect(self, name: str, engine) -> None:
        """The engine inspector's answer to a file, and how many layers we read from it."""
        from ssdrt.engines.tensorrt.inspection import read_layers
        from ssdrt.engines.tensorrt.library import find_library

        inspector = engine.engine.create_engine_inspector()
        text = inspector.get_engine_information(find_library().api.LayerInformationFormat.JSON)
        (self.out / "inspector.json").write_text(text)
        layers = read_layers(text)
        self.say(step="inspect", name=name, layers=len(layers), some=[str(one) for one in layers[-3:]])

    def accuracy(self, name: str, precision: str, engine) -> None:
        """All detections of COCO_VAL to a file; the judging is done elsewhere."""
        from PIL import Image

        from ssdrt.model import LabelMap
        from ssdrt.pipeline import detect_pictures, graph_parameters

        model, rows = self.model(name), []
        data = json.loads((self.coco / "instances.json").read_text())
        start = time.monotonic()
        for entry in data["images"]:
            path = self.coco / "images" / entry["file_name"]
            picture = np.asarray(Image.open(path).convert("RGB"))
            found = detect_pictures(model, engine, [picture], graph_parameters(model), LabelMap({}))[0]
            ids = np.full(len(found), entry["id"], np.float64)
            rows.append(np.column_stack((ids, found.class_ids, found.scores, found.boxes_xyxy)))
        np.save(self.out / f"coco_val_{precision}.npy", np.concatenate(rows).astype(np.float64))
        self.say(
            step="coco_val", precision=precision, seconds=round(time.monotonic() - start, 1), shortages=engine.shortages
        )

    def times(self, name: str, label: str, engine, rounds: int = ROUNDS, repeats: int = 120) -> None:
        """Batch 1, in turns: the bare plan as a CUDA graph, with copies, our lane, and pictures to detections."""
        from ssdrt.pipeline import graph_parameters
        from ssdrt.postprocess import suppress_candidates

        model = self.model(name)
        generator = np.random.default_rng(0)
        picture = generator.integers(0, 256, (*model.input_size, 3)).astype(np.uint8)
        parameters = replace(graph_parameters(model), score_threshold=0.3)
        everything = graph_parameters(model)
        with engine._lane() as lane:
            device, stream = engine._device, lane._stream
            context = lane._context(1)
            lane.take([picture])
            boxes, scores, pairs = (
                value[0].copy() for value in lane.fetch(("candidate_boxes", "candidate_scores", "candidate_indices"))
            )
            bare = device.capture(stream, lambda: context.execute_async_v3(int(stream)))
            whole = lane._graphs[1, True]

            def replay(graph):
                device.launch(graph, stream)
                device.synchronize(stream)

            def through():
                lane.take([picture])
                lane.fetch(("candidate_boxes", "candidate_scores", "candidate_indices"))

            total = len(model.anchors.value) * model.num_classes.value
            classes = model.num_classes.value
            work = {
                "bare plan, CUDA graph": lambda: replay(bare),
                "bare plan and copies, CUDA graph": lambda: replay(whole),
                "our lane: picture in, candidates out": through,
                "tail at 0.3": lambda: suppress_candidates(boxes, scores, pairs, classes, total, parameters),
                "tail at the graph's threshold": lambda: suppress_candidates(
                    boxes, scores, pairs, classes, total, everything
                ),
            }
            samples = _in_turns(work, rounds, repeats)
        work = {
            "detect, at 0.3": lambda: engine.detect([picture], parameters),
            "detect, at the graph's threshold": lambda: engine.detect([picture], everything),
        }
        samples |= _in_turns(work, rounds, repeats)
        table = {
            key: {
                "median_us": round(float(np.median(one)) * 1e6, 1),
                "p99_us": round(float(np.percentile(one, 99)) * 1e6, 1),
            }
            for key, one in samples.items()
        }
        ratio = (
            table["our lane: picture in, candidates out"]["median_us"]
            / table["bare plan and copies, CUDA graph"]["median_us"]
        )
        self.say(
            step="times",
            name=name,
            label=label,
            pixels=engine._facts.pixels,
            table=table,
            lane_over_graph=round(ratio, 3),
        )

    def throughput(self, name: str, engine, batch: int) -> None:
        """Pictures a second through infer's half of the work: pinned pictures to candidates."""
        model = self.model(name)
        pictures = np.random.default_rng(0).integers(0, 256, (batch, *model.input_size, 3)).astype(np.float32)
        with engine._lane() as lane:
            device, stream = engine._device, lane._stream
            lane.take(pictures)
            lane.fetch(("candidate_boxes",))
            graph = next(g for (size, host), g in lane._graphs.items() if size >= batch and host)
            samples = []
            for _ in range(60):
                start = time.perf_counter()
                device.launch(graph, stream)
                device.synchronize(stream)
                samples.append(time.perf_counter() - start)
        median = float(np.median(samples))
        self.say(
            step="throughput",
            name=name,
            batch=batch,
            median_us=round(median * 1e6, 1),
            per_second=round(batch / median),
        )

    def threads_and_gpu_pictures(self, name: str, engine) -> None:
        """Four threads on two lanes, and pictures that lie on the GPU: the same numbers."""
        from concurrent.futures import ThreadPoolExecutor

        from ssdrt.pipeline import graph_parameters

        model = self.model(name)
        parameters = replace(graph_parameters(model), score_threshold=0.05)
        generator = np.random.default_rng(3)
        pictures = generator.integers(0, 256, (8, *model.input_size, 3)).astype(np.uint8)
        alone = [engine.detect([one], parameters)[0] for one in pictures]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda index: engine.detect([pictures[index % 8]], parameters)[0], range(400)))
        same = all(
            np.array_equal(a, b)
            for index, one in enumerate(together)
            for a, b in zip(one, alone[index % 8], strict=True)
        )
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

        gpu = engine.detect_on_gpu(OnGpu(), parameters)
        batched = engine.detect(list(pictures), parameters)
        equal = all(
            np.array_equal(a, b)
            for one, other in zip(gpu, batched, strict=True)
            for a, b in zip(one, other, strict=True)
        )
        self.say(
            step="threads", name=name, same=same, pictures_on_gpu_equal=equal, found=sum(len(one[1]) for one in alone)
        )

    def refusals(self, name: str, engine) -> None:
        """What is said to plans that do not belong here."""
        from ssdrt.engines.tensorrt.plan_file import pack
        from ssdrt.engines.tensorrt.runtime import load_engine
        from ssdrt.errors import SsdrtError

        model, facts = self.model(name), engine._facts
        plan = bytes(engine.engine.serialize())
        torn = bytearray(plan)
        torn[len(plan) // 2 : len(plan) // 2 + 4000] = bytes(4000)
        other = bytearray(plan)
        other[25] += 1
        for kind, data in (
            ("cut", plan[: len(plan) // 2]),
            ("other version", bytes(other)),
            ("foreign", b"x" * 100),
            ("torn", bytes(torn)),
        ):
            try:
                load_engine(model, pack(facts, data), 1).close()
                said = "loaded"
            except SsdrtError as error:
                said = str(error)
            self.say(step="refusal", kind=kind, header=plan[:32].hex(), said=said)


def _in_turns(work, rounds, repeats):
    samples = {name: [] for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            function()
            for _ in range(repeats):
                start = time.perf_counter()
                function()
                samples[name].append(time.perf_counter() - start)
    return samples


def _matches(golden, photo, found, precision, seeded):
    """(matched, corner distance, score distance) of each recorded detection of at least FLOOR, greedily, best first."""
    pixels, tolerance = ALLOWED[precision]
    if seeded:
        pixels, tolerance = max(pixels, 2.0), max(tolerance, 6e-3)
    count = int(golden[f"{photo}/num_detections"])
    scale = np.array([found.width, found.height, found.width, found.height])
    boxes = golden[f"{photo}/detection_boxes"][:count][:, [1, 0, 3, 2]] * scale
    scores, classes = (
        golden[f"{photo}/detection_scores"][:count],
        golden[f"{photo}/detection_classes"][:count].astype(int),
    )
    free = np.ones(len(found), bool)
    for box, score, class_id in zip(boxes, scores, classes, strict=True):
        if score < FLOOR:
            continue
        corner = np.abs(found.boxes_xyxy - box).max(1, initial=0)
        distance = np.abs(found.scores - score)
        fit = np.flatnonzero(free & (found.class_ids == class_id) & (corner <= pixels) & (distance <= tolerance))
        if len(fit):
            best = fit[np.argmin(corner[fit] + 100 * distance[fit])]
            free[best] = False
            yield True, float(corner[best]), float(distance[best])
        else:
            yield False, np.inf, np.inf


def run(models: Path, coco: Path, out: Path, seconds: float, tactics: tuple[str, ...]) -> None:
    """All steps, the most important first."""
    logging.basicConfig(filename=out / "log.txt", level=logging.DEBUG)
    from ssdrt.engines import tensorrt

    steps = Run(models, coco, out, seconds, tactics)
    steps.say(
        step="machine",
        unavailable=tensorrt.unavailable(),
        fingerprint=tensorrt.fingerprint(),
        precisions=tensorrt.precisions(),
    )
    cache = str(out.parent / "timing.cache")
    first = steps.built(COCO, "fp32")
    if first is None:  # so that at least the rest is known
        first = steps.built(COCO, "fp32", candidates=-1)
    if first is not None:
        steps.attempt(steps.equality, COCO, "fp32", first)
        steps.attempt(steps.accuracy, COCO, "fp32", first)
        first.close()
    half = steps.built(COCO, "fp16", timing_cache=cache, pixels="float32")
    if half is not None:
        steps.attempt(steps.equality, COCO, "fp16", half)
        steps.attempt(steps.accuracy, COCO, "fp16", half)
        steps.attempt(steps.threads_and_gpu_pictures, COCO, half)
        steps.attempt(steps.times, COCO, "level 0, batch 1 to 8", half)
        steps.attempt(steps.inspect, COCO, half)
        steps.attempt(steps.refusals, COCO, half)
        half.close()
        again = steps.built(COCO, "fp16", label="same again, with the timing cache", timing_cache=cache)
        if again is not None:
            again.close()
    jobs = [(name, precision) for name in OTHERS for precision in ("fp16", "fp32")]
    for name, precision in jobs:
        if steps.left() < 1.4 * steps.cost + 8:
            steps.say(step="skipped", name=name, precision=precision, cost=steps.cost)
            continue
        engine = steps.built(name, precision, timing_cache=cache)
        if engine is not None:
            steps.attempt(steps.equality, name, precision, engine)
            engine.close()
    if steps.left() > 4 * steps.cost + 20:
        engine = steps.built(V1, "fp16", label="uint8, batch 1", batch=(1, 1, 1), pixels="uint8", timing_cache=cache)
        if engine is not None:
            steps.attempt(steps.times, V1, "level 0, batch 1, uint8", engine)
            engine.close()
    for options, label in (({"batch": (1, 1, 1), "pixels": "uint8"}, "level 3, batch 1"),):
        if steps.left() < 150:
            steps.say(step="skipped", name=V1, label=label)
            continue
        engine = steps.built(V1, "fp16", label=label, level=3, timing_cache=cache, **options)
        if engine is not None:
            steps.attempt(steps.times, V1, label, engine)
            engine.close()
    steps.say(step="end")


def report(coco: Path, out: Path, result: Path) -> None:
    """The lines as one file, with the accuracy of what was saved."""
    from ssdrt.evaluate import read_data_set
    from ssdrt.evaluate.judge import judge

    lines = [json.loads(line) for line in (out / "tensorrt.jsonl").read_text().splitlines()]
    numbers = {}
    data = read_data_set(coco / "instances.json", coco / "images")
    for path in sorted(out.glob("coco_val_*.npy")):
        rows = [
            {
                "image_id": int(row[0]),
                "category_id": int(row[1]),
                "score": row[2],
                "bbox": [row[3], row[4], row[5] - row[3], row[6] - row[4]],
            }
            for row in np.load(path)
        ]
        numbers[path.stem.removeprefix("coco_val_")] = judge(data, rows).numbers
    content = {
        "command": "python bench/tensorrt_gpu.py run MODELS COCO_VAL OUT SECONDS TACTICS",
        "lines": lines,
        "coco_val": numbers,
    }
    result.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    action, *words = sys.argv[1:]
    if action == "run":
        run(*map(Path, words[:3]), float(words[3]), tuple(words[4].split(",")) if len(words) > 4 else ())
    else:
        report(*map(Path, words))
