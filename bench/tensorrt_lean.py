"""A version-compatible plan of TensorRT 8.6 in the lean runtime of a later version (package tensorrt-lean-cu13).

    python bench/tensorrt_lean.py FOLDER

10.16.1 refused it: a plan without a lean runtime inside needs that of the version that built it (docs/tensorrt.md).
FOLDER/portable.engine and portable.npz are what bench/tensorrt_gpu.py left; FOLDER/lean.jsonl gets a line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np


def run(folder: Path) -> None:
    """Load it, run it, and compare the outputs with those of the version that built it."""
    import tensorrt_lean_bindings as trt

    from ssdrt.engines.tensorrt.driver import Device
    from ssdrt.engines.tensorrt.library import open_library

    library, device = open_library(trt, "tensorrt_lean"), Device()
    line: dict[str, object] = {"step": "lean", "version": library.version}
    plan, expected = (folder / "portable.engine").read_bytes(), np.load(folder / "portable.npz")
    start = time.monotonic()
    runtime = trt.Runtime(library.logger)
    engine = runtime.deserialize_cuda_engine(plan)
    line["load_seconds"] = round(time.monotonic() - start, 2)
    if engine is None:
        line["failed"] = library.messages.take()
    else:
        context, stream = engine.create_execution_context(), device.stream()
        pixels = device.pinned(expected["pixels"].shape, np.dtype(np.float32))
        pixels[...] = expected["pixels"]
        context.set_input_shape("image", pixels.shape)
        found = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            shape = (len(pixels), *tuple(engine.get_tensor_shape(name))[1:])
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            address = device.allocate(int(np.prod(shape)) * dtype.itemsize)
            context.set_tensor_address(name, address)
            found[name] = (address, device.pinned(shape, dtype))
        device.to_device(found["image"][0], pixels, stream)
        line["ran"] = bool(context.execute_async_v3(int(stream)))
        for name, (address, array) in found.items():
            if name != "image":
                device.to_host(array, address, stream)
        device.synchronize(stream)
        for name in ("box_encodings", "class_scores"):
            line[f"largest difference of {name}"] = float(np.abs(found[name][1] - expected[name]).max())
        line["said"] = library.messages.take()
    text = json.dumps(line)
    (folder / "lean.jsonl").write_text(text + "\n")
    print(text, flush=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
