"""The door of the command line: help, exit codes, messages of one line, pipes and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ssdrt
from ssdrt.cli import COMMANDS

GRAPH = "frozen_inference_graph.pb"
SOURCES = str(Path(ssdrt.__file__).parents[1])
BARE = (
    "-I",
    "-S",
    "-c",
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from ssdrt.cli import main; main()",
    SOURCES,
)
"""Python without any installed package, numpy included."""


def start(*words, **options):
    """`python -m ssdrt` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    return subprocess.Popen([sys.executable, "-m", "ssdrt", *words], env=environment, text=True, **options)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_needs_no_package(command):
    run = subprocess.run(
        [sys.executable, *BARE, *command.split(), "--help"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"usage: ssdrt {command}".rstrip())


def test_version(ssdrt):
    assert ssdrt("--version")[:2] == (0, f"ssdrt {__import__('ssdrt').__version__}\n")


def test_without_a_command_the_help_goes_to_stderr(ssdrt):
    code, out, err = ssdrt()
    assert (code, out) == (2, "")
    assert all(command in err for command in COMMANDS)


@pytest.mark.parametrize(
    "words",
    [
        ("detct", GRAPH),
        ("detect", GRAPH),
        ("detect", GRAPH, "photo.png", "--score", "1.5"),
        ("detect", GRAPH, "photo.png", "--score", "nan"),
        ("detect", GRAPH, "photo.png", "--score", "0.5,0.6"),
        ("detect", GRAPH, "photo.png", "--score", "red="),
        ("detect", GRAPH, "photo.png", "--classes", "red,,blue"),
        ("detect", GRAPH, "photo.png", "--max-det", "0"),
        ("detect", GRAPH, "photo.png", "--iou", "two"),
        ("detect", GRAPH, "photo.png", "--quiet", "--verbose"),
        ("convert", GRAPH),
        ("bench", GRAPH, "--seconds", "-1"),
    ],
)
def test_wrong_usage_is_2(ssdrt, words):
    code, out, err = ssdrt(*words)
    assert (code, out) == (2, "")
    assert err.startswith("ssdrt: ")
    assert err.endswith(" --help\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("detect", "none.pb", "photo.png"), "none.pb cannot be read: No such file"),
        (("detect", "no_such_model", "photo.png"), "'no_such_model' is neither a file nor a model of the zoo"),
        (("detect", "photo.png", GRAPH), "photo.png: "),
        (("detect", GRAPH, "none.png"), "'none.png' cannot be read: No such file"),
        (("detect", GRAPH, "*.bmp"), "'*.bmp' matches no file"),
        (
            ("detect", GRAPH, "photo.png", "--engine", "tensort"),
            "there is no engine 'tensort'; the engines are: auto, ",
        ),
        (("detect", GRAPH, "photo.png", "--engine", "null", "--precision", "int3"), "does not compute in int3 here"),
        (("detect", GRAPH, "photo.png", "--labels", "none.txt"), "'none.txt': there is no such file"),
        (
            ("detect", GRAPH, "photo.png", "--labels", "labels.txt", "--classes", "rogue"),
            "no class 'rogue'; it has rouge",
        ),
        (("detect", GRAPH, "photo.png", "--score", "green=0.5"), "no class 'green'; it has ids 1 to 3"),
        (("detect", GRAPH, "photo.png", "-o", "out.exe"), "'out.exe' does not say what to write"),
        (("detect", GRAPH, "photo.png", "-o", "photo.png"), "'photo.png' is the input itself"),
        (("detect", GRAPH, "photo.png", "--json", "none/out.jsonl"), "there is no folder 'none'"),
        (("inspect", "photo.png"), "photo.png: "),
        (("inspect", "."), ". is a folder"),
        (("check", GRAPH, "broken.png"), "'broken.png' is damaged"),
        (("convert", GRAPH, "out.txt"), "give a name that ends in .onnx, .pb or .uff"),
        (("convert", GRAPH, "none/out.onnx"), "'none/out.onnx' cannot be written"),
        (("convert", GRAPH, "out.onnx", "--opset", "99"), "ONNX opset 99 cannot be written"),
        (("build", GRAPH, "--labels", "photo.png"), "a label map is a file of"),
        (("build", GRAPH, "-o", "photo.png/out.ssdrt"), "cannot be written"),
        (("bench", GRAPH, "--engine", "null,none"), "there is no engine 'none'"),
    ],
)
def test_every_failure_is_one_line(ssdrt, words, message):
    quick = {"bench": ("--seconds", "0.01"), "detect": ("--engine", "reference")}  # what builds, says so, too
    code, _, err = ssdrt(words[0], *quick.get(words[0], ()), *words[1:])
    assert code == 1
    assert err.startswith("ssdrt: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_mistake_of_ours_says_how_to_report_it(ssdrt, monkeypatch):
    def run(_args):
        raise ZeroDivisionError("so\nmany")

    monkeypatch.setattr("ssdrt.cli.models.run", run)
    code, _, err = ssdrt("models")
    assert code == 70
    assert err.startswith("ssdrt: internal error: ZeroDivisionError: so many; please report it")
    assert err.count("\n") == 1
    monkeypatch.setenv("SSDRT_DEBUG", "1")
    assert "Traceback" in ssdrt("models")[2]


@pytest.fixture
def many_photos(tmp_path, folder):
    """A list of so many photos that nobody waits for the last one."""
    path = tmp_path / "many.txt"
    path.write_text(f"{folder / 'photo.png'}\n" * 2000)
    return str(path)


def test_a_reader_that_goes_away_is_no_error(many_photos):
    words = ("detect", GRAPH, many_photos, "--engine", "null", "--json", "-")
    with start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_ctrl_c_leaves_readable_outputs(many_photos, tmp_path):
    results = tmp_path / "results.json"
    words = ("detect", GRAPH, many_photos, "--engine", "null", "--json", "-", "-o", str(results))
    with start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        lines = [first, *process.stdout]
        assert process.stderr.read() == "ssdrt: interrupted\n"
    assert process.returncode == 130
    found = sum(len(json.loads(line)["detections"]) for line in lines)
    assert found > 0
    assert abs(len(json.loads(results.read_text())) - found) <= len(json.loads(first)["detections"])
