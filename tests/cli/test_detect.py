"""`ssdrt detect` on the demo's graph and picture."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from build import VARIANTS, demo_file
from ssdrt.demo import SHAPES, demo_picture
from ssdrt.detections import Detections
from ssdrt.sinks.video import AnnotatedVideo
from ssdrt.sources.base import Frame

DETECT = ("detect", "frozen_inference_graph.pb")
REFERENCE = ("--engine", "reference")
NOTHING = Detections(
    np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, str), 480, 360
)


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def labels(record):
    return sorted(one["label"] for one in record["detections"])


def test_a_device_is_refused_on_the_processor(ssdrt):
    code, _, err = ssdrt(*DETECT, "photo.png", *REFERENCE, "--device", "0")
    assert (code, "engine reference runs on the processor; a device can be chosen for cuda" in err) == (1, True)
    code, _, err = ssdrt(*DETECT, "photo.png", "--device", "99")
    assert (code, "no engine runs on GPU 99: " in err) == (1, True)
    code, _, err = ssdrt(*DETECT, "photo.png", "--device", "-1")
    assert (code, "'-1' is not a whole number from 0" in err) == (2, True)


def test_one_photo_is_told_as_a_line_and_a_table(ssdrt):
    code, out, err = ssdrt(*DETECT, "photo.png", "--labels", "labels.txt", *REFERENCE)
    line, head, *rows = out.splitlines()
    assert code == 0
    assert line == "photo.png: 2 rouge, 2 bleu, 2 vert"
    assert head.split() == ["class", "id", "score", "x0", "y0", "x1", "y1"]
    assert len(rows) == len(SHAPES)
    for row in rows:
        box = np.array(row.split()[3:], float)
        assert min(np.abs(box - shape.box_xyxy).max() for shape in SHAPES) < 12
    assert err.startswith("1 picture in ")


def test_many_photos_are_a_line_each_and_a_broken_one_is_skipped(ssdrt):
    code, out, err = ssdrt(*DETECT, "pictures", *REFERENCE)
    assert code == 1
    assert [line.split(": ") for line in out.splitlines()] == [
        ["pictures/a.png", "2 class 1, 2 class 3, 2 class 2"],
        ["pictures/c.png", "2 class 1, 2 class 3, 2 class 2"],
    ]
    broken, summary = err.splitlines()
    assert broken.startswith("ssdrt: 'pictures/b.png' is damaged: ")
    assert summary.startswith("3 pictures, 1 failed, in ")
    assert summary.endswith(" pictures/s")


def test_quiet_leaves_results_and_errors(ssdrt):
    code, out, err = ssdrt(*DETECT, "photo.png", "broken.png", "-q", *REFERENCE)
    assert (code, out.count("\n"), err.count("\n")) == (1, 1, 1)


def test_verbose_says_what_runs(ssdrt):
    assert "ssdrt: engine reference, precision fp32\n" in ssdrt(*DETECT, "photo.png", "-v", *REFERENCE)[2]


def test_nothing_found(ssdrt):
    assert ssdrt(*DETECT, "grey.png", *REFERENCE)[1] == "grey.png: nothing found\n"


def test_json_lines_on_standard_output(ssdrt):
    _, out, _ = ssdrt(*DETECT, "photo.png", "grey.png", "--json", "-", *REFERENCE)
    first, second = records(out)
    assert (first["source"], first["width"], first["height"], len(first["detections"])) == ("photo.png", 480, 360, 6)
    assert (second["source"], second["detections"]) == ("grey.png", [])


def test_outputs_of_every_kind_in_one_run(ssdrt, tmp_path):
    outputs = [f"{tmp_path}/{name}" for name in ("drawn/", "coco.json", "table.csv")]
    outputs += [f"yolo:{tmp_path}/yolo", f"crops:{tmp_path}/crops"]
    options = [word for output in outputs for word in ("-o", output)]
    code, out, _ = ssdrt(*DETECT, "photo.png", *options, "--json", tmp_path / "lines.jsonl", *REFERENCE)
    assert (code, out) == (0, "")
    made = {"coco.json", "crops", "drawn", "lines.jsonl", "table.csv", "yolo"}
    assert {path.name for path in tmp_path.iterdir()} == made
    assert Image.open(tmp_path / "drawn" / "photo.png").size == (480, 360)
    assert len(json.loads((tmp_path / "coco.json").read_text())) == len(SHAPES)
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + len(SHAPES)
    assert len(list((tmp_path / "crops").rglob("*.png"))) == len(SHAPES)
    assert len((tmp_path / "yolo" / "photo.txt").read_text().splitlines()) == len(SHAPES)
    (record,) = records((tmp_path / "lines.jsonl").read_text())
    assert len(record["detections"]) == len(SHAPES)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (("--classes", "rouge"), ["rouge", "rouge"]),
        (("--classes", "3, vert"), ["bleu", "bleu", "vert", "vert"]),
        (("--max-det", "1"), ["rouge"]),
        (("--max-det", "1000"), ["bleu", "bleu", "rouge", "rouge", "vert", "vert"]),
        (("--score", "1"), []),
        (("--score", "vert=0.4,1"), ["vert", "vert"]),
        (("--score", "vert=1"), ["bleu", "bleu", "rouge", "rouge"]),
    ],
)
def test_options_choose_what_counts(ssdrt, options, found):
    _, out, _ = ssdrt(*DETECT, "photo.png", "--labels", "labels.txt", "--json", "-", *options, *REFERENCE)
    assert labels(records(out)[0]) == found


def test_more_detections_than_the_graph_keeps_are_not_to_be_had(ssdrt, tmp_path):
    graph = demo_file(tmp_path, VARIANTS["few"])
    _, out, _ = ssdrt("detect", graph, "photo.png", "--json", "-", "--max-det", "1000", "--score", "0", *REFERENCE)
    assert len(records(out)[0]["detections"]) == VARIANTS["few"].postprocessor.nms.max_total


def test_a_higher_overlap_keeps_more_boxes(ssdrt):
    counts = []
    for iou in ("0.3", "1"):
        _, out, _ = ssdrt(*DETECT, "photo.png", "--json", "-", "--iou", iou, "--score", "0.05", *REFERENCE)
        counts.append(len(records(out)[0]["detections"]))
    assert counts[0] < counts[1]


def test_max_pixels_refuses_large_pictures(ssdrt):
    code, _, err = ssdrt(*DETECT, "photo.png", "--max-pixels", "1000", *REFERENCE)
    assert code == 1
    assert err.startswith("ssdrt: 'photo.png' says it is 480 x 360 pixels")


def test_a_photo_on_standard_input(ssdrt, monkeypatch, folder):
    photo = io.TextIOWrapper(io.BytesIO((folder / "photo.png").read_bytes()))
    monkeypatch.setattr(sys, "stdin", photo)
    assert ssdrt(*DETECT, "-", *REFERENCE)[1].startswith("-: 2 class 1, ")


def test_an_output_that_cannot_take_the_second_photo_ends_the_run(ssdrt, tmp_path):
    code, _, err = ssdrt(*DETECT, "photo.png", "grey.png", "-o", tmp_path / "one.png", *REFERENCE)
    assert (code, err.count("\n")) == (1, 1)
    assert "holds one picture and there are more" in err


def test_frames_of_a_video_are_told_with_their_time(ssdrt, tmp_path):
    pytest.importorskip("av", reason="videos need the extra `video`")
    clip, nothing = AnnotatedVideo(str(tmp_path / "clip.mp4")), NOTHING
    for index in range(3):
        clip.write(Frame(demo_picture(), "camera", index, index / 10), nothing)
    clip.close()
    code, out, err = ssdrt(*DETECT, tmp_path / "clip.mp4", *REFERENCE)
    assert code == 0
    assert [line.split(": ")[0] for line in out.splitlines()] == [
        f"{tmp_path / 'clip.mp4'} frame {index}, {index / 10:.2f} s" for index in range(3)
    ]
    assert err.startswith("3 pictures in ")


@pytest.fixture
def clip(tmp_path):
    """Thirty frames of the demo's picture, which moves to the right by 4 pixels a frame."""
    pytest.importorskip("av", reason="videos need the extra `video`")
    path, picture = tmp_path / "clip.mp4", demo_picture()
    video = AnnotatedVideo(str(path))
    for index in range(30):
        video.write(Frame(np.roll(picture, 4 * index, axis=1), "camera", index, index / 10), NOTHING)
    video.close()
    return path


def test_objects_of_a_video_are_tracked_and_counted(ssdrt, clip, tmp_path):
    out = tmp_path / "out.jsonl"
    options = ("--zone", "all=0,0,1,0,1,1,0,1", "--line", "wall=1,0,0.99,1", "--labels", "labels.txt", *REFERENCE)
    assert ssdrt(*DETECT, clip, "--track", *options, "-o", out, "-o", tmp_path / "out.mp4")[0] == 0
    rows = records(out.read_text())
    first = {one["track_id"]: one["label"] for one in rows[0]["detections"]}
    assert sorted(first) == [1, 2, 3, 4, 5, 6]
    for row in rows[:8]:
        assert {one["track_id"]: one["label"] for one in row["detections"]} == first
        assert row["zones"]["all"]["counts"] == row["counts"] == {"rouge": 2, "bleu": 2, "vert": 2}
    assert rows[7]["lines"]["wall"]["in"] == rows[7]["lines"]["wall"]["out"] == {}


def test_what_is_blurred_is_in_no_output(ssdrt, tmp_path):
    pictures = []
    for name, options in (("plain", ()), ("blurred", ("--blur", "rouge"))):
        words = ("-o", tmp_path / f"{name}.png", "-o", f"crops:{tmp_path}/{name}", "--classes", "vert")
        assert ssdrt(*DETECT, "photo.png", "--labels", "labels.txt", *options, *words, *REFERENCE)[0] == 0
        pictures.append(np.asarray(Image.open(tmp_path / f"{name}.png")).astype(int))
        assert [path.name for path in (tmp_path / name).iterdir()] == ["vert"]
    differs = np.abs(pictures[0] - pictures[1]).max(axis=2) > 20
    for shape in SHAPES:
        x0, y0, x1, y1 = np.array(shape.box_xyxy).astype(int)
        assert (differs[y0:y1, x0:x1].mean() > 0.1) == (shape.colour == "red")


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--blur", "dragon", "the model has no class 'dragon'"),
        ("--zone", "door=1,2,3", "is not NAME=x0,y0,x1,y1,..."),
        ("--line", "door=1,2,3,4,5,6", "has 3 points and needs 2 points"),
        ("--segment", "soon", "is no time such as 90s, 10m or 1h"),
    ],
)
def test_analysis_options_that_cannot_be(ssdrt, option, value, problem):
    code, _, err = ssdrt(*DETECT, "photo.png", option, value, *REFERENCE)
    assert code in (1, 2)
    assert problem in err


def test_segments_of_a_video(ssdrt, clip, tmp_path):
    assert ssdrt(*DETECT, clip, "-o", tmp_path / "out.mp4", "--segment", "1s", *REFERENCE)[0] == 0
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out_000.mp4", "out_001.mp4", "out_002.mp4"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (REFERENCE, "pictures decoded on the GPU are for engine cuda (--engine cuda), not for reference"),
        (("--show", *REFERENCE), "--decode gpu is for files"),
    ],
)
def test_decoding_on_the_gpu_where_it_cannot_be(ssdrt, options, problem):
    code, _, err = ssdrt(*DETECT, "photo.png", "--decode", "gpu", *options)
    assert code == 1
    assert problem in err
