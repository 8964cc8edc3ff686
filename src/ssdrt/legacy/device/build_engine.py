#!/usr/bin/env python3
"""Build a TensorRT engine of a .uff detector on the device that is to run it.

    python3 build_engine.py model.uff [model.engine] [--fp32] [--workspace MB]

Python 3.6 or later and TensorRT 5 to 8.6 with its Python module are all it takes. model.json must lie beside the .uff.
"""

import argparse
import ctypes
import json
import os
import sys

os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # before CUDA starts: its libraries hold kernels for every GPU

import tensorrt as trt  # noqa: TID251 (runs on the device, without ssdrt)


def load_plugins(logger: object, library: str) -> None:
    """TensorRT's plugins; and below TensorRT 7 the library that has FlattenConcat_TRT, if it is given."""
    if library:
        ctypes.CDLL(os.path.abspath(library))
    trt.init_libnvinfer_plugins(logger, "")


def build(uff: str, fp16: bool, megabytes: int, logger: object) -> bytes:
    """The serialised engine of a .uff file."""
    with open(os.path.splitext(uff)[0] + ".json") as file:
        height, width = json.load(file)["input_size"]
    builder = trt.Builder(logger)
    builder.max_batch_size = 1
    network = builder.create_network()
    parser = trt.UffParser()
    parser.register_input("Input", (3, height, width))
    parser.register_output("MarkOutput_0")
    if not parser.parse(uff, network):
        sys.exit("TensorRT's UFF parser does not take " + uff)
    if not hasattr(builder, "create_builder_config"):  # TensorRT 5
        builder.max_workspace_size = megabytes << 20
        builder.fp16_mode = fp16
        return bytes(builder.build_cuda_engine(network).serialize())
    config = builder.create_builder_config()
    if hasattr(config, "set_memory_pool_limit"):  # 8.4 and later
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, megabytes << 20)
    else:
        config.max_workspace_size = megabytes << 20
    if fp16:
        config.set_flag(trt.BuilderFlag.FP16)
    elif hasattr(trt.BuilderFlag, "TF32"):  # else fp32 would be rounded to 10 bits on Ampere and later
        config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(builder, "build_serialized_network"):  # 8.0 and later
        plan = builder.build_serialized_network(network, config)
    else:
        engine = builder.build_engine(network, config)
        plan = engine and engine.serialize()
    if plan is None:
        sys.exit("TensorRT could not build an engine of " + uff + "; its messages above say why")
    return bytes(plan)


def main() -> None:
    """Parse the command line and write the engine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("uff", help="the .uff file; its .json must lie beside it")
    parser.add_argument("engine", nargs="?", help="the file to write (default: the same name with .engine)")
    parser.add_argument("--fp32", action="store_true", help="compute in float32 instead of float16")
    parser.add_argument("--workspace", type=int, default=256, metavar="MB", help="scratch memory (default: 256)")
    parser.add_argument("--plugin", default="", metavar="LIB", help="libflattenconcat.so, below TensorRT 7")
    args = parser.parse_args()
    logger = trt.Logger(trt.Logger.WARNING)
    load_plugins(logger, args.plugin)
    plan = build(args.uff, not args.fp32, args.workspace, logger)
    path = args.engine or os.path.splitext(args.uff)[0] + ".engine"
    with open(path + ".part", "wb") as file:
        file.write(plan)
    os.replace(path + ".part", path)
    print(f"{path}: {len(plan) / 1e6:.1f} MB, TensorRT {trt.__version__}")


if __name__ == "__main__":
    main()
