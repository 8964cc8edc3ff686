"""DLPack capsules of numpy's memory that say it is a GPU's."""

import ctypes

from ssdrt.engines import resident


def on_gpu(pictures, index=0, versioned=False):
    """A capsule of numpy's that says its memory is a GPU's."""
    if versioned:
        capsule = pictures.__dlpack__(max_version=(1, 0))
        name = b"dltensor_versioned"
    else:
        capsule, name = pictures.__dlpack__(), b"dltensor"
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    address = pointer(capsule, name)
    if versioned:
        tensor = resident.VersionedStruct.from_address(address).tensor
    else:
        tensor = resident.TensorStruct.from_address(address)
    tensor.device_type, tensor.device_id = resident.CUDA, index
    return capsule
