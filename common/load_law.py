"""What load legs draw at a voltage, and how that changes with it.

Power over rated power follows one law inside v_min..v_max, others outside, so it has kinks at the two. A cost that
falls with the power drawn comes to rest on them, where no derivative exists: with a width w > 0 a kink with the jump k
of the slope is rounded by k (w - |x|)^2 / (4 w) where |x| < w, x the distance from it, and all derivatives are those of
the rounded law. A jump of the power itself stays one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from common.feeder import Bools, Complexes, Floats
from common.multiphase import Legs


def leg_currents(legs: Legs, v: Complexes, multipliers: Floats, width: float = 0.0) -> Complexes:
    """(leg, T) current that each leg draws at its voltage ``v`` (leg, T)."""
    r = np.abs(v) / legs.v_rated[:, None]
    p, q = _powers(legs, r, width)
    return np.asarray(multipliers * np.conj((p + 1j * q) / v), complex)


def leg_sensitivities(legs: Legs, v: Complexes, multipliers: Floats, width: float = 0.0) -> tuple[Complexes, Complexes]:
    """(leg, T) derivatives of the drawn current with respect to the leg's voltage and to its conjugate."""
    r = np.abs(v) / legs.v_rated[:, None]
    p, q = (multipliers * power for power in _powers(legs, r, width))
    slope_p, slope_q = (multipliers * slope for slope in _slopes(legs, r, width))
    # i = conj(s / v): ds = (s' r / 2) (dv / v + conj(dv / v)), s' the derivative with respect to r.
    half = np.conj(slope_p + 1j * slope_q) * r / 2
    by_v = half / (np.conj(v) * v)
    by_conjugate = (half - np.conj(p + 1j * q)) / np.conj(v) ** 2
    return by_v.astype(complex), by_conjugate.astype(complex)


def leg_powers(legs: Legs, v: Complexes, multipliers: Floats, width: float) -> tuple[Complexes, Complexes, Complexes]:
    """(leg, T) power that each leg draws, its first and its second derivative with respect to ln |v|, the second one
    without what rounds the kinks."""
    r = np.abs(v) / legs.v_rated[:, None]
    (p, q), (slope_p, slope_q) = _powers(legs, r, width), _slopes(legs, r, width)
    bend_p = legs.s.real[:, None] * _factor_bend(legs, legs.alpha[:, None], r)
    bend_q = legs.s.imag[:, None] * _factor_bend(legs, legs.beta[:, None], r)
    slope = np.asarray((slope_p + 1j * slope_q) * r, complex)
    bend = np.asarray((bend_p + 1j * bend_q) * r**2 + slope, complex)
    drawn = np.asarray(multipliers * (p + 1j * q), complex)
    return drawn, multipliers * slope, multipliers * bend


def kink_curvature(
    legs: Legs, v: Complexes, multipliers: Floats, width: float, reach: Floats, price: Complexes
) -> Floats:
    """(leg, T) a with a (d ln |v|)^2 at least what a leg's power costs beyond its linearization, at the price (leg, T)
    of its real and imaginary part, on account of the convex kinks within ``reach`` (leg, T), per rated voltage.

    A parabola through the rounded kink's value and slope at x that lies above it everywhere has the second derivative
    k / (2 max(|x|, w)) (iteratively reweighted least squares).
    """
    r = np.abs(v) / legs.v_rated[:, None]
    found = np.zeros_like(r)
    by_p, by_q = _kinks(legs, legs.alpha[:, None], r), _kinks(legs, legs.beta[:, None], r)
    for (at, jump_p, _), (_, jump_q, _) in zip(by_p, by_q, strict=True):
        jump = price.real * legs.s.real[:, None] * jump_p + price.imag * legs.s.imag[:, None] * jump_q
        distance = np.abs(r - at)
        convex = np.maximum(multipliers * jump, 0.0)
        found += np.where(distance < reach, convex * r**2 / (4 * np.maximum(distance, width)), 0.0)
    return found


def rounded_off(legs: Legs, v: Complexes, multipliers: Floats, width: float) -> float:
    """The most real power, over all periods, that the rounding of kinks changes, were it all of one sign."""
    r = np.abs(v) / legs.v_rated[:, None]
    changed = multipliers * (_powers(legs, r, width)[0] - _powers(legs, r, 0.0)[0])
    return float(np.abs(changed).sum(axis=0).max(initial=0.0))


def _powers(legs: Legs, r: Floats, width: float) -> tuple[Floats, Floats]:
    """Real and reactive power of each leg at the voltage r, per rated: (leg, T) each."""
    p = legs.s.real[:, None] * _factor(legs, legs.alpha[:, None], r, width)
    q = legs.s.imag[:, None] * _factor(legs, legs.beta[:, None], r, width)
    return p, q


def _slopes(legs: Legs, r: Floats, width: float) -> tuple[Floats, Floats]:
    p = legs.s.real[:, None] * _factor_slope(legs, legs.alpha[:, None], r, width)
    q = legs.s.imag[:, None] * _factor_slope(legs, legs.beta[:, None], r, width)
    return p, q


def _factor(legs: Legs, exponent: Floats, r: Floats, width: float) -> Floats:
    """Power over rated power at the voltage r."""
    least, most, edge = legs.v_min[:, None], legs.v_max[:, None], legs.edge[:, None]
    inside: Floats = np.clip(r, least, most) ** exponent
    factor = np.where(r > most, most ** (edge - 2) * r**2, inside)
    factor = np.where(r < least, _low_current(legs, r)[0] * r, factor)
    if width:
        for at, jump, _ in _kinks(legs, exponent, r):
            factor = factor + jump * np.maximum(width - np.abs(r - at), 0.0) ** 2 / (4 * width)
    return factor


def _factor_slope(legs: Legs, exponent: Floats, r: Floats, width: float) -> Floats:
    least, most, edge = legs.v_min[:, None], legs.v_max[:, None], legs.edge[:, None]
    inside: Floats = exponent * np.clip(r, least, most) ** (exponent - 1)
    slope = np.where(r > most, most ** (edge - 2) * 2 * r, inside)
    current, current_slope = _low_current(legs, r)
    slope = np.where(r < least, current_slope * r + current, slope)
    if width:
        for at, jump, above in _kinks(legs, exponent, r):
            share = np.maximum(width - np.abs(r - at), 0.0) / (2 * width)
            slope = slope + jump * np.where(above, -share, share)
    return slope


def _factor_bend(legs: Legs, exponent: Floats, r: Floats) -> Floats:
    """Second derivative of the law by r, the kinks left out."""
    least, most, edge = legs.v_min[:, None], legs.v_max[:, None], legs.edge[:, None]
    inside: Floats = exponent * (exponent - 1) * np.clip(r, least, most) ** (exponent - 2)
    bend = np.where(r > most, 2 * most ** (edge - 2), inside)
    return np.where(r < least, 2 * _low_current(legs, r)[1], bend)


def _kinks(legs: Legs, exponent: Floats, r: Floats) -> Iterator[tuple[Floats, Floats, Bools]]:
    """Voltages (leg, 1) of the kinks, the jumps of the slope, 0 where the power itself jumps, and which voltages r the
    law above the kink holds for."""
    least, most, edge = legs.v_min[:, None], legs.v_max[:, None], legs.edge[:, None]
    current, current_slope = _low_current(legs, least * (1 - 1e-12))
    continuous = exponent == edge
    yield least, continuous * (exponent * least ** (exponent - 1) - current_slope * least - current), r >= least
    yield most, continuous * (2 * most ** (edge - 1) - exponent * most ** (exponent - 1)), r > most


def _low_current(legs: Legs, r: Floats) -> tuple[Floats, Floats]:
    """Current below v_min over the rated one, and its slope."""
    low, least, edge = legs.v_low[:, None], legs.v_min[:, None], legs.edge[:, None]
    slope = np.where(r < low, 1.0, (least ** (edge - 1) - low) / np.maximum(least - low, 1e-9))
    return np.where(r < low, r, low + slope * (r - low)), slope
