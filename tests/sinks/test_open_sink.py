"""Which sink a name means, and what every whole file promises."""

import os
import stat

import pytest

from ssdrt.errors import SinkError
from ssdrt.sinks import open_sink
from ssdrt.sinks.base import Stems, whole_file


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-", "JsonLines"), ("a.jsonl", "JsonLines"), ("jsonl:a.json", "JsonLines"), ("a.json", "CocoResults"),
        ("coco:a", "CocoResults"), ("a.csv", "CsvTable"), ("a.JPG", "AnnotatedPicture"), ("a.png", "AnnotatedPicture"),
        ("new", "AnnotatedFolder"), ("new.d/", "AnnotatedFolder"), ("folder:v1.2", "AnnotatedFolder"),
        (".", "AnnotatedFolder"), ("crops:c", "Crops"), ("yolo:y", "YoloLabels"),
    ],
)  # fmt: skip
def test_the_name_tells_the_kind(text, kind, tmp_path, monkeypatch, labels):
    monkeypatch.chdir(tmp_path)
    sink = open_sink(text, labels)
    assert type(sink).__name__ == kind
    sink.close()


@pytest.mark.parametrize("text", ["a.txt", "a.avi", "missing/a.json", "jsonl:missing/a", "a.json/b/", "yolo:a.json"])
def test_what_cannot_be_an_output_is_refused(text, tmp_path, monkeypatch, labels):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").touch()
    with pytest.raises(SinkError):
        open_sink(text, labels)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_full_device_is_a_sink_error(make_frame, found, labels):
    sink = open_sink("jsonl:/dev/full", labels)
    with pytest.raises(SinkError, match="No space left"):
        sink.write(make_frame(), found)
    sink.close()


def test_whole_file_appears_when_it_is_whole(tmp_path):
    with whole_file(tmp_path / "a") as file:
        file.write(b"new")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"new"
    assert stat.S_ISREG((tmp_path / "a").stat().st_mode)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), SinkError("no")])
def test_whole_file_that_fails_leaves_the_old_one(tmp_path, failure):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(type(failure)), whole_file(tmp_path / "a") as file:
        raise failure if file.write(b"new") else AssertionError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_whole_file_on_a_full_disk(tmp_path, small_disk):
    with pytest.raises(SinkError, match="cannot be written"), whole_file(tmp_path / "a") as file:
        file.write(bytes(small_disk + 1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("photos/cat.v2.jpg", "cat.v2"), ("-", "stdin"), ("https://host/x/dog.png?size=2", "dog"),
        ("https://host/", "picture"), ("a\nb?.jpg", "a_b_"), ("x" * 250 + ".jpg", "x" * 200),
    ],
)  # fmt: skip
def test_output_names(source, stem, make_frame):
    stems = Stems()
    assert stems.of(make_frame(source)) == stem
    assert stems.of(make_frame(source)) == f"{stem}_2"
    assert Stems().of(make_frame(source, 5, 0.1)) == f"{stem}_000005"


def test_photo_named_as_the_frame_of_a_video_that_comes_later(make_frame):
    stems = Stems()
    photos = [stems.of(make_frame(name)) for name in ("clip_000001.png", "clip_000002.png", "clip.png")]
    assert photos == ["clip_000001", "clip_000002", "clip"]
    assert stems.of(make_frame("clip.mp4", 1, 0.1)) == "clip_2_000001"
    assert stems.of(make_frame("clip_000001.mp4", 0, 0.0)) == "clip_000001_2_000000"
    assert Stems("classes").of(make_frame("dog_000001.png")) == "dog_000001"


def test_names_of_frames_without_end_are_not_remembered_and_no_name_comes_twice(make_frame):
    stems, given = Stems(), []
    for index in range(2000):
        given += [stems.of(make_frame(source, index, 0.1 * index)) for source in ("a/cam.mp4", "b/cam.mp4")]
    given += [
        stems.of(make_frame("a/cam.mp4", 7, 0.7)),
        stems.of(make_frame("cam_000007.png")),
        stems.of(make_frame("cam.png")),
    ]
    assert given[:2] == ["cam_000000", "cam_2_000000"]
    assert len(set(given)) == len(given)
    assert len(stems._taken) + len(stems._videos) < 10
