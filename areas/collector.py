"""Entries of sparse matrices, collected term by term."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from common.feeder import Floats, Ints
from common.interior_point.block_ldl import Entries


class Collector:
    """Of a Newton system, between scalars, each a constant or a multiple of one row of the table of varying values."""

    def __init__(self, rows: int) -> None:
        """``rows`` of the table."""
        self._rows = rows
        self._parts: list[tuple[Ints, Ints, Floats, Ints, Floats]] = []

    def constant(self, i: Ints, j: Ints, value: Floats | float) -> None:
        i, j = np.broadcast_arrays(i, j)
        self._add(i, j, value, np.full(len(i), -1), 0.0)

    def varying(self, i: Ints, j: Ints, row: Ints, factor: Floats | float = 1.0) -> None:
        """A factor times a row of the table."""
        i, j, row = np.broadcast_arrays(i, j, row)
        self._add(i, j, 0.0, row, factor)

    def _add(self, i: Ints, j: Ints, value: Floats | float, row: Ints, factor: Floats | float) -> None:
        kept = (i >= 0) & (j >= 0)
        shape = i.shape
        self._parts.append(
            (
                i[kept],
                j[kept],
                np.broadcast_to(np.asarray(value, float), shape)[kept],
                row[kept],
                np.broadcast_to(np.asarray(factor, float), shape)[kept],
            )
        )

    def entries(self) -> Entries:
        i, j, constant, row, factor = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        varying = np.flatnonzero(row >= 0)
        rows = sp.csr_array((factor[varying], (varying, row[varying])), shape=(len(i), self._rows))
        return Entries(i.astype(np.int64), j.astype(np.int64), constant, rows)


class Terms:
    """Of a sparse matrix, collected."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, Ints, Floats]] = []

    def add(self, row: Ints, column: Ints, value: Floats | float) -> None:
        self._parts.append((row, column, np.broadcast_to(np.asarray(value, float), row.shape)))

    def matrix(self, rows: slice, columns: slice, matrix: sp.csr_array) -> None:
        """All of a matrix, from the first of the rows and columns on."""
        terms = matrix.tocoo()
        self.add(rows.start + terms.row, columns.start + terms.col, terms.data)

    def matrix_of(self, rows: int, columns: int) -> sp.csr_array:
        row, column, value = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        return sp.csr_array((value, (row, column)), shape=(rows, columns))
