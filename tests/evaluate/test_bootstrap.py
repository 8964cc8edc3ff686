"""The bootstrap: each resampling's AP is that of the data set with pictures repeated."""

from dataclasses import replace

import numpy as np
import pytest

from ssdrt.evaluate.bootstrap import interval, resampled_ap, resamplings
from ssdrt.evaluate.judge import judge

pytest.importorskip("pycocotools", reason="needs the extra eval")


def repeated(data, rows, counts):
    """The data set and rows with each picture `counts` times, under new ids."""
    pictures, annotations, results = [], [], []
    for picture, count in zip(data.pictures, counts, strict=True):
        for _ in range(count):
            copy = len(pictures)
            pictures.append(replace(picture, id=copy))
            annotations += [replace(one, picture=copy) for one in data.annotations if one.picture == picture.id]
            results += [{**row, "image_id": copy} for row in rows if row["image_id"] == picture.id]
    return replace(data, pictures=tuple(pictures), annotations=tuple(annotations)), results


def test_every_picture_once_is_ap_itself(drawn_by_lot):
    judgement = judge(*drawn_by_lot)
    (found,) = resampled_ap(judgement.matches, np.ones((1, 30), np.int32))
    assert found.mean() == pytest.approx(judgement.numbers["AP"], abs=1e-12)
    assert found[0] == pytest.approx(judgement.numbers["AP50"], abs=1e-12)
    assert found[5] == pytest.approx(judgement.numbers["AP75"], abs=1e-12)


def test_a_resampling_is_the_data_set_with_pictures_repeated(drawn_by_lot):
    data, rows = drawn_by_lot
    counts = resamplings(30, 3, seed=5)
    found = resampled_ap(judge(data, rows).matches, counts)
    for drawn, values in zip(counts, found, strict=True):
        numbers = judge(*repeated(data, rows, drawn)).numbers
        assert values.mean() == pytest.approx(numbers["AP"], abs=1e-9)
        assert values[0] == pytest.approx(numbers["AP50"], abs=1e-9)


def test_resamplings_have_as_many_pictures_and_come_again():
    counts = resamplings(30)
    assert counts.shape == (1000, 30)
    assert (counts.sum(axis=1) == 30).all()
    assert np.array_equal(counts, resamplings(30))
    assert not np.array_equal(counts, resamplings(30, seed=1))


def test_more_resamplings_than_are_worked_on_at_once(drawn_by_lot):
    matches = judge(*drawn_by_lot).matches
    counts = resamplings(30, 205)
    found = resampled_ap(matches, counts)
    assert found.shape == (205, 10)
    assert np.array_equal(found[200:], resampled_ap(matches, counts[200:]))


def test_a_resampling_without_objects_is_no_number(drawn_by_lot):
    data, rows = drawn_by_lot
    empty = [number for number, one in enumerate(data.pictures) if one.id not in {a.picture for a in data.annotations}]
    counts = np.zeros((1, 30), np.int32)
    counts[0, empty] = 1
    assert len(empty) > 0
    assert np.isnan(resampled_ap(judge(data, rows).matches, counts)).all()


def test_interval_holds_95_of_100_values():
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))
    assert interval(np.array([1.0, np.nan, 1.0])) == (1, 1)
