"""The .ssdrt file: what is written is read, and whatever happened to a file, it is used whole or not at all."""

import dataclasses
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mutants
from build import VARIANTS, demo_graph
from limits import judge
from ssdrt import bundle as module
from ssdrt.bundle import (
    ALIGNMENT,
    FORMAT,
    MAGIC,
    START,
    Bundle,
    cache_path,
    home,
    load_bundle,
    prune_cache,
    save_bundle,
)
from ssdrt.errors import BundleError
from ssdrt.model import Conv
from ssdrt.recover import recover
from tiny_ssd import tiny_ssd

FACTS = ("reference", "fp32", "numpy 2", b"plan\0bytes", "because", b"graph")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a bundle."""
    path = tmp_path_factory.mktemp("bundle") / "whole.ssdrt"
    save_bundle(Bundle(tiny_ssd(), *FACTS), path)
    return path.read_bytes()


def assert_same(a, b):
    """Equal, dataclass for dataclass and array for array; a numpy number comes back as an array of no dimension."""
    if isinstance(b, np.generic):
        b = np.asarray(b)
    assert type(a) is type(b)
    if dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert a == b


@pytest.mark.parametrize("name", [*VARIANTS, "tiny"])
def test_what_is_written_is_read(name, tmp_path):
    bundle = Bundle(tiny_ssd() if name == "tiny" else recover(demo_graph(VARIANTS[name])), *FACTS)
    save_bundle(bundle, tmp_path / "a.ssdrt")
    assert_same(load_bundle(tmp_path / "a.ssdrt"), bundle)


def test_infinite_thresholds_are_read(tmp_path):
    bundle = Bundle(tiny_ssd(score_threshold=float("-inf")), *FACTS)
    save_bundle(bundle, tmp_path / "a.ssdrt")
    assert load_bundle(tmp_path / "a.ssdrt").model.nms.score_threshold.value == float("-inf")


def test_shared_arrays_are_written_once_and_stay_shared(tmp_path):
    model = tiny_ssd()
    first = next(layer for layer in model.layers if isinstance(layer, Conv))
    shared = (*model.layers, dataclasses.replace(first, name="again"))
    save_bundle(Bundle(dataclasses.replace(model, layers=shared), *FACTS), tmp_path / "a.ssdrt")
    save_bundle(Bundle(model, *FACTS), tmp_path / "b.ssdrt")
    found = load_bundle(tmp_path / "a.ssdrt").model.layers
    assert found[-1].weights is found[1].weights
    grown = (tmp_path / "a.ssdrt").stat().st_size - (tmp_path / "b.ssdrt").stat().st_size
    assert grown < first.weights.nbytes


def test_arrays_are_aligned_and_read_only(tmp_path):
    save_bundle(Bundle(tiny_ssd(), *FACTS), tmp_path / "a.ssdrt")
    data = (tmp_path / "a.ssdrt").read_bytes()
    assert (START + int.from_bytes(data[START - 8 : START], "little")) % ALIGNMENT == 0
    weights = load_bundle(tmp_path / "a.ssdrt").model.layers[1].weights
    with pytest.raises(ValueError, match="read-only"):
        weights[:] = 0


def test_same_bundle_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_bundle(Bundle(tiny_ssd(), *FACTS), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# --- damage ---------------------------------------------------------------------------------------------------------


def refused(data, path):
    path.write_bytes(data)
    with pytest.raises(BundleError) as caught:
        load_bundle(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_no_bit_of_the_header_can_flip_unseen(whole, tmp_path):
    path = tmp_path / "a.ssdrt"
    end = START + int.from_bytes(whole[START - 8 : START], "little")
    for at in [*range(START), *range(START, end, 7)]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        refused(bytes(flipped), path)


def test_no_damage_anywhere_goes_unseen(whole, tmp_path):
    path = tmp_path / "a.ssdrt"
    for seed in range(500):
        data = mutants.damage(whole, seed)
        if data != whole:
            refused(data, path)


def test_cut_at_every_percent(whole, tmp_path):
    for percent in range(100):
        refused(whole[: len(whole) * percent // 100], tmp_path / "a.ssdrt")


def test_bytes_after_the_end_are_refused(whole, tmp_path):
    refused(whole + b"\0", tmp_path / "a.ssdrt")


def test_header_of_another_meaning_is_refused_or_read_but_never_crashes(whole, tmp_path):
    """Files with a digest that agrees, as somebody may make them on purpose."""
    path = tmp_path / "a.ssdrt"
    kinds = set()
    for seed in range(400):
        path.write_bytes(mutants.signed_bundle(whole, seed))
        verdict = judge(lambda: load_bundle(path), len(whole))
        assert verdict.good, (seed, verdict)
        kinds.add(verdict.kind)
    assert "refused" in kinds


@pytest.mark.parametrize("data", [b"", b"SSDRT", MAGIC, b"\0" * 1000, b"SSDRT\r\n\x07" + b"x" * 100])
def test_what_is_no_bundle(data, tmp_path):
    assert "build it again" in refused(data, tmp_path / "a.ssdrt") or "no .ssdrt file" in refused(data, tmp_path / "a")


def test_other_format_is_refused_with_both_versions(tmp_path, monkeypatch):
    path = tmp_path / "a.ssdrt"
    monkeypatch.setattr(module, "FORMAT", FORMAT + 1)
    save_bundle(Bundle(tiny_ssd(), *FACTS), path)
    monkeypatch.undo()
    assert f"its format is {FORMAT + 1}, this ssdrt reads {FORMAT}" in refused(path.read_bytes(), path)


@pytest.mark.parametrize("name", ["missing.ssdrt", "nul\0.ssdrt", "a" * 300, "."])
def test_path_that_cannot_be_read(name, tmp_path):
    with pytest.raises(BundleError):
        load_bundle(f"{tmp_path}/{name}")


# --- writing --------------------------------------------------------------------------------------------------------


def test_folder_is_made(tmp_path):
    save_bundle(Bundle(tiny_ssd(), *FACTS), tmp_path / "a" / "b" / "c.ssdrt")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c.ssdrt"]


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/dev/null/below"])
def test_folder_that_cannot_be_written_is_an_error(folder):
    with pytest.raises(BundleError, match="cannot be written"):
        save_bundle(Bundle(tiny_ssd(), *FACTS), f"{folder}/a.ssdrt")


WRITE = """
import resource, sys
sys.path.insert(0, {tests!r})
from ssdrt.bundle import Bundle, save_bundle
from ssdrt.errors import BundleError
from tiny_ssd import tiny_ssd
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    save_bundle(Bundle(tiny_ssd(), "reference", "fp32", "", bytes(100_000)), {path!r})
except BundleError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit of file sizes to set")
def test_disk_that_is_full_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.ssdrt"
    save_bundle(Bundle(tiny_ssd(), *FACTS), path)
    before = path.read_bytes()
    script = WRITE.format(tests=str(Path(__file__).parent), path=str(path))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "cannot be written" in run.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def write_for_ever(path, plan):
    """Save the same bundle until killed."""
    bundle = Bundle(tiny_ssd(), "reference", "fp32", "", plan)
    while True:
        save_bundle(bundle, path)


def writers(path, count):
    """Processes that write different bundles to one path."""
    context = multiprocessing.get_context("spawn")
    made = [context.Process(target=write_for_ever, args=(path, bytes([i]) * 3_000_000)) for i in range(count)]
    for process in made:
        process.start()
    return made


def read_until(path, count):
    """Plans of `count` reads that met a file."""
    plans = []
    deadline = time.monotonic() + 60
    while len(plans) < count:
        assert time.monotonic() < deadline
        if path.exists():
            plans.append(load_bundle(path).plan)
    return plans


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_two_writers_killed_at_any_moment_leave_a_whole_file(tmp_path):
    path = tmp_path / "a.ssdrt"
    rng = random.Random(0)
    for _ in range(3):
        processes = writers(path, 2)
        try:
            plans = read_until(path, 10 + rng.randrange(20))
        finally:
            for process in processes:
                os.kill(process.pid, signal.SIGKILL)
                process.join()
        assert {plan[:1] * len(plan) == plan for plan in plans} == {True}
        assert load_bundle(path).plan[:1] in (b"\0", b"\1")
        assert {p.suffix for p in tmp_path.iterdir()} <= {".ssdrt", ".part"}


# --- the cache ------------------------------------------------------------------------------------------------------


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "a"))
    assert home() == tmp_path / "a"
    monkeypatch.delenv("SSDRT_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert home() == tmp_path / "ssdrt"


def test_place_in_the_cache_depends_on_every_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path))
    choices = [
        ("1.0", "openvino", "fp32"),
        ("1.1", "openvino", "fp32"),
        ("1.0", "reference", "fp32"),
        ("1.0", "openvino"),
    ]
    places = [cache_path(digest * 64, *choice) for digest in "ab" for choice in choices]
    assert len(set(places)) == len(places)
    assert cache_path("a" * 64, *choices[0]) == places[0]
    assert places[0].parent == tmp_path / "bundles"


def test_cache_forgets_what_was_used_longest_ago(monkeypatch, tmp_path):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path))
    monkeypatch.setattr(module, "MAX_CACHED", 3)
    folder = tmp_path / "bundles"
    folder.mkdir()
    for i in range(6):
        (folder / f"{i}.ssdrt").write_bytes(b"")
        os.utime(folder / f"{i}.ssdrt", (i, i))
    prune_cache()
    assert sorted(path.name for path in folder.iterdir()) == ["3.ssdrt", "4.ssdrt", "5.ssdrt"]


def test_empty_cache_is_pruned(monkeypatch, tmp_path):
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "nowhere"))
    prune_cache()
