"""What is trained on: data sets checked, their classes joined to one list, their pictures decoded and kept together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import SourceError, shorten
from ssdrt.evaluate.data_set import DataSet, Picture, listed
from ssdrt.preprocess import to_network
from ssdrt.sources.photo import read_photo
from ssdrt.train.targets import Objects

if TYPE_CHECKING:
    from torch import Tensor

    from ssdrt.model import SsdModel


@dataclass(frozen=True)
class Examples:
    """Pictures of all data sets on one device.

    pictures: (n, 3, height, width) uint8, in the network's size.
    objects: (n, m, ...), boxes 0..1; m is that of the fullest picture.
    labelled: (n, classes) bool, whether the data set of a picture labels the class.
    chances: (n,) how often each is drawn, summing to 1.
    sizes: (n, 2) width and height in pixels of the annotations.
    """

    pictures: Tensor
    objects: Objects
    labelled: Tensor
    chances: Tensor
    sizes: NDArray[np.int64]


def check_trainable(data: DataSet) -> None:
    """Refuse what evaluation bears and training does not; `check_data_set` has refused the rest.

    Raises
    ------
    SourceError: a class without a box, two classes of one name, a box without area.
    """
    used = {one.category for one in data.annotations}
    empty = [name for number, name in data.categories.items() if number not in used]
    if empty:
        raise SourceError(
            f"{len(empty)} of {len(data.categories)} classes have no box ({listed(empty)}): nothing could be learnt of "
            "them; leave them out with --classes, or take them out of the annotations"
        )
    names = list(data.categories.values())
    double = [name for name in names if names.count(name) > 1]
    if double:
        raise SourceError(f"two classes have the name {shorten(double[0])!r}: make them one")
    flat = [one.where for one in data.annotations if min(one.box_xywh[2:]) <= 0]
    if flat:
        raise SourceError(
            f"{len(flat)} of {len(data.annotations)} boxes have no width or no height (the first: {shorten(flat[0])})"
        )


def join_classes(data_sets: Sequence[DataSet]) -> tuple[str, ...]:
    """Names of all classes, in the order of their ids, data set after data set."""
    names = [data.categories[number] for data in data_sets for number in sorted(data.categories)]
    return tuple(dict.fromkeys(names))


def load_examples(
    data_sets: Sequence[DataSet],
    classes: Sequence[str],
    model: SsdModel,
    device: Any = "cpu",
    advance: Callable[[int], None] = lambda _: None,
) -> Examples:
    """Decode every picture, resize it as the model's graph does, and put all on the device.

    A data set's share of what is drawn goes with the square root of its pictures: a small one beside a large one is
    seen more often than its pictures would be, and not so often that it is learnt by heart.

    Parameters
    ----------
    classes: names; what they are counted by from now on.
    advance: called with 1 after each picture.

    Raises
    ------
    SourceError: a picture cannot be read, or has another size than its annotations say.
    """
    import torch

    pictures = [picture for data in data_sets for picture in data.pictures]
    height, width = model.input_size
    pixels = torch.empty(len(pictures), 3, height, width, dtype=torch.uint8)
    sizes = np.empty((len(pictures), 2), np.int64)

    def load(number: int) -> None:
        shown, sizes[number] = _read(pictures[number], model)
        pixels[number] = torch.from_numpy(shown)
        advance(1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(load, range(len(pictures))))
    starts = np.cumsum([0] + [len(data.pictures) for data in data_sets])
    parts = [
        _objects(data, classes, sizes[start : start + len(data.pictures)])
        for data, start in zip(data_sets, starts, strict=False)
    ]
    shares = np.concatenate([np.full(len(data.pictures), len(data.pictures) ** -0.5) for data in data_sets])
    labelled = [
        np.tile([name in data.categories.values() for name in classes], (len(data.pictures), 1)) for data in data_sets
    ]
    return Examples(
        pixels.to(device),
        _together(parts, device),
        torch.from_numpy(np.concatenate(labelled)).to(device),
        torch.from_numpy((shares / shares.sum()).astype(np.float32)).to(device),
        sizes,
    )


def _read(picture: Picture, model: SsdModel) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """(3, height, width) in the network's size, and the picture's own (width, height)."""
    image = read_photo(picture.path)
    size = image.shape[1], image.shape[0]
    if picture.size not in (None, size):
        raise SourceError(
            f"{shorten(str(picture.path))!r} is {size[0]}x{size[1]}, but its annotations are for "
            f"{'x'.join(map(str, picture.size))}: give the pictures that were annotated, in their size"
        )
    shown = to_network(image, model.preprocessing.resizer.value)
    return np.rint(shown).clip(0, 255).astype(np.uint8).transpose(2, 0, 1).copy(), size


def _objects(data: DataSet, classes: Sequence[str], sizes: NDArray[np.int64]) -> list[list[tuple[Any, ...]]]:
    """Of each picture (box yxyx 0..1, class, crowd)."""
    rows: dict[int, list[tuple[Any, ...]]] = {picture.id: [] for picture in data.pictures}
    by_id = dict(zip(rows, sizes.tolist(), strict=True))
    for one in data.annotations:
        width, height = by_id[one.picture]
        x, y, w, h = one.box_xywh
        box = np.clip([y / height, x / width, (y + h) / height, (x + w) / width], 0, 1)
        if (box[2:] > box[:2]).all():  # a pixel outside is forgiven, and may be all there is
            rows[one.picture].append((box, classes.index(data.categories[one.category]), one.crowd))
    return list(rows.values())


def _together(parts: Sequence[list[list[tuple[Any, ...]]]], device: Any) -> Objects:
    import torch

    pictures = [rows for part in parts for rows in part]
    most = max(1, *(len(rows) for rows in pictures))
    boxes = np.zeros((len(pictures), most, 4), np.float32)
    classes = np.full((len(pictures), most), -1, np.int64)
    crowd = np.zeros((len(pictures), most), bool)
    for number, rows in enumerate(pictures):
        for place, row in enumerate(rows):
            boxes[number, place], classes[number, place], crowd[number, place] = row
    return Objects(*(torch.from_numpy(value).to(device) for value in (boxes, classes, crowd)))


def draw(examples: Examples, count: int, generator: Any) -> tuple[Tensor, Objects, Tensor]:
    """Random pictures (count, 3, height, width), their objects, and what their labels cover (count, classes)."""
    import torch

    chosen = torch.multinomial(examples.chances, count, replacement=True, generator=generator)
    one = examples.objects
    return (
        examples.pictures[chosen],
        Objects(one.boxes[chosen], one.classes[chosen], one.crowd[chosen]),
        examples.labelled[chosen],
    )


def with_sizes(data: DataSet, sizes: NDArray[np.int64]) -> DataSet:
    """The data set with the sizes that its pictures turned out to have."""
    pictures = tuple(
        replace(one, size=(int(w), int(h))) for one, (w, h) in zip(data.pictures, sizes.tolist(), strict=True)
    )
    return replace(data, pictures=pictures)
