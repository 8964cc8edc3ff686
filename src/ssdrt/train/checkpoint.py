"""A training that can be gone on with: everything that the next step depends on, in one file."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssdrt.errors import SourceError, shorten
from ssdrt.evaluate.data_set import DataSet
from ssdrt.model import SsdModel
from ssdrt.sinks.base import whole_file
from ssdrt.train.settings import Settings

State = dict[str, Any]


def identity(model: SsdModel, data_sets: Sequence[DataSet], settings: Settings) -> dict[str, str]:
    """What must not change between two parts of a training, by what it is called."""
    weights = hashlib.sha256()
    for layer in model.layers:
        for name in ("weights", "bias", "scale", "offset"):
            if hasattr(layer, name):
                weights.update(getattr(layer, name).tobytes())
    labels = hashlib.sha256()
    for data in data_sets:
        labels.update(repr(data.categories).encode())
        for picture in data.pictures:
            labels.update(f"{picture.id} {picture.path.name}".encode())
        for one in data.annotations:
            labels.update(f"{one.picture} {one.category} {one.box_xywh} {one.crowd}".encode())
    return {
        "the first model": weights.hexdigest(),
        "the data sets": labels.hexdigest(),
        "the settings": json.dumps(asdict(settings)),
    }


def save_checkpoint(path: Path, identity: dict[str, str], state: State) -> None:
    """Write the file, whole or not at all.

    Raises
    ------
    SinkError: it cannot be written.
    """
    import torch

    with whole_file(path) as file:
        torch.save({"identity": identity, **state}, file)


def load_checkpoint(path: Path, identity: dict[str, str], device: Any) -> State | None:
    """The state that was saved last, None where there is none.

    Raises
    ------
    SourceError: the file is damaged, or of a training of something else; the message says of what.
    """
    import torch

    if not path.is_file():
        return None
    try:
        state: State = torch.load(path, map_location=device, weights_only=True)
        other = [name for name, value in identity.items() if state["identity"].get(name) != value]
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise SourceError(
            f"{shorten(str(path))!r} is no checkpoint or a damaged one; delete it to begin anew ({error})"
        ) from error
    if other:
        raise SourceError(
            f"{shorten(str(path))!r} is of a training that differs in {' and '.join(other)}; give the same command to "
            "go on with it, or delete the file to begin anew"
        )
    return state
