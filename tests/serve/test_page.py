"""The live page in a real Chromium."""

import contextlib
import re
import threading
import time

import pytest

from browser import PROGRAM, Browser
from scene import LABELS, Scene, page_of, still

pytest.importorskip("uvicorn", reason="uvicorn, which serves the page, is not installed")
pytest.importorskip("starlette", reason="starlette, which serves the page, is not installed")
if PROGRAM is None:
    pytest.skip("no Chromium: apt-get install chromium", allow_module_level=True)

from ssdrt.live.board import Status
from ssdrt.serve.server import TOKEN, LivePage
from ssdrt.sinks.draw import colour_of

SECRET = "correct-horse-battery"
SLIDER = "document.querySelector('#threshold')"
PICTURE = "document.querySelector('.picture canvas')"
COLOURED = f"""((rgb) => {{
    const c = {PICTURE}, p = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let n = 0;
    for (let i = 0; i < p.length; i += 4)
        n += Math.abs(p[i] - rgb[0]) + Math.abs(p[i + 1] - rgb[1]) + Math.abs(p[i + 2] - rgb[2]) < 90;
    return n;
}})"""
"""How many pixels of the picture have about this colour."""


def wait_for(condition, seconds=5.0):
    """Look until it is so; what a click sends takes its time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """One browser for all tests of this file."""
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium):
    """A browser that asks for nothing but the page under test, and whose console stays silent."""
    chromium.size(1280, 800)
    chromium.requests.clear()
    chromium.said.clear()
    yield chromium
    assert {address.split("/")[2].split(":")[0] for address in chromium.requests} <= {"127.0.0.1"}
    assert chromium.said == []
    chromium.open("about:blank")


@contextlib.contextmanager
def running(browser, *sources):
    """A run at 30 fps, its page open."""
    with Scene(*sources) as scene, page_of(scene) as page:
        browser.open(page.address)
        browser.until(f"{PICTURE}.width === 320")
        yield scene, page


def boxes(class_id):
    """A condition that is true while boxes of a class are seen."""
    return f"{COLOURED}({list(colour_of(class_id))}) > 150"


def test_the_picture_moves_and_figures_are_shown(browser):
    with running(browser):
        browser.evaluate(f"window.first = {PICTURE}.toDataURL()")
        browser.until(f"{PICTURE}.toDataURL() !== window.first", 2)
        browser.until("document.querySelector('#detect').textContent === '30.0 fps'", 3)
        browser.until("parseFloat(document.querySelector('#shown').textContent) > 5", 5)
        assert browser.evaluate("document.querySelector('#dropped').textContent") == "7"
        assert browser.evaluate("document.querySelector('#connection').textContent") == "connected"
        chart = "document.querySelector('#chart')"
        browser.until(f"{chart}.getContext('2d').getImageData(0, 0, {chart}.width, {chart}.height).data.some((v) => v)")


def test_the_slider_acts_within_a_second(browser):
    with running(browser) as (scene, _):
        browser.until(boxes(2))
        browser.evaluate(f"{SLIDER}.value = 60, {SLIDER}.dispatchEvent(new Event('input'))")
        browser.until(f"!({boxes(2)})", 1)
        assert browser.evaluate(boxes(1))
        wait_for(lambda: scene.controls.settings.score_threshold == 0.6)
        scene.controls.change(score_threshold=0.2)  # by another viewer
        browser.until(boxes(2), 2)
        browser.until("document.querySelector('#threshold').value === '20'", 3)


def test_the_class_filter_acts_within_a_second(browser):
    with running(browser) as (scene, _):
        browser.until(boxes(1))
        chip = "document.querySelector('.chips [data-label=box]')"
        browser.until(f"{chip}.querySelector('b').textContent === '1'")
        browser.evaluate(f"{chip}.click()")
        browser.until(f"!({boxes(1)})", 1)
        assert browser.evaluate(boxes(2))
        wait_for(lambda: scene.controls.settings.classes == ("box",))
        browser.evaluate("document.querySelector('#all').click()")
        browser.until(boxes(1), 1)


def test_keys(browser):
    with running(browser) as (scene, _):
        browser.press(" ")
        browser.until("document.querySelector('#pause').getAttribute('aria-pressed') === 'true'", 2)
        wait_for(lambda: scene.controls.settings.paused)
        browser.press(" ")
        browser.press("+")
        browser.until("document.querySelector('#score').textContent === '35%'", 2)


def test_snapshot_is_offered_and_is_a_picture(browser):
    with running(browser):
        script = """fetch(document.querySelector('.snap').href).then(r => r.blob()).then(createImageBitmap)
            .then(p => [p.width, p.height])"""
        assert browser.evaluate(script) == [320, 240]
        assert browser.evaluate("document.querySelector('.snap').hasAttribute('download')")


def test_reconnects_when_the_server_is_started_again(browser):
    with still() as scene:
        scene.post(1)
        page = LivePage(LABELS)
        page.start(scene.board, scene.controls)
        browser.open(page.address)
        browser.until(f"{PICTURE}.width === 320")
        page.close()
        browser.until("document.querySelector('#connection').dataset.state === 'lost'")
        assert browser.evaluate("document.querySelector('.tile').dataset.state") == "OFFLINE"
        with page_of(scene, port=page.port):
            browser.until("document.querySelector('#connection').dataset.state === 'live'")
            browser.until("document.querySelector('.tile').dataset.state === 'ONLINE'")
        browser.said.clear()


def test_states_and_reasons_are_seen_and_names_are_text(browser):
    with running(browser, "<img src=x>") as (scene, _):
        scene.status = Status("OFFLINE", "connection <b>refused</b>")
        browser.until("document.querySelector('.tile').dataset.state === 'OFFLINE'", 2)
        assert "connection <b>refused</b>" in browser.evaluate("document.querySelector('.why').textContent")
        assert browser.evaluate("document.querySelector('figcaption b').textContent") == "<img src=x>"


def test_several_sources_make_a_grid(browser):
    with running(browser, "a", "b", "c"):
        browser.until("document.querySelectorAll('.tile').length === 3", 3)
        lefts = browser.evaluate("[...document.querySelectorAll('.tile')].map(t => t.getBoundingClientRect().left)")
        assert len(set(lefts)) == 2
        names = browser.evaluate("[...document.querySelectorAll('figcaption b')].map(b => b.textContent)")
        assert names == ["a", "b", "c"]


@pytest.mark.parametrize("dark", [True, False])
def test_fits_a_phone(browser, dark):
    browser.size(390, 844, 2, True, dark)
    with running(browser):
        browser.until("document.querySelector('.chips button')")
        assert browser.evaluate("document.documentElement.scrollWidth") == 390
        low = "[...document.querySelectorAll('button, input')].filter(b => b.offsetParent && b.offsetHeight < 30)[0]"
        assert browser.evaluate(f"{low} === undefined")
        text, ground = browser.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
        light = [sum(map(int, re.findall(r"\d+", colour))) for colour in (text, ground)]
        assert (light[0] > 600 and light[1] < 100) if dark else (light[0] < 100 and light[1] > 600)


def test_wrong_token_is_refused_and_the_right_one_opens(browser, monkeypatch):
    monkeypatch.setenv(TOKEN, SECRET)
    with Scene() as scene, page_of(scene, "0.0.0.0") as page:
        address = f"http://127.0.0.1:{page.port}/"
        browser.open(f"{address}#wrong-wrong-wrong")
        browser.until("document.querySelector('#login').open && document.querySelector('#wrong').textContent")
        assert browser.evaluate("document.querySelectorAll('.tile').length") == 0
        browser.evaluate(
            f"(t => {{ t.value = '{SECRET}'; document.querySelector('#token-form').requestSubmit(); }})"
            "(document.querySelector('#token'))"
        )
        browser.until(f"{PICTURE}.width === 320")
        browser.call("Network.clearBrowserCookies")
        browser.open("about:blank")
        browser.open(f"{address}#{SECRET}")
        browser.until(f"{PICTURE}.width === 320")
        assert browser.evaluate("location.href") == address
        assert not [one for one in browser.requests if SECRET in one.partition("#")[0]]
