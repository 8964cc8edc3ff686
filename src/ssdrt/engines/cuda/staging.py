"""The bytes that go to the GPU with every call, in one piece: a head of fixed size, then the pixels.

In the head stand options, thresholds, windows and the table of pictures, for the batch that the staging was made for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdrt.engines.cuda.ends import OptionsStruct, PictureStruct, low_logit
from ssdrt.model import SsdModel
from ssdrt.postprocess import NmsParameters
from ssdrt.preprocess import clip_window, resized_size

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """Byte offsets in the staging memory of a batch."""

    batch: int
    classes: int

    @property
    def options(self) -> int:
        """An `OptionsStruct`."""
        return 16

    @property
    def thresholds(self) -> int:
        """float32 (classes,)."""
        return 64

    @property
    def windows(self) -> int:
        """float32 (batch, 4)."""
        return self.thresholds + -(-4 * self.classes // 16) * 16

    @property
    def pictures(self) -> int:
        """`PictureStruct` (batch,)."""
        return self.windows + 16 * self.batch

    @property
    def pixels(self) -> int:
        """What follows the head."""
        return -(-(self.pictures + 32 * self.batch) // 256) * 256


def write_parameters(head: Pixels, layout: Layout, model: SsdModel, parameters: NmsParameters) -> None:
    """Options and thresholds into the head."""
    thresholds = np.broadcast_to(np.asarray(parameters.score_threshold, np.float32), layout.classes)
    lowest = float(thresholds.min())
    options = OptionsStruct(
        parameters.iou_threshold, lowest, low_logit(model, lowest), parameters.max_per_class, parameters.max_total
    )
    head[layout.options : layout.options + 32] = np.frombuffer(bytes(options), np.uint8)
    head[layout.thresholds : layout.thresholds + 4 * layout.classes].view(np.float32)[:] = thresholds


def write_pictures(head: Pixels, layout: Layout, model: SsdModel, sizes: Sequence[tuple[int, int]], first: int) -> int:
    """Windows and the table of pictures of (height, width) that lie one after the other from address `first` on, each
    16-byte aligned; the batch is filled up with the last one. Returns the bytes that the pixels take."""
    resizer = model.preprocessing.resizer.value
    windows = head[layout.windows : layout.windows + 16 * layout.batch].view(np.float32).reshape(-1, 4)
    table = (PictureStruct * layout.batch).from_address(head.ctypes.data + layout.pictures)
    at = 0
    for index in range(layout.batch):
        height, width = sizes[min(index, len(sizes) - 1)]
        new_height, new_width = resized_size(resizer, height, width)
        corner_y, corner_x = (int(resizer.align_corners and new > 1) for new in (new_height, new_width))
        scale_y = np.float32(height - corner_y) / np.float32(new_height - corner_y)
        scale_x = np.float32(width - corner_x) / np.float32(new_width - corner_x)
        if index < len(sizes):
            place, at = at, at + aligned(3 * height * width)
        table[index] = PictureStruct(first + place, height, width, new_height, new_width, scale_y, scale_x)
        windows[index] = clip_window(model, height, width)
    return at


def aligned(size: int) -> int:
    """`size` filled up to whole 16-byte pieces."""
    return -(-size // 16) * 16
