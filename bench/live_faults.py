"""Live sources measured: how old a frame is when it is shown, and whether 500 reconnects leave anything behind.

    python bench/live_faults.py lag --minutes 10 --out bench/results/live_lag_h264.json
    python bench/live_faults.py lag --minutes 10 --codec mjpeg --stalled --out bench/results/live_lag_mjpeg_stalled.json
    python bench/live_faults.py reconnects --count 500 --out bench/results/live_reconnects.json

lag: numbered frames are drawn here at 30 a second and go through a real RTSP server (TCP) to the live loop,
whose detector takes --detection seconds; a viewer reads the number in each picture that is shown. --stalled adds a
viewer and a sink that stop for ever after the first frame. reconnects: the connection is cut as soon as frames come.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from soak import sample

from bad_network import BadNetwork
from rtsp import ENCODERS, QUICK, Watched, rtsp_server, scene
from ssdrt.detections import Detections
from ssdrt.live.board import Controls, Settings
from ssdrt.live.loop import LiveRun, one_by_one
from ssdrt.live.memory import share_arena
from ssdrt.sources.scene import draw_scene, read_index
from ssdrt.sources.stream import parse_stream

WIDTH, HEIGHT, RATE = 640, 480, 30


def lag(args: argparse.Namespace) -> dict:
    """Ages of shown frames."""
    with tempfile.TemporaryDirectory() as folder:
        fifo = f"{folder}/frames"
        os.mkfifo(fifo)
        caps = f"video/x-raw,format=RGB,width={WIDTH},height={HEIGHT},framerate={RATE}/1"
        source = f"appsrc name=frames is-live=true format=time blocksize={WIDTH * HEIGHT * 3} caps={caps}"
        pipeline = f"{source} ! videoconvert ! video/x-raw,format=I420 ! {ENCODERS[args.codec]}"
        with rtsp_server(frames=fifo, shared=pipeline) as port:
            stop, drawn = threading.Event(), {}
            camera = threading.Thread(target=film, args=(fifo, drawn, stop), daemon=True)
            camera.start()
            ages, latencies = watch(f"rtsp://127.0.0.1:{port}/shared", drawn, args)
            stop.set()
    bound = 2 / RATE + args.detection
    p50, p90, p99, most = np.percentile(ages, [50, 90, 99, 100]).round(4).tolist()
    return {
        "frames shown": len(ages),
        "age p50, p90, p99, most (s)": [p50, p90, p99, most], "detection (s)": args.detection,
        "bound: 2 periods + detection (s)": round(bound, 4), "holds": p99 <= bound,
        "from arrival to the end of detection p99 (s)": round(float(np.percentile(latencies, 99)), 4),
    }  # fmt: skip


def film(fifo: str, drawn: dict[int, float], stop: threading.Event) -> None:
    """Write numbered frames, and when each was ready."""
    pictures = [draw_scene(index, WIDTH, HEIGHT) for index in range(RATE * 10)]
    with open(fifo, "wb", buffering=0) as file:
        begin = time.monotonic()
        for index in range(1, sys.maxsize):
            if stop.wait(max(begin + index / RATE - time.monotonic(), 0)):
                return
            picture = pictures[index % len(pictures)].copy()
            side = WIDTH // 32
            bits = np.repeat((index >> np.arange(32)) & 1, side).astype(np.uint8) * 255
            picture[:side] = bits[None, :, None]
            drawn[index] = time.monotonic()
            file.write(picture.tobytes())


def watch(address: str, drawn: dict[int, float], args: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Run the loop, and see how old each shown frame is."""

    class Stalled:
        def write(self, _frame, _found):
            threading.Event().wait()

        def close(self):
            pass

    def detect(frame, _settings):
        time.sleep(args.detection)
        none = np.zeros(0, np.float32)
        return frame, Detections(none.reshape(0, 4), none, none.astype(np.int64), none.astype(np.str_), WIDTH, HEIGHT)

    run = LiveRun(
        [parse_stream(address)], one_by_one(detect), Controls(Settings(0.3)), [Stalled()] if args.stalled else []
    )
    if args.stalled:
        threading.Thread(target=lambda: (run.board.wait(0, 60), threading.Event().wait()), daemon=True).start()
    run.start()
    ages, latencies, version, last = [], [], 0, -1
    begin = None
    while begin is None or time.monotonic() < begin + args.minutes * 60:
        news = run.board.wait(version, 10)
        if news is None:
            continue
        version, snapshot = news
        if snapshot.frame is None or snapshot.frame.index == last:
            continue
        last, now = snapshot.frame.index, time.monotonic()
        begin = begin or now + 5  # settled
        if now > begin:
            ages.append(now - drawn[read_index(snapshot.frame.image)])
            latencies.append(snapshot.latency)
    run.board.close()
    return ages, latencies


def reconnects(args: argparse.Namespace) -> dict:
    """Cut the connection again and again."""
    with rtsp_server(h264=scene("h264")) as port:
        network = BadNetwork(port)
        samples = []
        with Watched(f"rtsp://127.0.0.1:{network.port}/h264", QUICK) as watched:
            watched.until_frames()
            before = sample(0, None)
            for index in range(args.count):
                network.cut(reset=bool(index % 2))
                watched.until(lambda it: it.source.status.reconnects > index, 60)  # noqa: B023
                watched.until_frames(3, 60)
                if index % 10 == 9:
                    samples.append({"reconnects": index + 1, **sample(watched.states[-1][0], None)})
        after = sample(watched.states[-1][0], None)
        network.close()
    return {
        "reconnects": watched.source.status.reconnects,
        "before": before,
        "after closing": after,
        "samples": samples,
    }


def main() -> None:
    """Measure one thing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["lag", "reconnects"])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--detection", type=float, default=0.1)
    parser.add_argument("--codec", default="h264", choices=list(ENCODERS))
    parser.add_argument("--stalled", action="store_true")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--out")
    args = parser.parse_args()
    share_arena()  # as the command does
    result = {"command": "python " + " ".join(sys.argv), "processors": os.cpu_count(), "load": os.getloadavg()}
    result["scheduling"] = {0: "ordinary", 1: "real time"}.get(os.sched_getscheduler(0), "other")
    result |= {"lag": lag, "reconnects": reconnects}[args.what](args)
    print(json.dumps({key: value for key, value in result.items() if key != "samples"}, indent=1))
    if args.out:
        Path(args.out).write_text(json.dumps(result) + "\n")
    os._exit(0)  # what was stalled for ever is


if __name__ == "__main__":
    main()
