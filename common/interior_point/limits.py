"""Limits as margins g(x) >= 0 in every period, and how an interior point sees them.

A margin is the distance of an unknown, or of a function of the magnitude of two (``Magnitude``), from its limit. Each
has a slack s >= 0 with g(x) + t = s and a multiplier z; an elastic one may be overstepped by t >= 0 at a price, with
w, the multiplier of t. In a Newton step towards s z = k, t w = k (Nocedal and Wright, "Numerical Optimization" (2006),
chapter 19) all four follow from dx: with sigma = z / s, omega = w / t and the residual r = g(x) + t - s,

    z + dz = zeta - stiffness * dg    stiffness = sigma, elastic: sigma omega / (sigma + omega)

so that only ``stiffness`` and ``zeta`` enter the equations of dx.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tieflow.common.arrays import Bools, Floats, Ints
from tieflow.common.interior_point import limit_kernels
from tieflow.common.row_kernels import stepped

GUARD = 1e-4
"""over its limit: rounds off the magnitude of a power or current where that is zero"""
FIRST_SLACK = 1e-2
"""at first, of a hard limit whose margin is not inside"""
CLIP = 10.0
"""largest corrector of a product of slack and multiplier, over the average product"""


FOLLOWS = 0.1
"""least share of a slack or overstep that is left where it follows its margin"""
FAR_OFF = 1e6
"""factor by which a product of slack and multiplier may be off the barrier"""


@dataclass(frozen=True)
class Magnitudes:
    """Pairs of unknowns whose root of the sum of squares, or its logarithm, is limited."""

    first: Ints
    """(pair,) rows"""
    second: Ints
    is_log: Bools
    guard: Floats
    """(pair,) added as its square under the root"""

    def at(self, x: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """(pair, T) the function, its derivatives by both unknowns, and the sum of squares."""
        value, by_first, by_second, square = (np.empty((len(self.first), x.shape[1])) for _ in range(4))
        limit_kernels.magnitudes(
            self.first, self.second, self.is_log, self.guard, x, value, by_first, by_second, square
        )
        return value, by_first, by_second, square


@dataclass(frozen=True)
class Limit:
    """Limits of one kind as an area states them."""

    of: Ints
    sign: float
    value: Floats
    """(limit, T)"""
    is_magnitude: bool = False
    price: Floats | None = None
    """(limit, T) of a unit beyond it; None: not elastic"""


@dataclass(frozen=True)
class Limits:
    """All limits of an area, the elastic ones last."""

    of: Ints
    """(limit,) the row of unknowns, or the pair"""
    sign: Floats
    """(limit,) 1 for a lower limit, -1 for an upper one"""
    is_magnitude: Bools
    """(limit,) whether it is one of a pair"""
    magnitudes: Magnitudes
    value: Floats
    """(limit, T)"""
    hard: int
    """how many are not elastic"""
    price: Floats
    """(elastic limit, T)"""

    @cached_property
    def bounded(self) -> Ints:
        """Rows of unknowns that have bounds."""
        return np.unique(self.of[~self.is_magnitude])

    @cached_property
    def _pair(self) -> Ints:
        """(limit,) the pair, -1: none"""
        return np.where(self.is_magnitude, self.of, -1)

    @cached_property
    def _bound(self) -> Ints:
        """(limit,) which of the bounded rows it bounds, -1: none"""
        return np.where(self.is_magnitude, -1, np.searchsorted(self.bounded, self.of))

    @cached_property
    def _once(self) -> Floats:
        return np.ones(len(self.of))

    def margins(self, x: Floats, magnitude: Floats) -> Floats:
        """(limit, T)"""
        found = np.empty_like(self.value)
        limit_kernels.margins(self.of, self.sign, self.is_magnitude, self.value, x, magnitude, found)
        return found

    def changes(self, dx: Floats, along: tuple[Floats, Floats]) -> Floats:
        """(limit, T) how margins move with dx; ``along`` are the magnitudes' derivatives."""
        pairs, found = self.magnitudes, np.empty_like(self.value)
        limit_kernels.changes(
            self.of, self.sign, self.is_magnitude, pairs.first, pairs.second, *along, np.ascontiguousarray(dx), found
        )
        return found

    def gradient(self, weight: Floats, along: tuple[Floats, Floats], rows: int) -> Floats:
        """(row, T) sum over limits of weight times the gradient of the margin."""
        pairs, found = self.magnitudes, np.zeros((rows, weight.shape[1]))
        limit_kernels.gradient(self.of, self.sign, self.is_magnitude, pairs.first, pairs.second, *along, weight, found)
        return found

    def curvatures(
        self,
        x: Floats,
        magnitude: Floats,
        stiffness: Floats,
        z: Floats,
        deviation: Floats,
        convex: Bools,
        found: Floats,
    ) -> None:
        """Into ``found`` (3 a pair, T) aa, bb and ab of each pair's part of the Newton system, ``deviation`` (pair,)
        times (square - 1)^2 in it; made positive semidefinite where ``convex`` (T,)."""
        pairs = self.magnitudes
        stiff, price = np.zeros((2, *magnitude.shape))
        limit_kernels.added(self._pair, self._once, stiffness, stiff)
        limit_kernels.added(self._pair, -self.sign, z, price)
        known = pairs.first, pairs.second, pairs.is_log, pairs.guard
        limit_kernels.curvatures(*known, x, magnitude, stiff, price, deviation, convex, found)

    def of_bounds(self, weight: Floats) -> Floats:
        """(bounded row, T) the sum of the weights of the bounds on each of ``bounded``."""
        found = np.zeros((len(self.bounded), weight.shape[1]))
        limit_kernels.added(self._bound, self._once, weight, found)
        return found


def make_limits(limits: Sequence[Limit], magnitudes: Magnitudes, periods: int) -> Limits:
    """All of them, those without a price first."""
    ordered = [limit for limit in limits if limit.price is None]
    hard = sum(len(limit.of) for limit in ordered)
    ordered += [limit for limit in limits if limit.price is not None]
    sizes = [len(limit.of) for limit in ordered]
    none = np.zeros((0, periods))
    return Limits(
        of=np.concatenate([np.zeros(0, np.int64), *(limit.of for limit in ordered)]),
        sign=np.repeat([limit.sign for limit in ordered], sizes),
        is_magnitude=np.repeat([limit.is_magnitude for limit in ordered], sizes),
        magnitudes=magnitudes,
        value=np.concatenate([none, *(np.broadcast_to(limit.value, (len(limit.of), periods)) for limit in ordered)]),
        hard=hard,
        price=np.concatenate(
            [none, *(np.broadcast_to(p, (len(li.of), periods)) for li in ordered if (p := li.price) is not None)]
        ),
    )


@dataclass(frozen=True)
class Slacks:
    """Slacks of margins, oversteps of elastic ones, and their multipliers; (limit, T) or (elastic limit, T)."""

    s: Floats
    z: Floats
    t: Floats
    w: Floats

    def moved(self, step: Slacks, primal: float, dual: float) -> Slacks:
        return Slacks(
            stepped(self.s, primal, step.s),
            stepped(self.z, dual, step.z),
            stepped(self.t, primal, step.t),
            stepped(self.w, dual, step.w),
        )

    def centered(self, barrier: float) -> Slacks:
        """Multipliers brought back to where their products are not too far off a barrier above zero."""
        if not barrier:
            return self
        s, t = barrier / self.s, barrier / self.t
        z, w = np.clip(self.z, s / FAR_OFF, s * FAR_OFF), np.clip(self.w, t / FAR_OFF, t * FAR_OFF)
        return Slacks(self.s, z, self.t, w)


def first_slacks(limits: Limits, margin: Floats, barrier: float) -> Slacks:
    """At a barrier's center: s z = t w = barrier, and of elastic limits margin + t = s and z + w = price, which makes s
    the larger root of price s (s - margin) = barrier (2 s - margin). Only the slack of a hard limit whose margin is not
    inside is off."""
    hard, price = limits.hard, limits.price
    s = np.where(margin > 0, margin, FIRST_SLACK)
    z = barrier / s
    m, c = margin[hard:], 2 * barrier / price
    root = np.sqrt(m * m + c * c)
    s[hard:], t = (c + root + m) / 2, (c + root - m) / 2
    z[hard:], w = price * t / (s[hard:] + t), price * s[hard:] / (s[hard:] + t)
    return Slacks(s, z, t, w)


def settled(limits: Limits, slacks: Slacks, margin: Floats) -> Slacks:
    """What a margin is off its slack put on the slack or the overstep, whichever is larger, unless that would leave
    less than ``FOLLOWS`` of it: the equations of limits then hold at once, however their margins bend."""
    s, t = slacks.s.copy(), slacks.t.copy()
    limit_kernels.settle(limits.hard, FOLLOWS, margin, s, t)
    return Slacks(s, slacks.z, t, slacks.w)


@dataclass(frozen=True)
class Condensed:
    """What a Newton step needs of the limits at a point, but for its aim."""

    sigma: Floats
    omega: Floats
    residual: Floats
    stiffness: Floats


def condensed(limits: Limits, slacks: Slacks, margin: Floats) -> Condensed:
    sigma, stiffness, residual = np.empty_like(margin), np.empty_like(margin), margin.copy()
    omega = np.empty_like(slacks.t)
    limit_kernels.condense(limits.hard, slacks.s, slacks.z, slacks.t, slacks.w, sigma, omega, residual, stiffness)
    return Condensed(sigma, omega, residual, stiffness)


def zeta(limits: Limits, slacks: Slacks, at: Condensed, k: Floats | float, k_t: Floats | float, own: float) -> Floats:
    """(limit, T) multipliers of a step with dx = 0 towards products k and k_t. Linear in them but for what does not
    depend on them, which counts ``own`` times."""
    found, (s, t) = np.empty_like(slacks.s), (slacks.s, slacks.t)
    known = at.sigma, at.omega, at.residual, at.stiffness, limits.price
    (k, more), (k_t, more_t) = _aim(k), _aim(k_t)
    limit_kernels.aimed(limits.hard, s, t, *known, k, k_t, more, more_t, own, found)
    return found


def expanded(
    limits: Limits, slacks: Slacks, at: Condensed, change: Floats, k: Floats | float, k_t: Floats | float
) -> Slacks:
    """The step of slacks, oversteps and multipliers to a ``change`` (limit, T) of the margins."""
    s, z, t, w = slacks.s, slacks.z, slacks.t, slacks.w
    step = Slacks(np.empty_like(s), np.empty_like(s), np.empty_like(t), np.empty_like(t))
    known, ((k, more), (k_t, more_t)) = (at.sigma, at.omega, at.residual, limits.price, change), (_aim(k), _aim(k_t))
    limit_kernels.expand(limits.hard, s, z, t, w, *known, k, k_t, more, more_t, step.s, step.z, step.t, step.w)
    return step


_NONE = np.zeros((0, 0))


def _aim(k: Floats | float) -> tuple[float, Floats]:
    """What all products are to be, and what each is to be beyond."""
    return (0.0, k) if isinstance(k, np.ndarray) else (k, _NONE)


def longest(value: Floats, step: Floats, keep: float) -> float:
    """The largest share of a step, at most 1, that leaves at least 1 - ``keep`` of every positive value."""
    worst = limit_kernels.worst(value.ravel(), step.ravel())
    return min(1.0, -keep / worst) if worst < 0 else 1.0


def lengths(slacks: Slacks, step: Slacks, keep: float) -> tuple[float, float]:
    """:func:`longest` of slacks and oversteps, and of their multipliers."""
    primal = min(longest(slacks.s, step.s, keep), longest(slacks.t, step.t, keep))
    return primal, min(longest(slacks.z, step.z, keep), longest(slacks.w, step.w, keep))


def products(slacks: Slacks, step: Slacks, periods: int) -> Floats:
    """(4,) sums of s z, s dz, ds z and ds dz, the oversteps' among them, over the first periods."""
    limits = limit_kernels.products(slacks.s, slacks.z, step.s, step.z, periods)
    oversteps = limit_kernels.products(slacks.t, slacks.w, step.t, step.w, periods)
    total: Floats = np.array(limits) + np.array(oversteps)
    return total


@dataclass(frozen=True)
class Products:
    """Of slacks and their multipliers at a point."""

    least: float
    most: float
    total: float
    count: int
    logs: float
    """sum of the slacks' logarithms"""
    multipliers: float
    """sum of their absolute values"""

    @classmethod
    def of(cls, slacks: Slacks, periods: int) -> Products:
        """Over the first periods."""
        s = limit_kernels.measured(slacks.s, slacks.z, periods)
        t = limit_kernels.measured(slacks.t, slacks.w, periods)
        count = periods * (len(slacks.s) + len(slacks.t))
        return cls(min(s[0], t[0]), max(s[1], t[1]), s[2] + t[2], count, s[3] + t[3], s[4] + t[4])
