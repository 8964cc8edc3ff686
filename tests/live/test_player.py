"""Files for viewers: every frame, in order, in time, under the settings of the moment."""

import time
from dataclasses import replace

import numpy as np
import pytest

import scene
from ssdrt.errors import EngineError, SourceError
from ssdrt.live.board import Board, Controls, Settings
from ssdrt.live.player import Player
from ssdrt.live.view import shown
from ssdrt.sources.base import Item, broken


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self):
        self.indices, self.counts = [], []

    def write(self, frame, found):
        self.indices.append(frame.index)
        self.counts.append(len(found))

    def close(self):
        pass


def detect(frame, settings):
    found = scene.detections(frame.index)
    return frame, found[found.scores >= settings.score_threshold]


def frames(count, rate=200.0):
    return [Item("clip", i, i / rate, lambda i=i: scene.picture(i)) for i in range(count)]


def play(items, sink, controls=None, detect=detect, **options):
    """Play to the end of a video; the board and the player."""
    board, controls = Board(), controls or Controls(Settings(0.3))
    player = Player("clip.mp4", iter(items), detect, [sink], **options)
    player.start(board, controls)
    while not board.closed:
        board.wait(2**62, 20)
    return board, player


def test_every_frame_comes_in_order_and_the_end_closes_the_board():
    sink = Kept()
    board, player = play(frames(40), sink)
    player.close()
    assert sink.indices == list(range(40))
    ((_, last),) = board.snapshots()
    assert (last.source, last.frame.index, last.settings) == ("clip.mp4", 39, Settings(0.3))


def test_a_video_is_not_faster_than_its_time_stamps():
    begin = time.monotonic()
    _, player = play(frames(11, rate=20), Kept())
    player.close()
    assert time.monotonic() - begin >= 0.5


def test_broken_frames_are_told_and_the_others_go_on():
    told, items = [], frames(5)
    items[2] = broken("clip", SourceError("damaged"), 2)
    sink = Kept()
    _, player = play(items, sink, on_failure=told.append)
    player.close()
    assert (sink.indices, player.failed, len(told)) == ([0, 1, 3, 4], 1, 1)


def test_settings_act_while_it_plays():
    controls, sink = Controls(Settings(0.3)), Kept()

    def change(frame, settings):
        if frame.index == 4:
            controls.change(score_threshold=0.5)
        return detect(frame, settings)

    _, player = play(frames(8), sink, controls, change)
    player.close()
    assert sink.counts == [2] * 5 + [1] * 3


def test_what_fails_is_raised_by_close():
    def fail(_frame, _settings):
        raise EngineError("broken")

    _, player = play(frames(3), Kept(), detect=fail)
    with pytest.raises(EngineError):
        player.close()


def test_a_photo_stays_until_the_board_is_closed():
    board, controls = Board(), Controls(Settings(0.3))
    player = Player("photo.png", iter([Item("photo.png", 0, None, lambda: scene.picture(0))]), detect)
    player.start(board, controls)
    assert board.wait(0, 20) is not None
    assert player._future.result(20) is None
    assert not board.closed
    board.close()
    player.close()


def test_changed_settings_act_on_what_was_found_before():
    with scene.still() as run:
        run.post(0)
        snapshot = run.board.snapshots()[0][1]
    assert len(shown(snapshot, Settings(0.5))) == 1
    tracked = replace(snapshot, settings=Settings(0.6))  # found although below the threshold, as tracking keeps them
    assert len(shown(tracked, Settings(0.6))) == 2
    assert len(shown(tracked, Settings(0.6, paused=True))) == 2
    assert len(shown(tracked, Settings(0.5))) == 2
    assert len(shown(tracked, Settings(0.7))) == 1
    np.testing.assert_array_equal(shown(tracked, Settings(0.6, ("box",))).labels, ["box"])
    np.testing.assert_array_equal(shown(tracked, Settings(0.6, ("1",))).labels, ["ball"])
