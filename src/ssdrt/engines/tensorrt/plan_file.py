"""What a plan is before TensorRT sees it: the header that NVIDIA's libraries write, and our facts before it.

A plan in a bundle is MAGIC, the length of the facts (4 bytes, little-endian), the facts (JSON), the machine code of
what runs behind the plan, if there is some, and NVIDIA's bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ssdrt.errors import EngineError

MAGIC = b"ssdrtplan\x01"
FAMILIES = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}
HEADER = 28  # bytes that hold what is read here


@dataclass(frozen=True)
class Facts:
    """What a plan was built from and for.

    family, version: of the library, as ("tensorrt", "8.6.0"); gpu, capability: the card, as "NVIDIA H200", (9, 0);
    digest: of the graph; anchors: SHA-256 of the anchors' bytes; pixels: dtype of the input; candidates: how many pairs
    the engine hands over, 0 when it only gives scores; batch: (least, best, most) pictures; options: other choices;
    kernels: bytes of our machine code before NVIDIA's.
    """

    family: str
    version: str
    gpu: str
    capability: tuple[int, int]
    precision: str
    batch: tuple[int, int, int]
    pixels: str
    candidates: int
    digest: str
    anchors: str
    options: dict[str, str]
    kernels: int = 0


@dataclass(frozen=True)
class PlanHeader:
    """family: "tensorrt" or "tensorrt_rtx"; version: (major, minor, patch, build)."""

    family: str
    version: tuple[int, int, int, int]


def pack(facts: Facts, plan: bytes, kernels: bytes = b"") -> bytes:
    """Facts, machine code and plan as one."""
    text = json.dumps({**asdict(facts), "kernels": len(kernels)}).encode()
    return b"".join((MAGIC, len(text).to_bytes(4, "little"), text, kernels, plan))


def unpack(data: bytes) -> tuple[Facts, bytes]:
    """The facts and NVIDIA's bytes.

    Raises
    ------
    EngineError: these are not a plan of ours.
    """
    facts, start = _facts(data)
    return facts, data[start + facts.kernels :]


def kernels_of(data: bytes) -> bytes:
    """The machine code in what `pack` made, b"" if there is none.

    Raises
    ------
    EngineError: as `unpack`.
    """
    facts, start = _facts(data)
    return data[start : start + facts.kernels]


def _facts(data: bytes) -> tuple[Facts, int]:
    """The facts, and where they end."""
    if not data.startswith(MAGIC):
        raise EngineError("this is no plan that ssdrt built for TensorRT; build it again")
    start = len(MAGIC) + 4
    end = start + int.from_bytes(data[len(MAGIC) : start], "little")
    try:
        values = json.loads(data[start:end])
        pairs = {name: tuple(values[name]) for name in ("capability", "batch")}
        return Facts(**{**values, **pairs}), end
    except (ValueError, TypeError, KeyError) as error:
        raise EngineError(f"the facts before this plan cannot be read ({error}); build it again") from error


def read_header(plan: bytes) -> PlanHeader:
    """Whose plan this is, from its first bytes (trtexec --getPlanVersionOnly reads the same).

    Raises
    ------
    EngineError: it is no plan of TensorRT, or not all of one.
    """
    family = FAMILIES.get(bytes(plan[:4]))
    if family is None:
        raise EngineError("this is no TensorRT plan: its first bytes are foreign; give the file that a build wrote")
    if len(plan) < HEADER:
        raise EngineError("this TensorRT plan is cut off within its header; build or copy it again")
    length = int.from_bytes(plan[16:24], "little")
    if length > len(plan):
        raise EngineError(f"this TensorRT plan is cut off: {len(plan)} of {length} bytes; build or copy it again")
    major, minor, patch, build = plan[24:28]
    return PlanHeader(family, (major, minor, patch, build))


def check_plan(plan: bytes, family: str, version: str, portable: bool = False) -> None:
    """Whether the library of this name and version may be given the plan; a portable one runs on later versions too.

    Raises
    ------
    EngineError: it is damaged, of the other family, or of a version that this one does not read.
    """
    header = read_header(plan)
    written = ".".join(map(str, header.version[:3]))
    if header.family != family:
        raise EngineError(
            f"this plan is of {header.family} {written}, and {family} {version} is installed here; "
            "build the model again for this machine"
        )
    here = tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
    if portable and here >= header.version[: len(here)]:
        return
    if here != header.version[: len(here)]:
        raise EngineError(
            f"this plan is of TensorRT {written}, and {version} is installed here, and a plan runs on its own only; "
            "build the model again for this machine"
        )
