"""Every name of TensorRT's that the engine uses, against NVIDIA's own modules of 8.6, 10.x, 11.x and RTX.

The modules of 10.x and 11.x come without their libraries (`make .venv/tensorrt-modules`, 3 MB): small stand-ins let
them be imported, which is enough to look names up. SSDRT_TENSORRT_MODULES lists more folders, between colons; one that
holds run.sh (a Python of its own, as 8.6 needs) is asked through that.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import ssdrt.engines.tensorrt

SOURCES = sorted(Path(ssdrt.engines.tensorrt.__path__[0]).glob("*.py"))

CLASSES = {
    "builder": "Builder", "parser": "OnnxParser", "config": "IBuilderConfig", "_config": "IBuilderConfig",
    "engine": "ICudaEngine", "_engine": "ICudaEngine", "context": "IExecutionContext", "_runtime": "Runtime",
    "layer": "ILayer", "profile": "IOptimizationProfile", "inspector": "EngineInspector",
}  # fmt: skip
"""What variables of these names hold in the engine's files."""

OURS = {
    "engine.infer",
    "_engine.infer",
    "engine.close",
    "engine.detect",
    "engine.suppresses",
    "layer.name",
    "layer.inputs",
}

BY_NAME = {
    "8": ["NetworkDefinitionCreationFlag.EXPLICIT_BATCH", "BuilderFlag.FP16", "PreviewFeature.PROFILE_SHARING_0806",
          "IBuilderConfig.set_preview_feature",
          "BuilderFlag.VERSION_COMPATIBLE", "TacticSource.JIT_CONVOLUTIONS", "Runtime.engine_host_code_allowed"],
    "10": ["NetworkDefinitionCreationFlag.STRONGLY_TYPED", "IProgressMonitor", "BuilderFlag.VERSION_COMPATIBLE",
           "Runtime.engine_host_code_allowed", "Builder.num_DLA_cores"],
    "rtx": ["NetworkDefinitionCreationFlag.STRONGLY_TYPED", "IProgressMonitor", "ComputeCapability.SM120"],
}  # fmt: skip
"""What is looked up by a string, for each kind of version."""

ONLY = {
    "8": {"IBuilderConfig.progress_monitor", "IBuilderConfig.num_compute_capabilities", "ComputeCapability",
          "IBuilderConfig.set_compute_capability"},
    "10": {"IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability", "ComputeCapability"},
    "11": {"IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability", "ComputeCapability"},
    "rtx": set(),
}  # fmt: skip
"""What these versions lack, and is used only where it is there."""

ARGUMENTS = {
    "Builder.create_network": 1, "Builder.build_serialized_network": 2, "OnnxParser.parse": 1,
    "OnnxParser.get_error": 1,
    "IBuilderConfig.set_memory_pool_limit": 2, "IBuilderConfig.set_flag": 1, "IBuilderConfig.clear_flag": 1,
    "IBuilderConfig.create_timing_cache": 1, "IBuilderConfig.set_timing_cache": 2,
    "IBuilderConfig.add_optimization_profile": 1, "IOptimizationProfile.set_shape": 4,
    "Runtime.deserialize_cuda_engine": 1, "ICudaEngine.get_tensor_name": 1, "ICudaEngine.get_tensor_shape": 1,
    "ICudaEngine.get_tensor_dtype": 1, "IExecutionContext.set_tensor_address": 2,
    "IExecutionContext.set_input_shape": 2,
    "IExecutionContext.execute_async_v3": 1, "EngineInspector.get_engine_information": 1,
}  # fmt: skip
"""Method -> arguments that it is called with; the signature in its docstring must take as many."""

SCRIPT = """
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    names = {}
    for key, value in vars(module).items():
        inner = dir(value) if isinstance(value, type) else []
        names[key] = {one: str(getattr(value, one, None).__doc__ or "") for one in inner}
    print(json.dumps({"version": module.__version__, "family": name, "names": names}))
    break
"""

STANDIN = """
void *createInferBuilder_INTERNAL(void){return 0;} void *createInferRefitter_INTERNAL(void){return 0;}
void *createInferRuntime_INTERNAL(void){return 0;} void *createNvOnnxParserRefitter_INTERNAL(void){return 0;}
void *createNvOnnxParser_INTERNAL(void){return 0;} void *getBuilderPluginRegistry(void){return 0;}
int getNvOnnxParserVersion(void){return 0;} void *getPluginRegistry(void){return 0;}
int initLibNvInferPlugins(void){return 0;} int getInferLibVersion(void){return 0;}
"""


def used_names():
    """Names as `BuilderFlag.TF32` or `IBuilderConfig.set_flag`, each with a file that uses it."""
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            chain = _chain(node)
            if "api" in chain[:2]:
                found[".".join(chain[chain.index("api") + 1 :][:2])] = path.name
            elif chain[-2] in CLASSES and ".".join(chain[-2:]) not in OURS and "self" not in chain[-1:]:
                found[f"{CLASSES[chain[-2]]}.{chain[-1]}"] = path.name
    return {name: path for name, path in found.items() if name and not name.split(".")[-1].startswith("__")}


def _chain(node):
    """["library", "api", "BuilderFlag", "TF32"]; a call or an index in between ends it."""
    names = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id if isinstance(node, ast.Name) else "", *names]


def folders():
    given = [Path(one) for one in os.environ.get("SSDRT_TENSORRT_MODULES", "").split(":") if one]
    return [None, *sorted((Path(sys.prefix) / "tensorrt-modules").glob("*")), *given]


@cache
def module_of(folder, standins):
    """What a module holds, or None where there is none."""
    environment = dict(os.environ)
    command = [sys.executable]
    if folder is not None:
        command = [str(folder / "run.sh")] if (folder / "run.sh").exists() else command
        path = environment.get("LD_LIBRARY_PATH", "")
        environment |= {"PYTHONPATH": str(folder), "LD_LIBRARY_PATH": f"{standins}:{path}"}
    names = ["tensorrt_bindings", "tensorrt", "tensorrt_rtx"] if folder is not None else ["tensorrt", "tensorrt_rtx"]
    run = subprocess.run([*command, "-c", SCRIPT, *names], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout) if run.stdout else None


@pytest.fixture(scope="module")
def standins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standins")
    if shutil.which("gcc") is None:
        pytest.skip("no gcc, which makes the stand-ins for TensorRT's libraries")
    (folder / "empty.c").write_text(STANDIN)
    for name in ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser"):
        for version in (10, 11):
            target = f"{name}.so.{version}"
            command = ["gcc", "-shared", "-fPIC", "-o", folder / target, folder / "empty.c", f"-Wl,-soname,{target}"]
            subprocess.run(command, check=True)
    return folder


@pytest.mark.parametrize("folder", folders(), ids=str)
def test_every_name_is_there(folder, standins):
    module = module_of(folder, standins)
    if module is None:
        pytest.skip("no TensorRT module: pip install 'ssdrt[test-trt]', make .venv/tensorrt-modules")
    kind = "rtx" if module["family"] == "tensorrt_rtx" else module["version"].split(".")[0]
    names, used = module["names"], used_names()
    assert len(used) > 45
    missing = {
        name: path
        for name, path in [*used.items(), *((name, "by name") for name in BY_NAME["10" if kind == "11" else kind])]
        if name not in ONLY[kind]
        if name.split(".")[0] not in names or (name.count(".") and name.split(".")[1] not in names[name.split(".")[0]])
    }
    assert missing == {}
    for method, count in ARGUMENTS.items():
        owner, name = method.split(".")
        assert takes(names[owner][name], count), f"{method}: {names[owner][name].splitlines()[:3]}"


def takes(docstring, count):
    """Whether one of the signatures in a docstring of pybind takes so many arguments after self."""
    for line in re.findall(r"\(self: [^\n]*\) ->", docstring):
        arguments = re.findall(r"\b\w+: ", re.sub(r"\[[^\]]*\]", "", line))[1:]
        optional = line.count(" = ")
        if len(arguments) - optional <= count <= len(arguments):
            return True
    return False


def test_what_is_used_is_found_in_the_files():
    used = used_names()
    for name in (
        "BuilderFlag.TF32",
        "IBuilderConfig.set_timing_cache",
        "IExecutionContext.set_tensor_address",
        "Runtime",
    ):
        assert name in used
