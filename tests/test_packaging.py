"""The wheel, installed outside the repository beside numpy and Pillow alone: what `pip install ssdrt` gives a user."""

import json
import os
import re
import resource
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from ssdrt.cli import COMMANDS
from ssdrt.demo import SHAPES
from ssdrt.engines.base import engine_names

ROOT = Path(__file__).parents[1]
EXTRAS = ("av", "cv2", "onnx", "onnxruntime", "openvino", "pooch", "rich", "sdl2", "starlette", "supervision",
          "tensorflow", "uvicorn")  # fmt: skip

pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
pytest.importorskip("pip", reason="pip is not installed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The bin folder of an environment that holds numpy and Pillow (linked from here) and the wheel (by pip)."""
    place = tmp_path_factory.mktemp("user") / "env"
    venv.create(place, symlinks=True)
    packages = next(place.glob("lib/python*/site-packages"))
    for name in ("numpy", "pillow"):
        for part in {file.parts[0] for file in metadata.files(name)} - {".."}:
            (packages / part).symlink_to(metadata.distribution(name).locate_file(part))
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install", "--quiet", "--no-index"]
    subprocess.run([*pip, wheel], check=True)
    return place / "bin"


def run(installed, program, *arguments):
    """Run a program of the environment in its parent folder, with nothing of this tree on any path; its stdout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [installed / program, *arguments],
        cwd=installed.parents[1],
        env={**kept, "SSDRT_HOME": str(installed.parents[1] / "home")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cpu_seconds(installed, program, *arguments):
    """The least processor time of three runs."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(installed, program, *arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def test_the_wheel_holds_the_package_its_types_and_its_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "ssdrt").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    assert {"ssdrt/py.typed", "ssdrt/serve/static/page.html"} <= set(names)
    assert [name for name in names if name.endswith("licenses/LICENSE")]


def test_every_extra_that_an_error_names_exists(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (stated,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        extras = set(re.findall(r"^Provides-Extra: (.*)$", archive.read(stated).decode(), re.MULTILINE))
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "src" / "ssdrt").rglob("*.py"))
    named = set(re.findall(r"""import_extra\([^,)]+, "(\w+)"|ssdrt\[(\w+)\]""", sources))
    assert {one or other for one, other in named} <= extras


def test_the_environment_has_no_extra(installed):
    code = f"import importlib.util as i; print([n for n in {EXTRAS} if i.find_spec(n)])"
    assert run(installed, "python", "-c", code) == "[]\n"


def test_every_module_imports_without_extras(installed):
    code = """
import importlib, pkgutil, ssdrt
names = [m.name for m in pkgutil.walk_packages(ssdrt.__path__, "ssdrt.") if not m.name.endswith("__main__")]
for name in names: importlib.import_module(name)
print(*names)
"""
    assert {"ssdrt.detector", "ssdrt.cli.detect", "ssdrt.engines.openvino"} < set(
        run(installed, "python", "-c", code).split()
    )


def test_the_public_names_need_numpy_alone(installed):
    code = """
import sys, ssdrt
for name in ssdrt.__all__: getattr(ssdrt, name)
files = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
print(*{name.split(".")[0] for name, file in files.items() if "site-packages" in file})
"""
    assert set(run(installed, "python", "-c", code).split()) == {"numpy", "ssdrt"}


def test_import_is_quick(installed):
    code = "import time; begin = time.process_time(); import ssdrt; print(time.process_time() - begin)"
    assert min(float(run(installed, "python", "-c", code)) for _ in range(3)) < 0.15


def test_help_is_quick(installed):
    assert cpu_seconds(installed, "ssdrt", "--help") < 0.2


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_without_extras(installed, command):
    assert f"usage: ssdrt {command}" in run(installed, "ssdrt", command, "--help")


def test_doctor_says_how_to_install_what_is_missing(installed):
    told = run(installed, "ssdrt", "doctor")
    for engine in set(engine_names()) - {"reference", "null"}:
        assert f"pip install 'ssdrt[{engine}]'" in told


def test_detect_with_numpy_and_pillow_alone(installed):
    run(installed, "python", "-m", "ssdrt.demo", "demo")
    words = ("demo/frozen_inference_graph.pb", "demo/picture.png", "--labels", "demo/labels.txt", "--json", "-")
    found = json.loads(run(installed, "ssdrt", "detect", *words, "--quiet"))["detections"]
    assert sorted(one["label"] for one in found) == sorted(shape.colour for shape in SHAPES)
