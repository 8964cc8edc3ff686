"""What other libraries say of pictures on a GPU, read from capsules that numpy made."""

import numpy as np
import pytest

from dlpack_capsules import on_gpu
from gpu_stand_in import StandInDriver
from ssdrt.engines import resident
from ssdrt.errors import EngineError


@pytest.mark.parametrize("versioned", [False, True])
def test_capsules_say_where_pictures_are(versioned):
    if versioned and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("this numpy makes no capsules of DLPack 1")
    pictures = np.zeros((4, 5, 6, 3), np.uint8)
    found = resident.pictures_of(on_gpu(pictures, versioned=versioned), 0, 0, StandInDriver())
    assert (found.address, found.size, found.written_in) == (pictures.ctypes.data, (4, 5, 6), 0)
    part = resident.pictures_of(on_gpu(pictures[2:], versioned=versioned), 0, 0, StandInDriver())
    assert (part.address, part.size) == (pictures[2:].ctypes.data, (2, 5, 6))


@pytest.mark.parametrize(
    "pictures",
    [
        np.zeros((4, 5, 6, 3), np.int8),
        np.zeros((4, 5, 6, 3), np.float32),
        np.zeros((5, 6), np.uint8),
        np.zeros((4, 0, 6, 3), np.uint8),
        np.zeros((4, 5, 6, 4), np.uint8)[..., :3],
        np.zeros((4, 5, 12, 3), np.uint8)[:, :, ::2],
        np.zeros((4, 3, 5, 6), np.uint8).transpose(0, 2, 3, 1),
    ],
)
def test_other_arrays_are_refused(pictures):
    with pytest.raises(EngineError, match="must be \\(b, height, width, 3\\) uint8 in C order"):
        resident.pictures_of(on_gpu(pictures), 0, 0, StandInDriver())


def test_arrays_of_the_wanted_dtype_are_taken():
    pictures = np.zeros((4, 5, 6, 3), np.float32)
    assert resident.pictures_of(on_gpu(pictures), 0, 0, StandInDriver(), "float32").size == (4, 5, 6)
    with pytest.raises(EngineError, match=r"must be .* float32 in C order, not \(4, 5, 6, 3\) uint8"):
        resident.pictures_of(on_gpu(pictures.astype(np.uint8)), 0, 0, StandInDriver(), "float32")


def test_a_single_picture_is_taken():
    picture = np.zeros((5, 6, 3), np.uint8)
    assert resident.pictures_of(on_gpu(picture), 0, 0, StandInDriver()).size == (1, 5, 6)
    assert resident.pictures_of(Shown((5, 6, 3), (18, 3, 1)), 0, 0, StandInDriver()).size == (1, 5, 6)


def test_other_places_are_refused():
    pictures = np.zeros((4, 5, 6, 3), np.uint8)
    with pytest.raises(EngineError, match="not on a GPU of NVIDIA"):
        resident.pictures_of(pictures, 0, 0, StandInDriver())
    with pytest.raises(EngineError, match="not on a GPU of NVIDIA"):
        resident.pictures_of(pictures.__dlpack__(), 0, 0, StandInDriver())
    with pytest.raises(EngineError, match="on GPU 1, the engine is on GPU 0"):
        resident.pictures_of(on_gpu(pictures, index=1), 0, 0, StandInDriver())
    with pytest.raises(EngineError, match="shown neither by DLPack nor"):
        resident.pictures_of([[[0]]], 0, 0, StandInDriver())


class Shown:
    """An array as `__cuda_array_interface__` shows it."""

    def __init__(self, shape=(4, 5, 6, 3), strides=None, address=4096):
        data = (address, False)
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": "|u1", "data": data, "version": 3, "strides": strides,
        }  # fmt: skip


def test_an_array_is_where_the_driver_says():
    found = resident.pictures_of(Shown(), 0, 1, StandInDriver(index=1))
    assert (found.address, found.size) == (4096, (4, 5, 6))
    with pytest.raises(EngineError, match="on GPU 1, the engine is on GPU 0"):
        resident.pictures_of(Shown(), 0, 0, StandInDriver(index=1))
    with pytest.raises(EngineError, match="CUDA knows of no memory"):
        resident.pictures_of(Shown(), 0, 0, StandInDriver(status=1))
    for driver in (StandInDriver(1, managed=True), StandInDriver(1, kind=1)):  # every GPU reads these
        assert resident.pictures_of(Shown(), 0, 0, driver).address == 4096
    assert resident.pictures_of(Shown((0, 5, 6, 3), address=0), 0, 0, StandInDriver(status=1)).size == (0, 5, 6)


def test_an_array_that_names_its_strides_is_taken_if_it_is_dense():
    assert resident.pictures_of(Shown(strides=(90, 18, 3, 1)), 0, 0, StandInDriver()).size == (4, 5, 6)
    assert resident.pictures_of(Shown((1, 5, 6, 3), (7, 18, 3, 1)), 0, 0, StandInDriver()).size == (1, 5, 6)
    with pytest.raises(EngineError, match="in another order"):
        resident.pictures_of(Shown(strides=(90, 3, 15, 1)), 0, 0, StandInDriver())
