"""Half an hour of two RTSP cameras of which one fails in every way, again and again: does anything grow?

    python bench/soak.py --minutes 30 --out bench/results/soak.json

A real RTSP server plays two scenes; one comes through a relay that does something bad to it every 20 to 60 seconds,
drawn by lot from a seed, and takes it back some seconds later. The live loop detects in both (with a detector that
takes 15 ms and finds nothing), writes JSON lines, and somebody watches the board. Every 5 seconds memory, descriptors,
threads and processes are read from /proc. `--leak N` keeps N bytes a frame, to see that it would be found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from bad_network import BadNetwork
from rtsp import rtsp_server, scene
from ssdrt.detections import Detections
from ssdrt.live.board import Controls, Settings
from ssdrt.live.loop import LiveRun, one_by_one
from ssdrt.live.memory import share_arena
from ssdrt.sinks.jsonl import JsonLines
from ssdrt.sources.stream import parse_stream

FAULTS = {
    "freeze 5 s": (lambda net: net.freeze(), 5, lambda net: net.thaw()),
    "freeze 25 s": (lambda net: net.freeze(), 25, lambda net: net.thaw()),
    "cut": (lambda net: net.cut(), 1, lambda _: None),
    "reset": (lambda net: net.cut(reset=True), 1, lambda _: None),
    "refuse": (lambda net: net.refuse(), 8, lambda net: net.accept()),
    "silence": (lambda net: (net.be_silent(), net.cut()), 10, lambda net: net.be_silent(False)),
    "loss 10 %": (lambda net: net.lose(0.1), 8, lambda net: net.lose(0)),
    "loss 50 %": (lambda net: net.lose(0.5), 8, lambda net: net.lose(0)),
    "jitter": (lambda net: net.delay(0.0, 0.3), 10, lambda net: net.delay(0, 0)),
}


def main() -> None:
    """Run, sample, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--leak", type=int, default=0)
    parser.add_argument("--out")
    args = parser.parse_args()
    share_arena()  # as the command does
    with rtsp_server(good=scene("h264"), bad=scene("h264", 480, 360)) as port, tempfile.TemporaryDirectory() as folder:
        network = BadNetwork(port, args.seed)
        places = (port, "good"), (network.port, "bad")
        streams = [parse_stream(f"rtsp://127.0.0.1:{end}/{path}") for end, path in places]
        states: list[tuple[float, str, str, str]] = []
        begin = time.monotonic()
        kept = []

        def detect(frame, _settings):
            if args.leak:
                kept.append(bytes(args.leak))
            time.sleep(0.015)
            height, width = frame.image.shape[:2]
            none = np.zeros(0, np.float32)
            ids, labels = none.astype(np.int64), none.astype(np.str_)
            return frame, Detections(none.reshape(0, 4), none, ids, labels, width, height)

        def tell(source, status):
            states.append((round(time.monotonic() - begin, 2), source.rpartition("/")[2], status.state, status.reason))

        run = LiveRun(
            streams, one_by_one(detect), Controls(Settings(0.3)), [JsonLines(f"{folder}/found.jsonl")], on_status=tell
        )
        threading.Thread(target=_view, args=(run.board,), daemon=True).start()
        run.start()
        faults, kept_samples = [], open(f"{folder}/samples.jsonl", "w+")  # noqa: SIM115  on disk: they would grow here
        chance, next_fault, undo = random.Random(args.seed), begin + 30, None
        while (now := time.monotonic() - begin) < args.minutes * 60:
            print(json.dumps(sample(now, run)), file=kept_samples)
            if undo is None and time.monotonic() >= next_fault and now < args.minutes * 60 - 90:
                name = chance.choice(sorted(FAULTS))
                do, seconds, back = FAULTS[name]
                do(network)
                faults.append((round(now, 1), name))
                undo = time.monotonic() + seconds, back
            elif undo is not None and time.monotonic() >= undo[0]:
                undo[1](network)
                undo, next_fault = None, time.monotonic() + chance.uniform(20, 60)
            time.sleep(1 if undo else 5)
        online = {name.rpartition("/")[2]: status.state for name, status in run.statuses.items()}
        reconnects = {name.rpartition("/")[2]: status.reconnects for name, status in run.statuses.items()}
        detected = run.detected
        run.close()
        network.close()
        kept_samples.seek(0)
        samples = [json.loads(line) for line in kept_samples]
        kept_samples.close()
        lines = len([json.loads(line) for line in Path(f"{folder}/found.jsonl").read_text().splitlines()])
    result = {
        "command": "python " + " ".join(sys.argv),
        "seconds": round(now, 1),
        "faults": faults,
        "reconnects": reconnects,
        "at the end": online,
        "frames detected": detected,
        "JSON lines": lines,
        "after closing": sample(time.monotonic() - begin, None),
        "second half": {key: fit(samples, key) for key in ("memory", "descriptors", "threads", "processes")},
        "states": states,
        "samples": samples,
    }
    print(json.dumps({key: value for key, value in result.items() if key not in ("samples", "states")}, indent=1))
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=None) + "\n")


def sample(now: float, run: LiveRun | None) -> dict[str, float]:
    """What this process holds: resident bytes, open descriptors, threads, children."""
    status = Path("/proc/self/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children if Path(f"/proc/{pid}").exists()]
    fps = {} if run is None else {name.rpartition("/")[2]: round(s.capture_fps, 1) for name, s in run.statuses.items()}
    return {
        "t": round(now, 1),
        "memory": int(fields["VmRSS"].split()[0]) * 1024,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": int(fields["Threads"]),
        "processes": sum(b"capture" in name for name in names),
        **fps,
    }


def fit(samples: list[dict[str, float]], key: str) -> dict[str, float]:
    """Of the second half: median, most, and the slope of a straight line through it, an hour."""
    half = samples[len(samples) // 2 :]
    values = np.array([entry[key] for entry in half], float)
    slope = np.polyfit([entry["t"] / 3600 for entry in half], values, 1)[0] if len(half) > 2 else 0.0
    return {"median": float(np.median(values)), "most": float(values.max()), "an hour": round(float(slope), 3)}


def _view(board) -> None:
    version = 0
    while (news := board.wait(version, 3600)) is not None:
        version = news[0]


if __name__ == "__main__":
    main()
