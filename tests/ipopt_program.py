"""A nonlinear program collected block by block and solved by IPOPT, and complex numbers as pairs of its expressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import casadi
import numpy as np
import scipy.sparse as sp

from tieflow.common.arrays import Floats

Symbol = Any
"""a casadi expression"""
Pair = tuple[Symbol, Symbol]
"""real and imaginary part, (row, T) each"""


@dataclass(frozen=True)
class Solution:
    """Where IPOPT stopped; as in Optimum, and all unknowns."""

    x: Any
    """(unknown,) numbers"""
    symbols: Symbol
    """(unknown,)"""
    cost: float
    iterations: int
    status: str
    succeeded: bool
    seconds: float

    def values(self, *expressions: Symbol) -> list[Floats]:
        """(row, T) numbers of expressions at the solution."""
        found = casadi.Function("at", [self.symbols], list(expressions))(self.x)
        return [np.array(value) for value in (found if len(expressions) > 1 else [found])]


@dataclass
class Program:
    """A nonlinear program, collected block by block. Bounds and starts of a block broadcast to (row, T)."""

    periods: int
    _unknowns: list[tuple[Symbol, Floats, Floats, Floats]] = field(default_factory=list)
    """symbols, lower and upper bounds, starts"""
    _demands: list[tuple[Symbol, Floats, Floats]] = field(default_factory=list)
    """expressions, lower and upper bounds"""

    def zeros(self, rows: int) -> Symbol:
        return casadi.MX.zeros(rows, self.periods)

    def unknown(self, rows: int, lower: Any, upper: Any, start: Any, unit: Any = 1.0) -> Symbol:
        """(rows, T) new unknowns, bounded. IPOPT sees them in the ``unit`` (row, 1), the size they are expected to
        have: of devices their rating, which may be a millionth of a pu."""
        symbol = casadi.MX.sym(f"x{len(self._unknowns)}", rows, self.periods)
        low, high, first = (np.array(np.broadcast_to(it / unit, symbol.shape), float) for it in (lower, upper, start))
        self._unknowns.append((symbol, low, high, first))
        return casadi.DM(np.array(np.broadcast_to(unit, symbol.shape), float)) * symbol

    def demand(self, expression: Symbol, lower: Any, upper: Any) -> None:
        """That an expression lies within bounds."""
        low, high = (np.array(np.broadcast_to(bound, expression.shape), float) for bound in (lower, upper))
        self._demands.append((expression, low, high))

    def start(self, expression: Symbol) -> Floats:
        """(row, T) of an expression of the unknowns so far, where they start."""
        x, _, _, start = (_stacked(column) for column in zip(*self._unknowns, strict=True))
        return np.array(casadi.Function("at", [x], [expression])(start))

    def solve(self, cost: Symbol, options: dict[str, Any]) -> Solution:
        """Minimize the cost, with options of IPOPT."""
        x, lower, upper, start = (_stacked(column) for column in zip(*self._unknowns, strict=True))
        g, g_lower, g_upper = (_stacked(column) for column in zip(*self._demands, strict=True))
        always = {"bound_relax_factor": 0.0, "acceptable_iter": 0, "print_level": 0, "sb": "yes"}
        asked: Any = {"expand": True, "print_time": False, "error_on_fail": False, "ipopt": always | options}
        solver = casadi.nlpsol("opf", "ipopt", {"x": x, "f": cost, "g": g}, asked)
        began = perf_counter()
        found = solver(x0=start, lbx=lower, ubx=upper, lbg=g_lower, ubg=g_upper)
        seconds, stats = perf_counter() - began, solver.stats()
        return Solution(
            x=found["x"],
            symbols=x,
            cost=float(found["f"]),
            iterations=int(stats["iter_count"]),
            status=str(stats["return_status"]),
            succeeded=bool(stats["success"]),
            seconds=seconds,
        )


def _stacked(blocks: Sequence[Any]) -> Any:
    if isinstance(blocks[0], casadi.MX):
        return casadi.vertcat(*map(casadi.vec, blocks))
    return np.concatenate([block.ravel(order="F") for block in blocks])


# Complex numbers as pairs.


def currents(across: Any, s: Pair, v: Pair) -> Pair:
    """(node, T) current taken from the nodes by legs (leg, T) of power s: conj(s / v) each."""
    at = times(across, v)
    squared = dot(at, at)
    current = ((s[0] * at[0] + s[1] * at[1]) / squared, (s[0] * at[1] - s[1] * at[0]) / squared)
    return times(across.T, current)


def times(matrix: Any, v: Pair) -> Pair:
    """A matrix, dense or sparse, times complex columns."""
    real, imaginary = casadi_matrix(matrix.real), casadi_matrix(matrix.imag)
    return real @ v[0] - imaginary @ v[1], real @ v[1] + imaginary @ v[0]


def dot(a: Pair, b: Pair) -> Symbol:
    """Real part of a conj(b), element by element."""
    return a[0] * b[0] + a[1] * b[1]


def minus(a: Pair, b: Pair) -> Pair:
    return a[0] - b[0], a[1] - b[1]


def rows_of(pair: Pair, rows: list[int]) -> Pair:
    return pair[0][rows, :], pair[1][rows, :]


def total(matrix: Symbol) -> Symbol:
    return casadi.sum1(casadi.sum2(matrix))


def casadi_matrix(matrix: Any) -> casadi.DM:
    m = sp.csc_matrix(matrix, copy=True)
    m.eliminate_zeros()
    m.sort_indices()
    rows, columns = m.shape
    return casadi.DM(casadi.Sparsity(rows, columns, m.indptr.tolist(), m.indices.tolist()), m.data.tolist())


def wide(values: Any, periods: int) -> casadi.DM:
    """(row, T) from one value a row."""
    return casadi.DM(np.repeat(np.reshape(np.array(values, float), (-1, 1)), periods, axis=1))
