"""T symmetric indefinite matrices of one pattern, in blocks of two scalars, factorized side by side as LDL'.

Pivots are 2x2 and static: their order is that of minimum degree, and no number changes it. This needs blocks that stay
invertible, such as a variable with its equation. Blocks of the border are kept and their Schur complement is returned.
Source: Davis, "Direct Methods for Sparse Linear Systems" (2006), up-looking LDL'. A period in which a pivot fails is
taken over by SuperLU, with partial pivoting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg as spla

from tieflow.common.arrays import Bools, Floats, Ints
from tieflow.common.interior_point import block_kernels
from tieflow.common.interior_point.block_pattern import Entries, Pattern
from tieflow.common.interior_point.lanes import LANES, aligned, groups, unset

__all__ = ["Entries", "Factors", "Pattern"]

TINY = 1e-14
"""least determinant of a pivot over the sum of the absolute values of its two products: fewer digits are none"""
DENSE = 2000
"""scalars up to which SuperLU's periods have their inertia counted from all eigenvalues"""
UNKNOWN = -1


@dataclass(frozen=True)
class TakenOver:
    """One period by SuperLU: K = [[A, B], [B', C]] with the inner scalars first."""

    inner: spla.SuperLU
    """of A"""
    across: Floats
    """B (inner scalar, border scalar)"""
    reached: Floats
    """inv(A) B"""
    schur: Floats
    """C - B' inv(A) B"""
    negatives: int

    @classmethod
    def of(cls, entries: Entries, column: Floats, inner: Ints, border: Ints) -> TakenOver | None:
        """None where the inner matrix is exactly singular, not finite or empty."""
        matrix = entries.matrix(len(inner) + len(border), column).tocsr()
        if not len(inner) or not np.isfinite(matrix.data).all():
            return None
        own, across = matrix[inner][:, inner].tocsc(), matrix[inner][:, border].toarray()
        try:
            factors = spla.splu(own)
        except RuntimeError:
            return None
        reached = factors.solve(across)
        negatives = int((np.linalg.eigvalsh(own.toarray()) < 0).sum()) if len(inner) <= DENSE else UNKNOWN
        return cls(factors, across, reached, matrix[border][:, border].toarray() - across.T @ reached, negatives)


class Factors:
    """Factors of one pattern's matrices in T periods: ``factor``, then ``schur``, ``forward`` and ``backward``.

    All arrays of numbers are (row, C * 8), see :mod:`common.interior_point.lanes`. Where a period's inner matrix is
    exactly singular or not finite, SuperLU fails as well: its ``negatives`` are -1 and all its results nan.
    """

    negatives: Ints
    """(T,) negative eigenvalues among the inner blocks; -1: not known"""
    failed: Bools
    """(T,) periods whose static pivots failed and that SuperLU took over"""

    def __init__(self, pattern: Pattern, periods: int) -> None:
        self.pattern, self.periods = pattern, periods
        s = pattern.structure
        self._groups = groups(periods)
        self._size = 2 * len(pattern.border)
        self._lower = unset(self._groups, 4 * len(s.column_row) * LANES)
        self._pivots = unset(self._groups, 3 * s.inner * LANES)
        self._schur = aligned(self._size * (self._size + 1) // 2, self._groups * LANES)
        self._row = aligned(4 * s.blocks * LANES)
        self._unknowns = unset(2 * s.blocks * LANES)
        self._lanes: dict[int, TakenOver | None] = {}
        scalars = (2 * s.order[:, None] + np.arange(2)).ravel()
        self._inner, self._border = scalars[: 2 * s.inner], scalars[2 * s.inner :]
        self.negatives, self.failed = np.zeros(periods, np.int64), np.zeros(periods, bool)

    def factor(self, table: Floats) -> None:
        """All periods from the table (table row, C * 8) of :class:`Entries`."""
        table = self._lined_up(table, self.pattern.entries.rows.shape[1], "table")
        s, n = self.pattern.structure, self._groups
        schur = self._schur.reshape(-1)
        block_kernels.factor(s, n, table.reshape(-1), self._lower, self._pivots, self._row, schur)
        negatives, failed = np.zeros(n * LANES, np.int64), np.zeros(n * LANES, bool)
        block_kernels.check(self._pivots.reshape(n, s.inner, 3, LANES), self._schur, TINY, negatives, failed)
        self.negatives, self.failed = negatives[: self.periods], failed[: self.periods]
        self._lanes = {}
        for period in np.flatnonzero(self.failed):
            self._take_over(int(period), table)

    def _take_over(self, period: int, table: Floats) -> None:
        taken = TakenOver.of(self.pattern.entries, table[:, period], self._inner, self._border)
        self.negatives[period] = taken.negatives if taken else UNKNOWN
        after = self._groups * LANES if period == self.periods - 1 else period + 1
        upper = np.triu_indices(self._size)
        for lane in range(period, after):
            self._lanes[lane] = taken
            self._schur[:, lane] = taken.schur[upper] if taken else np.nan

    def schur(self) -> Floats:
        """(pair, C * 8), pairs in the order of ``np.triu_indices(2 * len(border))``: the upper triangle of the border's
        Schur complement, scalars in the order of ``border``. The next ``factor`` writes into the same array."""
        return self._schur

    def forward(self, right: Floats) -> tuple[Floats, Floats]:
        """Right-hand side (2 * blocks, C * 8) -> half a solution, and the border's right-hand side
        (2 * len(border), C * 8) with the inner blocks eliminated. Both are linear in ``right``; halves are added and
        scaled like any array."""
        s, n = self.pattern.structure, self._groups
        right = self._lined_up(right, 2 * s.blocks, "right")
        half, border = unset(n, 2 * s.inner * LANES), unset(self._size, n * LANES)
        flat = right.reshape(-1), self._unknowns, half, border.reshape(-1)
        block_kernels.forward(s, n, self._lower, self._pivots, *flat)
        for lane, taken in self._lanes.items():
            solved = taken.inner.solve(right[self._inner, lane]) if taken else np.nan
            self._of_lane(half, lane)[:] = solved
            border[:, lane] = right[self._border, lane] - taken.across.T @ solved if taken else np.nan
        return half, border

    def backward(self, half: Floats, border: Floats) -> Floats:
        """Half a solution and the border's unknowns (2 * len(border), C * 8) -> all unknowns (2 * blocks, C * 8)."""
        s, n = self.pattern.structure, self._groups
        half = self._lined_up(half, n, "half", 2 * s.inner * LANES)
        border = self._lined_up(border, self._size, "border")
        solution = unset(2 * s.blocks, n * LANES)
        flat = half, border.reshape(-1), self._unknowns, solution.reshape(-1)
        block_kernels.backward(s, n, self._lower, *flat)
        for lane, taken in self._lanes.items():
            solution[self._border, lane] = border[:, lane]
            solved = self._of_lane(half, lane) - taken.reached @ border[:, lane] if taken else np.nan
            solution[self._inner, lane] = solved
        return solution

    def residual(self, right: Floats, x: Floats, table: Floats) -> Floats:
        """right - K x, (2 * blocks, C * 8) each, for the table that was factorized."""
        s, n = self.pattern.structure, self._groups
        left = self._lined_up(right, 2 * s.blocks, "right").copy()
        x = self._lined_up(x, 2 * s.blocks, "x")
        entries, rows = self.pattern.entries, self.pattern.entries.rows
        table = self._lined_up(table, rows.shape[1], "table")
        block_kernels.subtract_product(
            n,
            entries.i,
            entries.j,
            entries.constant,
            rows.indptr.astype(np.int64),
            rows.indices.astype(np.int64),
            rows.data,
            table.reshape(-1),
            x.reshape(-1),
            left.reshape(-1),
        )
        return left

    def _of_lane(self, half: Floats, lane: int) -> Floats:
        """(inner scalar,) a view of one period's half of a solution."""
        view: Floats = half.reshape(self._groups, len(self._inner), LANES)[lane // LANES, :, lane % LANES]
        return view

    def _lined_up(self, x: Floats, rows: int, name: str, columns: int | None = None) -> Floats:
        """``x``, contiguous, which costs nothing where it is so already; ValueError where its shape is another."""
        shape = rows, self._groups * LANES if columns is None else columns
        if x.shape != shape:
            raise ValueError(f"{name}: an array of shape {x.shape} where {shape} is needed")
        return np.ascontiguousarray(x, float)
