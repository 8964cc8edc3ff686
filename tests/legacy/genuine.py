"""Genuine files of NVIDIA's converter and TensorFlow's goldens, where this checkout has them beside it."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from ssdrt.graph import graph_from_bytes

SHARED = Path(__file__).parents[3] / "shared"
SAMPLES = SHARED / "uff_samples"
MODELS = SHARED / "models"


def samples(*suffixes):
    """Paths of the genuine files; one that says why it is skipped where there are none."""
    found = [path for path in sorted(SAMPLES.glob("*")) if path.suffix in suffixes]
    skip = pytest.param(None, marks=pytest.mark.skip(reason=f"no genuine files in {SAMPLES}"))
    return [pytest.param(path, id=path.stem) for path in found] or [skip]


def recorded(name):
    """(graph, its golden, folder of its photos) of a graph whose weights are stored whole; skips where it is not."""
    if not MODELS.is_dir():
        pytest.skip(f"no models in {MODELS}")
    entry = next(e for e in json.loads((MODELS / "graphs.json").read_text()) if e["name"] == name)
    data = (MODELS / entry["file"]).read_bytes()
    if entry["file"].endswith(".xz"):
        data = lzma.decompress(data)
    return graph_from_bytes(data), np.load(MODELS / entry["golden"]), MODELS / entry["photos"]
