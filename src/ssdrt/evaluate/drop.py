"""What an engine or precision costs: the difference from a reference, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssdrt.errors import SourceError
from ssdrt.evaluate.bootstrap import interval, resampled_ap, resamplings
from ssdrt.evaluate.row import Row


@dataclass(frozen=True)
class Drop:
    """By how much a number is less than the reference's, 0..1, and the ends of its interval of 95 %."""

    value: float
    low: float
    high: float


def reference_row(rows: Sequence[Row]) -> Row | None:
    """What the others are compared with: the first that computes in fp32."""
    return next((row for row in rows if row.precision == "fp32"), None)


def drops(rows: Sequence[Row]) -> dict[str, dict[str, Drop]]:
    """How much less AP and AP50 of each row are than the reference's, by the row's name; {} without a reference.

    The intervals are the bootstrap's: the same 1000 resamplings of the pictures for every row, so that what makes a
    resampling hard or easy for both cancels.

    Raises
    ------
    SourceError: the rows were made of different pictures, because some became readable or broken in between.
    """
    reference = reference_row(rows)
    others = [row for row in rows if row is not reference]
    if reference is None or not others:
        return {}
    if any(row.judgement.pictures != reference.judgement.pictures for row in others):
        raise SourceError("pictures changed during the evaluation: other ones could be read later on; start again")
    counts = resamplings(len(reference.judgement.pictures))
    expected = _resampled(reference, counts)
    return {
        row.name: {
            name: Drop(
                reference.judgement.numbers[name] - row.judgement.numbers[name], *interval(expected[name] - drawn)
            )
            for name, drawn in _resampled(row, counts).items()
        }
        for row in others
    }


def _resampled(row: Row, counts: NDArray[np.int32]) -> dict[str, NDArray[np.float64]]:
    found = resampled_ap(row.judgement.matches, counts)
    return {"AP": found.mean(axis=1), "AP50": found[:, 0]}
