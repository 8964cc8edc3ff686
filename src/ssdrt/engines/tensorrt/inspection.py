"""What is in a plan: its header and our facts, which need no TensorRT, and on a GPU its layers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from ssdrt.engines.tensorrt.driver import Card
from ssdrt.engines.tensorrt.library import find_library
from ssdrt.engines.tensorrt.plan_file import MAGIC, check_plan, read_header, unpack
from ssdrt.errors import EngineError


@dataclass(frozen=True)
class PlanLayer:
    """A layer as TensorRT built it: many of the network's may have become one.

    outputs: name, shape and format of each. tactic: the kernel, by name or number.
    """

    name: str
    kind: str
    outputs: tuple[str, ...]
    tactic: str


Rows = list[tuple[str, ...]]


def describe(data: bytes) -> tuple[dict[str, Any], Rows]:
    """Facts and layers of a plan, ours or a bare one; instead of the layers, why they cannot be shown here.

    Raises
    ------
    EngineError: it is no plan, or not all of one.
    """
    facts = plan_facts(data)
    try:
        rows = [(one.kind, one.tactic, "; ".join(one.outputs), one.name) for one in plan_layers(data)]
    except EngineError as error:
        return {**facts, "layers": f"can be shown on the machine that it was built for only: {error}"}, []
    return facts, [("kind", "tactic", "outputs", "name"), *rows]


def plan_facts(data: bytes) -> dict[str, Any]:
    """What can be told of a plan, ours or a bare one, without TensorRT.

    Raises
    ------
    EngineError: it is no plan, or not all of one.
    """
    told: dict[str, Any] = {}
    if data.startswith(MAGIC):
        facts, data = unpack(data)
        told = asdict(facts)
    header = read_header(data)
    return {
        **told,
        "family": header.family,
        "version": ".".join(map(str, header.version)),
        "bytes": len(data),
    }


def plan_layers(plan: bytes) -> tuple[PlanLayer, ...]:
    """The layers of a plan, ours or a bare one; names alone where it was built without detailed verbosity.

    Raises
    ------
    EngineError: there is no GPU or TensorRT here, or the plan is for others.
    """
    library, card = find_library(), Card()
    plan = unpack(plan)[1] if plan.startswith(MAGIC) else plan
    check_plan(plan, library.family, library.version)
    runtime = library.api.Runtime(library.logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(f"TensorRT does not load this plan ({library.messages.take()}) on {card.name}")
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(library.api.LayerInformationFormat.JSON)
    return read_layers(text)


def read_layers(text: str) -> tuple[PlanLayer, ...]:
    """The layers in the engine inspector's JSON."""
    found = []
    for one in json.loads(text, strict=False).get("Layers", []):  # 8.6 leaves line ends in its strings
        if isinstance(one, str):
            found.append(PlanLayer(one, "", (), ""))
            continue
        outputs = tuple(
            f"{port.get('Name')} {'x'.join(map(str, port.get('Dimensions', ())))} {port.get('Format/Datatype', '')}"
            for port in one.get("Outputs", [])
        )
        tactic = str(one.get("TacticName") or one.get("TacticValue") or "")
        found.append(PlanLayer(str(one.get("Name", "")), str(one.get("LayerType", "")), outputs, tactic))
    return tuple(found)
