"""Boards and controls: newest wins, nobody waits for nothing."""

import threading
from dataclasses import replace

import numpy as np

from ssdrt.live.board import Board, Controls, Settings, Snapshot, Status
from ssdrt.sources.base import Frame


def snapshot(source, dropped=0):
    return Snapshot(source, Status("ONLINE", dropped=dropped))


def test_a_slow_viewer_sees_the_newest_only():
    board = Board()
    for dropped in range(5):
        board.post(snapshot("a", dropped))
    version, seen = board.wait(0, 1)
    assert seen.status.dropped == 4
    assert board.wait(version, 0) is None


def test_a_viewer_of_one_source_does_not_see_others():
    board = Board()
    board.post(snapshot("a"))
    board.post(snapshot("b"))
    assert board.wait(0, 0, "a")[1].source == "a"
    assert board.wait(1, 0, "a") is None
    assert [seen.source for _, seen in board.snapshots()] == ["a", "b"]


def test_events_are_numbered_and_those_of_frames_that_nobody_saw_are_kept():
    board, image = Board(), np.zeros((2, 2, 3), np.uint8)
    for index in range(150):
        frame = Frame(image, "a", index, index / 10)
        seen = replace(snapshot("a"), frame=frame, extra={"events": [{"label": "x", "track_id": index}]})
        board.post(seen)
        board.post(replace(seen, status=Status("STALE")))
    assert [(event["number"], event["track_id"]) for event in board.events("a")] == [(n + 1, n) for n in range(50, 150)]
    assert board.events("b") == ()


def test_waiting_ends_with_the_run():
    board = Board()
    results = []
    thread = threading.Thread(target=lambda: results.append(board.wait(0, 60)))
    thread.start()
    board.close()
    thread.join(10)
    assert results == [None]
    assert board.closed


def test_controls_change_single_settings():
    controls = Controls(Settings(0.3))
    controls.change(classes=("person",))
    assert controls.change(score_threshold=0.5) == controls.settings == Settings(0.5, ("person",))
