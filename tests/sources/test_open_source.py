"""What a user types, and which items come of it."""

import io
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from ssdrt.errors import SourceError
from ssdrt.sources import open_source


def names(*inputs: str) -> list[str]:
    return [os.path.basename(item.source) for item in open_source(*inputs).items]


def greys(*inputs: str) -> list[int]:
    return [int(item.read().image[0, 0, 0]) for item in open_source(*inputs).items]


@pytest.fixture
def standard_input(monkeypatch):
    def pipe(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    return pipe


def test_one_photo(photos):
    source = open_source(str(photos / "a.png"))
    (item,) = source.items
    frame = item.read()
    assert source.length == 1
    assert (frame.source, frame.index, frame.time) == (str(photos / "a.png"), 0, None)
    assert frame.image.tolist() == [[[10] * 3] * 6] * 4


def test_folder_gives_its_pictures_by_name(photos):
    assert names(str(photos)) == ["a.png", "b.png", "c.PNG"]
    assert open_source(str(photos)).length == 3


def test_glob_goes_as_deep_as_it_says(photos):
    assert names(f"{photos}/[ab].png") == ["a.png", "b.png"]
    assert names(f"{photos}/**/*.png") == ["a.png", "b.png", "d.png"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(photos):
    os.rename(photos / "a.png", photos / "a[1].png")
    assert names(str(photos / "a[1].png")) == ["a[1].png"]


def test_several_inputs_follow_each_other(photos):
    assert greys(str(photos / "c.PNG"), str(photos)) == [30, 10, 20, 30]


def test_items_may_be_read_by_many_threads(photos):
    with ThreadPoolExecutor(4) as pool:
        frames = pool.map(lambda item: item.read(), open_source(*[str(photos)] * 20).items)
        assert [int(frame.image[0, 0, 0]) for frame in frames] == [10, 20, 30] * 20


def test_list_is_relative_to_itself_then_to_the_current_folder(photos, monkeypatch):
    (photos / "list.txt").write_text("b.png\n\n  \nbelow/d.png\r\n")
    assert greys(str(photos / "list.txt")) == [20, 40]
    (photos.parent / "list.lst").write_text("a.png\n")
    monkeypatch.chdir(photos)
    assert greys("../list.lst") == [10]


def test_csv_list_by_heading_or_first_column(photos):
    (photos / "list.csv").write_text('id,File,note\n1,a.png,"x, y"\n2,c.PNG,\n')
    assert greys(str(photos / "list.csv")) == [10, 30]
    (photos / "list.csv").write_text("b.png,dog\na.png,cat\n")
    assert greys(str(photos / "list.csv")) == [20, 10]


def test_broken_and_missing_pictures_are_items_that_fail(photos):
    (photos / "b.png").write_bytes(b"broken")
    (photos / "list.txt").write_text("a.png\nb.png\nmissing.png\nc.PNG\n")
    first, broken, missing, last = open_source(str(photos / "list.txt")).items
    assert (first.read().image[0, 0, 0], last.read().image[0, 0, 0]) == (10, 30)
    with pytest.raises(SourceError, match=r"b\.png"):
        broken.read()
    with pytest.raises(SourceError, match=r"missing\.png.*No such file"):
        missing.read()


@pytest.mark.parametrize(
    "text", ["missing.png", "missing/", "*.jpg", "ftp://host/a.jpg", "", "empty", "empty.txt", "a.csv"]
)
def test_what_names_nothing_fails_at_once_or_when_read(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "a.csv").write_bytes(b"a\rb\0\n" + b'"' * 200_001)
    with pytest.raises(SourceError):
        next(open_source(text).items).read()


def test_too_large_pictures_are_refused_unless_allowed(photos):
    assert open_source(str(photos), max_pixels=24).length == 3
    with pytest.raises(SourceError, match="6 x 4"):
        next(open_source(str(photos), max_pixels=23).items).read()


def test_picture_on_standard_input(photos, standard_input):
    standard_input((photos / "b.png").read_bytes())
    frame = next(open_source("-").items).read()
    assert (frame.source, frame.image[0, 0, 0]) == ("-", 20)


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_list_on_standard_input(photos, standard_input, separator):
    standard_input(separator.join((str(photos / "b.png"), str(photos / "a.png"), "")).encode())
    assert greys("-") == [20, 10]


def test_list_that_begins_like_a_picture(tmp_path, standard_input, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (2, 2), (5, 5, 5)).save("BMW and others.png")
    standard_input(b"BMW and others.png\n")
    assert greys("-") == [5]


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff\xd8\xff\xe0\x00\x10JFIF\x01"])
def test_nothing_useful_on_standard_input(data, standard_input):
    standard_input(data)
    with pytest.raises(SourceError, match="standard input"):
        open_source("-")
