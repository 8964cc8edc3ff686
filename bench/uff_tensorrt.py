"""Our `.uff` files in NVIDIA's own UFF parser and plugins (TensorRT 8.6 on a GPU), against what TensorFlow recorded.

    python bench/uff_tensorrt.py prepare MODELS GRAPHS SAMPLES FOLDER
                                             converts; MODELS has graphs.json, goldens and photos, GRAPHS the .pb files,
                                             SAMPLES has .uff files and .pbtxt dumps of NVIDIA's converter
    python bench/uff_tensorrt.py run FOLDER OUT SECONDS
                                             on the GPU: tensorrt, numpy and nothing of ssdrt; OUT/results.jsonl gets a
                                             line a case, as it ends; no more than SECONDS in all
    python bench/uff_tensorrt.py report MODELS OUT/results.jsonl RESULT.json GPU

`run` executes the very build_engine.py and detect.py that lie beside a `.uff`, the most important cases first. Two
processes do it, each with TensorRT loaded once and one build after the other: a dozen builds at once, a process each,
made no engine in seven minutes. Where TensorRT comes without cuBLAS and cuDNN, builds may not try their kernels; the
plugins get a cuBLAS handle all the same. That is set here, from outside, as is the effort of a build.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import runpy
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

NAMED = (
    "coco_ssd_mobilenet_v1_075_od2020",
    "one_ssdlite_mobilenet_v2_od2020",
    "pets37_ssd_mobilenet_v1_075_od2019",
    "ssd_mobilenet_v1_90_od2020",
    "ssd_mobilenet_v2_90_od2019",
)
OTHERS = (
    "aiy_person_cat_dog_ssd_mobilenet_v1_0125_256",  # clips before the suppression
    "ssd_mobilenet_v2_softmax_240x416_20_od2020",  # constant anchors, softmax
    "ssd_mobilenet_v1_90_od2017",  # constant anchors, padding
    "ssdlite_mobilenet_v3_small_320_90_od2020",  # squeeze and excite
    "ssdlite_mobilenet_v2_90_od2019",
    "ssd_mobilenet_v1_05_keepaspect_8_od2020",
    "ssd_mobilenet_v1_025_6_od2020",
    "aiy_voc20_ssd_mobilenet_v1_0125_256",
)
NO_SHAPE = (-1, 28, 28, 1)  # of an Input that does not say; files of 2018
FIRST_SECONDS, CASE_SECONDS = 120, 75
"""How long the first case of a process may take, which loads TensorRT's kernels, and any other."""


# --- where ssdrt is -------------------------------------------------------------------------------------------------


def prepare(models: Path, graphs: Path, samples: Path, folder: Path) -> None:
    """FOLDER/NAME/model.uff and what lies beside it, the photos as .ppm, and genuine files with their inputs."""
    from PIL import Image

    entries = json.loads((models / "graphs.json").read_text())
    entries = [one for one in entries if one["name"] in NAMED + OTHERS and (graphs / f"{one['name']}.pb").exists()]
    for photo in {path for entry in entries for path in (models / entry["photos"]).glob("*.png")}:
        (folder / photo.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(photo).convert("RGB").save(folder / photo.parent.name / f"{photo.stem}.ppm")
    (folder / "genuine").mkdir(parents=True, exist_ok=True)
    work = [(graphs / f"{entry['name']}.pb", folder / entry["name"], entry["photos"]) for entry in entries]
    genuine = sorted([*samples.glob("*.uff"), *samples.glob("*.pbtxt")])
    with get_context("spawn").Pool() as pool:
        converted = pool.starmap_async(_convert, work, chunksize=1)
        pool.starmap(_prepare_genuine, [(path, folder / "genuine" / f"{path.stem}.uff") for path in genuine])
        converted.get()


def _convert(graph: Path, folder: Path, photos: str) -> None:
    from ssdrt.legacy.convert import convert_to_uff

    folder.mkdir(parents=True, exist_ok=True)
    convert_to_uff(graph, folder / "model.uff")
    (folder / "photos").write_text(photos)


def _prepare_genuine(path: Path, target: Path) -> None:
    """A genuine file; a dump's weights, which it does not hold, are zeros."""
    from ssdrt.legacy.binary import read_uff, write_uff
    from ssdrt.legacy.uff import Data, skipped_bytes

    uff = read_uff(path)
    sizes = {key: skipped_bytes(data.value) for key, data in uff.referenced_data.items() if data.member == "blob"}
    zeros = {key: Data("blob", bytes(size)) for key, size in sizes.items() if size is not None}
    target.write_bytes(write_uff(replace(uff, referenced_data={**uff.referenced_data, **zeros})))
    inputs = {node.id: node.get("shape") or NO_SHAPE for node in uff.nodes if node.operation == "Input"}
    outputs = [node.id for node in uff.nodes if node.operation == "MarkOutput"]
    target.with_suffix(".json").write_text(json.dumps({"inputs": inputs, "outputs": outputs}))


# --- on the GPU -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A graph in a precision, or a genuine file; `effort` is TensorRT's builder_optimization_level."""

    name: str
    precision: str = ""
    effort: int = 0


def run(folder: Path, out: Path, seconds: float) -> None:
    """Build the first case with two efforts at once; the one that ends first builds all others."""
    bench = _Bench(folder, out, time.monotonic() + seconds)
    first = NAMED[0]
    bench.work([[Case(first, "fp32", effort)] for effort in (0, 3)], until_one_works=True)
    effort = bench.works if bench.works is not None else 1
    cases = [Case(name, precision, effort) for precision in ("fp32", "fp16") for name in NAMED]
    cases = [case for case in cases if (case.name, case.precision) != (first, "fp32") or bench.works is None]
    cases += [Case(path.stem) for path in sorted((folder / "genuine").glob("*.uff"))]
    cases += [Case(name, precision, effort) for name in OTHERS for precision in ("fp32", "fp16")]
    todo: queue.SimpleQueue[Case] = queue.SimpleQueue()
    for case in cases:
        todo.put(case)
    bench.work([todo, todo])
    bench.close()
    print("\n".join(bench.table))


class _Bench:
    """Cases run in two processes, results written as they come."""

    def __init__(self, folder: Path, out: Path, deadline: float) -> None:
        self.folder, self.out, self.deadline = folder, out, deadline
        self.works: int | None = None  # the effort whose first case ended first
        self.table: list[str] = []
        self.lock = threading.Lock()
        self.start = time.monotonic()
        self.workers = [_Worker(out, number, deadline) for number in (0, 1)]

    def work(self, lists: Any, until_one_works: bool = False) -> None:
        """Each process does one of the lists, or both take from one queue."""
        threads = [
            threading.Thread(target=self._work, args=(worker, cases, until_one_works))
            for worker, cases in zip(self.workers, lists, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def close(self) -> None:
        for worker in self.workers:
            worker.stop()

    def _work(self, worker: _Worker, cases: Any, until_one_works: bool) -> None:
        while time.monotonic() < self.deadline - 5:
            try:
                case = cases.pop(0) if isinstance(cases, list) else cases.get_nowait()
            except (IndexError, queue.Empty):
                return
            done = (lambda: self.works is not None) if until_one_works else (lambda: False)
            result = self._case(worker, case, done) if case.precision else self._genuine(worker, case, done)
            with self.lock:
                if until_one_works and result.get("detect", {}).get("status") == 0 and self.works is None:
                    self.works = case.effort
                at = round(time.monotonic() - self.start, 1)
                with open(self.out / "results.jsonl", "a", encoding="utf-8") as file:
                    print(json.dumps({"at": at, **vars(case), **result}), file=file, flush=True)
                self.table.append(f"{at:6} {case.name} {case.precision} {case.effort} {_short(result)}")
                print(self.table[-1], flush=True)

    def _case(self, worker: _Worker, case: Case, done: Any) -> dict[str, Any]:
        here = self.folder / case.name
        if not (here / "photos").exists():
            return {"build": {"status": "not there"}}
        engine = here / f"{case.precision}-{case.effort}.engine"
        engine.with_suffix(".json").write_bytes((here / "model.json").read_bytes())
        flags = ["--fp32"] if case.precision == "fp32" else []
        build = worker.execute(case.effort, done, here / "build_engine.py", here / "model.uff", engine, *flags)
        if build["status"] != 0:
            return {"build": build}
        photos = sorted((self.folder / (here / "photos").read_text()).glob("*.ppm"))
        detect = worker.execute(case.effort, done, here / "detect.py", engine, *photos, "--score", "0")
        return {"build": build, "detect": detect}

    def _genuine(self, worker: _Worker, case: Case, done: Any) -> dict[str, Any]:
        return {"parse": worker.execute(0, done, __file__, "parse", self.folder / "genuine" / f"{case.name}.uff")}


def _short(result: dict[str, Any]) -> str:
    parts = []
    for step, said in result.items():
        parts.append(f"{step} {said['status']} {said.get('seconds', '')}s")
        if said["status"] != 0:
            parts.append(str(said.get("error") or said.get("log") or said.get("out"))[-300:].replace("\n", " | "))
        elif step == "detect":
            parts.append(f"{len(said['out'].splitlines())} rows")
        else:
            parts.append(said["out"].strip().rpartition(": ")[2].rpartition("\n")[2])
    return "; ".join(parts)


class _Worker:
    """A process that executes scripts, one after the other; started again after one that crashed or hung."""

    def __init__(self, out: Path, number: int, deadline: float) -> None:
        self.log, self.deadline = out / f"log-{number}.txt", deadline
        self.process: subprocess.Popen[str] | None = None
        self.fresh = True

    def execute(self, effort: int, done: Any, *command: object) -> dict[str, Any]:
        """What the script said: status, out, seconds; and after a failure the end of TensorRT's log."""
        if self.process is None:
            words = [sys.executable, __file__, "worker", str(self.log)]
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.fresh = True
        begin, start = self.log.stat().st_size if self.log.exists() else 0, time.monotonic()
        limit = min(start + (FIRST_SECONDS if self.fresh else CASE_SECONDS), self.deadline)
        self.fresh = False
        answer: queue.SimpleQueue[str] = queue.SimpleQueue()
        process = self.process
        process.stdin.write(json.dumps([effort, *map(str, command)]) + "\n")
        process.stdin.flush()
        threading.Thread(target=lambda: answer.put(process.stdout.readline()), daemon=True).start()
        line = None
        while line is None and time.monotonic() < limit and not done():
            with contextlib.suppress(queue.Empty):
                line = answer.get(timeout=0.2)
        seconds = round(time.monotonic() - start, 1)
        if line:
            said = json.loads(line)
        else:
            said = {"status": "crashed" if line == "" else "not needed" if done() else "timeout"}
            if said["status"] == "timeout":
                said["stacks"] = _stacks(process.pid)
            self.stop()
        if said["status"] not in (0, "not needed"):
            said["log"] = _end(self.log, begin)
        return {**said, "seconds": seconds}

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _end(log: Path, begin: int) -> str:
    with open(log, "rb") as file:
        file.seek(max(begin, log.stat().st_size - 6000))
        return file.read().decode(errors="replace")


def _stacks(pid: int) -> str:
    """Where a process hangs, if a debugger is there."""
    debugger = shutil.which("gdb") or shutil.which("cuda-gdb") or "/usr/local/cuda/bin/cuda-gdb"
    clean = {key: value for key, value in os.environ.items() if key not in ("LD_LIBRARY_PATH", "PYTHONHOME")}
    words = [debugger, "-p", str(pid), "-batch", "-ex", "thread apply all bt 12"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=15, check=False, env=clean)
    except (OSError, subprocess.TimeoutExpired) as error:
        return repr(error)
    return said.stdout[-8000:]


def work(log: Path) -> None:
    """A worker's side: a line of JSON in (effort, script, arguments), one out; all that libraries print goes to LOG."""
    answers = os.fdopen(os.dup(1), "w")
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
    import tensorrt as trt

    effort = 0
    make = trt.Builder.create_builder_config

    def create_builder_config(builder: Any) -> Any:
        config = make(builder)
        config.builder_optimization_level = effort
        sources = (trt.TacticSource.CUBLAS, trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
        config.set_tactic_sources(sum(1 << int(source) for source in sources))
        config.set_preview_feature(trt.PreviewFeature.DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805, True)
        return config

    class Verbose(trt.Logger):  # type: ignore[misc]
        def __init__(self, severity: Any) -> None:  # noqa: ARG002 (the scripts ask for warnings)
            super().__init__(trt.Logger.VERBOSE)

    trt.Builder.create_builder_config = create_builder_config
    trt.Logger = Verbose
    for line in sys.stdin:
        effort, script, *words = json.loads(line)
        print(json.dumps(_executed(script, words)), file=answers, flush=True)


def _executed(script: str, words: list[str]) -> dict[str, Any]:
    sys.argv, out, status, error = [script, *words], io.StringIO(), 0, ""
    try:
        with contextlib.redirect_stdout(out):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        status, error = (stop.code, "") if isinstance(stop.code, int) else (int(bool(stop.code)), str(stop.code or ""))
    return {"status": status, "out": out.getvalue(), "error": error}


def parse(path: Path) -> None:
    """Give a genuine file to the parser; prints what it says."""
    import tensorrt as trt

    facts = json.loads(path.with_suffix(".json").read_text())
    logger = trt.Logger(trt.Logger.WARNING)
    trt.init_libnvinfer_plugins(logger, "")
    builder = trt.Builder(logger)
    network = builder.create_network()
    parser = trt.UffParser()
    for name, shape in facts["inputs"].items():
        nhwc = len(shape) == 4 and shape[1] != 3
        parser.register_input(name, shape[1:], trt.UffInputOrder.NHWC if nhwc else trt.UffInputOrder.NCHW)
    for name in facts["outputs"]:
        parser.register_output(name)
    taken = parser.parse(str(path), network)
    print(taken, network.num_layers, "layers")
    sys.exit(int(not taken))


# --- where ssdrt is, again ------------------------------------------------------------------------------------------


def report(models: Path, out: Path, result: Path, gpu: Path) -> None:
    """Every case's largest distance from TensorFlow's detections, of all that were recorded and of those above 0.3."""
    entries = {entry["name"]: entry for entry in json.loads((models / "graphs.json").read_text())}
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    rows = []
    for case in lines:
        if not case["precision"] or case["build"]["status"] == "not needed":
            continue
        entry = entries[case["name"]]
        row = {key: case[key] for key in ("name", "precision", "effort")}
        row |= {"weights": entry["weights"], "build_seconds": case["build"].get("seconds")}
        said = case.get("detect", case["build"])
        if said["status"] == 0:
            row |= {f"above {score}": _distance(models, entry, said["out"], score) for score in (0.0, 0.05, 0.3)}
        else:
            row["failed"] = f"{said['status']} {said.get('error', '')[-500:]} {said.get('log', '')[-500:]}"
        rows.append(row)
    genuine = {
        case["name"]: case["parse"]["out"].strip() or case["parse"].get("log", "")[-500:]
        for case in lines
        if not case["precision"]
    }
    content = {
        "command": "python bench/uff_tensorrt.py run FOLDER OUT SECONDS",
        "device": f"{gpu}, TensorRT 8.6.0",
        "cases": rows,
        "genuine files": genuine,
    }
    result.write_text(json.dumps(content, indent=1) + "\n")
    print(result.read_text())


def _distance(models: Path, entry: dict[str, str], lines: str, score: float) -> dict[str, object]:
    from ssdrt.compare import EXACT, difference

    record = np.load(models / entry["golden"])
    photos = sorted({key.split("/")[0] for key in record.files if "/" in key})
    pairs = [_pair(models / entry["photos"] / f"{photo}.png", record, lines, score) for photo in photos]
    found = [difference(*pair) for pair in pairs]
    return {
        "detections": sum(len(expected) for expected, _ in pairs),
        "missing": sum(one.missing for one in found),
        "pixels": round(max(one.pixels for one in found), 4),
        "score": float(f"{max(one.score for one in found):.2g}"),
        "within 1 px and 0.002": all(one.within(EXACT) for one in found),
    }


def _pair(photo: Path, record: Any, lines: str, score: float) -> tuple[Any, Any]:
    """(what TensorFlow recorded above a score, what the engine found)."""
    from PIL import Image

    from ssdrt.detections import Detections
    from ssdrt.labels import COCO

    ids = {name: str(class_id) for class_id, name in COCO.names.items()}
    with Image.open(photo) as image:
        width, height = image.size
    scale = np.array([width, height, width, height], np.float32)
    scores = record[f"{photo.stem}/detection_scores"]
    keep = scores > score
    boxes = record[f"{photo.stem}/detection_boxes"][keep][:, [1, 0, 3, 2]] * scale
    classes = record[f"{photo.stem}/detection_classes"][keep].astype(np.int64)
    rows = [line.split("\t") for line in lines.splitlines() if f"/{photo.stem}.ppm\t" in line]
    labels = np.array([ids.get(row[1], row[1].removeprefix("class ")) for row in rows], np.int64)
    numbers = np.array([row[2:] for row in rows], np.float32).reshape(-1, 5)
    return (
        Detections(boxes, scores[keep], classes, classes.astype(str), width, height),
        Detections(numbers[:, 1:], numbers[:, 0], labels, labels.astype(str), width, height),
    )


if __name__ == "__main__":
    action, *arguments = sys.argv[1:]
    if action == "run":
        run(Path(arguments[0]), Path(arguments[1]), float(arguments[2]))
    else:
        {"prepare": prepare, "worker": work, "parse": parse, "report": report}[action](*map(Path, arguments))
