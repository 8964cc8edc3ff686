"""The CUDA driver: a GPU and its context, memory, queues and what is recorded of them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.launch import Launch
from ssdrt.engines.cuda.tactics import Device
from ssdrt.engines.gpu import checked, find_gpu, open_driver
from ssdrt.errors import EngineError, OutOfMemory

SIDES = 3
"""Queues beside one: what goes aside takes them in turns."""


class Gpu:
    """A GPU that this process sees (CUDA_VISIBLE_DEVICES hides others), and its primary context.

    Raises
    ------
    MissingExtra: cuda-bindings are not installed.
    EngineError: there is no driver, or no such GPU.
    """

    def __init__(self, index: int = 0) -> None:
        self.driver = open_driver("cuda")
        self.index, self.handle = index, find_gpu(self.driver, index)
        self.context: Any = None

    def enter(self) -> None:
        """Make the context that of this thread, until `leave`; the first time takes a part of a second."""
        if self.context is None:
            self.context = checked(self.driver.cuDevicePrimaryCtxRetain(self.handle))
        checked(self.driver.cuCtxPushCurrent(self.context))

    def leave(self) -> None:
        """Give this thread back the context that it had before `enter`: other libraries go by it."""
        self.driver.cuCtxPopCurrent()

    @property
    def name(self) -> str:
        """As nvidia-smi prints it."""
        text: bytes = checked(self.driver.cuDeviceGetName(128, self.handle))
        return text.split(b"\0")[0].decode()

    def device(self) -> Device:
        """What tactics depend on."""
        attribute = self.driver.CUdevice_attribute
        major, minor, processors, shared = (
            checked(self.driver.cuDeviceGetAttribute(key, self.handle))
            for key in (
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
                attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            )
        )
        suffix = "a" if (major, minor) == (9, 0) else ""
        return Device(f"sm_{major}{minor}{suffix}", processors, shared)

    def own_stream(self) -> Any:
        """The calling thread's own queue. To wait for the whole GPU instead would break what another thread records."""
        return self.driver.CUstream(self.driver.CU_STREAM_PER_THREAD)

    def release(self) -> None:
        """Give the context back."""
        if self.context is not None:
            self.driver.cuDevicePrimaryCtxRelease(self.handle)
            self.context = None


class DeviceMemory:
    """Bytes on the GPU."""

    def __init__(self, gpu: Gpu, size: int) -> None:
        self._gpu, self.size = gpu, size
        self.address = int(checked(gpu.driver.cuMemAlloc(max(size, 256))))

    def upload(self, data: bytes) -> None:
        """Copy bytes to its start, and wait until they are there: of few bytes of ordinary memory the copy alone
        returns before, and our streams do not wait for it."""
        driver, stream = self._gpu.driver, self._gpu.own_stream()
        checked(driver.cuMemcpyHtoDAsync(self.address, data, len(data), stream))
        checked(driver.cuStreamSynchronize(stream))

    def fill(self, value: int) -> None:
        """Every byte, and wait."""
        driver, stream = self._gpu.driver, self._gpu.own_stream()
        checked(driver.cuMemsetD8Async(self.address, value, self.size, stream))
        checked(driver.cuStreamSynchronize(stream))

    def free(self) -> None:
        """Give it back."""
        if self.address:
            self._gpu.driver.cuMemFree(self.address)
            self.address = 0


class PinnedMemory:
    """Bytes of the host that the GPU reads and writes itself; `array` is a view of them, (size,) uint8."""

    def __init__(self, gpu: Gpu, size: int) -> None:
        self._gpu, self.size = gpu, size
        flags = gpu.driver.CU_MEMHOSTALLOC_DEVICEMAP | gpu.driver.CU_MEMHOSTALLOC_PORTABLE
        try:
            self.address = int(checked(gpu.driver.cuMemHostAlloc(max(size, 256), flags)))
        except OutOfMemory:
            raise OutOfMemory(
                f"this machine has no {-(-size // 1_000_000)} MB of free memory that a GPU can reach; use smaller "
                "batches, or end other programs"
            ) from None
        self.array: NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.address))

    def free(self) -> None:
        """Give it back; `array` must not be used afterwards."""
        if self.address:
            self._gpu.driver.cuMemFreeHost(self.address)
            self.address = 0


class Stream:
    """A queue of work, and graphs recorded from it."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.handle = checked(gpu.driver.cuStreamCreate(gpu.driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value))
        self._event = checked(gpu.driver.cuEventCreate(gpu.driver.CUevent_flags.CU_EVENT_DISABLE_TIMING.value))
        self._sides: list[Stream] = []

    def wait(self) -> None:
        """Until everything in the queue is done."""
        checked(self._gpu.driver.cuStreamSynchronize(self.handle))

    def settle(self) -> None:
        """The same, whatever became of it."""
        self._gpu.driver.cuStreamSynchronize(self.handle)

    def copy(self, to: int, source: int, size: int) -> None:
        """Bytes between any two addresses, in turn."""
        checked(self._gpu.driver.cuMemcpyAsync(to, source, size, self.handle))

    def launch(self, functions: dict[tuple[str, str], Any], launch: Launch, overlapping: bool) -> None:
        """`launch_in` this queue."""
        launch_in(self._gpu, self.handle, functions, launch, overlapping)

    def launch_all(self, functions: dict[tuple[str, str], Any], launches: Sequence[Launch]) -> None:
        """Start kernels one after the other, overlapping; what goes aside, in queues beside this one."""
        busy: list[Stream] = []
        try:
            for index, launch in enumerate(launches):
                if launch.branch == "aside":
                    if launches[index - 1].branch != "aside":
                        busy.append(self._side(len(busy)))
                        busy[-1].follow(self)
                    busy[-1].launch(functions, launch, overlapping=False)
                    continue
                joins = launch.branch == "join" and len(busy) > 0
                if joins:
                    self._join(busy)
                self.launch(functions, launch, overlapping=index > 0 and not joins)
            self._join(busy)
        finally:  # broken off: a recording ends well only with all its queues together
            with suppress(EngineError):
                self._join(busy)

    def _join(self, busy: list[Stream]) -> None:
        for side in busy:
            self.follow(side)
        busy.clear()

    def follow(self, other: Stream) -> None:
        """What comes next here waits for what is in the other queue now."""
        checked(self._gpu.driver.cuEventRecord(other._event, other.handle))
        checked(self._gpu.driver.cuStreamWaitEvent(self.handle, other._event, 0))

    def _side(self, index: int) -> Stream:
        if len(self._sides) < SIDES:
            self._sides.append(Stream(self._gpu))
        return self._sides[index % SIDES]

    def begin(self) -> None:
        """Record from here on instead of running."""
        mode = self._gpu.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        checked(self._gpu.driver.cuStreamBeginCapture(self.handle, mode))

    def end(self) -> Any:
        """The graph of what was recorded, ready to run."""
        driver = self._gpu.driver
        graph = checked(driver.cuStreamEndCapture(self.handle))
        try:
            return checked(driver.cuGraphInstantiate(graph, 0))
        finally:
            driver.cuGraphDestroy(graph)

    def record(self, fill: Callable[[], None]) -> Any:
        """The graph of what `fill` puts into the queue. Broken off, by Ctrl-C say, the queue runs things again."""
        graph = None
        try:
            self.begin()
            fill()
            graph = self.end()
        finally:
            if graph is None:
                self.abandon()
        return graph

    def abandon(self) -> None:
        """End a recording that failed."""
        _, graph = self._gpu.driver.cuStreamEndCapture(self.handle)
        if graph:
            self._gpu.driver.cuGraphDestroy(graph)

    def replay(self, graph: Any) -> None:
        """Run a graph, in turn."""
        checked(self._gpu.driver.cuGraphLaunch(graph, self.handle))

    def destroy(self) -> None:
        """Free it."""
        for side in self._sides:
            side.destroy()
        self._sides.clear()
        if self.handle is not None:
            self._gpu.driver.cuEventDestroy(self._event)
            self._gpu.driver.cuStreamDestroy(self.handle)
            self.handle = None


def launch_in(gpu: Gpu, queue: Any, functions: dict[tuple[str, str], Any], launch: Launch, overlapping: bool) -> None:
    """Start a kernel; `overlapping` lets it begin before the one ahead of it has ended (it waits by itself), on GPUs
    that can, from Hopper on."""
    driver = gpu.driver
    config = driver.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = *launch.grid, 1
    config.blockDimX, config.blockDimY, config.blockDimZ = launch.block, 1, 1
    config.sharedMemBytes, config.hStream = launch.shared, queue
    attributes = []
    if overlapping and gpu.device().generation >= 90:
        attribute, value = driver.CUlaunchAttribute(), driver.CUlaunchAttributeValue()
        value.programmaticStreamSerializationAllowed = 1
        attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        attribute.value = value
        attributes.append(attribute)
    if launch.cluster > 1:
        attribute, value = driver.CUlaunchAttribute(), driver.CUlaunchAttributeValue()
        value.clusterDim.x, value.clusterDim.y, value.clusterDim.z = launch.cluster, 1, 1
        attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
        attribute.value = value
        attributes.append(attribute)
    config.attrs, config.numAttrs = attributes, len(attributes)
    pointers = (ctypes.c_void_p * 1)(ctypes.addressof(launch.parameters))
    if launch.map is not None:
        encode(gpu, launch)
    function = functions[launch.file, launch.name]
    checked(driver.cuLaunchKernelEx(config, function, ctypes.addressof(pointers), 0))


def encode(gpu: Gpu, launch: Launch) -> None:
    """Write a launch's map into the first bytes of its struct, as the driver encodes it."""
    driver, source = gpu.driver, launch.map
    assert source is not None
    swizzle = driver.CUtensorMapSwizzle
    what = (
        driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        len(source.sizes),
        source.address,
        [driver.cuuint64_t(size) for size in source.sizes],
        [driver.cuuint64_t(pitch) for pitch in source.pitches],
    )
    how = (
        [driver.cuuint32_t(step) for step in source.steps or (1,) * len(source.sizes)],
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        swizzle.CU_TENSOR_MAP_SWIZZLE_128B if source.swizzled else swizzle.CU_TENSOR_MAP_SWIZZLE_NONE,
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    if source.corners is None:
        box = [driver.cuuint32_t(size) for size in source.box]
        encoded = checked(driver.cuTensorMapEncodeTiled(*what, box, *how))
    else:
        encoded = checked(driver.cuTensorMapEncodeIm2col(*what, *map(list, source.corners), *source.box, *how))
    ctypes.memmove(ctypes.addressof(launch.parameters), encoded.getPtr(), 128)


def load_functions(gpu: Gpu, code: dict[tuple[str, str], Any]) -> tuple[dict[tuple[str, str], Any], list[Any]]:
    """(functions by file and name, modules to unload): kernels from machine code, allowed all shared memory."""
    driver = gpu.driver
    functions, modules = {}, []
    limit = gpu.device().shared
    with ExitStack() as undo:  # if one of them fails
        for key, one in code.items():
            module = checked(driver.cuModuleLoadData(one.cubin))
            undo.callback(driver.cuModuleUnload, module)
            modules.append(module)
            function = checked(driver.cuModuleGetFunction(module, one.symbol.encode()))
            fixed = checked(
                driver.cuFuncGetAttribute(driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function)
            )
            attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            checked(driver.cuFuncSetAttribute(function, attribute, limit - fixed))
            functions[key] = function
        undo.pop_all()
    return functions, modules
