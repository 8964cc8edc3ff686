"""JSON lines: the schema, the way back, and files that stay readable."""

import json
import os
import random
from dataclasses import replace

import numpy as np
import pytest

from ssdrt.errors import SinkError, SourceError
from ssdrt.sinks.jsonl import JsonLines, read_jsonl


def test_record_is_the_schema(tmp_path, make_frame, found, nothing):
    sink = JsonLines(str(tmp_path / "out.jsonl"))
    sink.write(make_frame(), found)
    sink.write(make_frame("clip.mp4", 7, 0.25), nothing)
    sink.close()
    photo, video = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert photo == {
        "source": "photos/cat.jpg",
        "index": 0,
        "time": None,
        "width": 40,
        "height": 30,
        "detections": [
            {"box": [4.5, 3.25, 20.5, 27.0], "score": 0.9, "class_id": 1, "label": "person"},
            {"box": [10.0, 10.0, 39.5, 30.0], "score": 0.3, "class_id": 3, "label": "car"},
        ],
    }
    assert video == {"source": "clip.mp4", "index": 7, "time": 0.25, "width": 40, "height": 30, "detections": []}


def test_what_is_read_back_is_what_was_written(tmp_path, make_frame, found, nothing):
    path, name = tmp_path / "out.jsonl", os.fsdecode(b"bad \xff\n\xe4\xb8\xad.jpg")
    sink = JsonLines(str(path))
    sink.write(make_frame(name), found)
    sink.write(make_frame("clip.mp4", 3, 1 / 3), nothing)
    sink.close()
    photo, video = read_jsonl(path)
    assert (photo.source, photo.index, photo.time) == (name, 0, None)
    assert (video.source, video.index, video.time) == ("clip.mp4", 3, 1 / 3)
    for field in ("boxes_xyxy", "scores", "class_ids", "labels"):
        for record, original in ((photo, found), (video, nothing)):
            np.testing.assert_array_equal(getattr(record.found, field), getattr(original, field))
            assert getattr(record.found, field).dtype.kind == getattr(original, field).dtype.kind
    assert (photo.found.width, photo.found.height) == (40, 30)


def test_lines_can_be_read_while_more_are_written(tmp_path, make_frame, found):
    sink = JsonLines(str(tmp_path / "out.jsonl"))
    for count in range(1, 4):
        sink.write(make_frame(), found)
        assert len(list(read_jsonl(tmp_path / "out.jsonl"))) == count
    sink.close()


def test_full_disk_leaves_whole_lines(tmp_path, make_frame, found, small_disk):
    sink = JsonLines(str(tmp_path / "out.jsonl"))
    with pytest.raises(SinkError, match="cannot be written"):
        any(sink.write(make_frame(index=index), found) for index in range(small_disk))
    sink.close()
    indices = [record.index for record in read_jsonl(tmp_path / "out.jsonl")]
    assert indices == list(range(len(indices)))
    assert small_disk - 1000 < (tmp_path / "out.jsonl").stat().st_size <= small_disk


def test_standard_output(capfdbinary, make_frame, nothing):
    sink = JsonLines("-")
    sink.write(make_frame(), nothing)
    sink.close()
    assert json.loads(capfdbinary.readouterr().out)["source"] == "photos/cat.jpg"


GOOD = '{"source": "a", "index": 0, "time": null, "width": 1, "height": 1, "detections": [%s]}'
DETECTION = '{"box": [0, 1, 2, 3], "score": 1, "class_id": 1, "label": "x"}'


def test_fields_beyond_the_schema_are_ignored(tmp_path):
    (tmp_path / "in.jsonl").write_text(GOOD.replace('"a",', '"a", "id": 5,') % DETECTION)
    (record,) = read_jsonl(tmp_path / "in.jsonl")
    assert record.found.boxes_xyxy.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    "line",
    [
        *("", "nonsense", "[]", "{}", "\udcff", '{"source": "\\ud8"}', "[" * 100_000, '{"a": ' * 10_000),
        *(
            GOOD[:-3],
            GOOD % "{}",
            GOOD % "1",
            GOOD.replace("null", '"now"') % "",
            GOOD.replace('h": 1', 'h": "1"') % "",
        ),
        *(GOOD % DETECTION.replace("3]", end) for end in ("3, 4]", '"3"]', "NaN]", "1e99]", "9" * 400 + "]")),
        *(GOOD % DETECTION.replace('id": 1', f'id": {value}') for value in ("99999999999999999999", "1.5", "null")),
    ],
)
def test_what_is_no_record_is_named_by_its_line(tmp_path, line):
    good = (GOOD % DETECTION).encode()
    (tmp_path / "in.jsonl").write_bytes(good + b"\n" + line.encode("utf-8", "surrogateescape") + b"\n" + good)
    records = read_jsonl(tmp_path / "in.jsonl")
    assert next(records).source == "a"
    with pytest.raises(SourceError, match=r"in\.jsonl', line 2 "):
        next(records)


def test_endless_line_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("ssdrt.sinks.jsonl.MAX_LINE", 1000)
    (tmp_path / "in.jsonl").write_text(GOOD % (" " * 2000))
    with pytest.raises(SourceError, match="longer than 1000 bytes"):
        next(read_jsonl(tmp_path / "in.jsonl"))


def test_mutated_files_raise_nothing_but_source_errors(tmp_path):
    rng, path, good = random.Random(5), tmp_path / "in.jsonl", (GOOD % DETECTION).encode() + b"\n"
    refused = 0
    for _ in range(300):
        data = bytearray(good)
        for _ in range(rng.choice((1, 2, 5))):
            data[rng.randrange(len(data))] = rng.choice(b'0159eE.-+[]{}",:\\ntf\x00\xff ')
        path.write_bytes(data)
        try:
            list(read_jsonl(path))
        except SourceError:
            refused += 1
    assert 0 < refused < 300


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        next(read_jsonl(tmp_path / "missing.jsonl"))


def test_tracks_and_extra_are_read_back(tmp_path, make_frame, found):
    zone = {"polygon": [[0, 0], [40, 0], [40, 30]], "counts": {"person": 1}}
    sink, extra = JsonLines(str(tmp_path / "out.jsonl")), {"zones": {"a": zone}, "events": []}
    sink.write(make_frame(), replace(found, track_ids=np.array([-1, 12]), extra=extra))
    sink.write(make_frame(), found)
    sink.close()
    tracked, plain = read_jsonl(tmp_path / "out.jsonl")
    assert tracked.found.track_ids.tolist() == [-1, 12]
    assert tracked.found.extra == extra
    assert plain.found.track_ids is None


@pytest.mark.parametrize(
    "extra",
    [
        {"zones": {"a": {}}},
        {"zones": []},
        {"zones": {"a": {"polygon": [[0, 0], [1, 1], [2, 1e12]], "counts": {}}}},
        {"zones": {"a": {"polygon": [[0, 0], [1, 1], [2, 0]], "counts": {"x": "y"}}}},
        {"lines": {"a": {"line": [[0, 0]], "in": {}, "out": {}}}},
    ],
)
def test_zones_and_lines_that_are_none_are_refused(tmp_path, extra):
    line = {"source": "a", "index": 0, "time": None, "width": 4, "height": 3, "detections": [], **extra}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    with pytest.raises(SourceError, match="line 1 is no record"):
        list(read_jsonl(tmp_path / "a.jsonl"))
