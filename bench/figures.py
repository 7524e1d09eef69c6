"""Medians, spreads, slopes, and tables of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Median, least and most."""
    return {
        "median": round(statistics.median(values), digits),
        "least": round(min(values), digits),
        "most": round(max(values), digits),
    }


def slope(points: Mapping[float, float]) -> float:
    """Of the line that fits `points` (y by x) best."""
    return statistics.linear_regression(list(points), list(points.values())).slope


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as need be, the first to the left, the others to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = (
        [
            f"{cell:<{width}}" if at == 0 else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    )
    return "\n".join("  ".join(cells).rstrip() for cells in lines)


def yes(true: bool) -> str:
    """The word for a claim."""
    return "yes" if true else "NO"
