"""Row by row and period by period: compiled sums of arrays (row, T), contiguous, that may hold more periods than count.

Sums go over rows first, so that the periods are a loop without dependences.
"""

from __future__ import annotations

import numpy as np

from tieflow.common.arrays import Floats, Ints
from tieflow.common.compiled import njit


@njit
def add_product(start: Ints, column: Ints, value: Floats, x: Floats, found: Floats) -> None:
    """Add A x to ``found``, A (row, column) sparse, row by row."""
    for row in range(len(start) - 1):
        for k in range(start[row], start[row + 1]):
            factor, at = value[k], column[k]
            for t in range(x.shape[1]):
                found[row, t] += factor * x[at, t]


@njit
def add_transposed(start: Ints, column: Ints, value: Floats, y: Floats, found: Floats) -> None:
    """Add A' y to ``found``."""
    for row in range(len(start) - 1):
        for k in range(start[row], start[row + 1]):
            factor, at = value[k], column[k]
            for t in range(y.shape[1]):
                found[at, t] += factor * y[row, t]


@njit
def add_terms(row: Ints, column: Ints, value: Floats, x: Floats, found: Floats) -> None:
    """Add A x to ``found``, A by its terms."""
    for k in range(len(row)):
        for t in range(x.shape[1]):
            found[row[k], t] += value[k] * x[column[k], t]


@njit
def add_rows(place: Ints, values: np.ndarray, found: np.ndarray, first: int) -> None:
    """Add every row, real or complex, to the one at its place, which may repeat, from the ``first`` period on."""
    for row in range(len(place)):
        at = place[row]
        for t in range(values.shape[1]):
            found[at, first + t] += values[row, t]


@njit
def stepped(values: Floats, share: float, step: Floats) -> Floats:
    """values + share * step"""
    found = np.empty_like(values)
    for row in range(len(values)):
        for t in range(values.shape[1]):
            found[row, t] = values[row, t] + share * step[row, t]
    return found


@njit
def place_less(at: Ints, own: float, slopes: Floats, pull: Floats, found: Floats) -> None:
    """Rows of pull - own slopes, where pull may have fewer, to their places."""
    for row in range(len(at)):
        for t in range(found.shape[1]):
            value = pull[row, t] if row < len(pull) else 0.0
            found[at[row], t] = value - own * slopes[row, t] if own else value


@njit
def absolute(values: Floats, rows: Ints, periods: int) -> tuple[float, float]:
    """Sum and maximum of the absolute values of some rows in the first periods; nan where one is."""
    totals, most = np.zeros(periods), np.zeros(periods)
    for row in rows:
        for t in range(periods):
            size = abs(values[row, t])
            totals[t] += size
            most[t] = size if size > most[t] else most[t]
    total, largest = 0.0, 0.0
    for t in range(periods):
        total += totals[t]
        largest = max(largest, most[t])
    return total, largest if total == total else total


@njit
def dot(a: Floats, b: Floats, rows: Ints, periods: int) -> float:
    """Sum of the products of some rows in the first periods."""
    totals = np.zeros(periods)
    for row in rows:
        for t in range(periods):
            totals[t] += a[row, t] * b[row, t]
    return float(totals.sum())


@njit
def ratios(a: Floats, b: Floats, periods: int) -> float:
    """Sum of a / b in the first periods."""
    totals = np.zeros(periods)
    for row in range(len(a)):
        for t in range(periods):
            totals[t] += a[row, t] / b[row, t]
    return float(totals.sum())
