"""The TensorRT engine on a GPU: detections against TensorFlow's recorded ones, commands, errors, timing cache, plans.

    python bench/tensorrt_gpu.py run MODELS COCO_VAL FOLDER SECONDS [TACTIC,... [JOB,... [AT_ONCE]]]
                              on the GPU: ssdrt with tensorrt, cuda-bindings, pycocotools
    python bench/tensorrt_gpu.py report FOLDER RESULT.json DEVICE

`run` builds the jobs of tensorrt_list.py, AT_ONCE side by side, a process each (tensorrt_job.py). Every step is written
as it ends; what has not ended after SECONDS is ended. JOB: numbers in the list; all by default. Afterwards, once all is
quiet, tensorrt_times.py times the plans that were kept, tensorrt_full.py fills the GPU's memory, and tensorrt_lean.py
takes the portable plan to a later version.

Builds share the GPU by turns: on an H200 twelve at once at optimisation level 0 took 48 to 97 s each (alone 15), and
two at level 3 had not ended after 152 s. Alone, level 3 took 155 s (one busy thread), and 14 s with its timing cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tensorrt_list import JOBS

HERE = Path(__file__).resolve().parent


def run(models: Path, coco: Path, folder: Path, seconds: float, tactics: str, jobs: list[int], at_once: int) -> None:
    """One job after the other, `at_once` at a time, until the time is over."""
    end = time.monotonic() + seconds
    for name in ("lines", "logs", "plans"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    running: dict[int, subprocess.Popen[bytes]] = {}
    waiting = list(jobs)
    while (waiting or running) and time.monotonic() < end:
        while waiting and len(running) < at_once:
            number = waiting.pop(0)
            words = (models, coco, folder, number, tactics)
            with open(folder / "logs" / f"{number:02}.out", "wb") as log:
                running[number] = subprocess.Popen(
                    [sys.executable, HERE / "tensorrt_job.py", *map(str, words)],
                    stdout=log,
                    stderr=log,
                    env={**environment, "SSDRT_HOME": str(folder / "home" / str(number))},
                )
        ended = [number for number, process in running.items() if process.poll() is not None]
        for number in ended:
            status = running.pop(number).returncode
            print(f"{end - time.monotonic():5.0f} s left: {JOBS[number].title}: {status}", flush=True)
        time.sleep(0.1)
    for number, process in running.items():
        print(f"cut: {JOBS[number].title}", flush=True)
        process.kill()
        process.wait()


def _lines(path: Path) -> list[object]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def report(folder: Path, result: Path, device: str) -> None:
    """All lines as one file, the jobs in their order."""
    lines = {}
    for path in sorted((folder / "lines").glob("*.jsonl")):
        steps = [json.loads(line) for line in path.read_text().splitlines()]
        lines[JOBS[int(path.stem)].title] = [
            {key: value for key, value in one.items() if key != "job"} for one in steps
        ]
    times, full, lean = (_lines(folder / f"{name}.jsonl") for name in ("times", "full", "lean"))
    content = {
        "command": "python bench/tensorrt_gpu.py run MODELS COCO_VAL FOLDER SECONDS TACTICS",
        "device": device,
        "jobs": lines,
        "times": times,
        "full memory": full,
        "lean runtime": lean,
    }
    result.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    action, *words = sys.argv[1:]
    if action == "run":
        tactics_, jobs_, at_once_ = (*words[4:], *("", ",".join(map(str, range(len(JOBS)))), "4")[len(words) - 4 :])
        run(*map(Path, words[:3]), float(words[3]), tactics_, list(map(int, jobs_.split(","))), int(at_once_))
    else:
        report(Path(words[0]), Path(words[1]), words[2])
