"""Pairs of least cost, against trying all of them."""

from itertools import permutations

import numpy as np
import pytest

from ssdrt.track.assignment import assign


def cheapest(costs, limit):
    """The least total of all ways, a pair above the limit and a row without partner costing the limit."""
    rows, columns = costs.shape if costs.shape[0] <= costs.shape[1] else costs.T.shape
    table = np.minimum(costs if costs.shape[0] <= costs.shape[1] else costs.T, limit)
    return min(sum(table[row, way[row]] for row in range(rows)) for way in permutations(range(columns), rows))


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (4, 6), (6, 4), (5, 5)])
@pytest.mark.parametrize("limit", [0.3, 0.8, 2.0])
def test_total_is_the_least_of_all_ways(shape, limit):
    rng = np.random.default_rng(shape[0])
    for costs in (*rng.random((20, *shape)), *rng.integers(0, 4, (20, *shape)) / 4):
        rows, columns = assign(costs, limit)
        assert len(set(rows.tolist())) == len(set(columns.tolist())) == len(rows)
        assert (np.diff(rows) > 0).all()
        total = costs[rows, columns].sum() + limit * (min(shape) - len(rows))
        assert total == pytest.approx(cheapest(costs, limit), abs=1e-3)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_has_no_pairs(shape):
    assert [part.tolist() for part in assign(np.zeros(shape), 1.0)] == [[], []]


def test_what_costs_too_much_stays_alone():
    rows, columns = assign(np.array([[0.1, 0.9], [0.9, 0.9]]), 0.5)
    assert (rows.tolist(), columns.tolist()) == ([0], [0])
