"""Numbers of objects that move, cross, fade and hide."""

import numpy as np
import pytest

from ssdrt.track.bytetrack import FAITH, MEMORY, Tracker


def limits(found, threshold):
    return np.full(len(found), threshold, np.float32)


def follow(tracker, frames, rate=30.0, threshold=0.5):
    """The track ids of every frame, which is None or detections."""
    return [
        tracker.update(found, np.full(len(found), threshold, np.float32), index / rate).tolist()
        for index, found in enumerate(frames)
    ]


@pytest.mark.parametrize("rate", [5, 10, 30, 60])
def test_objects_that_cross_keep_their_numbers(make_found, rate):
    way = np.linspace(0, 340, int(3 * rate))
    frames = [make_found((x, 100, x + 40, 200), (340 - x, 140, 400 - x, 290)) for x in way]
    assert follow(Tracker(), frames, rate) == [[1, 2]] * len(frames)


def test_weak_detections_continue_tracks_but_begin_none(make_found):
    still = (100, 100, 140, 200)
    frames = [make_found(still), make_found(still, (300, 0, 340, 90), scores=[0.2, 0.2]), make_found(still)]
    assert follow(Tracker(), frames) == [[1], [1, -1], [1]]


@pytest.mark.parametrize("score", [0.3, 0.52, 0.7])
def test_what_is_strong_continues_a_track_as_far_away_as_what_is_weak(make_found, score):
    """Overlap 0.33: times a score of 0.52 it would be less than what pairs of strong ones need."""
    frames = [make_found((100, 100, 200, 200)), make_found((150, 100, 250, 200), scores=[score])]
    assert follow(Tracker(), frames) == [[1], [1]]


def test_a_new_object_has_a_number_from_its_second_frame(make_found):
    old, new = (100, 100, 140, 200), (300, 100, 340, 200)
    frames = [make_found(old), make_found(old, new), make_found(old, new), make_found(new, old)]
    assert follow(Tracker(), frames) == [[1], [1, -1], [1, 2], [2, 1]]


@pytest.mark.parametrize(("score", "ids"), [(0.55, [-1]), (0.65, [1])])
def test_a_track_begins_a_little_above_the_threshold(make_found, score, ids):
    assert follow(Tracker(), [make_found((100, 100, 140, 200), scores=[score])] * 3)[-1] == ids


def test_a_track_begins_even_at_the_highest_threshold(make_found):
    assert follow(Tracker(), [make_found((100, 100, 140, 200), scores=[0.98])] * 3, threshold=0.95)[-1] == [1]


def test_what_flashes_up_once_never_has_one(make_found):
    frames = [make_found(), make_found((0, 0, 50, 50)), make_found(), make_found((0, 0, 50, 50)), make_found()]
    assert follow(Tracker(), frames) == [[], [-1], [], [-1], []]


def test_hidden_objects_come_back_where_they_were_going(make_found):
    boxes = [(x, 100, x + 60, 200) for x in range(0, 300, 6)]
    frames = [make_found() if 20 <= index < 35 else make_found(box) for index, box in enumerate(boxes)]
    assert {track for ids in follow(Tracker(), frames) for track in ids} == {1}


@pytest.mark.parametrize(("gap", "number"), [(0.9 * MEMORY, 1), (1.1 * MEMORY, 2)])
def test_what_is_away_too_long_is_another(make_found, gap, number):
    tracker, found = Tracker(), make_found((100, 100, 160, 200))
    times = [0, 0.1, 0.2, 0.2 + gap, 0.3 + gap]
    assert [tracker.update(found, np.full(1, 0.5, np.float32), time).tolist() for time in times][-1] == [number]


def test_a_track_does_not_live_on_weak_detections(make_found):
    box = (100, 100, 160, 200)
    frames = [make_found(box)] * 2 + [make_found(box, scores=[0.2])] * 90
    ids = follow(Tracker(), frames)
    assert ids[: int(30 * FAITH)] == [[1]] * int(30 * FAITH)
    assert ids[-1] == [-1]


def test_classes_are_followed_apart(make_found):
    box = (100, 100, 160, 200)
    frames = [make_found(box, box, class_ids=[1, 3]), make_found(box, box, class_ids=[3, 1])]
    assert follow(Tracker(), frames) == [[1, 2], [2, 1]]


def test_time_that_goes_back_begins_anew(make_found):
    tracker, found = Tracker(), make_found((100, 100, 160, 200))
    assert [tracker.update(found, np.full(1, 0.5, np.float32), time).tolist() for time in (5.0, 5.1, 0.0, 0.1)] == [
        [1], [1], [2], [2],
    ]  # fmt: skip


def test_boxes_without_area_or_beyond_the_picture_do_not_fail(make_found):
    frames = [make_found((5, 5, 5, 5), (1e6, 1e6, 1e6 + 1, 2e6), (50, 50, 40, 40), (-9, -9, -1, -1))] * 5
    assert len(follow(Tracker(), frames)[-1]) == 4
