"""The cheapest pairing of rows and columns: the Hungarian method with shortest augmenting paths, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(costs: NDArray[np.float64], limit: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of rows and columns with the least sum of costs, in which no pair costs more than `limit`.

    Parameters
    ----------
    costs: (n, m), finite; a pair above `limit` costs as much as leaving both alone.

    Returns
    -------
    rows, columns: of the pairs, (k,) each, rows ascending.
    """
    allowed = costs <= limit
    some_rows, some_columns = np.flatnonzero(allowed.any(axis=1)), np.flatnonzero(allowed.any(axis=0))
    clipped = np.where(allowed, costs, limit + 1e-4)[np.ix_(some_rows, some_columns)]
    if len(some_rows) <= len(some_columns):
        rows, columns = np.arange(len(some_rows)), _cheapest(clipped)
    else:
        rows, columns = _cheapest(clipped.T), np.arange(len(some_columns))
    good = clipped[rows, columns] <= limit
    rows, columns = some_rows[rows[good]], some_columns[columns[good]]
    order = np.argsort(rows)
    return rows[order], columns[order]


def _cheapest(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """The column of every row; no more rows than columns.

    Rows come one by one; each takes the shortest path (Dijkstra, on costs less the prices of both ends) to a free
    column, and the rows on the way move on: Jonker and Volgenant, Computing 38 (1987).
    """
    count, width = costs.shape
    row_price, column_price = np.zeros(count), np.zeros(width)
    row_of, column_of = np.full(width, -1), np.full(count, -1)
    for start in range(count):
        distance, before, open_ = np.full(width, np.inf), np.full(width, start), np.ones(width, bool)
        row, reached = start, 0.0
        while True:
            through = reached + costs[row] - row_price[row] - column_price
            shorter = open_ & (through < distance)
            distance[shorter], before[shorter] = through[shorter], row
            column = int(np.argmin(np.where(open_, distance, np.inf)))
            reached, open_[column] = float(distance[column]), False
            if row_of[column] < 0:
                break
            row = int(row_of[column])
        closed = np.flatnonzero(~open_)
        row_price[start] += reached
        taken = closed[row_of[closed] >= 0]
        row_price[row_of[taken]] += reached - distance[taken]
        column_price[closed] -= reached - distance[closed]
        while True:
            row = int(before[column])
            row_of[column] = row
            column, column_of[row] = int(column_of[row]), column
            if row == start:
                break
    return column_of
