"""The live page under a crowd: what 50 viewers get of whom 10 read nothing, memory, and how soon a setting is seen.

    python bench/web.py [RESULT.json]

The page runs in this process, on a drawn scene of 320 x 240; the viewers in another. Phases without and with those who
read nothing take turns. A setting is seen when the first picture comes in which the box of the lower score is gone or
back.
"""

from __future__ import annotations

import asyncio
import io
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from scene import Scene, page_of
from ssdrt.serve import pictures
from ssdrt.sinks.draw import colour_of

FPS, READERS, SLEEPERS, SECONDS, ROUNDS, TRIES = 15, 40, 10, 15.0, 3, 20
ASLEEP = 8.0
"""Seconds until those who read nothing have filled the system's and their own buffers: until then they are served."""


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A viewer of the pictures."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /mjpeg/0 HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    await writer.drain()
    return reader, writer


async def picture(reader: asyncio.StreamReader) -> bytes:
    """The next picture."""
    while not (line := await reader.readline()).lower().startswith(b"content-length"):
        if not line:
            raise EOFError
    await reader.readline()
    return await reader.readexactly(int(line.split(b":")[1]))


async def count(reader: asyncio.StreamReader, seconds: float) -> int:
    """How many pictures come in so many seconds."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        await picture(reader)
        number += 1
    return number


async def crowd(port: int, sleepers: int) -> list[int]:
    """What every reader got."""
    viewers = [await connect(port) for _ in range(sleepers)]
    await asyncio.sleep(ASLEEP)
    viewers += [await connect(port) for _ in range(READERS)]
    got = await asyncio.gather(*(count(reader, SECONDS) for reader, _ in viewers[sleepers:]))
    for _, writer in viewers:
        writer.close()
    return list(got)


async def delays(port: int) -> list[float]:
    """Seconds from sending a threshold to the picture that obeys it."""
    reader, writer = await connect(port)
    found = []
    for number in range(TRIES):
        wanted = number % 2 == 1
        begin = time.monotonic()
        body = json.dumps({"score_threshold": 0.3 if wanted else 0.6}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/settings", body)
        await asyncio.to_thread(lambda request=request: urllib.request.urlopen(request).close())
        while _sees_box(await picture(reader)) != wanted:
            pass
        found.append(time.monotonic() - begin)
    writer.close()
    return found


def _sees_box(data: bytes) -> bool:
    image = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    return bool((np.abs(image - colour_of(2)).sum(axis=2) < 90).sum() > 100)


def in_another_process(what, *arguments):
    """The result of a coroutine function, run elsewhere."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (what, arguments))


def _run(what, arguments):
    return asyncio.run(what(*arguments))


def resident() -> float:
    """Megabytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Measure, print, and write the result."""
    made = []
    encode = pictures._jpeg
    pictures._jpeg = lambda *how: made.append(1) or encode(*how)
    phases: dict[int, list[int]] = {0: [], SLEEPERS: []}
    costs: dict[int, list[float]] = {0: [], SLEEPERS: []}
    with Scene(fps=FPS) as scene, page_of(scene) as page:
        in_another_process(delays, page.port)  # everything is there and warm
        memory, begin, posted = resident(), len(made), scene.posted
        peak = memory
        for _ in range(ROUNDS):
            for sleepers, got in phases.items():
                used = time.process_time()
                now = in_another_process(crowd, page.port, sleepers)
                costs[sleepers].append((time.process_time() - used) / sum(now))
                got += now
                peak = max(peak, resident())
        encodes, frames = len(made) - begin, scene.posted - posted
        waited = in_another_process(delays, page.port)
    rates = {
        f"{sleepers}_read_nothing": {
            "viewers": READERS + sleepers,
            "fps_least": min(got) / SECONDS,
            "fps_median": statistics.median(got) / SECONDS,
            "fps_most": max(got) / SECONDS,
            "processor_ms_a_picture_sent": statistics.median(costs[sleepers]) * 1e3,
        }
        for sleepers, got in phases.items()
    }
    result = {
        "command": "python bench/web.py",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "posted_fps": FPS,
        "rates": rates,
        "encoded_a_posted_frame": encodes / frames,
        "memory_before_mb": memory,
        "memory_most_mb": peak,
        "setting_seen_after_s": {"median": statistics.median(waited), "most": max(waited)},
    }
    print(json.dumps(result, indent=2))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(result, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
