"""The jobs of bench/tensorrt_gpu.py, in the order in which they start: what is built, how, and what is tried on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

COCO, V1 = "coco_ssd_mobilenet_v1_075_od2020", "ssd_mobilenet_v1_90_od2020"
PETS, SSDLITE = "pets37_ssd_mobilenet_v1_075_od2019", "one_ssdlite_mobilenet_v2_od2020"
V2, INCEPTION = "ssd_mobilenet_v2_90_od2019", "ssd_inception_v2_90_od2019"


@dataclass(frozen=True)
class Job:
    """A build and the steps (functions of tensorrt_job.py) on it; without options, steps that build for themselves.

    keep: under which name its plan is kept, and timed once all is quiet. cache: the timing cache's name, "" for none.
    tail: "scores": the plan ends there; "kernels": too, and their machine code travels with it, as `ssdrt build` does;
    else it hands over candidates. half: convolutions are tried in float16 alone.
    """

    title: str
    graph: str
    precision: str
    options: dict[str, Any]
    steps: tuple[str, ...] = ()
    keep: str = ""
    cache: str = ""
    tail: str = ""
    half: bool = False


@dataclass(frozen=True)
class _Fixed:
    """Options of a build for one batch size, pictures of the network's size as they are."""

    batch: int
    level: int
    more: dict[str, Any] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        return {"batch": (self.batch,) * 3, "pixels": "uint8", "level": self.level, **self.more}


def _timed(graph: str, short: str, fixed: _Fixed, steps: tuple[str, ...] = (), cache: str = "") -> Job:
    title = f"{short} batch {fixed.batch} level {fixed.level}"
    return Job(title, graph, "fp16", fixed.options(), steps, f"{short}_b{fixed.batch}_l{fixed.level}", cache)


def _equal(graph: str, precision: str, *more: str) -> Job:
    options = {"batch": (1, 4, 8), "level": 0}
    return Job(f"{graph} {precision}", graph, precision, options, ("equality", "candidates", *more))


JOBS: tuple[Job, ...] = (
    _timed(V1, "v1", _Fixed(1, 3), ("inspect", "again"), cache="v1_b1_l3"),
    _timed(COCO, "coco", _Fixed(1, 3)),
    _timed(V1, "v1", _Fixed(64, 3)),
    _timed(V1, "v1", _Fixed(256, 3)),
    _equal(COCO, "fp32"),
    _equal(COCO, "fp16", "threads", "inspect"),
    Job(
        "portable",
        COCO,
        "fp32",
        {"batch": (1, 2, 2), "level": 0, "portable": True, "flags": ("EXCLUDE_LEAN_RUNTIME",)},
        ("serialize_portable",),
    ),
    _equal(PETS, "fp16"),
    _equal(PETS, "fp32"),
    _equal(V1, "fp32"),
    _equal(V1, "fp16"),
    _equal(V2, "fp32"),
    _equal(V2, "fp16"),
    _equal(SSDLITE, "fp32"),
    _equal(SSDLITE, "fp16"),
    _equal(INCEPTION, "fp32"),
    _equal(INCEPTION, "fp16"),
    Job("small, timing cache", SSDLITE, "fp16", {"batch": (1, 1, 1), "level": 1}, ("again",), cache="small"),
    _timed(INCEPTION, "inception", _Fixed(64, 2)),
    _timed(V2, "v2", _Fixed(64, 2)),
    _timed("ssdlite_mobilenet_v2_90_od2019", "ssdlite", _Fixed(64, 2)),
    _timed("ssdlite_mobilenet_v3_small_320_90_od2020", "v3small", _Fixed(64, 2)),
    _timed("ssd_mobilenet_v2_fpnlite_256_od2020", "fpnlite", _Fixed(64, 2)),
    Job("doctor", COCO, "", {}, ("self_test",)),
    _timed(V1, "v1", _Fixed(1, 1), ("again",), cache="v1_b1_l1"),
    _timed(V1, "v1", _Fixed(256, 1)),
    _timed(V1, "v1", _Fixed(64, 1)),
    _timed(COCO, "coco", _Fixed(1, 1)),
    Job("commands", COCO, "", {}, ("commands",)),
    _equal(COCO, "int8", "inspect"),
    Job("refit", COCO, "fp16", {"batch": (1, 1, 1), "level": 0, "flags": ("REFIT",)}, ("equality",)),
)


def _l3(graph: str, short: str, batch: int, tail: str = "", half: bool = False) -> Job:
    """A job at level 3; jobs of a network and batch share a timing cache."""
    name = f"{short}_b{batch}_l3"
    words = f", {tail}" * bool(tail) + ", half" * half
    title = f"{short} batch {batch}, level 3{words}"
    keep = name + f"_{tail}" * bool(tail)
    return Job(title, graph, "fp16", _Fixed(batch, 3).options(), ("inspect",), keep, name, tail, half)


JOBS += (
    *(_l3(V1, "v1", batch, tail, half) for batch in (1, 64, 256) for tail in ("scores", "") for half in (False, True)),
    *(_l3(COCO, "coco", 1, "", half) for half in (False, True)),
    *(
        _l3(graph, short, 64, "scores", half)
        for graph, short in (
            (V2, "v2"),
            (INCEPTION, "inception"),
            ("ssdlite_mobilenet_v2_90_od2019", "ssdlite"),
            ("ssdlite_mobilenet_v3_small_320_90_od2020", "v3small"),
            ("ssd_mobilenet_v2_fpnlite_256_od2020", "fpnlite"),
        )
        for half in (False, True)
    ),
    Job("rest of the commands", COCO, "", {}, ("rest",)),
)

JOBS += (
    *(
        Job(f"{graph} {precision}, suppression behind the plan", graph, precision, {"batch": (1, 4, 8), "level": 0},
            ("equality", "candidates", "threads"), tail="kernels")
        for graph, precision in ((COCO, "fp32"), (COCO, "fp16"), (PETS, "fp16"), (SSDLITE, "fp32"), (V1, "fp16"))
    ),
    *(_l3(V1, "v1", batch, "kernels", half) for batch in (1, 64, 256) for half in (False, True)),
    *(_l3(COCO, "coco", 1, "kernels", half) for half in (False, True)),
)  # fmt: skip
