"""`ssdrt train`, from files to files, on a processor: what is refused, what comes out, and going on after a kill."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from ssdrt.cli import main
from ssdrt.cli.loading import load_model

pytest.importorskip("torch", reason="torch is not installed: pip install 'ssdrt[train]'")
pytest.importorskip("pycocotools", reason="pycocotools is not installed: pip install 'ssdrt[train]'")

BASE = ("train", "data.json", "--images", "pictures", "--init", "demo.pb", "--device", "cpu", "--batch", "2", "-q")


def changed(place, change):
    """data.json after `change` of its content."""
    content = json.loads((place / "data.json").read_text())
    change(content)
    (place / "data.json").write_text(json.dumps(content))


def flat(content):
    content["annotations"][2]["bbox"][2] = 0


def broken(content):
    content["annotations"][2]["bbox"][2] = float("nan")


def no_number(content):
    content["annotations"][2]["bbox"] = [1, 2, "x", 4]


def lost_class(content):
    content["annotations"][2]["category_id"] = 9


def empty_class(content):
    content["categories"].append({"id": 4, "name": "yellow"})


def missing(content):
    content["images"][1]["file_name"] = "gone.png"


def other_size(content):
    content["images"][0]["width"] += 10


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (flat, "1 of 12 boxes have no width or no height"),
        (broken, "1 of 12 boxes are not four finite numbers"),
        (no_number, "annotations[2]"),
        (lost_class, "1 of 12 boxes have a category_id that is not among the categories"),
        (empty_class, "1 of 4 classes have no box (yellow)"),
        (missing, "1 of 3 pictures are not there"),
        (other_size, "give the pictures that were annotated, in their size"),
    ],
)
def test_a_bad_data_set_is_refused_before_training(place, capsys, change, told):
    changed(place, change)
    assert main([*BASE, "-o", "out.pb"]) == 1
    assert told in capsys.readouterr().err
    assert sorted(path.name for path in place.glob("out*")) == []


def test_a_damaged_picture_is_refused_before_training(place, capsys):
    data = (place / "pictures" / "2.png").read_bytes()
    (place / "pictures" / "2.png").write_bytes(data[: len(data) // 2])
    assert main([*BASE, "-o", "out.pb"]) == 1
    assert "2.png' is damaged" in capsys.readouterr().err


def test_a_trained_graph_is_read_and_finds_its_classes(place, capsys):
    words = ("--steps", "3", "--every", "2", "--classes", "red,blue", "--half")
    assert main([*BASE, *words, "--test", "data.json", "--test-images", "pictures", "-o", "out.pb"]) == 0
    told = capsys.readouterr().out
    assert "after 3 steps" in told
    assert {path.name for path in place.glob("out*")} == {
        "out.pb", "out.labels.txt", "out.history.png", "out.predictions.jpg"
    }  # fmt: skip
    for name in ("out.history.png", "out.predictions.jpg"):
        assert np.asarray(Image.open(place / name)).std() > 5
    model = load_model("out.pb")
    assert model.labels.value.names == {1: "red", 2: "blue"}
    assert main(["detect", "out.pb", "pictures/1.png", "--engine", "reference", "-q"]) == 0
    assert "red" in capsys.readouterr().out  # the demo's weights were kept by name


def test_a_run_that_stops_and_goes_on_ends_as_one_that_did_not(place):
    words = ("--steps", "4", "--every", "1", "--keep", "1")
    assert main([*BASE, *words, "-o", "whole.pb"]) == 0
    for left in range(4):
        assert main([*BASE, *words, "--minutes", "0.00001", "-o", "parts.pb"]) == 0
        assert (place / "parts.checkpoint").exists() == (left < 3)
    assert (place / "parts.pb").read_bytes() == (place / "whole.pb").read_bytes()


def test_a_killed_run_goes_on_to_the_same_graph(place):
    words = ("--steps", "10", "--every", "2")
    command = [sys.executable, "-m", "ssdrt", *BASE, *words, "-o", "killed.pb"]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 120
        while not (place / "killed.checkpoint").exists():
            assert time.monotonic() < deadline
            try:
                assert process.wait(0.02) is None, "it ended before it could be killed"
            except subprocess.TimeoutExpired:
                continue
        process.send_signal(signal.SIGKILL)
    assert not (place / "killed.pb").exists()
    assert main([*BASE, *words, "-o", "killed.pb"]) == 0
    assert main([*BASE, *words, "-o", "whole.pb"]) == 0
    assert (place / "killed.pb").read_bytes() == (place / "whole.pb").read_bytes()


def test_a_checkpoint_of_another_training_is_refused(place, capsys):
    assert main([*BASE, "--steps", "4", "--minutes", "0.00001", "-o", "out.pb"]) == 0
    assert main([*BASE, "--steps", "5", "-o", "out.pb"]) == 1
    assert "differs in the settings" in capsys.readouterr().err
    (place / "out.checkpoint").write_bytes(b"PK nothing")
    assert main([*BASE, "--steps", "4", "-o", "out.pb"]) == 1
    assert "no checkpoint or a damaged one" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_an_untrained_network_learns():
    words = ("--init", "mobilenet_v1", "--depth", "0.25", "--size", "64", "--steps", "2", "--rate", "0.01")
    assert main(["train", "data.json", "--images", "pictures", *words, "--device", "cpu", "-o", "new.pb", "-q"]) == 0
    model = load_model("new.pb")
    assert (model.input_size, model.num_classes.value) == ((64, 64), 3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--images", "pictures"), "--images is there 2 times for 1 data sets"),
        (("--classes", "purple"), "labels none of the classes purple"),
        (("--device", "cuda:77"), "torch has no device 'cuda:77' here"),
        (("-o", "nowhere/out.pb"), "is no folder"),
        (("-o", "out.onnx"), "a frozen graph's name ends in .pb"),
        (("--depth", "4"), "wider than the first model"),
    ],
)
def test_a_wrong_word_is_refused(place, capsys, words, told):  # noqa: ARG001
    assert main([*BASE, "-o", "out.pb", *words]) == 1
    assert told in capsys.readouterr().err
