"""Limit by limit and period by period: the compiled loops of :mod:`common.interior_point.limits`.

A limit l bounds row or pair ``of[l]``, from below where ``sign[l]`` is 1 and from above where it is -1. Elastic limits
come after the ``hard`` ones. All other arrays are (row, T), (pair, T), (limit, T) or (elastic limit, T), contiguous.
"""

from __future__ import annotations

import math

import numpy as np

from common.compiled import njit
from common.feeder import Bools, Floats, Ints

FAR = 1e200
"""product of slacks beyond which its logarithm is taken"""


@njit
def magnitudes(
    first: Ints,
    second: Ints,
    is_log: Bools,
    guard: Floats,
    x: Floats,
    value: Floats,
    by_first: Floats,
    by_second: Floats,
    square: Floats,
) -> None:
    """Of every pair the function, its derivatives by both unknowns, and the sum of squares."""
    for pair in range(len(first)):
        i, j, more = first[pair], second[pair], guard[pair] * guard[pair]
        if is_log[pair]:
            for t in range(x.shape[1]):
                a, b = x[i, t], x[j, t]
                both = a * a + b * b
                square[pair, t] = both
                value[pair, t] = 0.5 * math.log(both)
                by_first[pair, t], by_second[pair, t] = a / both, b / both
        else:
            for t in range(x.shape[1]):
                a, b = x[i, t], x[j, t]
                both = a * a + b * b
                root = math.sqrt(both + more)
                square[pair, t] = both
                value[pair, t] = root
                by_first[pair, t], by_second[pair, t] = a / root, b / root


@njit
def curvatures(
    first: Ints,
    second: Ints,
    is_log: Bools,
    guard: Floats,
    x: Floats,
    value: Floats,
    stiffness: Floats,
    price: Floats,
    deviation: Floats,
    convex: Bools,
    found: Floats,
) -> None:
    """Of every pair (3 rows of ``found``: aa, bb, ab) stiffness times the derivative's square, and ``price`` (the
    multipliers of its limits, those from below counted negative) times the second derivative; and the second derivative
    of ``deviation`` times (square - 1)^2. In periods that are ``convex`` what is negative counts as zero."""
    for pair in range(len(first)):
        i, j, more, weight = first[pair], second[pair], guard[pair] * guard[pair], 4.0 * deviation[pair]
        for t in range(x.shape[1]):
            a, b = x[i, t], x[j, t]
            square = max(a * a + b * b, 1e-30)
            if is_log[pair]:
                along = (stiffness[pair, t] - price[pair, t]) / square
                across = price[pair, t] / square
            else:
                root = value[pair, t]
                along = (stiffness[pair, t] * square + price[pair, t] * more / root) / (root * root)
                across = price[pair, t] / root
            along += weight * (3.0 * square - 1.0)
            across += weight * (square - 1.0)
            if convex[t]:
                along, across = max(along, 0.0), max(across, 0.0)
            found[3 * pair, t] = (along * a * a + across * b * b) / square
            found[3 * pair + 1, t] = (along * b * b + across * a * a) / square
            found[3 * pair + 2, t] = (along - across) * a * b / square


@njit
def margins(
    of: Ints, sign: Floats, is_magnitude: Bools, value: Floats, x: Floats, magnitude: Floats, found: Floats
) -> None:
    for limit in range(len(of)):
        at, side = of[limit], sign[limit]
        if is_magnitude[limit]:
            for t in range(found.shape[1]):
                found[limit, t] = side * (magnitude[at, t] - value[limit, t])
        else:
            for t in range(found.shape[1]):
                found[limit, t] = side * (x[at, t] - value[limit, t])


@njit
def changes(
    of: Ints,
    sign: Floats,
    is_magnitude: Bools,
    first: Ints,
    second: Ints,
    by_first: Floats,
    by_second: Floats,
    dx: Floats,
    found: Floats,
) -> None:
    """How the margins move with dx."""
    for limit in range(len(of)):
        at, side = of[limit], sign[limit]
        if is_magnitude[limit]:
            i, j = first[at], second[at]
            for t in range(found.shape[1]):
                found[limit, t] = side * (by_first[at, t] * dx[i, t] + by_second[at, t] * dx[j, t])
        else:
            for t in range(found.shape[1]):
                found[limit, t] = side * dx[at, t]


@njit
def gradient(
    of: Ints,
    sign: Floats,
    is_magnitude: Bools,
    first: Ints,
    second: Ints,
    by_first: Floats,
    by_second: Floats,
    weight: Floats,
    found: Floats,
) -> None:
    """Add weight times the gradient of every margin."""
    for limit in range(len(of)):
        at, side = of[limit], sign[limit]
        if is_magnitude[limit]:
            i, j = first[at], second[at]
            for t in range(found.shape[1]):
                pull = side * weight[limit, t]
                found[i, t] += pull * by_first[at, t]
                found[j, t] += pull * by_second[at, t]
        else:
            for t in range(found.shape[1]):
                found[at, t] += side * weight[limit, t]


@njit
def added(place: Ints, factor: Floats, weight: Floats, found: Floats) -> None:
    """Add factor times weight of every limit to the row at its place, where that is not negative."""
    for limit in range(len(place)):
        at, times = place[limit], factor[limit]
        if at >= 0:
            for t in range(found.shape[1]):
                found[at, t] += times * weight[limit, t]


@njit
def settle(hard: int, least: float, margin: Floats, s: Floats, t: Floats) -> None:
    """:func:`common.interior_point.limits.settled`"""
    for limit in range(len(s)):
        e = limit - hard
        for p in range(s.shape[1]):
            aim = margin[limit, p] + (t[e, p] if e >= 0 else 0.0)
            if e >= 0 and t[e, p] > s[limit, p]:
                aim = s[limit, p] - margin[limit, p]
                if aim >= least * t[e, p]:
                    t[e, p] = aim
            elif aim >= least * s[limit, p]:
                s[limit, p] = aim


@njit
def condense(
    hard: int,
    s: Floats,
    z: Floats,
    t: Floats,
    w: Floats,
    sigma: Floats,
    omega: Floats,
    residual: Floats,
    stiffness: Floats,
) -> None:
    """``residual`` holds the margins at first."""
    for limit in range(len(s)):
        for k in range(s.shape[1]):
            own = z[limit, k] / s[limit, k]
            sigma[limit, k] = stiffness[limit, k] = own
            residual[limit, k] -= s[limit, k]
        if limit >= hard:
            e = limit - hard
            for k in range(s.shape[1]):
                own, other = sigma[limit, k], w[e, k] / t[e, k]
                omega[e, k] = other
                residual[limit, k] += t[e, k]
                stiffness[limit, k] = own / (own + other) * other


@njit
def aimed(
    hard: int,
    s: Floats,
    t: Floats,
    sigma: Floats,
    omega: Floats,
    residual: Floats,
    stiffness: Floats,
    price: Floats,
    k: float,
    k_t: float,
    more: Floats,
    more_t: Floats,
    own: float,
    found: Floats,
) -> None:
    """:func:`common.interior_point.limits.zeta`; the aim is k, and ``more`` (empty: none) of each product."""
    for limit in range(len(s)):
        for p in range(s.shape[1]):
            aim = (k + (more[limit, p] if len(more) else 0.0)) / s[limit, p]
            found[limit, p] = aim - own * (stiffness[limit, p] * residual[limit, p])
        if limit >= hard:
            e = limit - hard
            for p in range(s.shape[1]):
                aim = (k + (more[limit, p] if len(more) else 0.0)) / s[limit, p]
                missing = aim + (k_t + (more_t[e, p] if len(more_t) else 0.0)) / t[e, p] - own * price[e, p]
                found[limit, p] -= sigma[limit, p] / (sigma[limit, p] + omega[e, p]) * missing


@njit
def expand(
    hard: int,
    s: Floats,
    z: Floats,
    t: Floats,
    w: Floats,
    sigma: Floats,
    omega: Floats,
    residual: Floats,
    price: Floats,
    change: Floats,
    k: float,
    k_t: float,
    more: Floats,
    more_t: Floats,
    ds: Floats,
    dz: Floats,
    dt: Floats,
    dw: Floats,
) -> None:
    """:func:`common.interior_point.limits.expanded`; the aim as of ``aimed``."""
    for limit in range(len(s)):
        for p in range(s.shape[1]):
            ds[limit, p] = residual[limit, p] + change[limit, p]
        if limit >= hard:
            e = limit - hard
            for p in range(s.shape[1]):
                aim = (k + (more[limit, p] if len(more) else 0.0)) / s[limit, p]
                aim_t = (k_t + (more_t[e, p] if len(more_t) else 0.0)) / t[e, p]
                pull = aim + aim_t - price[e, p] - sigma[limit, p] * ds[limit, p]
                dt[e, p] = pull / (sigma[limit, p] + omega[e, p])
                dw[e, p] = aim_t - w[e, p] - omega[e, p] * dt[e, p]
                ds[limit, p] += dt[e, p]
        for p in range(s.shape[1]):
            aim = (k + (more[limit, p] if len(more) else 0.0)) / s[limit, p]
            dz[limit, p] = aim - z[limit, p] - sigma[limit, p] * ds[limit, p]


@njit
def worst(value: Floats, step: Floats) -> float:
    """The least ratio below zero of steps to their values (flat); 0: none is."""
    least = 0.0
    for k in range(len(value)):
        if step[k] < least * value[k]:
            least = step[k] / value[k]
    return least


@njit
def products(s: Floats, z: Floats, ds: Floats, dz: Floats, periods: int) -> tuple[float, float, float, float]:
    """Sums of s z, s dz, ds z and ds dz over the first periods."""
    sums = np.zeros((4, periods))
    both, first, second, last = sums
    for row in range(len(s)):
        for t in range(periods):
            both[t] += s[row, t] * z[row, t]
            first[t] += s[row, t] * dz[row, t]
            second[t] += ds[row, t] * z[row, t]
            last[t] += ds[row, t] * dz[row, t]
    return both.sum(), first.sum(), second.sum(), last.sum()


@njit
def measured(s: Floats, z: Floats, periods: int) -> tuple[float, float, float, float, float]:
    """Least and largest product, their sum, the sum of the logarithms of s and of z, over the first periods."""
    least, most, product = np.full(periods, np.inf), np.zeros(periods), np.ones(periods)
    total, multipliers, logs = np.zeros(periods), np.zeros(periods), 0.0
    for row in range(len(s)):
        is_far = False
        for t in range(periods):
            both = s[row, t] * z[row, t]
            least[t] = both if both < least[t] else least[t]
            most[t] = both if both > most[t] else most[t]
            total[t] += both
            multipliers[t] += abs(z[row, t])
            product[t] *= s[row, t]
            is_far |= not 1.0 / FAR < product[t] < FAR
        if is_far:
            for t in range(periods):
                logs += math.log(product[t])
                product[t] = 1.0
    smallest, largest = math.inf, 0.0
    for t in range(periods):
        logs += math.log(product[t])
        smallest, largest = min(smallest, least[t]), max(largest, most[t])
    return smallest, largest, total.sum(), logs, multipliers.sum()


@njit
def oversteps(
    price: Floats, first: Floats, z: Floats, t: Floats, w: Floats, kept: float, little: float, periods: int
) -> tuple[float, float, float, float]:
    """Of elastic limits, over the first periods: the largest that price - z - w is off zero; what oversteps cost; how
    many limits are overstepped by more than ``kept`` whose price is the first one still, by less than ``little``; and
    how many whose price has been raised."""
    most, cost, repriceable, raised = 0.0, 0.0, 0.0, 0.0
    for e in range(len(t)):
        for p in range(periods):
            most = max(most, abs(price[e, p] - z[e, p] - w[e, p]))
            cost += price[e, p] * t[e, p]
            if t[e, p] > kept:
                is_raised = price[e, p] > first[e, p]
                raised += is_raised
                repriceable += not is_raised and t[e, p] < little
    return most, cost, repriceable, raised
