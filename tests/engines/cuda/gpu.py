"""Steps and tails run alone on a GPU, for tests; they are skipped where there is none."""

from contextlib import contextmanager

import numpy as np
import pytest

from ssdrt.engines import cuda
from ssdrt.engines.cuda import compiler
from ssdrt.engines.cuda.launch import Builder, Constants, Memory
from ssdrt.engines.cuda.makers import step_launches
from ssdrt.engines.cuda.plan import HeadLayout, Plan, View

WHY_NOT = cuda.unavailable()
needs_gpu = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


@contextmanager
def inside(gpu):
    """Its context is this thread's meanwhile."""
    gpu.enter()
    try:
        yield
    finally:
        gpu.leave()


class Bench:
    """A GPU, and kernels compiled as they are asked for."""

    def __init__(self):
        from ssdrt.engines.cuda.driver import Gpu, Stream

        self.gpu = Gpu()
        self.gpu.enter()
        self.device = self.gpu.device()
        self.stream = Stream(self.gpu)
        self.functions = {}

    def compile(self, wanted):
        from ssdrt.engines.cuda.driver import load_functions

        missing = [one for one in wanted if one not in self.functions]
        if missing:
            code = compiler.compile_kernels(missing, self.device.architecture)
            self.functions |= load_functions(self.gpu, code)[0]

    def memory(self, data):
        from ssdrt.engines.cuda.driver import DeviceMemory

        memory = DeviceMemory(self.gpu, len(data))
        if data:
            memory.upload(data)
        return memory

    def read(self, address, shape, dtype):
        found = np.empty(shape, dtype)
        (status,) = self.gpu.driver.cuMemcpyDtoH(found.ctypes.data, address, found.nbytes)
        assert not status
        return found

    def run(self, launches, overlapping=False):
        self.compile([(one.file, one.name) for one in launches])
        for index, launch in enumerate(launches):
            self.stream.launch(self.functions, launch, overlapping and index > 0)
        self.stream.wait()

    def step(self, step, tactic, contents, batch, made=None):
        """The target's buffer (batch, size) float16 after a step, or a list of those that are asked for, and the plan;
        contents: buffer -> (batch, size) float16."""
        sizes = [contents[buffer].shape[1] for buffer in sorted(contents)]
        plan = Plan(
            View(0, 1, 1, 8, 8),
            (step,),
            HeadLayout(0, 0, 8, 8, 0, 0, 0),
            tuple(sizes),
            tuple(sizes),
            tuple(range(len(sizes))),
        )
        memories = [self.memory(contents[buffer].tobytes()) for buffer in sorted(contents)]
        constants = Constants()
        step_launches(Builder(plan, batch, Memory((0,) * len(sizes), 0), constants), 0, tactic)
        weights = self.memory(constants.data())
        places = Memory(tuple(one.address for one in memories), weights.address)
        self.run(step_launches(Builder(plan, batch, places, constants), 0, tactic))
        buffers = [step.target.buffer] if made is None else made
        found = [self.read(memories[one].address, contents[one].shape, np.float16) for one in buffers]
        for one in (*memories, weights):
            one.free()
        return found[0] if made is None else found, plan


@pytest.fixture(scope="session")
def bench():
    return Bench()
