"""README.md tells the truth: its commands run and print what it shows, its Python runs, its links lead somewhere."""

import doctest
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

import ssdrt
from ssdrt.adapters import to_json
from ssdrt.cli import COMMANDS, main
from ssdrt.demo.__main__ import write_demo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language):
    """The contents of README's code blocks."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


COMMAND_LINES = [
    pytest.param(command, printed, id=command)
    for block in blocks("console")
    for command, printed in re.findall(r"^\$ ssdrt (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder)
    Image.open(folder / "picture.png").save(folder / "photo.jpg", quality=95)
    return folder


@pytest.fixture(autouse=True)
def _in_a_folder_with_the_demo(tmp_path, demo, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSDRT_HOME", str(tmp_path / "home"))
    for folder in (tmp_path, tmp_path / "demo_out"):
        shutil.copytree(demo, folder, dirs_exist_ok=True)


@pytest.mark.parametrize(("command", "printed"), COMMAND_LINES)
def test_a_command_prints_what_is_shown(command, printed, capsys, monkeypatch):
    pytest.importorskip("openvino", reason="README shows what OpenVINO computes")
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)  # and not a GPU
    if "astronaut" in command:
        pytest.importorskip("skimage", reason="the photo comes with scikit-image: pip install '.[demo]'")
    assert main(shlex.split(command)) == 0
    told = capsys.readouterr().out
    assert doctest.OutputChecker().check_output(printed, told, doctest.ELLIPSIS), told


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    assert "red 0.9" in capsys.readouterr().out


def test_the_record_has_the_fields_that_are_written():
    (record,) = map(json.loads, blocks("json"))
    written = to_json(ssdrt.detect("frozen_inference_graph.pb", "photo.jpg", engine="reference"))
    assert record.keys() == written.keys()
    assert record["detections"][0].keys() == written["detections"][0].keys()


def test_every_command_is_in_the_table():
    assert re.findall(r"^\| `ssdrt (\w+)", README, re.MULTILINE) == list(COMMANDS)


def test_links_lead_to_files():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8"))]
    assert links
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []
