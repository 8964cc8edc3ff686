"""Files that begin again when they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from ssdrt.errors import SourceError
from ssdrt.sources.base import Item, Source


def repeated(source: Source, again: Callable[[], Source]) -> Source:
    """The items of a source, then those of `again()` for ever; numbers and times of frames go on.

    A round in which no item came ends it.
    """
    return Source(_rounds(source, again), None)


def _rounds(source: Source, again: Callable[[], Source]) -> Iterator[Item]:
    index, time = 0, 0.0
    while True:
        count, last, gap = 0, 0.0, 0.0
        for item in source.items:
            count += 1
            if item.time is not None:
                gap, last = (item.time - last if count > 1 else gap), item.time
                item = replace(item, index=item.index + index, time=item.time + time)
            yield item
        index, time = index + count, time + last + max(gap, 1e-3)
        if not count:
            return
        try:
            source = again()
        except SourceError:
            return
