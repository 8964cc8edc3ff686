"""Which kernel computes a step: what can be chosen, and what is chosen where nothing was measured."""

from __future__ import annotations

from dataclasses import dataclass

from ssdrt.engines.cuda.plan import Convolution, Depthwise, Enlarge, GlobalPool, Plan, Pool, Step


@dataclass(frozen=True)
class Tactic:
    """A kernel (its C++ name), the rows and columns of a block's tile, its threads, its bytes of dynamic shared memory,
    and how many blocks of a cluster share one tile."""

    kernel: str
    rows: int = 0
    columns: int = 0
    threads: int = 128
    shared: int = 0
    parts: int = 1


TILES = ((128, 128, 64, 32), (128, 64, 32, 32), (128, 32, 32, 32), (64, 64, 32, 32), (64, 32, 16, 32))
"""Rows and columns of a block, and of a warp."""

FEW = (1, 2)
"""Sixteens of pixels that a block of `few_pixels` makes."""


@dataclass(frozen=True)
class Device:
    """What tactics depend on: the architecture for the compiler ("sm_90a"), multiprocessors, and the most bytes of
    shared memory of a block."""

    architecture: str
    processors: int
    shared: int

    @property
    def generation(self) -> int:
        """90 for sm_90a."""
        return int(self.architecture.removeprefix("sm_").rstrip("af"))


def choose(plan: Plan, batch: int, device: Device) -> list[Tactic]:
    """One tactic a step, by rules of thumb."""
    return [tactics(step, batch, device)[0] for step in plan.steps]


def tactics(step: Step, batch: int, device: Device) -> list[Tactic]:
    """All that can compute a step, the likely best first."""
    if isinstance(step, Convolution):
        return _convolution(step, batch, device)
    if isinstance(step, Depthwise):
        return _depthwise(step, batch, device)
    if isinstance(step, Pool):
        return [Tactic(f"pool<{'true' if step.kind == 'max' else 'false'}>")]
    if isinstance(step, GlobalPool):
        return [Tactic("global_pool", threads=256)]
    if isinstance(step, Enlarge):
        return [Tactic(f"enlarge<{'true' if step.method == 'bilinear' else 'false'}>")]
    return [Tactic("elementwise")]


def _convolution(step: Convolution, batch: int, device: Device) -> list[Tactic]:
    pixels, columns = batch * step.target.height * step.target.width, step.target.channels
    point = step.weights.shape[:2] == (1, 1) and step.strides == (1, 1) and not any(step.pads)
    k_steps = -(-step.weights.shape[0] * step.weights.shape[1] * step.weights.shape[2] // 32)
    found: list[tuple[float, Tactic]] = []
    slots = 4 if device.generation >= 80 else 2
    for rows, wide, warp_rows, warp_columns in TILES:
        blocks = -(-pixels // rows) * -(-columns // wide)
        threads = (rows // warp_rows) * (wide // warp_columns) * 32
        shared = (rows + wide) * 64 * slots
        name = f"convolution<{rows},{wide},{warp_rows},{warp_columns},{slots},{'true' if point else 'false'}>"
        # A block's step costs its loads and its products; a multiprocessor holds about 16 warps of such blocks.
        resident = max(1, min(512 // threads, device.shared // shared))
        waves = -(-blocks // (device.processors * resident))
        cost = waves * resident * (k_steps + 6) * (rows * wide / 128 + (rows + wide) * 0.5)
        found.append((cost, Tactic(name, rows, wide, threads, shared)))
    for tiles in FEW:
        blocks = -(-pixels // (16 * tiles)) * -(-columns // 32)
        if blocks > 8 * device.processors:
            continue
        parts = 1
        if device.generation >= 90:
            while parts < 8 and blocks * parts * 2 <= 2 * device.processors and k_steps >= 16 * parts:
                parts *= 2
        waves = -(-blocks * parts // (2 * device.processors))
        cost = waves * 2 * (-(-k_steps // (8 * parts)) + 4) * (tiles * 16 + 32) * 4.0
        found.append((cost, Tactic(f"few_pixels<{tiles}>", 16 * tiles, 32, 256, 0, parts)))
    return [tactic for _, tactic in sorted(found, key=lambda one: one[0])]


def _depthwise(step: Depthwise, batch: int, device: Device) -> list[Tactic]:
    numbers = (*step.weights.shape[:2], *step.strides, *step.dilations)
    target = step.target
    work = batch * target.height * target.width * target.channels // 8
    along = (
        [4, 2, 1]
        if work >= 4 * 1024 * device.processors
        else [2, 1, 4]
        if work >= 1024 * device.processors
        else [1, 2, 4]
    )
    return [Tactic(f"depthwise<{','.join(map(str, (*numbers, n)))}>", columns=n) for n in along]
