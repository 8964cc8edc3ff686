"""A frozen graph as a `.uff` file, with all that the device needs beside it."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib import resources
from pathlib import Path

from ssdrt.errors import ModelError, SinkError
from ssdrt.graph import Graph, read_graph
from ssdrt.legacy.advice import problems
from ssdrt.legacy.automatic import Target, differences, plugin_graph
from ssdrt.legacy.binary import write_uff
from ssdrt.legacy.converter import to_uff
from ssdrt.legacy.facts import KEY, facts_json
from ssdrt.legacy.scripts import convert_with_script
from ssdrt.legacy.text import write_text
from ssdrt.legacy.uff import Data, Uff
from ssdrt.model import SsdModel
from ssdrt.recover import recover

log = logging.getLogger("ssdrt")

DEVICE_FILES = ("build_engine.py", "detect.py", "JETSON.txt")


def convert_to_uff(
    graph_path: str | Path, out: str | Path, preprocessor: str | Path | None = None, target: Target = "trt8"
) -> list[Path]:
    """Write `out` (.uff), its text dump (.pbtxt), and for a detector what the device needs: .json, two programs.

    Parameters
    ----------
    preprocessor: a script for graphsurgeon, which is run as it is: it is the user's own code. None derives the surgery
        from the graph.
    target: which TensorRT the file is for: "trt6" is 5 and 6, "trt8" is 7 to 8.6.

    Returns
    -------
    The files written.

    Raises
    ------
    GraphError, ModelError: the graph cannot be read, or what of it UFF and the plugins cannot hold.
    SinkError: a file cannot be written.
    """
    graph_path, out = Path(graph_path), Path(out)
    graph = read_graph(graph_path)
    model: SsdModel | None
    if preprocessor is None:
        model = recover(graph)
        uff = automatic_uff(graph, model, target)
        notes = differences(model)
    else:
        uff = convert_with_script(graph_path, Path(preprocessor), target)
        notes = problems(uff)
        model = _model_if_any(graph)
    for note in notes:
        log.warning("%s: %s", out, note)
    contents = {out: write_uff(uff), out.with_suffix(".pbtxt"): write_text(uff).encode()}
    if model is not None:
        contents[out.with_suffix(".json")] = facts_json(model).encode()
        contents |= _device_files(out.parent)
    return _write(out, contents)


def _device_files(folder: Path) -> dict[Path, bytes]:
    """The programs and their text, without those whose name another file there already has."""
    contents = {}
    for name in DEVICE_FILES:
        path, content = folder / name, (resources.files("ssdrt.legacy") / "device" / name).read_bytes()
        if path.exists() and (not path.is_file() or path.read_bytes() != content):
            log.warning("%s is another file than ssdrt writes, and was left as it is", path)
        else:
            contents[path] = content
    return contents


def automatic_uff(graph: Graph, model: SsdModel, target: Target = "trt8") -> Uff:
    """The `.uff` of a graph and what was recovered from it, with the facts inside that UFF has no place for.

    Raises
    ------
    ModelError: what of it UFF and the plugins cannot hold.
    """
    uff = to_uff(plugin_graph(graph, model, target), ["NMS"])
    return replace(uff, extra_fields={KEY: Data("s", facts_json(model))})


def _model_if_any(graph: Graph) -> SsdModel | None:
    """The detector in a graph; a script may be for a graph that holds none."""
    try:
        return recover(graph)
    except ModelError:
        return None


def _write(out: Path, contents: dict[Path, bytes]) -> list[Path]:
    try:
        for path, content in contents.items():
            part = path.with_name(f"{path.name}.part")
            part.write_bytes(content)
            part.replace(path)
    except OSError as error:
        raise SinkError(f"{out.parent} cannot be written: {error.strerror or error}") from error
    return list(contents)
