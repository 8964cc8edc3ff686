"""Letters of several scripts in one text, each in a font that has it."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ssdrt.detections import Detections
from ssdrt.sinks.draw import annotate, layout
from ssdrt.sinks.fonts import NOT_A_CHARACTER, draw_text, runs_of, text_length
from ssdrt.sinks.overlay import annotate_all

WORDS = {"Cyrillic": "рука", "Greek": "χέρι", "Arabic": "يد", "Hebrew": "יד", "Chinese": "手", "Korean": "손",
         "Thai": "มือ", "Hindi": "हाथ"}  # fmt: skip


def has_all(text):
    """Whether the system has the letters of a text."""
    return all(
        bytes(font.getmask(letter)) != bytes(font.getmask(NOT_A_CHARACTER))
        for part, font in runs_of(text, 32)
        for letter in part
    )


def need(*words):
    for word in words:
        if not has_all(word):
            pytest.skip(f"no font here has {word!r} (Debian: fonts-noto-core, fonts-wqy-microhei)")


def test_plain_text_is_one_run_of_the_built_in_font():
    ((text, font),) = runs_of("person 87%", 20)
    assert (text, font.getname()[0]) == ("person 87%", "Aileron")


@pytest.mark.parametrize("script", WORDS)
def test_a_foreign_word_between_latin_ones_has_a_font_of_its_own(script):
    need(WORDS[script])
    text = f"hand {WORDS[script]} {WORDS[script]} 87%"
    runs = runs_of(text, 20)
    assert "".join(part for part, _ in runs) == text
    assert [part for part, _ in runs] == ["hand ", f"{WORDS[script]} {WORDS[script]}", " 87%"]
    assert text_length(text, 20) == pytest.approx(sum(font.getlength(part) for part, font in runs))


def test_letters_of_scripts_that_no_font_has_together():
    need(WORDS["Chinese"], WORDS["Hindi"])
    (first, _), (second, _) = runs_of(WORDS["Chinese"] + WORDS["Hindi"], 20)
    assert (first, second) == (WORDS["Chinese"], WORDS["Hindi"])


def test_an_accent_stays_with_its_letter():
    need(WORDS["Cyrillic"])
    assert any("\u0435\u0301" in part for part, _ in runs_of("手Приве\u0301т", 20))


def test_each_letter_is_where_it_would_be_alone():
    need(WORDS["Cyrillic"])
    text, size = f"hand {WORDS['Cyrillic']}", 32

    def ink(part, left):
        image = Image.new("L", (400, 60))
        draw_text(ImageDraw.Draw(image), left, 30, part, size, 255)
        return np.asarray(image) > 128

    columns = np.flatnonzero(ink(text, 5).any(axis=0))
    assert columns.min() >= 5
    assert columns.max() <= 5 + text_length(text, size) + 1
    rows, plain = (np.flatnonzero(ink(part, 5).any(axis=1)) for part in (text, "hand"))
    assert rows.min() == plain.min()


@pytest.mark.parametrize("size", [(100, 60), (320, 240), (1280, 720), (3840, 2160)])
def test_labels_stay_in_the_picture_and_can_be_read(size):
    width, height = size
    labels = np.array([f"{name} {word}" for name, word in WORDS.items()] + ["a very long name of a class " * 3])
    boxes = np.array([[-20, -20, 30, 30], [width - 20, -20, width + 20, 20], [-20, height - 20, 20, height + 20]] * 3)
    found = Detections(
        boxes.astype(np.float32), np.linspace(0.9, 0.4, 9).astype(np.float32), np.arange(9), labels, *size
    )
    drawn = layout(found, width, height)
    assert len(drawn.labels) == 9
    for left, top, pixels in drawn.labels:
        assert 0 <= left <= width - pixels.shape[1]
        assert 0 <= top <= height - pixels.shape[0]
        assert pixels.shape[0] >= 14  # letters of ten pixels at least
        assert pixels.shape[0] > min(size) / 60
    picture = annotate(np.full((height, width, 3), 90, np.uint8), found)
    assert picture.shape == (height, width, 3)


def test_names_of_zones_may_be_of_several_scripts():
    zones = {"zones": {"入口 gate": {"polygon": [[10, 10], [200, 10], [200, 100]], "counts": {"рука": 2}}}}
    none = np.zeros(0, np.float32)
    found = Detections(none.reshape(0, 4), none, none.astype(int), none.astype(str), 320, 240, None, zones)
    assert (annotate_all(np.zeros((240, 320, 3), np.uint8), found) > 200).any()
