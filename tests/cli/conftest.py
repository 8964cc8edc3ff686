"""The demo's graph and picture as files, and a cache of their own."""

import numpy as np
import pytest
from PIL import Image

from build import demo_file
from ssdrt.cli import main
from ssdrt.demo import demo_picture


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """frozen_inference_graph.pb, photo.png, broken.png, labels.txt; pictures/ holds three photos, one broken."""
    folder = tmp_path_factory.mktemp("cli")
    demo_file(folder)
    Image.fromarray(demo_picture()).save(folder / "photo.png", compress_level=1)
    (folder / "broken.png").write_bytes((folder / "photo.png").read_bytes()[:3000])
    (folder / "labels.txt").write_text("rouge\nvert\nbleu\n")
    (folder / "pictures").mkdir()
    for name in ("a.png", "c.png"):
        (folder / "pictures" / name).write_bytes((folder / "photo.png").read_bytes())
    (folder / "pictures" / "b.png").write_bytes((folder / "broken.png").read_bytes())
    Image.fromarray(np.full((40, 60, 3), 127, np.uint8)).save(folder / "grey.png")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _in_the_folder(monkeypatch, folder, cache):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SSDRT_HOME", str(cache))
    monkeypatch.delenv("SSDRT_DEBUG", raising=False)


@pytest.fixture
def ssdrt(capsys):
    """Run one command line in this process: its exit code, standard output and standard error."""

    def run(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        return (code, *capsys.readouterr())

    return run
