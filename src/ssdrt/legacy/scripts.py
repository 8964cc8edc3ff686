"""Users' scripts for graphsurgeon, run as they are: `def preprocess(graph)` or `def add_plugin(graph, ...)`.

Such a script is the user's own code and runs with the user's rights. What it imports as graphsurgeon, uff, tensorrt and
tensorflow are the few names below, and only while it runs.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ssdrt.errors import ModelError, SsdrtError
from ssdrt.legacy.automatic import Target
from ssdrt.legacy.binary import write_uff
from ssdrt.legacy.converter import to_uff
from ssdrt.legacy.nodedef import (
    AttrValue,
    DType,
    GraphDef,
    NodeDef,
    TensorProto,
    create_node,
    create_plugin_node,
    finished,
    update_node,
)
from ssdrt.legacy.surgeon import DynamicGraph, StaticGraph
from ssdrt.legacy.text import write_text
from ssdrt.legacy.uff import Uff

_VERSIONS: dict[Target, str] = {"trt6": "6.0.1", "trt8": "8.6.0"}

_FAULTS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError, re.error, SystemExit,
)  # fmt: skip
"""What a script that is wrong, or wants more than is served, ends in."""


def convert_with_script(graph: Path, script: Path, target: Target) -> Uff:
    """Run a script on a frozen graph and convert what it leaves.

    Parameters
    ----------
    target: the TensorRT whose version the script is told.

    Raises
    ------
    ModelError: the script has no function that we know, or fails; the message names its line.
    """
    dynamic = DynamicGraph(graph)
    with served_modules(target, script.parent):
        try:
            module = _executed(script)
            if hasattr(module, "preprocess"):
                _remove_asserts(dynamic)
                module.preprocess(dynamic)
            elif hasattr(module, "add_plugin"):
                dynamic = _with_plugins(module, dynamic, graph)
            else:
                raise ModelError(f"{script} defines neither preprocess(graph) nor add_plugin(graph)")
        except SsdrtError as error:
            error.args = (f"{script}: {error.args[0]}", *error.args[1:])
            raise
        except _FAULTS as error:
            raise ModelError(f"{script} fails in {_line(error, script)}: {type(error).__name__}: {error}") from error
    return _converted(dynamic, getattr(module, "output_name", None))


def _executed(script: Path) -> Any:
    module = ModuleType("preprocessor")
    module.__file__ = str(script)
    exec(compile(script.read_bytes(), str(script), "exec"), module.__dict__)
    return module


def _with_plugins(module: Any, dynamic: DynamicGraph, graph: Path) -> DynamicGraph:
    """Call add_plugin(graph), or add_plugin(graph, model, spec) with the entry of MODEL_SPECS for this file."""
    parameters = inspect.signature(module.add_plugin).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    specs = getattr(module, "MODEL_SPECS", {})
    name = max(
        (key for key in specs if key in graph.name), key=len, default=next(iter(specs)) if len(specs) == 1 else ""
    )
    if len(required) > 1 and name not in specs:
        known = f"its MODEL_SPECS has {', '.join(map(str, specs))}" if specs else "it has no MODEL_SPECS"
        raise ModelError(f"add_plugin wants the specification of a model, and {known}: name the graph's file after one")
    result = module.add_plugin(dynamic, *(name, specs.get(name))[: len(required) - 1])
    return result if isinstance(result, DynamicGraph) else dynamic


def _line(error: BaseException, script: Path) -> str:
    """The script's line that was running."""
    numbers = [error.lineno] if isinstance(error, SyntaxError) else []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(script):
            numbers.append(trace.tb_lineno)
        trace = trace.tb_next
    return f"line {numbers[-1]}" if numbers else "a line unknown"


def _remove_asserts(graph: DynamicGraph) -> None:
    graph.remove(graph.find_nodes_by_op("Assert"), remove_exclusive_dependencies=True)


def _converted(graph: StaticGraph, outputs: str | Iterable[str] | None) -> Uff:
    """What `uff.from_tensorflow` makes of a graph; without named outputs, of all that nothing reads."""
    dynamic = DynamicGraph(graph)
    _remove_asserts(dynamic)
    names = [outputs] if isinstance(outputs, str) else list(outputs or [node.name for node in dynamic.graph_outputs])
    if not names:
        raise ModelError("nothing is left of the graph that has inputs and is read by nothing: there is no output")
    return to_uff(finished(dynamic), names)


# --- what scripts import --------------------------------------------------------------------------------------------


@contextmanager
def served_modules(target: Target, folder: Path) -> Iterator[None]:
    """Let `import graphsurgeon`, `uff`, `tensorrt` and `tensorflow` find ours, and modules of the script's folder be
    found, until the block ends; nothing stays."""
    modules = {"graphsurgeon": _graphsurgeon(), "uff": _uff(), "tensorrt": _tensorrt(target), **_tensorflow()}
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(contents)
    return module


def _graphsurgeon() -> ModuleType:
    return _module(
        "graphsurgeon",
        StaticGraph=StaticGraph,
        DynamicGraph=DynamicGraph,
        create_node=create_node,
        create_plugin_node=create_plugin_node,
        update_node=update_node,
    )


def _uff() -> ModuleType:
    return _module("uff", from_tensorflow=from_tensorflow, from_tensorflow_frozen_model=from_tensorflow_frozen_model)


def from_tensorflow(
    graphdef: GraphDef | StaticGraph,
    output_nodes: str | Iterable[str] = (),
    preprocessor: str | None = None,
    output_filename: str | None = None,
    text: bool = False,
    **_: Any,
) -> bytes:
    """uff.from_tensorflow: the serialised UFF, also written to output_filename, and with `text` its dump beside it.
    What else it takes there (quiet, debug_mode, ...) changes nothing here."""
    dynamic = DynamicGraph(graphdef)
    if preprocessor is not None:
        _executed(Path(preprocessor)).preprocess(dynamic)
    uff = _converted(dynamic, output_nodes)
    data = write_uff(uff)
    if output_filename is not None:
        Path(output_filename).write_bytes(data)
        if text:
            Path(output_filename).with_suffix(".pbtxt").write_text(write_text(uff))
    return data


def from_tensorflow_frozen_model(frozen_file: str, output_nodes: str | Iterable[str] = (), **options: Any) -> bytes:
    """uff.from_tensorflow_frozen_model: the same from a file."""
    return from_tensorflow(DynamicGraph(frozen_file), output_nodes, **options)


class _Logger:
    """tensorrt.Logger, which scripts make at their top, and which has nothing to say here."""

    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self, min_severity: int = WARNING) -> None:
        self.min_severity = min_severity


def _tensorrt(target: Target) -> ModuleType:
    """Its version, which scripts look at, and what they begin with: a logger, plugins to register, types."""
    return _module(
        "tensorrt",
        __version__=_VERSIONS[target],
        float32=DType("float32"),
        float16=DType("float16"),
        Logger=_Logger,
        Runtime=lambda _logger: None,
        init_libnvinfer_plugins=lambda *_: True,
    )


def make_tensor_proto(values: Any, dtype: DType | None = None, shape: Iterable[int] | None = None) -> TensorProto:
    """tf.make_tensor_proto; Python's floats are float32 and its ints int32, as TensorFlow takes them."""
    array = np.asarray(values)
    if dtype is not None:
        array = array.astype(dtype.as_numpy_dtype)
    elif not isinstance(values, (np.ndarray, np.generic)):
        array = array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))
    return TensorProto(
        array
        if shape is None
        else np.broadcast_to(array, tuple(shape))
        if array.size == 1
        else array.reshape(tuple(shape))
    )


def _tensorflow() -> dict[str, ModuleType]:
    """dtypes, GraphDef, NodeDef and AttrValue, and constants as arrays."""
    dtypes = {name: DType(name) for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")}
    contents = {
        **dtypes,
        "__version__": "1.15.0",
        "GraphDef": GraphDef,
        "NodeDef": NodeDef,
        "make_ndarray": lambda tensor: np.asarray(tensor.array),
        "AttrValue": AttrValue,
        "make_tensor_proto": make_tensor_proto,
    }
    v1 = _module("tensorflow.compat.v1", **contents)
    compat = _module("tensorflow.compat", v1=v1)
    whole = _module("tensorflow", compat=compat, **contents)
    return {"tensorflow": whole, "tensorflow.compat": compat, "tensorflow.compat.v1": v1}
