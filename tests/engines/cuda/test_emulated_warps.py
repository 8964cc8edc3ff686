"""`squeezed.cu`, `excited.cu` and `inverted.cu` run by an emulator on the processor, against the numpy executor."""

import ctypes
import subprocess

import numpy as np
import pytest

from engines.cuda.test_emulated import DEVICE, FLAGS, pytestmark  # noqa: F401
from engines.cuda.test_excite import EXCITED, SIXTH, SQUEEZED, back, front, normal
from engines.cuda.test_inverted import SHAPES, residual
from ssdrt.engines.cuda.compiler import sources
from ssdrt.engines.cuda.excite import ExcitedStruct, SqueezedStruct
from ssdrt.engines.cuda.executor import Memory as Numbers
from ssdrt.engines.cuda.executor import run_step
from ssdrt.engines.cuda.inverted import InvertedStruct
from ssdrt.engines.cuda.launch import Builder, Constants, Memory
from ssdrt.engines.cuda.makers import launches
from ssdrt.engines.cuda.plan import HeadLayout, Inverted, Plan, View
from ssdrt.engines.cuda.planner import excited, several, squeezed
from ssdrt.engines.cuda.tactics import tactics

BATCH = 2
STRUCTS = {"squeezed": SqueezedStruct, "excited": ExcitedStruct, "inverted": InvertedStruct}


def emulator(folder, kernel, kinds):
    """A library of some forms of a kernel."""
    common, struct = sources()["common.cuh"], kernel.capitalize()
    finish = common[common.index("struct Finish {") : common.index("// --- launches that overlap")]
    text = sources()[f"{kernel}.cu"].replace("shared_address(memory)", "16u")
    kept = [line for line in text.splitlines() if not line.startswith("#include") and "extern __shared__" not in line]
    lines = [
        '#include "warps.h"',
        finish,
        *kept,
        f'extern "C" int size() {{ return sizeof({struct}); }}',
        f'extern "C" void run(int which, const {struct}* p, int grid, int block, int shared) {{',
        f"static {struct} copy; copy = *p; grid_size = grid; block_size = block; cluster_size = 1;",
        "shared_size = 16 + shared;",
        *(f"if (which == {i}) body = [] {{ {kind}(copy); }};" for i, kind in enumerate(kinds)),
        "for (int first = 0; first < grid; first++) run_cluster(first, first); }",
    ]
    (folder / "all.cpp").write_text("\n".join(lines))
    subprocess.run(["g++", *FLAGS, "-o", str(folder / "all.so"), str(folder / "all.cpp")], check=True)
    library = ctypes.CDLL(str(folder / "all.so"))
    assert library.size() == ctypes.sizeof(STRUCTS[kernel])
    return library


def check(folder, step, sizes, made):
    """Every form of the kernel; `made`: the buffers that others read."""
    count = len(sizes)
    heads = HeadLayout(0, 0, 8, 8, 0, 0, 0)
    plan = Plan(View(0, 1, 1, 8, 8), (step,), heads, tuple(sizes), tuple(sizes), tuple(range(count)))
    data = [normal(BATCH, size).astype(np.float16) for size in sizes]
    numbers = Numbers(plan, BATCH)
    for i in range(count):
        numbers._slots[i][...] = np.nan if i in made else data[i]
    run_step(step, numbers)
    together = [one for one in tactics(step, BATCH, DEVICE) if one.kernel != "apart"]
    kinds = sorted({one.kernel for one in together})
    library = emulator(folder, kinds[0].partition("<")[0], kinds)
    for tactic in together:
        for i in made:
            data[i][:] = np.nan
        constants = Constants()
        launches(Builder(plan, BATCH, Memory((0,) * count, 0), constants), "0", step, tactic)
        held = np.frombuffer(constants.data(), np.uint8).copy()
        places = Memory(tuple(one.ctypes.data for one in data), held.ctypes.data)
        (launch,) = launches(Builder(plan, BATCH, places, constants), "0", step, tactic)
        where = ctypes.byref(launch.parameters)
        library.run(kinds.index(launch.name), where, launch.grid[0], launch.block, launch.shared)
        for i in made:
            found, wanted = data[i].astype(np.float32), numbers._slots[i]
            assert (np.isnan(found) == np.isnan(wanted)).all(), f"{tactic}: wrote elsewhere, or not everything"
            inside = ~np.isnan(wanted)
            error = np.linalg.norm(found[inside] - wanted[inside]) / np.linalg.norm(wanted[inside])
            assert error < 2e-3, f"{tactic}: relative error {error:.2e}"


@pytest.mark.parametrize("shape", SQUEEZED)
def test_as_far_as_the_mean(tmp_path, shape):
    steps, sizes = front(*shape)
    check(tmp_path, *several(steps, squeezed), sizes, (2, 3))


@pytest.mark.parametrize("shape", [*EXCITED, ((17, 9), 16, 8, 16, False, SIXTH)])
def test_behind_the_mean(tmp_path, shape):
    steps, sizes = back(*shape)
    check(tmp_path, *several(steps, excited), sizes, (5,))


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("shape", [SHAPES[2], SHAPES[8]])
def test_inverted_residuals(tmp_path, shape, activation):
    steps, sizes = residual(*shape, activation)
    check(tmp_path, Inverted("d", *steps), sizes, (3,))
