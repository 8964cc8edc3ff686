"""A model as the user names it, for the commands that run nothing."""

from __future__ import annotations

from ssdrt.bundle import load_bundle
from ssdrt.graph import read_graph
from ssdrt.model import SsdModel
from ssdrt.recover import recover
from ssdrt.zoo import model_path


def load_model(name: str) -> SsdModel:
    """What a frozen graph, a bundle or a model of the zoo says about its detector.

    Raises
    ------
    SsdrtError: it cannot be read, recovered or fetched.
    """
    path = model_path(name)
    return load_bundle(path).model if path.suffix == ".ssdrt" else recover(read_graph(path))
