"""The `.ssdrt` file: what goes in comes out, and nothing else is taken for one."""

import dataclasses
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from build import demo_graph
from ssdrt.bundle import MAGIC, MAX_CACHED, Bundle, home, load_bundle, prune_cache, save_bundle
from ssdrt.errors import BundleError
from ssdrt.recover import recover
from tiny_ssd import tiny_ssd


def equal(a, b):
    """Whether two trees of plain data are the same, arrays element by element."""
    if isinstance(a, np.ndarray | np.generic):
        return np.asarray(a).dtype == np.asarray(b).dtype and np.array_equal(a, b)
    if dataclasses.is_dataclass(a):
        names = [f.name for f in dataclasses.fields(a)]
        return type(a) is type(b) and all(equal(getattr(a, n), getattr(b, n)) for n in names)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.fixture
def saved(tmp_path):
    """(bundle, path) of the demo model with a plan of some bytes."""
    bundle = Bundle(recover(demo_graph()), "null", "fp32", "somewhere", b"plan" * 100, "asked for", b"graph")
    path = tmp_path / "model.ssdrt"
    save_bundle(bundle, path)
    return bundle, path


@pytest.mark.parametrize("model", [tiny_ssd, lambda: recover(demo_graph())], ids=["every layer kind", "demo"])
def test_round_trip(model, tmp_path):
    bundle = Bundle(model(), "null", "fp32", "print", bytes(range(256)), "why", b"pb")
    save_bundle(bundle, tmp_path / "a.ssdrt")
    assert equal(load_bundle(tmp_path / "a.ssdrt"), bundle)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ssdrt"]


def test_shared_arrays_stay_shared(tmp_path):
    model = recover(demo_graph())
    layers = (model.layers[0], dataclasses.replace(model.layers[0], name="again"))
    save_bundle(Bundle(dataclasses.replace(model, layers=layers), "null", "fp32", "", b""), tmp_path / "a.ssdrt")
    first, second = load_bundle(tmp_path / "a.ssdrt").model.layers
    assert first.weights is second.weights


def test_any_damage_is_a_bundle_error(saved):
    _, path = saved
    good = path.read_bytes()
    generator = random.Random(1)
    for turn in range(400):
        data = bytearray(good)
        if turn % 4 == 0:
            del data[generator.randrange(len(data)) :]
        else:
            where = generator.randrange(len(data) if turn % 4 == 1 else 2000)
            data[where] ^= 1 << generator.randrange(8)
        path.write_bytes(data)
        with pytest.raises(BundleError):
            load_bundle(path)


@pytest.mark.parametrize("content", [b"", MAGIC, MAGIC + b"\xff" * 8, MAGIC + bytes(8), b"PK\x03\x04", b"{}"])
def test_foreign_files_are_refused(content, tmp_path):
    (tmp_path / "a.ssdrt").write_bytes(content)
    with pytest.raises(BundleError, match=r"a\.ssdrt"):
        load_bundle(tmp_path / "a.ssdrt")


def test_a_file_that_cannot_be_written_leaves_the_old_one(saved, tmp_path):
    bundle, path = saved
    script = (
        "import resource, sys; from ssdrt.bundle import load_bundle, save_bundle\n"
        "bundle = load_bundle(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from ssdrt.errors import BundleError\n"
        "try: save_bundle(bundle, sys.argv[1])\n"
        "except BundleError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "cannot be written" in said.stdout
    assert equal(load_bundle(path), bundle)
    assert [p.name for p in tmp_path.iterdir()] == ["model.ssdrt"]


def test_the_cache_forgets_what_was_used_longest_ago(tmp_path, monkeypatch):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path))
    folder = home() / "bundles"
    folder.mkdir()
    for i in range(MAX_CACHED + 3):
        (folder / f"{i:02}.ssdrt").write_bytes(b"")
        os.utime(folder / f"{i:02}.ssdrt", (1000 + i, 1000 + i))
    prune_cache()
    assert sorted(p.name for p in folder.iterdir()) == [f"{i:02}.ssdrt" for i in range(3, MAX_CACHED + 3)]
