"""Rows that may be overstepped at a price, M u <= b + s with a slack s >= 0 each, in a Newton step's equations.

A slack column stands in its own row and bound only, so it is eliminated by hand: with W and V the weights of rows and
bounds, the rows add M' W V / (W + V) M to the Hessian of u. Voltage rows of a period touch that period's inputs, nearly
all of them: what they add is computed in dense blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from areas.sensitivity import Factors
from common.feeder import Floats, Ints


@dataclass(frozen=True)
class SoftRows:
    """The matrix M, as it is and in blocks."""

    matrix: sp.csr_array
    blocks: tuple[tuple[Ints, Ints, Floats], ...]
    """rows, columns and dense entries between them"""

    def hessian(self, weight: Floats) -> sp.csc_array:
        """M' diag(weight) M"""
        size = self.matrix.shape[1]
        if not self.blocks:
            return sp.csc_array((size, size))
        values, rows, columns = [], [], []
        for row, column, dense in self.blocks:
            values.append((dense.T @ (weight[row, None] * dense)).ravel())
            rows.append(np.repeat(column, len(column)))
            columns.append(np.tile(column, len(column)))
        entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
        return sp.csc_array(entries, shape=(size, size))


def soft_rows(matrix: sp.csr_array) -> SoftRows:
    """The rows of a matrix, grouped into blocks that share no column."""
    rows, columns = matrix.shape
    if not rows:
        return SoftRows(matrix, ())
    joined = sp.block_array([[None, matrix], [matrix.T, None]], format="csr")
    _, group = connected_components(joined, directed=False)
    blocks = []
    for label in np.unique(group[:rows]):
        row, column = np.flatnonzero(group[:rows] == label), np.flatnonzero(group[rows:] == label)
        blocks.append((row, column, matrix[row][:, column].toarray()))
    return SoftRows(matrix, tuple(blocks))


@dataclass(frozen=True)
class Condensed:
    """Factors of a system in (u, s, y) by those of the system in (u, y)."""

    factors: Factors
    matrix: sp.csr_array
    share: Floats
    """W / (W + V)"""
    inverse: Floats
    """1 / (W + V)"""

    def solve(self, right: Floats) -> Floats:
        """For one right-hand side."""
        slacks, columns = self.matrix.shape
        u, s, y = np.split(right, [columns, columns + slacks])
        found = self.factors.solve(np.concatenate([u + self.matrix.T @ (self.share * s), y]))
        moved = found[:columns]
        return np.concatenate([moved, self.inverse * s + self.share * (self.matrix @ moved), found[columns:]])
