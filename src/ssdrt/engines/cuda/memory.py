"""Which buffers share memory: a slot is free again once the last reader of its buffer has run."""

from __future__ import annotations

from ssdrt.engines.cuda.plan import Step, between, reads


def assign_slots(
    steps: list[Step], buffers: list[int], first: int, kept: set[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(slot sizes, slot of each buffer): each buffer takes the free slot that wastes least, or a new one.

    Parameters
    ----------
    first: the buffer that is written before the first step.
    kept: buffers that are read after the last step. A step that writes one may run beside those behind it, so what it
        reads is needed to the end.
    """
    born, last = {first: -1}, dict.fromkeys(kept, len(steps))
    for index, step in enumerate(steps):
        born.setdefault(step.target.buffer, index)
        for view in between(step):
            born.setdefault(view.buffer, index)
        end = len(steps) if step.target.buffer in kept else index
        for view in (*reads(step), *between(step), step.target):
            last[view.buffer] = max(last.get(view.buffer, index), end)
    sizes: list[int] = []
    free_from: list[int] = []
    slot_of = [-1] * len(buffers)
    for buffer in sorted(born, key=lambda b: (born[b], -buffers[b])):
        wanted = buffers[buffer]
        free = [slot for slot, end in enumerate(free_from) if end < born[buffer]]
        if free:
            slot = min(free, key=lambda s: (max(wanted - sizes[s], 0), sizes[s]))
            sizes[slot] = max(sizes[slot], wanted)
        else:
            slot = len(sizes)
            sizes.append(wanted)
            free_from.append(0)
        free_from[slot] = last.get(buffer, born[buffer])
        slot_of[buffer] = slot
    return tuple(sizes), tuple(slot_of)
