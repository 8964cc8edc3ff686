"""Fifty viewers, of which ten read nothing: the others keep their rate, and memory has a bound."""

import asyncio
import os
import threading

import pytest

from scene import Scene, page_of

pytest.importorskip("uvicorn", reason="uvicorn, which serves the page, is not installed")
pytest.importorskip("starlette", reason="starlette, which serves the page, is not installed")

READERS, SLEEPERS, SECONDS = 40, 10, 4.0


def resident():
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def connect(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /mjpeg/0 HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    await writer.drain()
    return reader, writer


async def count(reader, pictures, number):
    """Count the pictures that come, until the connection ends."""
    while line := await reader.readline():
        if line.lower().startswith(b"content-length"):
            await reader.readexactly(int(line.split(b":")[1]) + 2)
            pictures[number] += 1


async def crowd(port, readers, sleepers, seconds):
    """How many pictures each of the readers got."""
    pictures = [0] * readers
    asleep = [await connect(port) for _ in range(sleepers)]
    awake = [await connect(port) for _ in range(readers)]
    tasks = [asyncio.create_task(count(reader, pictures, number)) for number, (reader, _) in enumerate(awake)]
    await asyncio.wait(tasks, timeout=seconds)
    got = list(pictures)
    for _, writer in asleep + awake:
        writer.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    return got


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_sleeping_viewers_cost_others_nothing_and_memory_is_bounded():
    with Scene(fps=10) as scene, page_of(scene) as page:
        asyncio.run(crowd(page.port, 2, 0, 0.5))
        memory = resident()
        got = asyncio.run(crowd(page.port, READERS, SLEEPERS, SECONDS))
        grown = resident() - memory
    assert min(got) >= 0.9 * max(got)
    assert max(got) >= 0.5 * 10 * SECONDS
    assert grown < 40e6
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ssdrt")]
