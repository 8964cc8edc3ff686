"""How far AP would move on other pictures: the bootstrap over pictures, on matches made once.

A resampling draws as many pictures as there are, with replacement (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapters 6 and 13). Which detection found which object depends on its own picture only, so a resampled
data set is the same sorted list of detections, each counted as often as its picture was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ssdrt.evaluate.judge import Matches

Floats = NDArray[np.float64]
Counts = NDArray[np.int32]

RESAMPLINGS = 1000
CONFIDENCE = 0.95
RECALLS = np.linspace(0, 1, 101)  # COCO's
AT_ONCE = 100  # resamplings; 40 MB for 100,000 detections of a class


def resamplings(pictures: int, number: int = RESAMPLINGS, seed: int = 0) -> Counts:
    """(number, pictures): how often each picture is drawn. Rows of one seed are the same for whoever is compared."""
    drawn = np.random.default_rng(seed).multinomial(pictures, np.full(pictures, 1 / pictures), size=number)
    return drawn.astype(np.int32)


def resampled_ap(matches: Sequence[Matches], counts: Counts) -> Floats:
    """AP in each resampling.

    Parameters
    ----------
    counts: (b, pictures), how often each picture counts; ones give COCO's AP itself.

    Returns
    -------
    (b, 10) AP at the IoU thresholds 0.5, 0.55, ..., 0.95, mean of the classes that a resampling has objects of; NaN
    where it has none at all.
    """
    chunks = [counts[first : first + AT_ONCE] for first in range(0, len(counts), AT_ONCE)]
    by_class = np.stack([np.concatenate([_class_ap(one, chunk) for chunk in chunks]) for one in matches])
    present = ~np.isnan(by_class)
    total = np.where(present, by_class, 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean: Floats = total / present.sum(axis=0)
    return mean


def interval(values: Floats) -> tuple[float, float]:
    """The percentile interval that holds `CONFIDENCE` of the values; values that are NaN are passed over."""
    low, high = np.nanpercentile(values, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return float(low), float(high)


def _class_ap(matches: Matches, counts: Counts) -> Floats:
    """(b, 10) AP of one class; NaN where no object of it was drawn."""
    objects = (counts @ matches.objects)[:, None]
    ever = np.flatnonzero(matches.hit.any(axis=0))
    end = ever[-1] + 1 if len(ever) else 0  # what scores below the last hit changes nothing
    weights = counts[:, matches.picture[:end]]
    found = np.stack(
        [
            _average_precision(weights, hit[:end], counted[:end], objects)
            for hit, counted in zip(matches.hit, matches.counted, strict=True)
        ],
        axis=1,
    )
    return np.where(objects > 0, found, np.nan)


def _average_precision(weights: Counts, hit: NDArray[np.bool_], counted: NDArray[np.bool_], objects: Counts) -> Floats:
    """(b,) COCO's interpolated precision, mean over its 101 recalls.

    Precision has its maxima where a detection hits, so only hits are looked at: of the recalls, each hit brings those
    that the hit before it had not reached, at the best precision from there on.
    """
    at = np.flatnonzero(hit)
    judged = np.cumsum(weights if counted.all() else weights * counted, axis=1)[:, at]
    right = np.cumsum(weights[:, at], axis=1)
    precision = right / np.maximum(judged, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = np.searchsorted(RECALLS, right / np.maximum(objects, 1), side="right")
    mean: Floats = (np.diff(reached, prepend=0, axis=1) * best).sum(axis=1) / len(RECALLS)
    return mean
