"""Limits as margins g(x) >= 0 in every period, and how an interior point sees them.

A margin is the distance of an unknown, or of a function of the magnitude of two (``Magnitude``), from its limit. Each
has a slack s >= 0 with g(x) + t = s and a multiplier z; an elastic one may be overstepped by t >= 0 at a price, with
w, the multiplier of t. In a Newton step towards s z = k, t w = k (Nocedal and Wright, "Numerical Optimization" (2006),
chapter 19) all four follow from dx: with sigma = z / s, omega = w / t and the residual r = g(x) + t - s,

    z + dz = zeta - stiffness * dg    stiffness = sigma, elastic: sigma omega / (sigma + omega)

so that only ``stiffness`` and ``zeta`` enter the equations of dx.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from common.feeder import Bools, Floats, Ints

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
        a, b = x[self.first], x[self.second]
        square = a * a + b * b
        log = self.is_log[:, None]
        root = np.sqrt(square + (self.guard * self.guard)[:, None])
        value = np.where(log, 0.5 * np.log(np.where(log, square, 1.0)), root)
        slope = 1.0 / np.where(log, square, root)
        return value, slope * a, slope * b, square


@dataclass(frozen=True)
class Group:
    """Limits of one kind, each on another row or pair."""

    rows: slice
    """among all limits"""
    sign: float
    """1 for a lower limit, -1 for an upper one"""
    of: Ints
    """rows of unknowns, or pairs"""
    is_magnitude: bool


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

    groups: tuple[Group, ...]
    magnitudes: Magnitudes
    value: Floats
    """(limit, T)"""
    hard: int
    """how many are not elastic"""
    price: Floats
    """(elastic limit, T)"""

    def margins(self, x: Floats, magnitude: Floats) -> Floats:
        """(limit, T)"""
        found = np.empty_like(self.value)
        for group in self.groups:
            of = magnitude if group.is_magnitude else x
            found[group.rows] = group.sign * (of[group.of] - self.value[group.rows])
        return found

    def changes(self, dx: Floats, along: tuple[Floats, Floats]) -> Floats:
        """(limit, T) how margins move with dx; ``along`` are the magnitudes' derivatives."""
        pairs = self.magnitudes
        moved = along[0] * dx[pairs.first] + along[1] * dx[pairs.second]
        found = np.empty_like(self.value)
        for group in self.groups:
            of = moved if group.is_magnitude else dx
            found[group.rows] = group.sign * of[group.of]
        return found

    def gradient(self, weight: Floats, along: tuple[Floats, Floats], rows: int) -> Floats:
        """(row, T) sum over limits of weight times the gradient of the margin."""
        found = np.zeros((rows, weight.shape[1]))
        per_pair = self.of_pairs(weight, signed=True)
        pairs = self.magnitudes
        # A row belongs to one pair only, but may stand in bounds besides.
        found[pairs.first] += per_pair * along[0]
        found[pairs.second] += per_pair * along[1]
        for group in self.groups:
            if not group.is_magnitude:
                found[group.of] += group.sign * weight[group.rows]
        return found

    def of_pairs(self, weight: Floats, signed: bool) -> Floats:
        """(pair, T) sum of the weights of the limits on each pair."""
        found = np.zeros((len(self.magnitudes.first), weight.shape[1]))
        for group in self.groups:
            if group.is_magnitude:
                found[group.of] += (group.sign if signed else 1.0) * weight[group.rows]
        return found

    def of_rows(self, weight: Floats) -> Iterator[tuple[Ints, Floats]]:
        """Rows of unknowns, and the weights of their bounds."""
        for group in self.groups:
            if not group.is_magnitude:
                yield group.of, weight[group.rows]


def make_limits(limits: Sequence[Limit], magnitudes: Magnitudes, periods: int) -> Limits:
    """All of them, those without a price first."""
    ordered = [limit for limit in limits if limit.price is None] + [
        limit for limit in limits if limit.price is not None
    ]
    groups, first = [], 0
    for limit in ordered:
        groups.append(Group(slice(first, first + len(limit.of)), limit.sign, limit.of, limit.is_magnitude))
        first += len(limit.of)
    none = np.zeros((0, periods))
    return Limits(
        groups=tuple(group for group in groups if len(group.of)),
        magnitudes=magnitudes,
        value=np.concatenate([none, *(np.broadcast_to(limit.value, (len(limit.of), periods)) for limit in ordered)]),
        hard=sum(len(limit.of) for limit in ordered if limit.price is None),
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
            self.s + primal * step.s, self.z + dual * step.z, self.t + primal * step.t, self.w + dual * step.w
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
    hard, (s, t) = limits.hard, (slacks.s.copy(), slacks.t.copy())
    aim = margin.copy()
    aim[hard:] += t
    over = t > s[hard:]
    follows = aim >= FOLLOWS * s
    follows[hard:] &= ~over
    s[follows] = aim[follows]
    aim_t = slacks.s[hard:] - margin[hard:]
    over &= aim_t >= FOLLOWS * t
    t[over] = aim_t[over]
    return Slacks(s, slacks.z, t, slacks.w)


@dataclass(frozen=True)
class Condensed:
    """What a Newton step needs of the limits at a point, but for its aim."""

    sigma: Floats
    omega: Floats
    share: Floats
    """sigma / (sigma + omega) of elastic ones"""
    residual: Floats
    stiffness: Floats


def condensed(limits: Limits, slacks: Slacks, margin: Floats) -> Condensed:
    hard = limits.hard
    sigma, omega = slacks.z / slacks.s, slacks.w / slacks.t
    share = sigma[hard:] / (sigma[hard:] + omega)
    residual = margin - slacks.s
    residual[hard:] += slacks.t
    stiffness = sigma.copy()
    stiffness[hard:] = share * omega
    return Condensed(sigma, omega, share, residual, stiffness)


def zeta(limits: Limits, slacks: Slacks, at: Condensed, k: Floats | float, k_t: Floats | float, own: float) -> Floats:
    """(limit, T) multipliers of a step with dx = 0 towards products k and k_t. Linear in them but for what does not
    depend on them, which counts ``own`` times."""
    hard = limits.hard
    aim = k / slacks.s
    found = aim - own * (at.stiffness * at.residual)
    missing = aim[hard:] + k_t / slacks.t - own * limits.price
    found[hard:] -= at.share * missing
    return found


def expanded(
    limits: Limits, slacks: Slacks, at: Condensed, change: Floats, k: Floats | float, k_t: Floats | float
) -> Slacks:
    """The step of slacks, oversteps and multipliers to a ``change`` (limit, T) of the margins."""
    hard = limits.hard
    aim, aim_t = k / slacks.s, k_t / slacks.t
    moved = at.residual + change
    elastic = aim[hard:] + aim_t - limits.price - at.sigma[hard:] * moved[hard:]
    dt = elastic / (at.sigma[hard:] + at.omega)
    ds = moved
    ds[hard:] += dt
    dz = aim - slacks.z - at.sigma * ds
    dw = aim_t - slacks.w - at.omega * dt
    return Slacks(ds, dz, dt, dw)


def longest(value: Floats, step: Floats, keep: float) -> float:
    """The largest share of a step, at most 1, that leaves at least 1 - ``keep`` of every positive value."""
    if not value.size:
        return 1.0
    worst = float((step / value).min())
    return min(1.0, -keep / worst) if worst < 0 else 1.0
