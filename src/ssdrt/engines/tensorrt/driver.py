"""The CUDA driver, through cuda-bindings: one device's primary context, streams, memory, captured graphs.

The primary context is the one that TensorRT and every library on the runtime API use; a context of our own is what
breaks programs with threads. No compiler and no toolkit is needed, the driver alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import EngineError, import_extra


class Device:
    """The first GPU that CUDA shows (CUDA_VISIBLE_DEVICES chooses), its primary context held until `close`.

    Raises
    ------
    EngineError: there is no driver or no GPU.
    """

    def __init__(self) -> None:
        self._cuda = import_extra("cuda.bindings.driver", "tensorrt", "engine tensorrt")
        try:
            self._call(self._cuda.cuInit, 0)
        except RuntimeError as error:  # what cuda-bindings raises where there is no driver library
            raise EngineError(f"there is no NVIDIA driver on this machine ({error})") from error
        self._device = self._call(self._cuda.cuDeviceGet, 0)
        self._context = self._call(self._cuda.cuDevicePrimaryCtxRetain, self._device)
        self.use()

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a driver function returns beside its status.

        Raises
        ------
        EngineError: the status is an error.
        """
        status, *results = function(*arguments)
        if int(status) != 0:
            name = self._cuda.cuGetErrorName(status)[1]
            word = name.decode() if isinstance(name, bytes) else str(status)
            hint = "; less batch or fewer streams need less memory" if word == "CUDA_ERROR_OUT_OF_MEMORY" else ""
            raise EngineError(f"CUDA: {function.__name__} says {word}{hint}")
        return results[0] if results else None

    @property
    def name(self) -> str:
        """As "NVIDIA H200"."""
        raw: bytes = self._call(self._cuda.cuDeviceGetName, 256, self._device)
        return raw.decode("ascii", "replace").strip("\0 ")

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability, as (9, 0)."""
        attributes = self._cuda.CUdevice_attribute
        kinds = (
            attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
        major, minor = (int(self._call(self._cuda.cuDeviceGetAttribute, kind, self._device)) for kind in kinds)
        return major, minor

    def use(self) -> None:
        """Make the context current in this thread: once a call that may come from any thread."""
        self._call(self._cuda.cuCtxSetCurrent, self._context)

    def close(self) -> None:
        """Give the context back; it lives on while others hold it."""
        self._call(self._cuda.cuDevicePrimaryCtxRelease, self._device)

    # --- memory ---------------------------------------------------------------------------------------------------

    def allocate(self, size: int) -> int:
        """Address of `size` bytes on the device."""
        return int(self._call(self._cuda.cuMemAlloc, max(size, 1)))

    def free(self, address: int) -> None:
        """Free what `allocate` gave."""
        self._call(self._cuda.cuMemFree, address)

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array in page-locked memory, which copies to the device without a stop; `unpin` frees it."""
        size = int(np.prod(shape)) * dtype.itemsize
        address = int(self._call(self._cuda.cuMemHostAlloc, max(size, 1), 0))
        flat = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        return flat.view(dtype).reshape(shape)

    def unpin(self, array: NDArray[Any]) -> None:
        """Free what `pinned` gave; nobody may look at it afterwards."""
        self._call(self._cuda.cuMemFreeHost, array.ctypes.data)

    def is_pinned(self, array: NDArray[Any]) -> bool:
        """Whether an array lies in page-locked memory, no matter who allocated it."""
        kind = self._cuda.CUpointer_attribute.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
        address = array.__array_interface__["data"][0]
        status, found = self._cuda.cuPointerGetAttribute(kind, address)  # an error for memory that CUDA does not know
        return int(status) == 0 and int(found) == int(self._cuda.CUmemorytype.CU_MEMORYTYPE_HOST)

    def to_device(self, target: int, source: NDArray[Any], stream: Any) -> None:
        """Copy a pinned array, in stream order."""
        self._call(self._cuda.cuMemcpyHtoDAsync, target, source.ctypes.data, source.nbytes, stream)

    def to_host(self, target: NDArray[Any], source: int, stream: Any) -> None:
        """Copy to a pinned array, in stream order."""
        self._call(self._cuda.cuMemcpyDtoHAsync, target.ctypes.data, source, target.nbytes, stream)

    def on_device(self, target: int, source: int, size: int, stream: Any) -> None:
        """Copy `size` bytes from one place of the device to another, in stream order."""
        self._call(self._cuda.cuMemcpyDtoDAsync, target, source, size, stream)

    # --- streams and graphs ---------------------------------------------------------------------------------------

    def stream(self) -> Any:
        """A stream that does not wait for the default one."""
        return self._call(self._cuda.cuStreamCreate, int(self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING))

    def synchronize(self, stream: Any) -> None:
        """Wait until all that was put into the stream is done; other Python threads run meanwhile."""
        self._call(self._cuda.cuStreamSynchronize, stream)

    def destroy_stream(self, stream: Any) -> None:
        """Free a stream."""
        self._call(self._cuda.cuStreamDestroy, stream)

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """A graph of what `work` puts into the stream, to be launched any number of times."""
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call(self._cuda.cuStreamBeginCapture, stream, mode)
        try:
            work()
        finally:
            graph = self._call(self._cuda.cuStreamEndCapture, stream)
        executable = self._call(self._cuda.cuGraphInstantiate, graph, 0)
        self._call(self._cuda.cuGraphDestroy, graph)
        return executable

    def launch(self, graph: Any, stream: Any) -> None:
        """Run a captured graph, in stream order."""
        self._call(self._cuda.cuGraphLaunch, graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        """Free a captured graph."""
        self._call(self._cuda.cuGraphExecDestroy, graph)
