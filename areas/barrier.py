"""An area's problem with its limits softened by a logarithmic barrier: its central path, and steps along it.

Where limits bind, an area's exact answer has kinks, on which Newton steps of the coordination stumble. With
-barrier * sum(log(slack)) in place of the limits the problem is smooth. An area need not solve it before it answers:
its point is taken one Newton step further in every round, and the answer is where the next step would lead, which is
linear in what the coordinator proposes. So all areas and the coordinator together take the steps of one interior point
method on the whole feeder. Quadratic problems only. Source: Wright, "Primal-Dual Interior-Point Methods" (1997),
chapters 5 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from areas.conic import ConicProblem
from areas.sensitivity import REGULARIZATIONS, factorize, moved_by_prices
from areas.soft_rows import Condensed, soft_rows
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
STUCK = 1e-6
"""length of a step at which there is nowhere to go"""
SOFT_SHARE = 0.3
"""barrier of rows that may be overstepped, and of their slacks, over that of the others. There are thousands, most of
them far from their limits: with the others' barrier their pull together would bend the path far from its end"""
UNREGULARIZED = (0.0, *REGULARIZATIONS)
LARGEST_CORRECTION = 10.0
"""of a product of slack and dual, over the product itself or the barrier"""
FIRST_SLACK, FIRST_PRODUCT = 0.1, 0.1
"""of a first point, which is far from feasible but centered; the product over the largest coefficient of the cost"""


@dataclass(frozen=True)
class CentralPoint:
    """A primal and dual point near the path, or a step between two. Duals belong to costs in $."""

    x: Floats
    slack: Floats
    dual: Floats
    equality_dual: Floats


def further(point: CentralPoint, way: CentralPoint, length: float) -> CentralPoint:
    """The point a share of a step further. Duals go by themselves, each as far as it stays positive: one that falls
    fast holds up nothing else (as those of Waechter and Biegler, "On the implementation of an interior-point filter
    line-search algorithm" (2006), take a step length of their own)."""
    return CentralPoint(
        x=point.x + length * way.x,
        slack=point.slack + length * way.slack,
        dual=point.dual + np.maximum(way.dual, -TO_BOUNDARY * point.dual),
        equality_dual=point.equality_dual + length * way.equality_dual,
    )


def longest(point: CentralPoint, way: CentralPoint) -> float:
    """The share of a step that limits allow."""
    falling = way.slack < 0
    to_boundary = (point.slack[falling] / -way.slack[falling]).min(initial=np.inf)
    return min(1.0, float(TO_BOUNDARY * to_boundary))


class CentralPath:
    """The optimality conditions, softened, of a problem with ``linear``'x + 1/2 x' ``curvature`` x added to its cost.

    ``curvature`` is given by its upper triangle. ``linear`` and the barrier ($) may be others in every step.
    """

    def __init__(self, problem: ConicProblem, curvature: sp.csc_matrix) -> None:
        upper = sp.csc_matrix(problem.p + curvature)
        self._p, self._c = sp.csc_matrix(upper + sp.triu(upper, 1).T), problem.c
        largest = float(np.abs(self._c).max(initial=0.0)), float(abs(upper).max()) if upper.nnz else 0.0
        # Of the equations: it makes costs comparable with the limits' coefficients.
        self._scale = max(largest) or 1.0
        equalities = problem.counts[0]
        self._e, self._g = problem.a[:equalities].tocsc(), problem.a[equalities:].tocsc()
        self._e_right, self._g_right = problem.b[:equalities], problem.b[equalities:]
        self._last: tuple[CentralPoint, Condensed] | None = None
        self._weight = np.ones(len(self._g_right))
        self._weight[len(self._weight) - 2 * problem.soft :] = SOFT_SHARE
        # All but the slack columns, and the rows that have none.
        own, hard = len(self._c) - problem.soft, problem.counts[1] - 2 * problem.soft
        self._hard = sp.csc_array(self._g[:hard, :own])
        self._soft = soft_rows(sp.csr_array(self._g[hard : hard + problem.soft, :own]))

    def solve(self, linear: Floats, barrier: float) -> tuple[CentralPoint, bool]:
        """The path's point at a barrier, and whether it was reached in ITERATIONS."""
        slack = np.maximum(self._g_right, FIRST_SLACK)
        aim = max(barrier, FIRST_PRODUCT * self._scale)
        point = CentralPoint(np.zeros(len(self._c)), slack, aim * self._weight / slack, np.zeros(len(self._e_right)))
        length = 1.0
        for _ in range(ITERATIONS):
            if self._reached(point, linear, barrier):
                return point, True
            # Only well centered points follow the path far: a short step asks for centering before progress.
            aim = max(barrier, SHRINK * aim) if length > 0.5 else aim
            way = self.direction(point, linear, aim)
            length = longest(point, way)
            if length < STUCK:
                break
            point = further(point, way, length)
        return point, False

    def direction(self, point: CentralPoint, linear: Floats, barrier: float) -> CentralPoint:
        """The Newton step towards the path, and where that gets further, with its second-order correction."""
        aim = barrier * self._weight
        plain = self._newton(point, linear, aim)
        length = longest(point, plain)
        if length == 1.0:
            return plain
        product = point.slack * point.dual
        most = LARGEST_CORRECTION * np.maximum(product, aim)
        corrected = self._newton(point, linear, aim - np.clip(plain.slack * plain.dual, -most, most))
        return corrected if longest(point, corrected) > length else plain

    def ahead(self, point: CentralPoint, linear: Floats, barrier: float) -> tuple[Floats, Floats]:
        """Where a whole Newton step leads, and its derivative with respect to the barrier."""
        here, twice = (self._newton(point, linear, aim * self._weight).x for aim in (barrier, 2 * barrier))
        return point.x + here, (twice - here) / barrier

    def sensitivity(self, point: CentralPoint, columns: Ints) -> Floats:
        """Derivative of where ``ahead`` leads with respect to the linear cost of ``columns``, at them."""
        moved: Floats = moved_by_prices(self._factors(point).factors, columns) / self._scale
        return moved

    def _newton(self, point: CentralPoint, linear: Floats, aim: Floats) -> CentralPoint:
        """From slack dz + dual ds = aim - slack dual and ds = -bound - G dx, costs divided by the scale."""
        gradient, primal, bound = self._residuals(point, linear)
        missing = (aim - point.slack * point.dual) / self._scale
        weight = point.dual / self._scale / point.slack
        target = missing / point.slack + weight * bound
        found = self._factors(point).solve(np.concatenate([-gradient - self._g.T @ target, -primal]))
        dx, dy = found[: len(self._c)], found[len(self._c) :]
        ds = -bound - self._g @ dx
        dz = missing / point.slack - weight * ds
        return CentralPoint(dx, ds, dz * self._scale, dy * self._scale)

    def _reached(self, point: CentralPoint, linear: Floats, barrier: float) -> bool:
        residual = max(float(np.abs(part).max(initial=0.0)) for part in self._residuals(point, linear))
        off_center = float(np.abs(point.slack * point.dual / self._weight - barrier).max(initial=0.0))
        return residual < ACCURACY and off_center < CENTERED * barrier

    def _residuals(self, point: CentralPoint, linear: Floats) -> tuple[Floats, Floats, Floats]:
        cost: Floats = self._p @ point.x + self._c + linear + self._e.T @ point.equality_dual + self._g.T @ point.dual
        return cost / self._scale, self._e @ point.x - self._e_right, self._g @ point.x + point.slack - self._g_right

    def _factors(self, point: CentralPoint) -> Condensed:
        """Of a Newton step's equations [[P + G' W G, E'], [E, 0]] with W = dual / slack."""
        if self._last is None or self._last[0] is not point:
            own, soft = self._hard.shape[1], self._soft.matrix.shape[0]
            hard, row, bound = np.split(
                point.dual / point.slack, [len(point.slack) - 2 * soft, len(point.slack) - soft]
            )
            both = row + bound
            hessian = self._p[:own, :own] + self._hard.T @ sp.diags_array(hard) @ self._hard
            hessian = sp.csc_array(hessian + self._soft.hessian(row * bound / both)) / self._scale
            factors = factorize(sp.csc_array(hessian), self._e[:, :own], UNREGULARIZED)
            self._last = point, Condensed(factors, self._soft.matrix, row / both, self._scale / both)
        return self._last[1]
