"""Pictures of one size, whatever size they come in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from ssdrt.sources.base import Item, Pixels, Source
from ssdrt.sources.stream import Size


def scaled(source: Source, size: Size) -> Source:
    """The same items, each scaled to `size` (width, height), its proportions with it."""
    return Source(_items(source.items, size), source.length)


def _items(items: Iterator[Item], size: Size) -> Iterator[Item]:
    for item in items:
        yield replace(item, decode=partial(_decode, item, size))


def _decode(item: Item, size: Size) -> Pixels:
    from PIL import Image

    image = item.decode()
    if image.shape[:2] == (size[1], size[0]):
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
