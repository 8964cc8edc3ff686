"""Pictures of one size, whatever size they come in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from ssdrt.errors import SourceError
from ssdrt.sources.base import MAX_PIXELS, Item, Pixels, Source
from ssdrt.sources.stream import Size


def scaled(source: Source, size: Size, max_pixels: int = MAX_PIXELS) -> Source:
    """The same items, each scaled to `size` (width, height), its proportions with it.

    Raises
    ------
    SourceError: that is more than `max_pixels`.
    """
    if size[0] * size[1] > max_pixels:
        raise SourceError(f"{size[0]} x {size[1]} pixels are more than the {max_pixels} allowed (--max-pixels)")
    return Source(_items(source.items, size), source.length)


def _items(items: Iterator[Item], size: Size) -> Iterator[Item]:
    for item in items:
        yield replace(item, decode=partial(_decode, item, size), file=None)


def _decode(item: Item, size: Size) -> Pixels:
    from PIL import Image

    image = item.decode()
    if image.shape[:2] == (size[1], size[0]):
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
