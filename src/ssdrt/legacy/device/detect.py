#!/usr/bin/env python3
"""Detect objects in pictures with an engine that build_engine.py built.

    python3 detect.py model.engine picture.jpg ... [--score 0.3]

Prints one line a detection: picture, label, score, and x0 y0 x1 y1 in pixels of the picture. Python 3.6 or later,
TensorRT 5 to 8.6 and numpy; pictures other than .ppm are read by OpenCV or Pillow, whichever is there. model.json must
lie beside the engine.
"""

import argparse
import ctypes
import ctypes.util
import glob
import json
import os
import sys
from typing import Any

import numpy as np
import tensorrt as trt  # noqa: TID251 (runs on the device, without ssdrt)

TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind


def load_cudart() -> Any:
    """The CUDA runtime library of this machine."""
    names = [ctypes.util.find_library("cudart"), "libcudart.so"]
    names += sorted(glob.glob("/usr/local/cuda*/lib64/libcudart.so*") + glob.glob("/usr/lib/*/libcudart.so*"))
    for name in filter(None, names):
        try:
            return ctypes.CDLL(name)
        except OSError:  # noqa: PERF203
            continue
    return sys.exit("libcudart is not found: add the folder it lies in to LD_LIBRARY_PATH")


class Engine:
    """A built engine with its buffers, for one picture at a time."""

    def __init__(self, path: str, library: str) -> None:
        self.cudart = load_cudart()
        logger = trt.Logger(trt.Logger.WARNING)
        if library:
            ctypes.CDLL(os.path.abspath(library))
        trt.init_libnvinfer_plugins(logger, "")
        self.runtime = trt.Runtime(logger)
        with open(path, "rb") as file:
            self.engine = self.runtime.deserialize_cuda_engine(file.read())
        if self.engine is None:
            sys.exit(path + " is no engine of this TensorRT on this device: build it here with build_engine.py")
        self.context = self.engine.create_execution_context()
        self.host = []  # type: list[Any]
        self.device = []  # type: list[int]
        for i in range(self.engine.num_bindings):
            array = np.zeros([int(d) for d in self.engine.get_binding_shape(i)], np.float32)
            pointer = ctypes.c_void_p()
            self.check(self.cudart.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(array.nbytes)))
            self.host.append(array)
            self.device.append(int(pointer.value or 0))

    def check(self, status: int) -> None:
        """Stop at the first CUDA call that fails."""
        if status:
            sys.exit(f"CUDA error {status}")

    def copy(self, target: int, source: int, size: int, kind: int) -> None:
        """Copy between host and device, and wait for it."""
        pointers = ctypes.c_void_p(target), ctypes.c_void_p(source)
        self.check(self.cudart.cudaMemcpy(pointers[0], pointers[1], ctypes.c_size_t(size), kind))

    def run(self, chw: Any) -> Any:
        """The rows (n, 7) of NMS_TRT: image, label, score, xmin, ymin, xmax, ymax in 0..1 of the network input."""
        self.host[0][...] = chw.reshape(self.host[0].shape)
        self.copy(self.device[0], self.host[0].ctypes.data, self.host[0].nbytes, TO_DEVICE)
        self.context.execute(batch_size=1, bindings=self.device)
        for i in range(1, len(self.host)):
            self.copy(self.host[i].ctypes.data, self.device[i], self.host[i].nbytes, TO_HOST)
        count = int(self.host[2].view(np.int32).ravel()[0])
        return self.host[1].reshape(-1, 7)[:count].copy()


def read_picture(path: str) -> Any:
    """A picture as (height, width, 3) uint8 RGB."""
    if path.endswith(".ppm"):
        with open(path, "rb") as file:
            magic, width, height, maximum, data = file.read().split(None, 4)
        if (magic, maximum) != (b"P6", b"255"):
            sys.exit(path + " is no binary .ppm of 8 bits")
        return np.frombuffer(data[-int(width) * int(height) * 3 :], np.uint8).reshape(int(height), int(width), 3)
    try:
        import cv2  # noqa: TID251 (runs on the device, without ssdrt)
    except ImportError:
        from PIL import Image

        return np.asarray(Image.open(path).convert("RGB"))
    picture = cv2.imread(path)
    if picture is None:
        sys.exit(path + " cannot be read as a picture")
    return picture[:, :, ::-1]


def resized_size(resizer: Any, height: int, width: int) -> Any:
    """(height, width) that a picture is resized to, before padding."""
    if not resizer["pad"]:
        return int(resizer["height"]), int(resizer["width"])
    sides = np.array((height, width), np.float32)
    scale = min(np.float32(resizer["height"]) / sides.min(), np.float32(resizer["width"]) / sides.max())
    sides = np.maximum(np.rint(scale * sides), 1)
    return int(sides[0]), int(sides[1])


def resize(picture: Any, resizer: Any, size: Any) -> Any:
    """A picture resized as TensorFlow does, float32."""
    result = picture.astype(np.float32)
    for axis in (1, 0):
        old, new = result.shape[axis], size[axis]
        if old == new:
            continue
        corners = resizer["align_corners"] and new > 1
        scale = np.float32((old - 1) / (new - 1) if corners else old / new)
        shift = np.float32(0.5 if resizer["half_pixel_centers"] else 0)
        source = (np.arange(new, dtype=np.float32) + shift) * scale - shift
        if resizer["method"] == "nearest":
            nearest = np.floor(source + shift + np.float32(0.5 if corners else 0))
            result = result.take(np.clip(nearest, 0, old - 1).astype(int), axis)
            continue
        floor = np.floor(source)
        low, high = (np.clip(floor + i, 0, old - 1).astype(int) for i in (0, 1))
        blend = (source - floor).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (-1, 1))
        start = result.take(low, axis)
        result = start + (result.take(high, axis) - start) * blend
    return result


def prepared(picture: Any, facts: Any) -> Any:
    """(the network's input (3, height, width), the picture's part (x, y) of it)."""
    height, width = facts["input_size"]
    resizer = facts["resizer"]
    size = resized_size(resizer, *picture.shape[:2])
    pixels = np.empty((height, width, 3), np.float32)
    pixels[:] = np.array(resizer["pad_value"], np.float32)
    pixels[: size[0], : size[1]] = resize(picture, resizer, size)
    functions = {"mul": np.multiply, "add": np.add, "sub": np.subtract, "div": np.divide}
    for operation, operand in facts["normalisation"]:
        pixels = functions[operation](pixels, np.array(operand, np.float32))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), np.array((size[1] / width, size[0] / height), np.float32)


def main() -> None:
    """Parse the command line and print what is found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("engine")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--score", type=float, default=0.3, help="smallest score to print (default: 0.3)")
    parser.add_argument("--plugin", default="", metavar="LIB", help="libflattenconcat.so, below TensorRT 7")
    args = parser.parse_args()
    with open(os.path.splitext(args.engine)[0] + ".json") as file:
        facts = json.load(file)
    if facts["resizer"]["method"] not in ("bilinear", "nearest"):
        sys.exit(f"this model's pictures are resized by {facts['resizer']['method']}, which this script does not do")
    engine = Engine(args.engine, args.plugin)
    for path in args.pictures:
        picture = read_picture(path)
        pixels, part = prepared(picture, facts)
        scale = np.tile(np.array(picture.shape[1::-1], np.float32), 2)
        for row in engine.run(pixels):
            if row[2] >= args.score:
                label = int(row[1]) - int(facts["background"]) + facts["label_offset"]
                box = np.clip(row[3:] / np.tile(part, 2), 0, 1) * scale
                name = facts["labels"].get(str(label), f"class {label}")
                print(path, name, f"{row[2]:.6f}", *(f"{edge:.3f}" for edge in box), sep="\t")


if __name__ == "__main__":
    main()
