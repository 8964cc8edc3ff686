"""`ssdrt inspect`: what a model is, and which node of its graph says so."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssdrt.cli.options import add_model
from ssdrt.cli.table import table

if TYPE_CHECKING:
    from ssdrt.bundle import Bundle
    from ssdrt.model import Fact, SsdModel
    from ssdrt.statistics import LayerCost

Rows = list[tuple[str, ...]]

DIM, PLAIN = "\x1b[2m", "\x1b[0m"  # for terminals


def add_arguments(parser: ArgumentParser) -> None:
    """How much to show, and in which form."""
    add_model(parser)
    parser.add_argument(
        "--layers", action="store_true", help="list every layer: its shape and costs; and what a built file runs"
    )
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")


def run(args: Namespace) -> int:
    """Print what was recovered."""
    from ssdrt.bundle import load_bundle
    from ssdrt.cli.loading import load_model
    from ssdrt.legacy.advice import summary
    from ssdrt.legacy.binary import looks_like_uff, read_uff
    from ssdrt.preparation import PLANS
    from ssdrt.statistics import layer_costs
    from ssdrt.zoo import model_path

    path = model_path(args.model)
    if path.suffix in PLANS:
        return _show_plan(path, args.json)
    if looks_like_uff(path):  # not every .uff holds a detector
        print(summary(read_uff(path)))
        return 0
    built = load_bundle(path) if path.suffix == ".ssdrt" else None
    model = built.model if built else load_model(args.model)
    costs = layer_costs(model)
    if args.json:
        print(json.dumps(_json(model, costs)))
        return 0
    print(f"{args.model}: {_headline(model)}\nsha256 of the graph: {model.digest}")
    rows: Rows = []
    if built:
        print(f"built for {built.engine} {built.precision} ({built.why}) on {built.fingerprint}")
        facts_of_plan, rows = _described(built)
        if facts_of_plan:
            print(f"\nplan\n{_plain_lines(facts_of_plan)}")
    print()
    print(_cost_lines(costs))
    print(f"\nfeature maps\n{_head_lines(model, costs)}")
    for section, facts in recovered(model).items():
        print(f"\n{section}\n{_fact_lines(facts)}")
    if args.layers:
        print(f"\nlayers\n{_layer_lines(costs)}")
    if args.layers and rows:
        print(f"\nsteps of the plan\n{table(rows, 'l' * len(rows[0]))}")
    return 0


def _described(built: Bundle) -> tuple[dict[str, Any], Rows]:
    """What the engine that a file was built for says of its plan: facts, and rows of a table."""
    from ssdrt.engines.base import engine_module
    from ssdrt.errors import EngineError

    try:
        describe = getattr(engine_module(built.engine), "describe", None)
        return describe(built.model, built.plan) if describe else ({}, [])
    except EngineError as error:
        return {"cannot be shown": error}, []


def _plain_lines(facts: dict[str, Any]) -> str:
    return table([(name, str(value)) for name, value in facts.items()], "ll")


def _show_plan(path: Path, as_json: bool) -> int:
    """What a TensorRT plan and the facts beside it say; its layers too where it can be loaded."""
    from ssdrt.bundle import load_bundle
    from ssdrt.engines.tensorrt.inspection import describe
    from ssdrt.errors import EngineError
    from ssdrt.preparation import beside_plan, read_plan

    plan, beside = read_plan(path), beside_plan(path)
    try:
        facts, rows = describe((load_bundle(beside, beside_plan=True).plan if beside.exists() else b"") + plan)
    except EngineError as error:
        raise EngineError(f"{path}: {error}") from error
    if as_json:
        print(json.dumps({**facts, "layers": [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]}))
        return 0
    print(f"{path}: a TensorRT plan\n{_plain_lines(facts)}")
    if rows:
        print(f"\nlayers\n{table(rows, 'llll')}")
    return 0


def recovered(model: SsdModel) -> dict[str, dict[str, Fact[Any]]]:
    """Every `Fact` of a model: section -> name -> fact. Those that the model itself holds are in section `model`."""
    from ssdrt.model import Fact

    sections: dict[str, dict[str, Fact[Any]]] = {"model": {}}
    for field in fields(model):
        value = getattr(model, field.name)
        if isinstance(value, Fact):
            sections["model"][field.name] = value
        elif is_dataclass(value):
            sections[field.name] = {inner.name: getattr(value, inner.name) for inner in fields(value)}
    return sections


def _headline(model: SsdModel) -> str:
    height, width = model.input_size
    resizer = model.preprocessing.resizer.value
    example = "" if resizer.kind == "fixed_shape" or resizer.pad else " for a picture of 640x480 (its size varies)"
    return (
        f"an SSD of {model.num_classes.value} classes; network input {height}x{width} (height x width){example}, "
        f"{len(model.anchors.value)} anchors, at most {model.nms.max_total.value} detections"
    )


def _cost_lines(costs: list[LayerCost]) -> str:
    from ssdrt.cli.wording import count

    kinds = ", ".join(f"{number} {kind}" for kind, number in Counter(cost.kind for cost in costs).most_common())
    multiply_adds = sum(cost.multiply_adds for cost in costs)
    parameters = sum(cost.parameters for cost in costs)
    rows = [
        ("layers", f"{len(costs)}: {kinds}"),
        ("parameters", f"{count(parameters)}, batch norms folded"),
        ("multiply-adds", f"{count(multiply_adds)} a picture ({count(2 * multiply_adds)}FLOP), NMS not counted"),
    ]
    return table(rows, "ll", indent="")


def _fact_lines(facts: dict[str, Fact[Any]]) -> str:
    """Name, value and how it was found; below it the node."""
    from ssdrt.cli.wording import in_words

    width = max(map(len, facts))
    dim, plain = (DIM, PLAIN) if sys.stdout.isatty() else ("", "")
    lines = []
    for name, fact in facts.items():
        how = f"  ({fact.how})" if fact.how else ""
        lines.append(f"  {name.ljust(width)}  {in_words(fact.value)}{dim}{how}{plain}")
        if fact.node:
            lines.append(f"  {' ' * width}  {dim}{fact.node}{plain}")
    return "\n".join(lines)


def _head_lines(model: SsdModel, costs: list[LayerCost]) -> str:
    channels = {cost.name: cost.shape[2] for cost in costs}
    rows = [("height x width", "anchors", "box encodings", "class logits")]
    for head in model.heads:
        anchors = f"{head.height * head.width * head.anchors_per_cell} ({head.anchors_per_cell} a cell)"
        boxes, scores = (f"{name} ({channels[name]} channels)" for name in (head.boxes, head.scores))
        rows.append((f"{head.height} x {head.width}", anchors, boxes, scores))
    return table(rows, "rrll")


def _layer_lines(costs: list[LayerCost]) -> str:
    from ssdrt.cli.wording import count

    rows = [("kind", "height x width x channels", "parameters", "multiply-adds", "name")]
    for cost in costs:
        shape = " x ".join(map(str, cost.shape))
        rows.append((cost.kind, shape, count(cost.parameters), count(cost.multiply_adds), cost.name))
    return table(rows, "lrrrl")


def _json(model: SsdModel, costs: list[LayerCost]) -> dict[str, Any]:
    return {
        "digest": model.digest,
        "input_size": model.input_size,
        **{
            section: {name: _plain(fact) for name, fact in facts.items()} for section, facts in recovered(model).items()
        },
        "heads": [asdict(head) for head in model.heads],
        "layers": [asdict(cost) for cost in costs],
        "parameters": sum(cost.parameters for cost in costs),
        "multiply_adds": sum(cost.multiply_adds for cost in costs),
    }


def _plain(value: Any) -> Any:
    """Dataclasses and arrays as what JSON has."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value.tolist() if hasattr(value, "tolist") else value
