"""Other views of pictures, made on the device for a whole batch: zoom in and out, flip, colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssdrt.train.targets import Objects

if TYPE_CHECKING:
    from torch import Generator, Tensor

ZOOMED = 0.8  # of the pictures
NEAREST, FARTHEST = 0.45, 2.6  # the window's side, of the picture's
STRETCH = 1.25  # of the window's sides against each other
VISIBLE = 0.5  # part of an object that must stay in view for it to count; with less it is a crowd, judged neither way
LEAST = 0.015  # side, of the network input's, under which an object is a crowd too
GREY = 0.08  # of the pictures lose their colour


def augment(pictures: Tensor, objects: Objects, generator: Generator) -> tuple[Tensor, Objects]:
    """One random view of each picture, and where its objects are then.

    Parameters
    ----------
    pictures: (b, 3, height, width) uint8.
    generator: of the pictures' device.

    Returns
    -------
    float32 0..255, and the objects in the same rows.
    """
    windows, flipped = _windows(len(pictures), generator)
    return _recoloured(_viewed(pictures, windows, flipped, generator), generator), _moved(objects, windows, flipped)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    import torch

    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def _windows(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """(b, 4) yxyx of what is seen, 0..1 of the picture and beyond; (b,) whether it is seen from behind."""
    import math

    import torch

    side = torch.exp(_uniform((count, 1), math.log(NEAREST), math.log(FARTHEST), generator))
    stretch = torch.exp(_uniform((count, 1), -0.5, 0.5, generator) * math.log(STRETCH))
    sizes = torch.cat([side * stretch, side / stretch], 1)
    zoomed = _uniform((count, 1), 0, 1, generator) < ZOOMED
    sizes = torch.where(zoomed, sizes, 1.0)
    corner = (1 - sizes) * _uniform((count, 2), 0, 1, generator)
    return torch.cat([corner, corner + sizes], 1), _uniform((count,), 0, 1, generator) < 0.5


def _viewed(pictures: Tensor, windows: Tensor, flipped: Tensor, generator: Generator) -> Tensor:
    """What the windows show; one colour where there is no picture."""
    import torch
    from torch.nn import functional

    count, _, height, width = pictures.shape
    sizes, centres = windows[:, 2:] - windows[:, :2], windows[:, 2:] + windows[:, :2] - 1
    theta = torch.zeros(count, 2, 3, device=pictures.device)
    theta[:, 0, 0] = torch.where(flipped, -sizes[:, 1], sizes[:, 1])
    theta[:, 1, 1] = sizes[:, 0]
    theta[:, 0, 2], theta[:, 1, 2] = centres[:, 1], centres[:, 0]
    grid = functional.affine_grid(theta, [count, 3, height, width], align_corners=False)
    fill = _uniform((count, 3, 1, 1), 0, 255, generator)
    return functional.grid_sample(pictures.float() - fill, grid, align_corners=False) + fill


def _moved(objects: Objects, windows: Tensor, flipped: Tensor) -> Objects:
    """Boxes in the windows' frames; what is mostly out of view, or too small to see, becomes a crowd."""
    import torch

    corner, size = windows[:, None, :2], (windows[:, 2:] - windows[:, :2])[:, None]
    boxes = (objects.boxes - corner.repeat(1, 1, 2)) / size.repeat(1, 1, 2)
    mirrored = torch.stack([boxes[..., 0], 1 - boxes[..., 3], boxes[..., 2], 1 - boxes[..., 1]], -1)
    boxes = torch.where(flipped[:, None, None], mirrored, boxes)
    seen = boxes.clamp(0, 1)
    sides = seen[..., 2:] - seen[..., :2]
    visible = sides.prod(-1) / (boxes[..., 2:] - boxes[..., :2]).prod(-1).clamp(min=1e-9)
    doubtful = (visible < VISIBLE) | (sides.amin(-1) < LEAST)
    classes = torch.where(visible > 0, objects.classes, -1)
    return Objects(seen, classes, objects.crowd | doubtful)


def _recoloured(pictures: Tensor, generator: Generator) -> Tensor:
    """Contrast, brightness, the strength of each primary colour, saturation."""
    import torch

    count, one = len(pictures), (len(pictures), 1, 1, 1)
    contrast = _uniform(one, 0.6, 1.4, generator)
    tint = _uniform((count, 3, 1, 1), 0.88, 1.12, generator)
    brightness = _uniform(one, -40, 40, generator)
    saturation = _uniform(one, 0.5, 1.5, generator)
    saturation = torch.where(_uniform(one, 0, 1, generator) < GREY, 0.0, saturation)
    luma = pictures.new_tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    grey = (pictures * luma).sum(1, keepdim=True)
    coloured = grey + (pictures - grey) * saturation
    mean = grey.mean((2, 3), keepdim=True)
    return (((coloured - mean) * contrast + mean) * tint + brightness).clamp(0, 255)
