"""`chain.cu` run by an emulator on the processor, against the numpy executor."""

import ctypes
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.cuda.test_chain import chain, normal
from ssdrt.engines.cuda.chain import ChainStruct
from ssdrt.engines.cuda.compiler import sources
from ssdrt.engines.cuda.executor import Memory as Numbers
from ssdrt.engines.cuda.executor import run_step
from ssdrt.engines.cuda.launch import Builder, Constants, Memory
from ssdrt.engines.cuda.makers import launches
from ssdrt.engines.cuda.plan import HeadLayout, Plan, View
from ssdrt.engines.cuda.tactics import Device, tactics

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64" or shutil.which("g++") is None,
    reason="needs g++ on Linux, x86-64",
)
DEVICE = Device("sm_90a", 132, 232448)
KINDS = ("80,1,1,4,3,4", "40,2,1,6,3,3", "40,2,2,4,2,4")
AFTER = (0, 0, 1, 1)
FLAGS = [
    "-O2",
    "-std=c++17",
    "-fno-strict-aliasing",
    "-w",
    "-shared",
    "-fPIC",
    f"-I{Path(__file__).parent / 'emulator'}",
]


class MapStruct(ctypes.Structure):
    """`TensorMap` of emulator.h."""

    _fields_ = (
        ("address", ctypes.c_uint64),
        ("sizes", ctypes.c_longlong * 4),
        ("pitches", ctypes.c_longlong * 4),
        ("box", ctypes.c_int * 4),
    )


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    """The library of all KINDS."""
    text = sources()["chain.cu"].replace('#include "walk.cuh"', "")
    text = text.replace("extern __shared__ __align__(1024) uint8 memory[];", "")
    text = re.sub(r'asm volatile\("bar\.sync (\d+), (\d+);" ::: "memory"\);', r"named_barrier(\1, \2);", text)
    lines = [
        '#include "emulator.h"',
        text,
        'extern "C" int size() { return sizeof(Chain); }',
        'extern "C" void run(int which, const Chain* p, int grid, int block, int parts, int seed) {',
        "static Chain copy; copy = *p; grid_size = grid; block_size = block; cluster_size = parts;",
        *(f"if (which == {i}) body = [] {{ chain<{kind}>(copy); }};" for i, kind in enumerate(KINDS)),
        "for (int first = 0; first < grid; first += parts) run_cluster(first, seed + first); }",
    ]
    folder = tmp_path_factory.mktemp("emulator")
    (folder / "all.cpp").write_text("\n".join(lines))
    subprocess.run(["g++", *FLAGS, "-o", str(folder / "all.so"), str(folder / "all.cpp")], check=True)
    library = ctypes.CDLL(str(folder / "all.so"))
    assert library.size() == ctypes.sizeof(ChainStruct)
    return library


def run(emulator, launch, clusters, seed):
    described = MapStruct(launch.map.address, launch.map.sizes, (0, *launch.map.pitches), launch.map.box)
    room = (ctypes.c_ubyte * (ctypes.sizeof(launch.parameters) + 64))()
    at = (ctypes.addressof(room) + 63) & ~63
    ctypes.memmove(at, ctypes.addressof(launch.parameters), ctypes.sizeof(launch.parameters))
    ctypes.memmove(at, ctypes.addressof(described), ctypes.sizeof(described))
    grid = min(clusters, launch.grid[0] // launch.cluster) * launch.cluster
    which = KINDS.index(launch.name.partition("<")[2].rstrip(">"))
    emulator.run(which, ctypes.c_void_p(at), grid, launch.block, launch.cluster, seed)


@pytest.mark.parametrize(
    ("size", "channels", "middle", "pads"),
    [
        ((9, 75), 128, 128, (1, 1, 1, 1)),
        ((20, 33), 96, 128, AFTER),
        ((7, 5), 72, 104, (1, 1, 1, 1)),
        ((10, 38), 256, 256, AFTER),
        ((2, 2), 96, 256, AFTER),
        ((6, 41), 136, 200, (1, 0, 0, 1)),
        ((6, 41), 128, 128, (0, 1, 1, 0)),
    ],
)
def test_chains(emulator, size, channels, middle, pads):
    """As far as the second depthwise convolution, two pictures on three clusters."""
    step, sizes = chain(size, channels, middle, 64, pads)
    heads = HeadLayout(0, 0, 8, 8, 0, 0, 0)
    plan = Plan(View(0, 1, 1, 8, 8), (step,), heads, tuple(sizes), tuple(sizes), tuple(range(5)))
    data = [normal(2, size).astype(np.float16) for size in sizes]
    numbers = Numbers(plan, 2)
    numbers.view(View(0, 1, 1, sizes[0], sizes[0]))[...] = data[0][:, None, None]
    run_step(step.first, numbers)
    run_step(step.second.depthwise, numbers)
    kinds = {one.inner[0].kernel: one for one in tactics(step, 2, DEVICE) if one.kernel == "chained"}
    assert kinds
    for tactic in kinds.values():
        data[3][:] = np.nan
        constants = Constants()
        launches(Builder(plan, 2, Memory((0,) * 5, 0), constants), "0", step, tactic)
        held = np.frombuffer(constants.data(), np.uint8).copy()
        places = Memory(tuple(one.ctypes.data for one in data), held.ctypes.data)
        launch = launches(Builder(plan, 2, places, constants), "0", step, tactic)[0]
        run(emulator, launch, 3, 1)
        found, wanted = data[3].astype(np.float32), numbers._slots[3]
        assert np.isfinite(found).all(), f"{launch.name}: {np.isnan(found).mean():.3f} not written"
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert error < 4e-3, f"{launch.name}: relative error {error:.2e}"
