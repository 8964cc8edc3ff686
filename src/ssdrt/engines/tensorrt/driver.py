"""The CUDA driver, through cuda-bindings: one device's primary context, streams, memory, captured graphs.

The primary context is the one that TensorRT and every library on the runtime API use; a context of our own is what
breaks programs with threads. No compiler and no toolkit is needed, the driver alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.gpu import checked, find_gpu, open_driver

T = TypeVar("T")


class Card:
    """A GPU by its index among those that CUDA shows: what it is, without a context, which takes a part of a second.
    driver: `cuda.bindings.driver`.

    Raises
    ------
    EngineError: there is no driver or no such GPU.
    """

    def __init__(self, index: int = 0) -> None:
        self.driver = open_driver("tensorrt")
        self.index, self._device = index, find_gpu(self.driver, index)

    @property
    def name(self) -> str:
        """As "NVIDIA H200"."""
        raw: bytes = checked(self.driver.cuDeviceGetName(256, self._device))
        return raw.decode("ascii", "replace").strip("\0 ")

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability, as (9, 0)."""
        attributes = self.driver.CUdevice_attribute
        kinds = (
            attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
        major, minor = (int(checked(self.driver.cuDeviceGetAttribute(kind, self._device))) for kind in kinds)
        return major, minor


class Device(Card):
    """The GPU at work: its primary context, held until `close`, and that of the thread that makes this until `leave`.

    Raises
    ------
    EngineError: there is no driver or no such GPU, or no room for a context.
    """

    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self._context = checked(self.driver.cuDevicePrimaryCtxRetain(self._device))
        self.use()

    def use(self) -> None:
        """Make the context current in this thread, until `leave`: once a call that may come from any thread."""
        checked(self.driver.cuCtxPushCurrent(self._context))

    def leave(self) -> None:
        """Give this thread back the context that it had before `use`: other libraries go by it."""
        self.driver.cuCtxPopCurrent()

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, done with the context, by any thread."""
        self.use()
        try:
            return work()
        finally:
            self.leave()

    def close(self) -> None:
        """Leave it and give it back; it lives on while others hold it."""
        self.leave()
        checked(self.driver.cuDevicePrimaryCtxRelease(self._device))

    # --- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the device."""
        return int(checked(self.driver.cuMemAlloc(max(size, 1))))

    def free(self, address: int) -> None:
        """Free what `allocate` gave."""
        checked(self.driver.cuMemFree(address))

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array in page-locked memory, which copies to the device without a stop; `unpin` frees it."""
        size = int(np.prod(shape)) * dtype.itemsize
        address = int(checked(self.driver.cuMemHostAlloc(max(size, 1), 0)))
        flat = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        return flat.view(dtype).reshape(shape)

    def unpin(self, array: NDArray[Any]) -> None:
        """Free what `pinned` gave; nobody may look at it afterwards."""
        checked(self.driver.cuMemFreeHost(array.ctypes.data))

    def is_pinned(self, array: NDArray[Any]) -> bool:
        """Whether an array lies in page-locked memory, no matter who allocated it."""
        kind = self.driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
        address = array.__array_interface__["data"][0]
        status, found = self.driver.cuPointerGetAttribute(kind, address)  # an error for memory that CUDA does not know
        return int(status) == 0 and int(found) == int(self.driver.CUmemorytype.CU_MEMORYTYPE_HOST)

    def to_device(self, target: int, source: NDArray[Any], stream: Any) -> None:
        """Copy a pinned array, in stream order."""
        checked(self.driver.cuMemcpyHtoDAsync(target, source.ctypes.data, source.nbytes, stream))

    def to_host(self, target: NDArray[Any], source: int, stream: Any) -> None:
        """Copy to a pinned array, in stream order."""
        checked(self.driver.cuMemcpyDtoHAsync(target.ctypes.data, source, target.nbytes, stream))

    def on_device(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copy `size` bytes from one place of the device to another, in stream order."""
        checked(self.driver.cuMemcpyDtoDAsync(target, source, size, stream))

    def clear(self, address: int, size: int, stream: Any) -> None:
        """Bytes of zero on the device, in stream order."""
        checked(self.driver.cuMemsetD8Async(address, 0, size, stream))

    # --- streams and graphs ---------------------------------------------------------------------------------------

    def stream(self) -> Any:
        """A stream that does not wait for the default one."""
        return checked(self.driver.cuStreamCreate(int(self.driver.CUstream_flags.CU_STREAM_NON_BLOCKING)))

    def synchronize(self, stream: Any) -> None:
        """Wait until all that was put into the stream is done; other Python threads run meanwhile."""
        checked(self.driver.cuStreamSynchronize(stream))

    def destroy_stream(self, stream: Any) -> None:
        """Free a stream."""
        checked(self.driver.cuStreamDestroy(stream))

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """A graph of what `work` puts into the stream, to be launched any number of times."""
        mode = self.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        graph = None
        try:
            checked(self.driver.cuStreamBeginCapture(stream, mode))
            work()
            graph = checked(self.driver.cuStreamEndCapture(stream))
        finally:
            if graph is None:  # broken off, by Ctrl-C say: the stream must run things again
                self.driver.cuStreamEndCapture(stream)
        executable = checked(self.driver.cuGraphInstantiate(graph, 0))
        checked(self.driver.cuGraphDestroy(graph))
        return executable

    def launch(self, graph: Any, stream: Any) -> None:
        """Run a captured graph, in stream order."""
        checked(self.driver.cuGraphLaunch(graph, stream))

    def destroy_graph(self, graph: Any) -> None:
        """Free a captured graph."""
        checked(self.driver.cuGraphExecDestroy(graph))
