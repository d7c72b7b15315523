"""An area's problem with its limits softened by a logarithmic barrier, solved to a point of the central path.

Where limits bind, an area's exact answer has kinks, on which Newton steps of the coordination stumble. With
-barrier * sum(log(slack)) in place of the limits the answer is smooth, and so is the way to the exact one as the
barrier shrinks. Quadratic problems only. Source: Wright, "Primal-Dual Interior-Point Methods" (1997), chapters 5 and 6.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from areas.conic import ConicProblem, ConicSolution
from areas.sensitivity import factorize
from common.feeder import Floats, Ints

ITERATIONS = 60
CENTERED = 1e-5
"""largest relative distance of a product slack * dual from the barrier"""
ACCURACY = 1e-9
"""largest residual of the other optimality conditions, costs divided by their largest coefficient"""
TO_BOUNDARY = 0.99
"""share of the way to the nearest limit that a step may go"""
SHRINK = 0.2
"""products of slack and dual that a step aims at over those of the step before, until they reach the barrier"""
FIRST_SLACK, FIRST_PRODUCT = 0.1, 0.1
"""of a first point, which is far from feasible but centered"""


@dataclass(frozen=True)
class CentralPoint:
    """Primal and dual point of an answer, for the next one to start from."""

    x: Floats
    slack: Floats
    dual: Floats
    equality_dual: Floats


def solve_barrier(
    problem: ConicProblem,
    linear: Floats,
    curvature: sp.csc_matrix,
    barrier: float,
    wanted: Ints | None = None,
    start: CentralPoint | None = None,
) -> tuple[ConicSolution, CentralPoint]:
    """Minimize the problem's cost plus ``linear``'x + 1/2 x' ``curvature`` x, limits softened by ``barrier`` ($).

    ``curvature`` is given by its upper triangle. ``wanted`` columns get their exact derivatives. The status is
    ``Solved``, or ``Stalled`` when the point is not reached in ITERATIONS.
    """
    started = time.perf_counter()
    equalities = problem.counts[0]
    upper = sp.csc_matrix(problem.p + curvature)
    c = problem.c + linear
    scale = max(float(np.abs(c).max(initial=0.0)), float(abs(upper).max()) if upper.nnz else 0.0) or 1.0
    p = (upper + sp.triu(upper, 1).T) / scale
    c = c / scale
    mu = barrier / scale
    e, g = problem.a[:equalities].tocsc(), problem.a[equalities:].tocsc()
    e_right, g_right = problem.b[:equalities], problem.b[equalities:]
    size = len(c)
    if start is None or len(start.x) != size or len(start.slack) != len(g_right):
        slack = np.maximum(g_right, FIRST_SLACK)
        start = CentralPoint(np.zeros(size), slack, max(mu, FIRST_PRODUCT) / slack, np.zeros(equalities))
    x, slack, dual, y = start.x, start.slack, start.dual, start.equality_dual
    status = "Stalled"
    aim = max(mu, float((slack * dual).mean())) if len(slack) else mu
    length = 1.0
    iterations = 0
    while iterations < ITERATIONS:
        iterations += 1
        gradient = p @ x + c + e.T @ y + g.T @ dual
        primal, bound = e @ x - e_right, g @ x + slack - g_right
        product = slack * dual
        residual = max(np.abs(part).max(initial=0.0) for part in (gradient, primal, bound))
        if residual < ACCURACY and np.abs(product - mu).max(initial=0.0) < CENTERED * mu:
            status = "Solved"
            break
        # Only well centered points follow the path far: a short step asks for centering before progress.
        aim = max(mu, SHRINK * aim) if length > 0.5 else aim
        weight = dual / slack
        # From slack dz + dual ds = aim - product and ds = -bound - G dx.
        target = (aim - product) / slack + weight * bound
        step = _Newton(p, e, g, weight).solve(np.concatenate([-gradient - g.T @ target, -primal]))
        dx, dy = step[:size], step[size:]
        ds = -bound - g @ dx
        dz = (aim - product - dual * ds) / slack
        length = min(1.0, _to_boundary(slack, ds), _to_boundary(dual, dz))
        x, slack, dual, y = x + length * dx, slack + length * ds, dual + length * dz, y + length * dy
    moved = np.zeros((0, 0))
    if wanted is not None:
        moved = _Newton(p, e, g, dual / slack).sensitivity(wanted) / scale
    objective = float(c @ x + 0.5 * x @ (p @ x)) * scale
    solution = ConicSolution(
        x=x,
        objective=objective,
        dual_objective=objective - float(slack @ dual) * scale,
        fixed_dual=np.zeros(0),
        sensitivity=moved,
        status=status,
        iterations=iterations,
        seconds=time.perf_counter() - started,
    )
    return solution, CentralPoint(x, slack, dual, y)


def _to_boundary(value: Floats, change: Floats) -> float:
    falling = change < 0
    return float(TO_BOUNDARY * (value[falling] / -change[falling]).min(initial=np.inf))


class _Newton:
    """The equations of one step, [[P + G' W G, E'], [E, 0]] with W = dual / slack, factorized."""

    def __init__(self, p: sp.csc_matrix, e: sp.csc_matrix, g: sp.csc_matrix, weight: Floats) -> None:
        self._hessian = sp.csc_array(p + g.T @ sp.diags_array(weight) @ g)
        self._e = e
        self._balance, self._factors = factorize(self._hessian, e)

    def solve(self, right: Floats) -> Floats:
        """One step of refinement takes back what the factors' regularization spoils."""
        found = self._once(right)
        size = self._hessian.shape[0]
        x, y = found[:size], found[size:]
        left = np.concatenate([self._hessian @ x + self._e.T @ y, self._e @ x])
        return found + self._once(right - left)

    def sensitivity(self, columns: Ints) -> Floats:
        """Derivative of x[columns] with respect to their linear cost."""
        moved = np.empty((len(columns), len(columns)))
        right = np.zeros(sum(self._e.shape))
        for i, column in enumerate(columns):
            right[column] = -1.0
            moved[:, i] = self._once(right)[columns]
            right[column] = 0.0
        return (moved + moved.T) / 2

    def _once(self, right: Floats) -> Floats:
        found: Floats = self._balance * self._factors.solve(self._balance * right)
        return found
