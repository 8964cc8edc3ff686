"""Recordings that are broken off: Ctrl-C, kill -9 and a full disk at random moments; what is left must play or be gone.

    python bench/interrupted.py VIDEO [--count 20] [--seed 1] [--result FILE.json]

`ssdrt detect` with the demo's graph writes VIDEO annotated as .mp4 or .mkv and its JSON lines, COUNT times for each way
of ending, at moments (for the disk: sizes) drawn between 0 and those of a whole run. Judged each time: a video under
its own name or as NAME.part decodes to its last frame without an error and has the times of VIDEO's first frames; each
line is whole; Ctrl-C leaves no .part and exits with 130; no process stays.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import av
import numpy as np

from ssdrt.demo.__main__ import write_demo

WAYS = ("ctrl-c", "kill -9", "disk full")


def start(folder: Path, video: Path, suffix: str, largest: int | None) -> subprocess.Popen[bytes]:
    """The run, in a process group of its own, whose files may have `largest` bytes."""

    def limit() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # shells let what runs in the background ignore it
        if largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    words = (
        "detect",
        "frozen_inference_graph.pb",
        video,
        "-o",
        f"out{suffix}",
        "--json",
        "out.jsonl",
        "--score",
        "0.05",
    )
    return subprocess.Popen(
        [sys.executable, "-m", "ssdrt", *words, "--track", "--quiet"],
        cwd=folder, stderr=subprocess.PIPE, preexec_fn=limit, start_new_session=True,
    )  # fmt: skip


def times_of(path: Path) -> list[float]:
    """The times of all frames, each decoded; an av.FFmpegError if it does not play."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def judge(folder: Path, suffix: str, way: str, expected: list[float], code: int) -> tuple[list[str], dict[str, int]]:
    """What is wrong, and how many frames and lines there are."""
    wrong, counts = [], {}
    for name in (f"out{suffix}", f"out{suffix}.part"):
        path = folder / name
        if not path.exists():
            continue
        try:
            times = times_of(path)
        except av.FFmpegError as error:
            wrong.append(f"{name} of {path.stat().st_size} bytes does not play: {error}")
            continue
        counts[name.removeprefix("out")] = len(times)
        if not times or np.abs(np.array(times) - expected[: len(times)]).max() > 0.001:
            wrong.append(f"{name} has {len(times)} frames or other times")
    if counts.get(f"{suffix}.part") and way != "kill -9":
        wrong.append("a .part stayed")
    lines = (folder / "out.jsonl").read_bytes() if (folder / "out.jsonl").exists() else b""
    counts["lines"] = lines.count(b"\n")
    records = [json.loads(line) for line in lines.splitlines()]
    if (lines and not lines.endswith(b"\n")) or [record["index"] for record in records] != list(range(len(records))):
        wrong.append("lines are not whole")
    if code not in {"ctrl-c": (130, 0, -signal.SIGINT), "kill -9": (-signal.SIGKILL, 0), "disk full": (1, 0)}[way]:
        wrong.append(f"exit code {code}")
    return wrong, counts


def alive(group: int) -> bool:
    """Whether a process of the group is there; those that were killed have five seconds to be gone."""
    end = time.monotonic() + 5
    with suppress(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(group, 0)
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path)
    args = parser.parse_args()
    rng, expected, failures = random.Random(args.seed), times_of(args.video), []
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        os.environ["SSDRT_HOME"] = str(home / "home")
        write_demo(home)
        for suffix in (".mp4", ".mkv"):
            start(home, args.video.resolve(), suffix, None).wait()  # fills the cache
            begin = time.perf_counter()
            start(home, args.video.resolve(), suffix, None).wait()
            whole, size = time.perf_counter() - begin, (home / f"out{suffix}").stat().st_size
            for way in WAYS:
                ends: collections.Counter[str] = collections.Counter()
                for number in range(args.count):
                    for path in home.glob("out*"):
                        path.unlink()
                    moment = rng.random()
                    largest = round(moment * size) if way == "disk full" else None
                    run = start(home, args.video.resolve(), suffix, largest)
                    if way != "disk full":
                        try:
                            run.wait(moment * whole)
                        except subprocess.TimeoutExpired:
                            os.killpg(run.pid, signal.SIGINT if way == "ctrl-c" else signal.SIGKILL)
                    code = run.wait(60)
                    wrong, counts = judge(home, suffix, way, expected, code)
                    if alive(run.pid):
                        wrong.append("a process stayed")
                    kept = next((key for key in (suffix, f"{suffix}.part") if key in counts), "")
                    ends["gone" if not kept else f"plays as NAME{kept}"] += 1
                    failures += [f"{suffix} {way} {number} at {moment:.3f}: {what}" for what in wrong]
                    print(suffix, way, f"{moment:.3f}", code, counts, *wrong, flush=True)
                results[f"{suffix} {way}"] = dict(ends)
    report = {
        "what": "ends of recordings broken off at random moments; failures are listed",
        "command": f"python bench/interrupted.py {args.video.name} --count {args.count} --seed {args.seed}",
        "python": platform.python_version(), "av": av.__version__, "frames": len(expected),
        "ends": results, "failures": failures,
    }  # fmt: skip
    print(json.dumps(report, indent=1))
    if args.result:
        args.result.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
