"""A run without a camera: a thread that posts drawn frames, in which a ball moves, to a real board."""

import threading
import time
from contextlib import contextmanager

import numpy as np

from ssdrt.detections import Detections
from ssdrt.live.board import Board, Controls, Settings, Snapshot, Status
from ssdrt.sources.base import Frame

LABELS = {1: "ball", 2: "box"}
WIDTH, HEIGHT = 320, 240


class Scene:
    """`source` at `fps`: a ball (score 0.9) that moves, and a box (score 0.4) that does not.

    `board` and `controls` are what viewers get. `status` may be set while it runs.
    """

    def __init__(self, *sources, fps=30):
        self.board, self.controls = Board(), Controls(Settings(0.3))
        self.status = Status("ONLINE", capture_fps=fps, dropped=7)
        self.posted = 0
        self._sources, self._fps = sources or ("camera:0",), fps
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self.board.close()

    def post(self, index, **extra):
        """Post frame `index` of every source; `extra`: what the tracker would add."""
        for number, source in enumerate(self._sources):
            frame, found = Frame(picture(index, number), source, index, index / self._fps), detections(index)
            now = time.monotonic()
            self.board.post(Snapshot(source, self.status, frame, found, now, 0.012, float(self._fps), extra))
        self.posted += 1

    def _run(self):
        begin = time.monotonic()
        for index in range(1_000_000):
            if not self.controls.settings.paused:
                self.post(index)
            if self._over.wait(max(0, begin + (index + 1) / self._fps - time.monotonic())):
                return


@contextmanager
def still(*sources):
    """A run whose frames are posted by the test."""
    scene = Scene(*sources)
    yield scene
    scene.board.close()


def place(index):
    """Left and top of the ball."""
    return 20 + (index * 3) % 200, 60


def picture(index, number=0):
    """(240, 320, 3): a ball on a dark ground that is another for every source."""
    image = np.full((HEIGHT, WIDTH, 3), (30, 34, 40 + 30 * number), np.uint8)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    left, top = place(index)
    image[(rows - top - 30) ** 2 + (columns - left - 30) ** 2 < 900] = (220, 120, 60)
    image[170:210, 230:300] = (120, 96, 90)
    return image


def detections(index):
    """The ball and the box."""
    left, top = place(index)
    boxes = np.array([[left, top, left + 60, top + 60], [230, 170, 300, 210]], np.float32)
    return Detections(
        boxes, np.array([0.9, 0.4], np.float32), np.array([1, 2]), np.array(["ball", "box"]), WIDTH, HEIGHT
    )


@contextmanager
def page_of(scene, host="127.0.0.1", port=0):
    """The live page of a run."""
    from ssdrt.serve.server import LivePage

    with LivePage(LABELS, host, port) as page:
        page.start(scene.board, scene.controls)
        yield page
