"""Text in aligned columns."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], columns: str, indent: str = "  ") -> str:
    """Lines of cells, each column as wide as its widest cell.

    Parameters
    ----------
    columns: "l" or "r" a column: on which side its cells stand.
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    return "\n".join(indent + "  ".join(_cells(row, widths, columns)).rstrip() for row in rows)


def _cells(row: Sequence[str], widths: Sequence[int], columns: str) -> list[str]:
    return [
        cell.ljust(width) if side == "l" else cell.rjust(width)
        for cell, width, side in zip(row, widths, columns, strict=True)
    ]
