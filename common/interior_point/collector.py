"""Entries of sparse matrices, collected term by term."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from common.feeder import Complexes, Floats, Ints
from common.interior_point.block_ldl import Entries


class Collector:
    """Of a Newton system, between scalars, each a constant or a multiple of one row of the table of varying values."""

    def __init__(self, rows: int) -> None:
        """``rows`` of the table."""
        self._rows = rows
        self._constants: list[tuple[np.ndarray, ...]] = []
        self._varying: list[tuple[np.ndarray, ...]] = []

    def constant(self, i: Ints, j: Ints, value: Floats | float) -> None:
        self._constants.append((i, j, _each(value, i)))

    def varying(self, i: Ints, j: Ints, row: Ints | int, factor: Floats | float = 1.0) -> None:
        """A factor times a row of the table."""
        self._varying.append((i, j, _each(row, i), _each(factor, i)))

    def entries(self) -> Entries:
        """All whose scalars exist (are not -1) and whose factors are not zero."""
        i, j, constant = (np.concatenate(column) for column in zip(*self._constants, strict=True))
        to, by, row, factor = (np.concatenate(column) for column in zip(*self._varying, strict=True))
        fixed, varies = (i >= 0) & (j >= 0), (to >= 0) & (by >= 0) & (factor != 0.0)
        starts = np.cumsum(np.repeat([0, 1], [fixed.sum() + 1, varies.sum()]))
        rows = sp.csr_array((factor[varies], row[varies], starts), shape=(len(starts) - 1, self._rows))
        i, j = np.concatenate([i[fixed], to[varies]]), np.concatenate([j[fixed], by[varies]])
        constant = np.concatenate([constant[fixed], np.zeros(varies.sum())])
        return Entries(i.astype(np.int64), j.astype(np.int64), constant, rows)


def _each(value: Floats | Ints | float, like: Ints) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else np.full(len(like), value)


class Terms:
    """Of a sparse matrix, collected."""

    def __init__(self) -> None:
        self._parts: list[tuple[Ints, Ints, Floats]] = []

    def add(self, row: Ints, column: Ints, value: Floats | float) -> None:
        self._parts.append((row, column, _each(value, row)))

    def complex_matrix(
        self,
        terms: tuple[Ints, Ints, Complexes],
        row: int,
        rows: int,
        column: int,
        columns: int,
        sign: float = 1.0,
    ) -> None:
        """A matrix between complex numbers, by rows, columns and values: real parts from ``row`` and ``column`` on,
        imaginary parts so many ``rows`` and ``columns`` further on."""
        i, j, re, im = row + terms[0], column + terms[1], sign * terms[2].real, sign * terms[2].imag
        self.add(i, j, re)
        self.add(i + rows, j + columns, re)
        self.add(i, j + columns, -im)
        self.add(i + rows, j, im)

    def matrix_of(self, rows: int, columns: int) -> sp.csr_array:
        row, column, value = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        kept = value != 0.0
        return sp.csr_array((value[kept], (row[kept], column[kept])), shape=(rows, columns))
