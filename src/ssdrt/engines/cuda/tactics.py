"""Which kernel computes a step: what can be chosen, and what is chosen where nothing was measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.plan import (
    Chain,
    Convolution,
    Depthwise,
    Elementwise,
    Enlarge,
    Excited,
    Finish,
    GlobalPool,
    Inverted,
    Plan,
    Pool,
    Separable,
    Squeezed,
    Step,
)


@dataclass(frozen=True)
class Tactic:
    """A kernel (its C++ name), the rows and columns of a block's tile, its threads, its bytes of dynamic shared memory,
    how many blocks of a cluster share one tile, and, of kernels that stay for many tiles, how many blocks a
    multiprocessor holds."""

    kernel: str
    rows: int = 0
    columns: int = 0
    threads: int = 128
    shared: int = 0
    parts: int = 1
    resident: int = 1
    inner: tuple[Tactic, ...] = ()  # of a `Separable` or `Several`: those of its parts

    @property
    def words(self) -> str:
        """The kernels that it means."""
        return " + ".join(one.words for one in self.inner) or self.kernel


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
    if isinstance(step, Separable):
        return _separable(step, batch, device)
    if isinstance(step, Chain):
        return _chain(step, batch, device)
    if isinstance(step, Inverted):
        return _inverted(step, batch, device)
    if isinstance(step, Squeezed):
        return _squeezed(step, batch, device)
    if isinstance(step, Excited):
        return _excited(step, batch, device)
    if isinstance(step, Pool):
        return [Tactic(f"pool<{'true' if step.kind == 'max' else 'false'}>")]
    if isinstance(step, GlobalPool):
        return [Tactic(f"global_pool<{pool_chunks(step.target.channels)}>")]
    if isinstance(step, Enlarge):
        return [Tactic(f"enlarge<{'true' if step.method == 'bilinear' else 'false'}>")]
    return [Tactic("scaled" if is_scaled(step) else "elementwise")]


def pool_chunks(channels: int) -> int:
    """Eights of channels that a block of `global_pool` takes; the fewer there are, the more pixels it reads at once."""
    return next(chunks for chunks in (8, 4, 2, 1) if chunks == 1 or channels > 4 * chunks)


def is_scaled(step: Elementwise) -> bool:
    """Whether every pixel of a picture is multiplied by the same channels, each by that at its place."""
    other, source, target = step.other, step.source, step.target
    if step.operation != "mul" or other is None or step.other_sources is None or (step.top, step.left) != (0, 0):
        return False
    if (other.height, other.width) != (1, 1) or (source.height, source.width) != (target.height, target.width):
        return False
    return is_in_place(step.sources) and is_in_place(step.other_sources)


def is_in_place(sources: NDArray[np.int32]) -> bool:
    """Whether every channel is its own source, or comes from padding, which is zero."""
    own, missing = np.arange(len(sources)), sources == -1
    last = int(missing.sum()) < 8 and bool((np.diff(missing.astype(int)) >= 0).all())
    return bool(((sources == own) | missing).all()) and last


def _convolution(step: Convolution, batch: int, device: Device) -> list[Tactic]:
    pixels, columns = batch * step.target.height * step.target.width, step.target.channels
    point = is_point(step)
    k_steps = -(-step.weights.shape[0] * step.weights.shape[1] * step.weights.shape[2] // 32)
    found: list[tuple[float, Tactic]] = []
    if device.generation == 90 and point:
        found += _products(step, pixels, columns, device)
    elif device.generation == 90 and step.source.channels >= 32 and max(step.strides) <= 2:
        found += dense(step, batch, device)[:4]
    if is_front(step):
        wide = 32 if columns <= 32 else 64
        name = f"front<{step.weights.shape[0]},{step.weights.shape[1]},{wide}>"
        found.append((0.0, Tactic(name, 128, wide, 128)))
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
        for parts in (1, 2, 4, 8) if device.generation >= 90 else (1,):
            if parts > 1 and (k_steps < 4 * parts or blocks * parts > 4 * device.processors):
                continue
            waves = -(-blocks * parts // (2 * device.processors))
            cost = waves * 2 * (-(-k_steps // (8 * parts)) + (5 if parts > 1 else 4)) * (tiles * 16 + 32) * 4.0
            found.append((cost, Tactic(f"few_pixels<{tiles}>", 16 * tiles, 32, 256, 0, parts)))
    return [tactic for _, tactic in sorted(found, key=lambda one: one[0])]


def is_front(step: Convolution) -> bool:
    """Whether a convolution is one that front.cu is for."""
    return (
        step.source.channels == 8
        and step.target.channels <= 64
        and not step.weights[:, :, 3:].any()
        and (step.strides, step.dilations) == ((2, 2), (1, 1))
        and step.weights.shape[:2] in ((3, 3), (5, 5), (7, 7))
        and step.finish.residual is None
    )


PRODUCTS = ((256, 4, 1), (224, 4, 1), (192, 4, 1), (160, 4, 1), (128, 4, 1), (96, 4, 1), (64, 4, 1))
PRODUCTS_OF_TWO = ((128, 3, 2), (96, 3, 2), (64, 4, 2))
"""Columns and slots of a tile of `product`, and how many of its blocks a multiprocessor holds."""


def _products(step: Convolution, pixels: int, columns: int, device: Device) -> list[tuple[float, Tactic]]:
    """A 1x1 by wgmma; of each kind the two widths that waste least."""
    plain = "true" if is_plain(step.finish) else "false"
    k_steps, row_tiles = -(-step.source.channels // 64), -(-pixels // 128)
    kinds = []
    for kind in (PRODUCTS, PRODUCTS_OF_TWO):
        found = []
        for wide, slots, resident in kind:
            column_tiles = -(-columns // wide)
            tiles = row_tiles * column_tiles
            shared = slots * (128 + wide) * 128 + 4 * column_tiles * wide + 16 * slots + 1024
            waves = -(-tiles // (device.processors * resident)) * resident
            # Cycles over 8: products of a step, the epilogue, filling the pipeline; in the unit of the other estimates.
            cost = waves * (k_steps * (wide + 32) + (1.5 * wide + 250) / resident) * 0.55
            if tiles < device.processors // 2:
                cost *= 4  # too few blocks to hide how long each of them waits
            if shared <= device.shared // resident - 1024 * (resident - 1):
                name = f"product<{wide},{slots},{resident},{plain}>"
                found.append((cost, Tactic(name, 128, wide, 288, shared, resident=resident)))
        kinds += sorted(found, key=lambda one: one[0])[:2]
    return kinds


DENSE = (
    *((wide, 1, 1) for wide in (256, 224, 192, 160, 128, 96, 64)),
    *((wide, 2, 1) for wide in (128, 96, 64)),
    *((wide, 1, 2) for wide in (128, 96, 64)),
)
"""Columns of a tile of `dense`, its pixels in 128s, and how many of its blocks a multiprocessor holds."""


def dense(step: Convolution, batch: int, device: Device) -> list[tuple[float, Tactic]]:
    """A window by wgmma, and what it is thought to take: of each kind the width that wastes least, alone and with
    weights that two blocks share."""
    pixels, columns = batch * step.target.height * step.target.width, step.target.channels
    (height, width), channels = step.weights.shape[:2], step.source.channels
    plain = "true" if is_plain(step.finish) else "false"
    last = -(-(channels % 64 or 64) // 16)
    sixteens, steps = height * width * -(-channels // 16), height * width * -(-channels // 64)
    found: dict[tuple[int, int, int], tuple[float, Tactic]] = {}
    for wide, tall, resident in DENSE:
        for sharing in (1, 2):
            clusters, column_tiles = -(-pixels // (128 * tall * sharing)), -(-columns // wide)
            room = device.shared // resident - 1024 * (resident - 1) - 4 * column_tiles * wide - 1024 - 128
            slots = min(room // ((128 * tall + wide) * 128), 8)
            waves = -(-clusters * column_tiles * sharing // (device.processors * resident))
            # Cycles: products, or what the cache brings; the epilogue and filling the pipeline.
            body = max(sixteens * wide * tall, steps * (128 * tall + wide / sharing) * 2)
            cost = waves * (body * resident + 7 * wide * tall + 1000) * (0.9 + 0.1 * sharing) / 8
            if clusters * sharing * column_tiles < device.processors // 2:
                cost *= 4  # too few blocks to hide how long each of them waits
            if slots < 3:
                continue
            name = f"dense<{wide},{tall},{slots},{resident},{sharing},{last},{plain}>"
            shared = slots * (128 * tall + wide) * 128 + 4 * column_tiles * wide + 16 * slots + 1024
            one = Tactic(name, 128 * tall, wide, 384 if resident == 1 else 288, shared, sharing, resident)
            kind = (tall, resident, sharing)
            found[kind] = min(found.get(kind, (cost, one)), (cost, one), key=lambda pair: pair[0])
    return sorted(found.values(), key=lambda pair: pair[0])


def is_point(step: Convolution) -> bool:
    """Whether each output pixel depends on the input pixel at its place alone."""
    return step.weights.shape[:2] == (1, 1) and step.strides == (1, 1) and not any(step.pads)


def is_plain(finish: Finish) -> bool:
    """Whether a sum ends with nothing but limits."""
    return finish.residual is None and finish.scale == 1 and finish.activation in ("none", "relu", "relu6")


def _separable(step: Separable, batch: int, device: Device) -> list[Tactic]:
    """Two kernels; or one, where the copy engine can bring halos and there are tiles enough."""
    depthwise, point = step.depthwise, step.point
    firsts, seconds = tactics(depthwise, batch, device), tactics(point, batch, device)[:4]
    # The best of each is what counts; a pair of any two would only be measured more often.
    pairs = [(firsts[0], second) for second in seconds] + [(first, seconds[0]) for first in firsts[1:]]
    apart = [Tactic("apart", inner=pair) for pair in pairs]
    window = (depthwise.weights.shape[:2], depthwise.dilations)
    if device.generation != 90 or window != ((3, 3), (1, 1)) or not is_plain(depthwise.finish):
        return apart
    few = _few_separable(step, batch, device)
    fits = (
        (depthwise.strides, depthwise.pads) == ((1, 1), (1, 1, 1, 1))
        and is_plain(point.finish)
        and point.target.channels <= 1024
    )
    if not fits:
        return [*few, *apart]
    columns = point.target.channels
    wide = 256 if columns > 128 else 128 if columns > 64 else 64
    producers, slots, halos = (1, 3, 3) if wide == 256 else (2, 4, 4)
    column_tiles = -(-columns // wide)
    sharing = 2 if column_tiles % 2 == 0 else 1
    width = step.target.width
    tall = -(-width // 12) * 12 < -(-width // 20) * 20
    along, down = (3, 5) if tall else (5, 3)
    halo = -(-(along * 4 + 2) * (down * 2 + 2) * 128 // 1024) * 1024
    shared = slots * (128 + wide) * 128 + halos * halo + 768 + 4096 + (2 * slots + halos) * 8 + 1024
    name = f"separable<{'true' if tall else 'false'},{wide},{producers},{slots},{halos},{sharing}>"
    together = Tactic(name, 10 if tall else 6, wide, (3 + producers) * 128, shared, sharing)
    tiles = -(-batch * step.target.height // together.rows) * -(-width // (along * 4)) * column_tiles
    return [together, *few, *apart] if tiles >= device.processors else [*few, *apart, together]


def _few_separable(step: Separable, batch: int, device: Device) -> list[Tactic]:
    """The kernel of few.cu, where it needs few rounds of blocks; fewest rounds first."""
    channels, columns = step.source.channels, step.target.channels
    pixels, slices = batch * step.target.height * step.target.width, -(-channels // 64)
    parts = min(8, 1 << (-(-columns // 64) - 1).bit_length())
    if slices > 16 or parts == 1 or not is_point(step.point) or not is_plain(step.point.finish):
        return []
    found = []
    for tiles in (1, 2):
        rows, steps = 16 * tiles, -(-slices // 2)
        blocks = -(-pixels // rows) * -(-columns // (64 * parts)) * parts
        shared = few_shared(tiles, slices, parts)
        resident = 2 if steps <= 4 and 2 * (shared + 1024) <= device.shared else 1
        rounds = -(-blocks // (device.processors * resident))
        if shared <= device.shared and rounds <= 3:
            one = Tactic(f"few_separable<{tiles},{steps}>", rows, 64, 256, shared, parts, resident)
            found.append((rounds * resident * (steps * tiles + 4), one))
    return [tactic for _, tactic in sorted(found, key=lambda one: one[0])]


def few_shared(tiles: int, slices: int, parts: int) -> int:
    """Bytes of few.cu's `Places`."""
    return tiles * 16 * (4 * 68 * 4 + slices * 128) + -(-slices // parts) * 1280 + 272


CHAINS = {1: ((80, 1, 4, 3, 4), (40, 2, 6, 3, 3)), 2: ((40, 2, 4, 2, 4),)}
"""128s of channels -> columns and rows of a step of `chain`, and its slots of three kinds, by columns."""


def _chain(step: Chain, batch: int, device: Device) -> list[Tactic]:
    """One kernel for the first three parts where the copy engine and wgmma are, or all by themselves; the last is a 1x1
    by itself."""
    apart = Tactic("apart", inner=(tactics(step.first, batch, device)[0], tactics(step.second, batch, device)[0]))
    if device.generation != 90:
        return [apart]
    points, target = tactics(step.second.point, batch, device)[:4], step.second.depthwise.target
    sharing = 1 if max(step.source.channels, step.first.target.channels) <= 128 else 2
    found = []
    for columns, rows, *slots in CHAINS[sharing]:
        strips = -(-target.width // (columns // 2 - 1))
        shared = slots[0] * (columns + 2) * 256 + (slots[1] * sharing + slots[2]) * columns * rows * 256
        name = f"chain<{columns},{rows},{sharing},{','.join(map(str, slots))}>"
        tactic = Tactic(name, 1, -(-target.width // strips), 768, shared + 16 * sum(slots) + 1024, sharing)
        found.append((strips * columns, tactic))
    best = [tactic for _, tactic in sorted(found, key=lambda pair: pair[0])]
    together = [Tactic("chained", inner=(best[0], point)) for point in points]
    together += [Tactic("chained", inner=(tactic, points[0])) for tactic in best[1:]]
    long = batch * target.height * sharing >= 8 * device.processors  # rows of a block, of which it makes two twice
    return [*together, apart] if long else [apart, *together]


HIDDEN = 48
"""Channels of the wide map that a warp of `inverted` has."""

NARROW = 32
"""Channels of the maps before and behind it, at most."""


def inverted_weights(steps: int, warps: int) -> int:
    """Bytes of `Weights` of inverted.cu."""
    return warps * HIDDEN // 8 * (192 + 512 + 256 * steps) + 128


def inverted_resident(stride: int, warps: int) -> int:
    """Blocks of a multiprocessor that inverted.cu has registers for."""
    return (16 if stride == 2 else 12) // warps


def _inverted(step: Inverted, batch: int, device: Device) -> list[Tactic]:
    """One kernel, or the two by themselves."""
    apart = Tactic("apart", inner=(tactics(step.first, batch, device)[0], tactics(step.second, batch, device)[0]))
    if device.generation != 90:
        return [apart]
    stride, width = step.second.depthwise.strides[0], step.target.width
    kinds = (step.second.point.finish.residual is not None, step.first.finish.activation == "relu6")
    warps, steps = -(-step.first.target.channels // HIDDEN), -(-step.source.channels // 16)
    found = []
    for sixteens in (2,) if stride == 2 else (2, 1):
        across = 8 * sixteens - 1 if stride == 2 else 16 * sixteens - 2
        made = 2 * sixteens // stride
        shared = (
            inverted_weights(steps, warps) + (5 if kinds[0] else 3) * 512 * sixteens * steps + 2 * warps * made * 1024
        )
        resident = min(inverted_resident(stride, warps), (device.shared + 1024) // (shared + 1024))
        name = f"inverted<{steps},{warps},{stride},{sixteens},{','.join(str(one).lower() for one in kinds)}>"
        # A row takes as long as its pixels, and weights that are loaded for each.
        cost = -(-width // across) * (sixteens + 0.3)
        found.append((cost, Tactic(name, 1, across, 32 * warps, shared, resident=resident)))
    together = [tactic for _, tactic in sorted(found, key=lambda one: one[0])]
    return [*together, apart] if batch >= 8 else [apart, *together]


ALONG = 5
"""Neighbouring pixels of a thread of `squeezed`."""

MOST_STEPS = 6
"""Of K, 16 channels each, of the 1x1 that `squeezed` can compute."""

MOST_PAIRS = 8
"""16s of columns of the 1x1 that `excited` can compute."""


def squeezed_map(step: Depthwise, down: int) -> tuple[int, int]:
    """Rows and columns of the map with its border that a block of `squeezed` holds; of stride 2 an even number."""
    (window, _), (stride, _), target = step.weights.shape[:2], step.strides, step.target
    rows, columns = -(-target.height // down) * down, -(-target.width // ALONG) * ALONG
    return (rows - 1) * stride + window, -(-((columns - 1) * stride + window) // stride) * stride


def _squeezed(step: Squeezed, batch: int, device: Device) -> list[Tactic]:
    """One kernel of blocks that each see a whole picture, or the parts by themselves."""
    apart = Tactic("apart", inner=tuple(tactics(part, batch, device)[0] for part in step.parts))
    if device.generation != 90:
        return [apart]
    depthwise, found = step.depthwise, []
    window, stride, target = depthwise.weights.shape[0], depthwise.strides[0], step.depthwise.target
    steps = -(-step.source.channels // 16) if step.expand else 0
    for wide in (16, 32, 64):
        for down in (4, 5) if stride == 1 else (2,):
            for threads in (128, 256):
                rows, columns = squeezed_map(depthwise, down)
                shared = (window * window + 1) * wide * 4 + threads * 8 + rows * columns * wide * 2
                if shared > device.shared or (wide > 16 and wide >= 2 * target.channels):
                    continue
                resident = min(512 // threads, (device.shared + 1024) // (shared + 1024))
                blocks, units = (
                    batch * -(-target.channels // wide),
                    -(-target.height // down) * -(-target.width // ALONG),
                )
                # Cycles: what a block's turns take, one warp a scheduler at the least; then what the products take.
                turns = -(-units * wide // (2 * threads)) * down
                busy = max(min(resident, -(-blocks // device.processors)) * threads / 128, 1.5)
                pixels = step.source.height * step.source.width
                body = turns * (2 * ALONG * window * window * 1.3) * busy + pixels * wide * (steps + 4) / 64
                waves = -(-blocks // (device.processors * resident))
                name = f"squeezed<{window},{stride},{steps},{wide},{down},{threads}>"
                found.append((waves * (body + 3000), Tactic(name, down, wide, threads, shared)))
    together = [tactic for _, tactic in sorted(found, key=lambda one: one[0])[:5]]
    return [*together, apart]


def _excited(step: Excited, batch: int, device: Device) -> list[Tactic]:
    """One kernel of blocks of some pixels of a picture, or the parts by themselves."""
    apart = Tactic("apart", inner=tuple(tactics(part, batch, device)[0] for part in step.parts))
    if device.generation != 90:
        return [apart]
    channels, hidden, target = step.scale.source.channels, step.squeeze.target.channels, step.target
    pairs, steps, pixels = -(-target.channels // 16), -(-channels // 16), target.height * target.width
    most, found = 4 if pairs <= 3 else 2, {}
    for pieces in range(1, min(pixels, 64) + 1):
        rows = -(-pixels // (16 * pieces)) * 16
        shared = (32 * steps + -(-hidden // 4) * 4) * 4 + steps * pairs * 512 + rows * (32 * steps + 16)
        if shared > device.shared:
            continue
        resident = min(most, (device.shared + 1024) // (shared + 1024))
        blocks = batch * -(-pixels // rows)
        # Cycles: what the cache brings to a multiprocessor's blocks, and what each of them waits for.
        body = 4 * channels * hidden + 2 * rows * (channels + target.channels)
        busy = min(resident, -(-blocks // device.processors))
        waves = -(-blocks // (device.processors * resident))
        one = Tactic(f"excited<{pairs}>", rows, 16 * pairs, 256, shared)
        found[rows] = (waves * (body * busy / 24 + 3500 + -(-rows // 128) * steps * 40), one)
    together = [tactic for _, tactic in sorted(found.values(), key=lambda one: one[0])[:4]]
    return [*together, apart]


def as_lists(tactic: Tactic) -> list[object]:
    """For JSON."""
    *own, _ = vars(tactic).values()
    return [*own, [as_lists(one) for one in tactic.inner]]


def from_lists(values: list[object]) -> Tactic:
    """What `as_lists` made."""
    *own, inner = values
    return Tactic(*own, tuple(from_lists(one) for one in inner))  # type: ignore[call-arg, arg-type, attr-defined]


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
    floats = [Tactic(f"depthwise<{','.join(map(str, (*numbers, n)))}>", columns=n) for n in along]
    small = [(size, size, stride, stride, 1, 1) for size in (3, 5) for stride in (1, 2)]
    if numbers not in small or device.generation < 90:
        return floats
    stride, plain = step.strides[0], is_plain(step.finish)
    shapes: tuple[tuple[int, int], ...]
    if numbers[0] == 3 and plain:
        shapes = ((4, 1), (2, 2), (4, 2)) if stride == 1 else ((2, 1), (2, 2), (1, 1))
        name = f"depthwise_halves<{stride}"
    else:
        shapes = ((4, 1), (2, 1), (2, 2), (1, 1)) if stride == 1 else ((2, 1), (4, 1), (1, 1))
        name = f"depthwise_rows<{numbers[0]},{stride}"
    halves = [Tactic(f"{name},{wide},{rows}>", columns=wide, rows=rows) for wide, rows in shapes]
    return [*halves, *floats]
