"""The window, under a real X server: what is seen, and what the keys do."""

import importlib.util
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import scene
from ssdrt.sinks.draw import colour_of, layout
from xserver import DEADLINE, MISSING, display

if importlib.util.find_spec("sdl2") is None:
    pytest.skip("PySDL2, which opens the window, is not installed", allow_module_level=True)

RUN = [sys.executable, str(Path(__file__).with_name("run_window.py"))]
BALL, BOX = colour_of(1), colour_of(2)
AMBER = (255, 211, 120)

needs_x = pytest.mark.skipif(bool(MISSING), reason=f"apt-get install {' '.join(MISSING).lower()}")


@pytest.fixture(scope="module")
def x(tmp_path_factory):
    """One display for all tests of this file."""
    with display(tmp_path_factory.mktemp("x")) as shown:
        yield shown


@contextmanager
def window(x, folder, *sources):
    """A window in which boxes are seen; ended by Escape if it still is there."""
    process = subprocess.Popen([*RUN, str(folder), *sources], env=x.environment(), stdout=subprocess.PIPE, text=True)
    try:
        x.until(sees(BOX))
        yield process
        if process.poll() is None:
            x.press("Escape")
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait(DEADLINE)
        x.until(lambda image: not sees(BOX)(image))


def mask(image, colour):
    return (image == colour).all(axis=2)


def sees(colour, pixels=200):
    return lambda image: mask(image, colour).sum() > pixels


def ended(process):
    """What the process printed last: the settings."""
    return process.communicate(timeout=DEADLINE)[0]


@needs_x
def test_boxes_stand_at_their_places_at_the_window_s_resolution(x, tmp_path):
    with window(x, tmp_path):
        image = x.until(lambda image: sees(BOX)(image) and np.ptp(np.nonzero(mask(image, BOX))[0]) > 100)
        rows, columns = np.nonzero(mask(image, BOX))
        ball = np.nonzero(mask(image, BALL))[0]
        scale = (rows.max() - ball.max()) / (210 - 120)  # window pixels a picture pixel
        assert 2 < scale < 3
        wide, high = round(320 * scale), round(240 * scale)
        drawn = layout(scene.detections(0), wide, high)
        assert columns.max() - columns.min() == pytest.approx(drawn.boxes[1][0][2] - drawn.boxes[1][0][0], abs=5)
        side = mask(image, BOX)[rows.max() - 20]
        assert side.sum() == 2 * drawn.line


@needs_x
def test_threshold_keys_act_at_once(x, tmp_path):
    with window(x, tmp_path) as process:
        x.press("plus", "plus", "plus")
        x.until(lambda image: not sees(BOX)(image) and sees(BALL)(image))
        x.press("minus", "minus")
        x.until(sees(BOX))
        x.press("q")
        assert "score_threshold=0.35" in ended(process)


@needs_x
def test_full_screen_and_back(x, tmp_path):
    def filled(image):
        return (image[4:-4, 1130:1134] > 20).any(axis=2).mean() > 0.99

    with window(x, tmp_path):
        assert not filled(x.picture())
        x.press("f")
        x.until(filled)
        x.press("f")
        x.until(lambda image: not filled(image))


@needs_x
def test_pause_stops_the_picture(x, tmp_path):
    with window(x, tmp_path):
        x.press("space")
        x.until(sees(AMBER, 20))
        ball = mask(x.picture(), BALL)
        for _ in range(20):
            np.testing.assert_array_equal(mask(x.picture(), BALL), ball)
        x.press("space")
        x.until(lambda image: (mask(image, BALL) != ball).any() and not sees(AMBER, 20)(image))


@needs_x
def test_overlay_is_hidden_and_comes_back(x, tmp_path):
    def letters(image):
        return (image[-200:-64, :500] > 225).all(axis=2).sum()

    with window(x, tmp_path):
        x.until(lambda image: letters(image) > 300)
        x.press("h")
        x.until(lambda image: letters(image) < 20)
        x.press("h")
        x.until(lambda image: letters(image) > 300)


@needs_x
def test_save_writes_the_whole_frame_and_keeps_what_is_there(x, tmp_path):
    from PIL import Image

    def files():
        return sorted(tmp_path.glob("*.png"))

    with window(x, tmp_path):
        x.press("space")
        x.until(sees(AMBER, 20))
        for count in (1, 2):
            x.press("s")
            x.until(lambda _, count=count: len(files()) == count)
    pictures = [np.asarray(Image.open(path)) for path in files()]
    assert pictures[0].shape == (240, 320, 3)
    assert mask(pictures[0], BALL).any()
    np.testing.assert_array_equal(*pictures)


@needs_x
def test_several_sources_in_a_grid(x, tmp_path):
    with window(x, tmp_path, "a", "b", "c"):
        rows, columns = np.nonzero(mask(x.until(sees(BOX, 600)), BOX))
        cells = {(row > rows.mean(), column > columns.mean()) for row, column in zip(rows, columns, strict=True)}
        assert len(cells) == 3


@needs_x
def test_a_source_that_is_gone_is_darkened_and_says_why(x, tmp_path):
    process = subprocess.Popen([*RUN, str(tmp_path), "gone"], env=x.environment(), stdout=subprocess.PIPE, text=True)
    x.until(sees((255, 150, 165), 40))
    assert not sees(BOX)(x.picture())
    x.press("Escape")
    assert process.wait(DEADLINE) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there always is a display")
def test_without_a_display_one_sentence_says_what_to_do(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    environment["SDL_VIDEODRIVER"] = "x11"
    done = subprocess.run([*RUN, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("SinkError: there is no display")
    assert done.stderr.count("\n") == 1
    assert "--web" in done.stderr
    assert "-o" in done.stderr
