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


def drops(reference: Row, rows: Sequence[Row]) -> list[dict[str, Drop]]:
    """How much less AP and AP50 of each row are than the reference's.

    The intervals are the bootstrap's: the same 1000 resamplings of the pictures for every row, so that what makes a
    resampling hard or easy for both cancels.

    Raises
    ------
    SourceError: the rows were made of different pictures, because some became readable or broken in between.
    """
    if any(row.judgement.pictures != reference.judgement.pictures for row in rows):
        raise SourceError("pictures changed during the evaluation: other ones could be read later on; start again")
    counts = resamplings(len(reference.judgement.pictures))
    expected = _ap_and_ap50(reference, counts)
    return [
        {
            name: Drop(reference.judgement.numbers[name] - row.judgement.numbers[name], *interval(drawn - resampled))
            for (name, drawn), resampled in zip(expected.items(), _ap_and_ap50(row, counts).values(), strict=True)
        }
        for row in rows
    ]


def _ap_and_ap50(row: Row, counts: NDArray[np.int32]) -> dict[str, NDArray[np.float64]]:
    resampled = resampled_ap(row.judgement.matches, counts)
    return {"AP": resampled.mean(axis=1), "AP50": resampled[:, 0]}
