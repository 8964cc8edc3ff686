"""Outputs: opened in one place, and nothing that is there for another purpose is written over."""

import os
import shutil
import subprocess
import sys

import pytest

REFERENCE = ("--engine", "reference", "-q")
GRAPH = "frozen_inference_graph.pb"


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """Copies of the graph, the photo, its labels and a folder, to lose."""
    for name in (GRAPH, "photo.png", "labels.txt"):
        shutil.copy(folder / name, tmp_path / name)
    shutil.copytree(folder / "pictures", tmp_path / "pictures")
    (tmp_path / "list.txt").write_text("photo.png\n")
    (tmp_path / "names.json").write_text('{"1": "rouge"}')
    (tmp_path / "old.csv").write_text("name,price\nbread,3\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ("detect", GRAPH, "photo.png", "--json", GRAPH, *REFERENCE),
        ("detect", GRAPH, "photo.png", "--json", "photo.png", *REFERENCE),
        ("detect", GRAPH, "photo.png", "--json", "./pictures/../photo.png", *REFERENCE),
        ("detect", GRAPH, "photo.png", "--labels", "labels.txt", "--json", "labels.txt", *REFERENCE),
        ("detect", GRAPH, "photo.png", "--labels", "names.json", "-o", "names.json", *REFERENCE),
        ("detect", GRAPH, "list.txt", "--json", "list.txt", *REFERENCE),
        ("detect", GRAPH, "pictures", "--json", "pictures/a.png", *REFERENCE),
        ("detect", GRAPH, "photo.png", "-o", "old.csv", *REFERENCE),
        ("detect", GRAPH, "photo.png", "-o", "names.json", *REFERENCE),
        ("detect", GRAPH, "photo.png", "-o", "photo.png", *REFERENCE),
        ("detect", GRAPH, "test:?frames=1", "--json", GRAPH, *REFERENCE),
        ("build", GRAPH, "-o", GRAPH, *REFERENCE),
        ("build", GRAPH, "--save-plan", GRAPH, *REFERENCE),
        ("convert", GRAPH, GRAPH),
    ],
    ids=" ".join,
)
def test_nothing_is_lost(ssdrt, here, words):
    def contents():
        return {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}

    before = contents()
    code, out, err = ssdrt(*words)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "give another" in err
    assert contents() == before


def test_lines_of_an_earlier_run_are_replaced(ssdrt, here):
    for _ in range(2):
        words = ("--json", "a.jsonl", "-o", "a.csv", "-o", "a.json")
        assert ssdrt("detect", GRAPH, "photo.png", *words, *REFERENCE) == (0, "", "")
        assert len((here / "a.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--json", ""), "'jsonl:' names no output"),
        (("-o", ""), "'' names no output"),
        (("-o", "coco:/dev/null"), "'/dev/null' is a folder, pipe or device"),
        (("-o", "yolo:labels.txt"), "'labels.txt' cannot be made: File exists"),
        (("--json", "pictures"), "'pictures' cannot be written: Is a directory"),
        (("--json", "none/a"), "'none/a': there is no folder 'none'"),
        (("--do_resize", "--width", "5000000"), "5000000 x 480 pixels are more than the"),
        (("--classes", "purple"), "no class 'purple'"),
    ],
)
def test_odd_outputs_and_sizes_are_one_sentence(ssdrt, here, words, problem):
    code, _, err = ssdrt("detect", here / GRAPH, "photo.png", *words, *REFERENCE)
    assert code == 1
    assert err.count("\n") == 1
    assert problem in err


def test_a_name_that_begins_with_a_dash(ssdrt, here, monkeypatch):
    shutil.copy(here / "photo.png", here / "-photo.png")
    monkeypatch.setattr("sys.argv", ["ssdrt", "detect", GRAPH, "-photo.png"])
    code, _, err = ssdrt("detect", GRAPH, "-photo.png")
    assert (code, err.count("\n")) == (2, 1)
    assert "is written ./-photo.png" in err
    assert ssdrt("detect", GRAPH, "./-photo.png", *REFERENCE)[0] == 0


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="root reads everything, and setpriv is not installed")
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("locked.pb", "photo.png"), "locked.pb cannot be read: Permission denied"),
        ((GRAPH, "locked.pb"), "'locked.pb' cannot be read: Permission denied"),
        ((GRAPH, "photo.png", "--labels", "locked.pb"), "locked.pb"),
        ((GRAPH, "photo.png", "-o", "closed/a.png"), "'closed/a.png' cannot be written: Permission denied"),
        ((GRAPH, "photo.png", "--json", "closed/a"), "'closed/a' cannot be written: Permission denied"),
        ((GRAPH, "photo.png", "-o", "closed/new/"), "'closed/new/' cannot be made: Permission denied"),
    ],
)
def test_what_may_not_be_read_or_written(here, words, problem):
    """In a process that has not root's right to pass over permissions."""
    (here / "locked.pb").touch(mode=0)
    (here / "closed").mkdir(mode=0o555)
    rights = "-dac_override,-dac_read_search"
    drop = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.geteuid() == 0 else []
    command = [*drop, sys.executable, "-m", "ssdrt", "detect", *words, *REFERENCE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert problem in done.stderr


def test_a_list_that_is_written_at_the_end_is_not_for_cameras(ssdrt):
    code, _, err = ssdrt("detect", GRAPH, "camera:0", "-o", "a.json", *REFERENCE)
    assert (code, err.count("\n")) == (1, 1)
    assert "give a .jsonl" in err


def test_several_streams_into_a_folder_have_a_video_each(ssdrt, here):
    av = pytest.importorskip("av", reason="videos need the extra `video`")
    streams = ("test:?size=64x48&rate=20&frames=12", "test:?size=48x64&rate=20&frames=12")
    assert ssdrt("detect", GRAPH, *streams, "-o", "out/", "--engine", "null", "-q")[0] == 0
    sizes = set()
    for path in (here / "out").iterdir():
        with av.open(str(path)) as container:
            sizes.add((container.streams.video[0].width, container.streams.video[0].height))
    assert len(list((here / "out").iterdir())) == 2
    assert sizes == {(64, 48), (48, 64)}
