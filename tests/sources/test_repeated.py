"""Files that begin again, and files of one size."""

from itertools import islice

import numpy as np
from PIL import Image

from ssdrt.sources import open_source
from ssdrt.sources.repeated import repeated
from ssdrt.sources.scaled import scaled


def test_numbers_and_times_go_on_in_the_next_round(tmp_path):
    for number in range(3):
        Image.new("RGB", (6, 4), (number * 10,) * 3).save(tmp_path / f"{number}.png")
    text = f"{tmp_path}/%d.png?rate=10"
    source = repeated(open_source(text), lambda: open_source(text))
    frames = [item.read() for item in islice(source.items, 7)]
    assert [frame.index for frame in frames] == list(range(7))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(7) / 10)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 10, 20, 0, 10, 20, 0]


def test_photos_are_repeated_as_they_are(tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    text = str(tmp_path / "a.png")
    items = list(islice(repeated(open_source(text), lambda: open_source(text)).items, 3))
    assert [(item.source, item.time) for item in items] == [(text, None)] * 3


def test_scaled_pictures_have_the_size_asked_for(tmp_path):
    Image.new("RGB", (6, 4), (9, 9, 9)).save(tmp_path / "a.png")
    source = scaled(open_source(str(tmp_path / "a.png")), (12, 10))
    frame = next(source.items).read()
    assert source.length == 1
    assert frame.image.shape == (10, 12, 3)
    assert int(frame.image.min()) == 9
