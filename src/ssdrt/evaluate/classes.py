"""Which class of a model is which category of a data set."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from ssdrt.errors import LabelError
from ssdrt.evaluate.data_set import DataSet, listed
from ssdrt.model import LabelMap


@dataclass(frozen=True)
class Classes:
    """category: of each class id that has one. missing: names of annotated categories that the model has no class for.
    how: by what they were matched, "name" or "id"."""

    category: dict[int, int]
    missing: tuple[str, ...]
    how: str


def match_classes(labels: LabelMap, class_ids: Container[int], data: DataSet) -> Classes:
    """Match by name, case and underscores aside; by id when the model's classes have no names.

    Parameters
    ----------
    class_ids: that the model has.

    Raises
    ------
    LabelError: no annotated category is a class of the model, or there is nothing to match them by.
    """
    names = {class_id: name for class_id, name in labels.names.items() if class_id in class_ids}
    if names:
        ids = _by_name(data)
        category = {class_id: ids[_plain(name)] for class_id, name in names.items() if _plain(name) in ids}
    elif data.numbered:
        category = {number: number for number in data.categories if number in class_ids}
    else:
        raise LabelError("neither the model's classes have names nor the annotations ids: give names with --labels")
    found = set(category.values())
    missing = tuple(data.categories[number] for number in data.annotated if number not in found)
    if len(missing) == len(data.annotated):
        theirs = f"its classes are {listed(names.values())}" if names else "by id, for its classes have no names"
        raise LabelError(
            f"the model has none of the annotated classes ({listed(missing)}): {theirs}; --labels gives it other names"
        )
    return Classes(category, missing, "name" if names else "id")


def _by_name(data: DataSet) -> dict[str, int]:
    """The category of each name. Where two share one, as in some exports, it is the annotated one that is meant."""
    annotated = data.annotated
    names = [_plain(data.categories[number]) for number in annotated]
    double = [name for name in names if names.count(name) > 1]
    if double:
        raise LabelError(f"two annotated categories have the name {double[0]!r}: make them one")
    unused = {_plain(name): number for number, name in data.categories.items()}
    return unused | dict(zip(names, annotated, strict=True))


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())
