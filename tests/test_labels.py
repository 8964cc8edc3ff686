"""Label maps: COCO's, the three kinds of file, and files that are none."""

import json
import random
import time

import pytest

from ssdrt.errors import LabelError
from ssdrt.labels import COCO, MAX_BYTES, label_map_for, read_labels

PBTXT = r"""
# a comment { with a bracket
item {
  name: "/m/01g317"
  id: 1
  display_name: "person"
}
item { display_name: 'it\'s "one" \303\251\x21', id: 3; name: "b" }  item: < id: 2 name: "first " "second" >
item {
  id: 7
  name: "hand"  # another
  keypoints { id: 99 label: "thumb" nested { name: "deep" } }
  ancestor_ids: ["a", "b"]
  frequency: FREQUENT
}
"""


def read(tmp_path, suffix: str, content: str | bytes):
    path = tmp_path / f"labels{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(path).names


def test_coco_has_80_names_in_90_ids():
    assert len(COCO.names) == 80
    assert (min(COCO.names), max(COCO.names)) == (1, 90)
    assert [COCO.names[i] for i in (1, 13, 27, 44, 67, 90)] == [
        "person", "stop sign", "backpack", "bottle", "dining table", "toothbrush",
    ]  # fmt: skip
    assert not set(COCO.names) & {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def test_coco_is_taken_for_90_classes_only():
    assert label_map_for(90, 1).value is COCO
    assert label_map_for(90, 0).value.names == label_map_for(3, 1).value.names == {}


def test_pbtxt_in_any_order_with_comments_escapes_and_nested_messages(tmp_path):
    assert read(tmp_path, ".pbtxt", PBTXT) == {1: "person", 3: 'it\'s "one" é!', 2: "first second", 7: "hand"}


def test_pbtxt_of_windows(tmp_path):
    assert read(tmp_path, ".pbtxt", b"\xef\xbb\xbf" + PBTXT.replace("\n", "\r\n").encode())[1] == "person"


def test_txt_counts_from_one(tmp_path):
    assert read(tmp_path, ".txt", "cat\n\n dog \r\n7 up\n") == {1: "cat", 2: "dog", 3: "7 up"}


@pytest.mark.parametrize("first", ["???", "background", "Background"])
def test_txt_that_begins_with_the_background_counts_from_zero(tmp_path, first):
    names = read(tmp_path, ".txt", f"{first}\nperson\n???\ncar\n")
    assert {class_id: name for class_id, name in names.items() if class_id} == {1: "person", 3: "car"}


@pytest.mark.parametrize("separator", [" ", ": ", ":", "\t", " : "])
def test_txt_with_ids(tmp_path, separator):
    assert read(tmp_path, ".txt", f"3{separator}traffic light\n0{separator}cat\n") == {3: "traffic light", 0: "cat"}


def test_json_list_or_object(tmp_path):
    assert read(tmp_path, ".json", '["cat", "dog"]') == {1: "cat", 2: "dog"}
    assert read(tmp_path, ".json", '{"1": "cat", "5": "d\\u00f6g"}') == {1: "cat", 5: "dög"}


NO_LABEL_MAPS = {
    ".pbtxt": [
        "", "item {", "}", "{" * 200_000, "item { id: 1 }", 'item { name: "a" }', 'item { id: one name: "a" }',
        'item { id: 1 name: "a" } item { id: 1 name: "b" }', 'item { id: 1 name: "a }', 'item { id: -1 name: "a" }',
        "item \u221e",
        f'item {{ id: {"9" * 5000} name: "a" }}', 'item { id: 1 name: "\\377" }', 'node { name: "a" op: "Const" }',
    ],
    ".txt": ["", " \n\n", "1 cat\n1 dog\n", b"\xff\xfe\x00", "1000000 cat"],
    ".json": ["", "{}", "[]", "[1]", '{"a": "cat"}', '{"1": 2}', "[" * 100_000, '"cat"', '[["cat"]]'],
    ".yaml": ["cat"],
    "": ["cat"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "content"), [(key, content) for key, all_ in NO_LABEL_MAPS.items() for content in all_]
)
def test_what_is_no_label_map_is_refused(tmp_path, suffix, content):
    with pytest.raises(LabelError, match="labels"):
        read(tmp_path, suffix, content)


@pytest.mark.parametrize("suffix", [".pbtxt", ".txt", ".json"])
def test_huge_files_are_refused_at_once(tmp_path, suffix):
    path = tmp_path / f"labels{suffix}"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(LabelError, match="larger than"):
        read_labels(path)


@pytest.mark.parametrize(
    "content", ["{" * 2_000_000, " " * 9_000_000 + "?", '"' + "\\" * 9_000_000, "#" * 9_000_000, "a" * 9_000_000]
)
def test_largest_allowed_nonsense_is_refused_within_seconds(tmp_path, content):
    begin = time.process_time()
    with pytest.raises(LabelError):
        read(tmp_path, ".pbtxt", content)
    assert time.process_time() - begin < 3


@pytest.mark.parametrize("name", ["missing.txt", ".", "nul\0.txt"])
def test_what_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(LabelError):
        read_labels(f"{tmp_path}/{name}")


def test_mutated_label_maps_raise_nothing_but_label_errors(tmp_path):
    rng, refused = random.Random(11), 0
    whole = {".pbtxt": PBTXT, ".txt": "0: a\n1: b\n2: c\n", ".json": json.dumps({str(i): "x" * i for i in range(1, 9)})}
    for _ in range(500):
        suffix = rng.choice(list(whole))
        data = bytearray(whole[suffix].encode())
        for _ in range(rng.choice((1, 2, 8))):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.choice(
                (b"{", b"}", b'"', b"\\", b":", b"\n", b"9" * 9, b"\xff", b"", b"#")
            )
        try:
            assert read(tmp_path, suffix, bytes(data))
        except LabelError:
            refused += 1
    assert 100 < refused < 500
