"""What each anchor should say: matching of anchors with objects, and the box coder, for a whole batch at once.

As the Object Detection API has it (matchers/argmax_matcher.py with force_match_for_each_row, thresholds 0.5,
box_coders/faster_rcnn_box_coder.py). Boxes are (ymin, xmin, ymax, xmax), 0..1 of the network input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MATCHED = 0.5
"""IoU from which an anchor stands for an object; the best anchor of an object always does."""

IN_CROWD = 0.5
"""Part of an anchor inside a crowd region from which the anchor is not judged for the region's class."""


@dataclass(frozen=True)
class Objects:
    """Of a batch: boxes (b, m, 4), classes (b, m) counted from 0, -1 where a row is empty, crowd (b, m) bool."""

    boxes: Tensor
    classes: Tensor
    crowd: Tensor


@dataclass(frozen=True)
class Targets:
    """encodings (b, n, 4); classes (b, n), -1 where an anchor stands for nothing; ignored (b, n, classes) bool."""

    encodings: Tensor
    classes: Tensor
    ignored: Tensor


def make_targets(
    anchors: Tensor, objects: Objects, num_classes: int, scales: tuple[float, float, float, float]
) -> Targets:
    """Match every anchor with an object or none.

    Parameters
    ----------
    anchors: (n, 4).
    scales: of the box coder: y, x, h, w.
    """
    import torch
    from torch.nn import functional

    there = objects.classes >= 0
    shared = _intersections(anchors, objects.boxes)
    anchor_areas, areas = _areas(anchors), _areas(objects.boxes)
    real = (there & ~objects.crowd)[:, None]
    overlaps = shared / (anchor_areas[:, None] + areas[:, None] - shared).clamp(min=1e-9)
    overlaps = torch.where(real, overlaps, -1.0)
    best, matched = overlaps.max(2)
    matched = torch.where(best >= MATCHED, matched, -1)
    forced = _forced(overlaps, real)
    matched = torch.where(forced >= 0, forced, matched)
    chosen = matched.clamp(min=0)
    classes = torch.where(matched >= 0, objects.classes.gather(1, chosen), -1)
    boxes = objects.boxes.gather(1, chosen[..., None].expand(-1, -1, 4))
    crowded = (shared / anchor_areas[:, None] > IN_CROWD) & (there & objects.crowd)[:, None]
    of_class = functional.one_hot(objects.classes.clamp(min=0), num_classes).float()
    ignored = torch.bmm(crowded.float(), of_class) > 0
    return Targets(encode(boxes, anchors, scales), classes, ignored & (classes < 0)[..., None])


def encode(boxes: Tensor, anchors: Tensor, scales: tuple[float, float, float, float]) -> Tensor:
    """(ty, tx, th, tw), the inverse of `postprocess.decode_boxes`."""
    import torch

    sizes, anchor_sizes = (value[..., 2:] - value[..., :2] for value in (boxes, anchors))
    centres, anchor_centres = boxes[..., :2] + sizes / 2, anchors[..., :2] + anchor_sizes / 2
    offsets = (centres - anchor_centres) / anchor_sizes
    stretches = torch.log(sizes.clamp(min=1e-6) / anchor_sizes)
    return torch.cat([offsets, stretches], -1) * offsets.new_tensor(scales)


def _forced(overlaps: Tensor, real: Tensor) -> Tensor:
    """(b, n): the first object whose best anchor this is, -1 for none."""
    import torch

    batch, count, objects = overlaps.shape
    best = overlaps.argmax(1)
    numbers = torch.where(real[:, 0], torch.arange(objects, device=best.device), objects)
    forced = torch.full((batch, count), objects, device=best.device, dtype=torch.int64)
    forced.scatter_reduce_(1, best, numbers, "amin")
    return torch.where(forced < objects, forced, -1)


def _intersections(anchors: Tensor, boxes: Tensor) -> Tensor:
    """(b, n, m)."""
    import torch

    low = torch.maximum(anchors[:, None, :2], boxes[:, None, :, :2])
    high = torch.minimum(anchors[:, None, 2:], boxes[:, None, :, 2:])
    return (high - low).clamp(min=0).prod(-1)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)
