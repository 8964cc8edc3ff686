"""Graphs of every vintage, and what TensorFlow itself found with them: where ../shared lies beside the project.

A graph is read and recovered once, by whichever process of a test run comes to it first; the others take its bundle.
"""

import json
import os
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np

from ssdrt.bundle import load_bundle, save_bundle
from ssdrt.graph import graph_from_bytes
from ssdrt.preparation import build
from ssdrt.recover import recover

SHARED = Path(__file__).parents[2] / "shared"
MODELS = SHARED / "models"
GRAPHS = json.loads((MODELS / "graphs.json").read_text()) if MODELS.is_dir() else []
"""Each with name, bytes, weights ("real", or "seeded": drawn by lot), and the names of its file, golden and photos."""

BUNDLES = "SSDRT_TEST_BUNDLES"
"""Environment variable with the folder that the processes of one run share."""


def entry_of(name):
    """A graph's row."""
    return next(entry for entry in GRAPHS if entry["name"] == name)


@lru_cache(maxsize=1)
def graph_bytes(name):
    """The frozen graph."""
    sys.path.insert(0, str(MODELS))
    try:
        import unpack
    finally:
        sys.path.remove(str(MODELS))
    return unpack.graph_bytes(entry_of(name))


def bundle_of(name):
    """Path of the graph's `.ssdrt`, of the reference engine."""
    path = Path(os.environ[BUNDLES]) / f"{name}.ssdrt"
    if not path.exists():
        data = graph_bytes(name)
        save_bundle(build(recover(graph_from_bytes(data, name)), "reference", "fp32", data), path)
    return path


@lru_cache(maxsize=2)
def model_of(name):
    """The recovered model."""
    return load_bundle(bundle_of(name)).model


def golden_of(name):
    """What TensorFlow found: its arrays by name, and the photos that they are of."""
    golden = np.load(MODELS / entry_of(name)["golden"])
    folder = MODELS / entry_of(name)["photos"]
    return golden, [folder / f"{photo}.png" for photo in sorted({key.split("/")[0] for key in golden if "/" in key})]
