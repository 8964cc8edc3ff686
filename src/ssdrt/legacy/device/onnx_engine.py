#!/usr/bin/env python3
"""Build and run a detector that ssdrt wrote as ONNX for an old TensorRT, on the device itself.

    python3 onnx_engine.py build model.onnx [--fp32] [--workspace MB]
    python3 onnx_engine.py detect model.engine picture.jpg ... [--score 0.3]

`detect` prints one line a detection: picture, label, score, and x0 y0 x1 y1 in pixels of the picture. Python 3.6 or
later, TensorRT 8.0 to 8.6 and numpy; model.json and detect.py must lie beside.
"""

import argparse
import ctypes
import json
import os
import sys
from typing import Any

import numpy as np
import tensorrt as trt  # noqa: TID251 (runs on the device, without ssdrt)
from detect import load_cudart, prepared, read_picture  # type: ignore[import-not-found]  # it lies beside

TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind


def build(path: str, fp16: bool, megabytes: int) -> None:
    """Write model.engine beside model.onnx."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    with open(path, "rb") as file:
        if not parser.parse(file.read()):
            sys.exit("\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    if hasattr(config, "set_memory_pool_limit"):  # 8.4 and later
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, megabytes << 20)
    else:
        config.max_workspace_size = megabytes << 20
    if fp16:
        config.set_flag(trt.BuilderFlag.FP16)
    else:  # else fp32 would be rounded to 10 bits on Ampere and later
        config.clear_flag(trt.BuilderFlag.TF32)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        sys.exit("TensorRT could not build an engine of " + path + "; its messages above say why")
    target = os.path.splitext(path)[0] + ".engine"
    with open(target + ".part", "wb") as file:
        file.write(bytes(plan))
    os.replace(target + ".part", target)
    print(target, "for TensorRT", trt.__version__)


class Engine:
    """A built engine with its buffers, for one picture at a time."""

    def __init__(self, path: str) -> None:
        self.cudart = load_cudart()
        self.runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        with open(path, "rb") as file:
            self.engine = self.runtime.deserialize_cuda_engine(file.read())
        if self.engine is None:
            sys.exit(path + " is no engine of this TensorRT on this device: build it here")
        self.context = self.engine.create_execution_context()
        self.host = {}  # type: dict[str, Any]
        self.device = []  # type: list[int]
        for i in range(self.engine.num_bindings):
            array = np.zeros([int(d) for d in self.engine.get_binding_shape(i)], np.float32)
            pointer = ctypes.c_void_p()
            self.check(self.cudart.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(array.nbytes)))
            self.host[self.engine.get_binding_name(i)] = array
            self.device.append(int(pointer.value or 0))

    def check(self, status: int) -> None:
        """Stop at the first CUDA call that fails."""
        if status:
            sys.exit(f"CUDA error {status}")

    def run(self, pixels: Any) -> Any:
        """(box encodings (n, 4), class scores (n, classes)) of pixels (height, width, 3)."""
        self.host["image"][0] = pixels
        for (name, array), address in zip(self.host.items(), self.device):  # noqa: B905 (Python 3.6)
            if name == "image":
                self.copy(address, array.ctypes.data, array.nbytes, TO_DEVICE)
        if not self.context.execute_v2(self.device):
            sys.exit("TensorRT did not run; its messages above say why")
        for (name, array), address in zip(self.host.items(), self.device):  # noqa: B905
            if name != "image":
                self.copy(array.ctypes.data, address, array.nbytes, TO_HOST)
        return self.host["box_encodings"][0], self.host["class_scores"][0]

    def copy(self, target: int, source: int, size: int, kind: int) -> None:
        """Copy between host and device, and wait for it."""
        pointers = ctypes.c_void_p(target), ctypes.c_void_p(source)
        self.check(self.cudart.cudaMemcpy(pointers[0], pointers[1], ctypes.c_size_t(size), kind))


def decode(encodings: Any, facts: Any) -> Any:
    """Boxes (n, 4) yxyx in 0..1 of the network input."""
    anchors = np.array(facts["anchors"], np.float32)
    sizes = anchors[:, 2:] - anchors[:, :2]
    offsets = encodings / np.array(facts["box_scales"], np.float32)
    centres = offsets[:, :2] * sizes + anchors[:, :2] + sizes / 2
    halves = np.exp(offsets[:, 2:]) * sizes / 2
    return np.concatenate((centres - halves, centres + halves), 1)


def overlap(box: Any, others: Any) -> Any:
    """Intersection over union of a box with others."""
    corner = np.maximum(box[:2], others[:, :2])
    sides = np.maximum(np.minimum(box[2:], others[:, 2:]) - corner, 0)
    common = sides[:, 0] * sides[:, 1]
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    union = (box[2] - box[0]) * (box[3] - box[1]) + areas - common
    return common / np.where(union > 0, union, 1)


def suppress(boxes: Any, scores: Any, threshold: float, facts: Any) -> Any:
    """Rows (anchor, class), best first, as TensorFlow keeps them: a better box of its class removes a box."""
    rows, columns = np.nonzero(scores > threshold)
    order = np.lexsort((rows, columns, -scores[rows, columns]))
    kept = {}  # type: dict[int, list[int]]
    found = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist()):  # noqa: B905
        mine = kept.setdefault(column, [])
        if len(mine) >= facts["max_per_class"]:
            continue
        if mine and (overlap(boxes[row], boxes[mine]) > facts["iou_threshold"]).any():
            continue
        mine.append(row)
        found.append((row, column))
        if len(found) == facts["max_total"]:
            break
    return found


def detect(path: str, pictures: Any, threshold: float) -> None:
    """Print what is found."""
    with open(os.path.splitext(path)[0] + ".json") as file:
        facts = json.load(file)
    engine = Engine(path)
    for name in pictures:
        picture = read_picture(name)
        chw, part = prepared(picture, facts)
        encodings, scores = engine.run(chw.transpose(1, 2, 0))
        boxes = decode(encodings, facts)
        scale = np.tile(np.array(picture.shape[:2], np.float32), 2)
        for row, column in suppress(boxes, scores, threshold, facts):
            y0, x0, y1, x1 = np.clip(boxes[row] / np.tile(part[::-1], 2), 0, 1) * scale
            label = facts["labels"].get(str(column + facts["label_offset"]), f"class {column + facts['label_offset']}")
            print(name, label, f"{scores[row, column]:.6f}", *(f"{v:.3f}" for v in (x0, y0, x1, y1)), sep="\t")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("action", choices=("build", "detect"))
    parser.add_argument("file", help="model.onnx to build, model.engine to detect with")
    parser.add_argument("pictures", nargs="*")
    parser.add_argument("--fp32", action="store_true", help="compute in float32 instead of float16")
    parser.add_argument("--workspace", type=int, default=256, metavar="MB", help="scratch memory (default: 256)")
    parser.add_argument("--score", type=float, default=0.3, help="smallest score to print (default: 0.3)")
    args = parser.parse_args()
    if args.action == "build":
        build(args.file, not args.fp32, args.workspace)
    else:
        detect(args.file, args.pictures, args.score)


if __name__ == "__main__":
    main()
