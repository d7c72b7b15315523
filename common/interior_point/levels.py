"""Stored energies in a joint Newton step: the multipliers of their equations, their levels and the levels' limits.

The level of a store after each period is e_t = e_(t-1) + gains of the areas' controls. The last is given: what it was
at the start. See ``common.interior_point.stores`` for the factorization over time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tieflow.common.arrays import Floats, Ints
from tieflow.common.interior_point.limits import (
    Condensed,
    Limit,
    Limits,
    Magnitudes,
    Products,
    Slacks,
    condensed,
    expanded,
    first_slacks,
    make_limits,
    zeta,
)
from tieflow.common.interior_point.stores import TimeFactors
from tieflow.common.row_kernels import absolute, dot, ratios
from tieflow.common.wire.joint_step import Lengths, Measures

ROOM = 0.1
"""share of its range by which a level at first keeps away from its limits"""


@dataclass(frozen=True)
class Levels:
    """Of all stores, or a step of them."""

    nu: Floats
    """(store, T) multipliers of the equations"""
    level: Floats
    """(store, T - 1) at the end of each period but the last"""
    slacks: Slacks
    """of the levels' limits"""


class StoredEnergies:
    """What the coordinator knows of them at the present point."""

    def __init__(self, start: Floats, low: Floats, high: Floats, periods: int, barrier: float) -> None:
        """(store,) each, -inf and inf where there is no limit; ``barrier`` is the first."""
        self.start, self.count, self.periods = start, len(start), periods
        bounded = np.flatnonzero(np.isfinite(low))
        none = np.zeros(0, np.int64)
        bounds = [Limit(bounded, 1.0, low[bounded, None]), Limit(bounded, -1.0, high[bounded, None])]
        pairs = Magnitudes(none, none, none.astype(bool), np.zeros(0))
        self.limits: Limits = make_limits(bounds, pairs, periods - 1)
        self._along = (np.zeros((0, periods - 1)),) * 2
        self._rows = np.arange(self.count)
        room = ROOM * np.where(np.isfinite(low), high - low, 0.0)
        level = np.repeat(np.clip(start, low + room, high - room)[:, None], periods - 1, axis=1)
        margin = self.limits.margins(level, self._along[0])
        self.at = Levels(np.zeros((self.count, periods)), level, first_slacks(self.limits, margin, barrier))
        self._condensed: Condensed
        self._factors: TimeFactors

    def levels(self) -> Floats:
        """(store, T)"""
        return np.concatenate([self.at.level, self.start[:, None]], axis=1)

    def rises(self) -> Floats:
        """(store, T) of each level since the period before."""
        levels = self.levels()
        rises = levels - self.start[:, None]
        rises[:, 1:] = levels[:, 1:] - levels[:, :-1]
        return rises

    def take(self, step: Levels, lengths: Lengths, barrier: float) -> None:
        """Shares of a step, the limits' multipliers kept near a ``barrier`` above zero."""
        at = self.at
        slacks = at.slacks.moved(step.slacks, lengths.primal, lengths.dual)
        nu = at.nu + lengths.multiplier * step.nu
        self.at = Levels(nu, at.level + lengths.primal * step.level, slacks.centered(barrier))

    def factorize(self, schur: Floats) -> Ints:
        """From what is left of the periods, (T, store, store): eigenvalues on the wrong side, (T,)."""
        self._condensed = condensed(self.limits, self.at.slacks, self.limits.margins(self.at.level, self._along[0]))
        sigma = np.zeros((self.periods, self.count))
        sigma[:-1, self.limits.bounded] = self.limits.of_bounds(self._condensed.stiffness).T
        self._factors = TimeFactors.of(schur, sigma)
        return self._factors.wrong

    def measures(self, residual: Floats) -> Measures:
        """Of the equations' ``residual`` (store, T) and of the levels; areas count the shared multipliers."""
        periods, slacks = self.periods, self.at.slacks
        left, most = absolute(residual, self._rows, periods)
        missing, most_missing = absolute(self._condensed.residual, np.arange(len(slacks.s)), periods - 1)
        stationary = self._pushed() - self.limits.gradient(slacks.z, self._along, self.count)
        pairs = Products.of(slacks, periods - 1)
        return Measures(
            infeasibility=left + missing,
            primal=max(most, most_missing),
            dual=absolute(stationary, self._rows, periods - 1)[1],
            least_product=pairs.least,
            most_product=pairs.most,
            products=pairs.total,
            limits=float(pairs.count),
            multipliers=pairs.multipliers,
            equations=0.0,
            objective=0.0,
            logs=pairs.logs,
        )

    def step(self, g: Floats, k: Floats | float) -> Levels:
        """Towards products k, with the right-hand side g (store, T) of the equations."""
        pull = zeta(self.limits, self.at.slacks, self._condensed, k, 0.0, 1.0)
        right = np.zeros((self.count, self.periods))
        right[:, :-1] = self.limits.gradient(pull, self._along, self.count) - self._pushed()
        nu, moved = self._factors.solve(g, right)
        level = np.ascontiguousarray(moved[:, :-1])
        change = self.limits.changes(level, self._along)
        return Levels(nu, level, expanded(self.limits, self.at.slacks, self._condensed, change, k, 0.0))

    def slope(self, step: Levels, residual: Floats, barrier: float) -> float:
        """What they add to the derivative of objective and logarithms along a step that takes off the equations'
        ``residual``."""
        slope = dot(self._pushed(), step.level, self._rows, self.periods - 1)
        slope += dot(self.at.nu, residual, self._rows, self.periods)
        return slope - barrier * ratios(step.slacks.s, self.at.slacks.s, self.periods - 1)

    def _pushed(self) -> Floats:
        """(store, T - 1) derivative of multipliers' equations by the levels."""
        return self.at.nu[:, :-1] - self.at.nu[:, 1:]
