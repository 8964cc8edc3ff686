"""Where tests of `tail.cu` run: on the GPU, or, where there is none, on the processor by the emulator."""

import ctypes
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.cuda.gpu import WHY_NOT, Bench
from ssdrt.engines.cuda.compiler import sources
from ssdrt.engines.cuda.ends import ScoresStruct, TailStruct

WORKS = sys.platform == "linux" and platform.machine() == "x86_64" and shutil.which("g++") is not None
KERNELS = (
    *(f"scores<{function}>" for function in range(3)),
    *(
        f"collect<{source},{agnostic},{ahead}>"
        for source in range(4)
        for agnostic in ("false", "true")
        for ahead in (1, 4)
    ),
    *(f"tail<{source},{agnostic}>" for source in range(3) for agnostic in ("false", "true")),
    *(f"tail<{source},{agnostic},float>" for source in (2, 3) for agnostic in ("false", "true")),
)


class Memory:
    """As `DeviceMemory`, ending where it says and beginning at a multiple of 256."""

    def __init__(self, data):
        self._room = np.zeros(len(data) + 256, np.uint8)
        start = -self._room.ctypes.data % 256
        self.address = self._room.ctypes.data + start
        self._room[start : start + len(data)] = np.frombuffer(data, np.uint8)

    def free(self):
        pass


class Emulator:
    """As `gpu.Bench`, for launches of tail.cu alone."""

    def __init__(self, folder):
        text = sources()["tail.cu"].replace('#include "common.cuh"', "")
        text = text.replace("extern __shared__ __align__(16) uint8 memory[];", "uint8* memory = shared_of_tail;")
        text = re.sub(r'asm volatile\("fence[^;]*;[^;]*;', "", text).replace("blockIdx.y", "block_y")
        text, count = re.subn(
            r"(DEVICE int place_in\(int\* count\)) \{.*?\n\}", r"\1 { return (*count)++; }", text, flags=re.S
        )
        assert count == 1
        lines = [
            '#include "tail.h"',
            "alignas(64) static uint8 shared_of_tail[1 << 17];",
            text,
            f"static_assert(sizeof(Tail) == {ctypes.sizeof(TailStruct)});",
            f"static_assert(sizeof(Scores) == {ctypes.sizeof(ScoresStruct)});",
            'extern "C" void run(int which, const void* p, int columns, int rows, int block, int seed) {',
            "grid_size = columns, block_size = block, cluster_size = 1;",
            *(
                f"if (which == {i}) body = [=] {{ {one}(*(const {'Scores' if one[0] == 's' else 'Tail'}*)p); }};"
                for i, one in enumerate(KERNELS)
            ),
            "for (block_y = 0; block_y < rows; block_y++)",
            "for (int first = 0; first < columns; first++) run_cluster(first, seed + first); }",
        ]
        (folder / "all.cpp").write_text("\n".join(lines))
        flags = ["-O2", "-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-shared", "-fPIC"]
        flags.append(f"-I{Path(__file__).parent / 'emulator'}")
        subprocess.run(["g++", *flags, "-o", str(folder / "all.so"), str(folder / "all.cpp")], check=True)
        self._library = ctypes.CDLL(str(folder / "all.so"))

    def memory(self, data):
        return Memory(data)

    def read(self, address, shape, dtype):
        found = np.empty(shape, dtype)
        ctypes.memmove(found.ctypes.data, address, found.nbytes)
        return found

    def run(self, launches, overlapping=False):  # noqa: ARG002
        for seed, one in enumerate(launches):
            at = ctypes.c_void_p(ctypes.addressof(one.parameters))
            self._library.run(KERNELS.index(one.name), at, *one.grid, one.block, seed)


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    if WHY_NOT is None:
        return Bench()
    if not WORKS:
        pytest.skip(f"{WHY_NOT}; and the emulator needs g++ on Linux, x86-64")
    return Emulator(tmp_path_factory.mktemp("emulator"))
