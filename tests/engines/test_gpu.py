"""What the CUDA driver's errors become, and what is said where there is no driver or no GPU."""

from enum import IntEnum
from types import SimpleNamespace

import pytest

from ssdrt.engines import gpu
from ssdrt.errors import EngineError, OutOfMemory


class Status(IntEnum):
    """As `CUresult`."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_INITIALIZED = 3
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_UNKNOWN = 999


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (Status.CUDA_ERROR_OUT_OF_MEMORY, OutOfMemory, "use smaller batches"),
        (Status.CUDA_ERROR_NOT_INITIALIZED, EngineError, "was forked from one that uses the GPU.*'spawn'"),
        (Status.CUDA_ERROR_ILLEGAL_ADDRESS, EngineError, r"cannot use it any more \(CUDA_ERROR_ILLEGAL_ADDRESS\)"),
        (Status.CUDA_ERROR_UNKNOWN, EngineError, "start the program again"),
        (Status.CUDA_ERROR_NO_DEVICE, EngineError, "the CUDA driver failed: CUDA_ERROR_NO_DEVICE"),
    ],
)
def test_errors_say_what_to_do(status, kind, said):
    with pytest.raises(kind, match=said):
        gpu.checked((status, None))


def test_values_come_as_they_are():
    assert gpu.checked((Status.CUDA_SUCCESS, 5)) == 5
    assert gpu.checked((Status.CUDA_SUCCESS, 5, 6)) == [5, 6]


def test_a_gpu_that_is_not_there_is_told_with_how_many_there_are():
    driver = SimpleNamespace(
        cuDeviceGetCount=lambda: (Status.CUDA_SUCCESS, 2), cuDeviceGet=lambda index: (Status.CUDA_SUCCESS, index)
    )
    assert [gpu.find_gpu(driver, index) for index in (0, 1)] == [0, 1]
    for wrong in (2, -1, "1"):
        with pytest.raises(EngineError, match=f"there is no GPU {wrong!r}: this process sees 2, from 0 on"):
            gpu.find_gpu(driver, wrong)


def no_library(_):
    raise RuntimeError("libcuda cannot be found")


@pytest.mark.parametrize(
    ("start", "count", "said"),
    [
        (no_library, 0, "engine cuda needs an NVIDIA GPU and its driver; this machine has no driver"),
        (lambda _: (Status.CUDA_ERROR_NO_DEVICE,), 0, "engine cuda needs .*; the driver says CUDA_ERROR_NO_DEVICE"),
        (lambda _: (Status.CUDA_ERROR_NOT_INITIALIZED,), 1, "was forked"),
        (lambda _: (Status.CUDA_SUCCESS,), 0, "engine cuda needs an NVIDIA GPU; the driver sees none"),
    ],
)
def test_without_a_driver_or_a_gpu_that_is_said(monkeypatch, start, count, said):
    driver = SimpleNamespace(cuInit=start, cuDeviceGetCount=lambda: (Status.CUDA_SUCCESS, count))
    monkeypatch.setattr(gpu, "import_extra", lambda *_: driver)
    with pytest.raises(EngineError, match=said):
        gpu.open_driver("cuda")
