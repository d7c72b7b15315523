"""What load legs draw at a voltage, and how that changes with it.

Power over rated power follows one law inside v_min..v_max, others outside, so it has kinks at the two, and for some
models jumps. A cost that falls with the power drawn comes to rest on them, where no derivative exists: with a width w
the pieces are blended by s(x) = (1 + x / sqrt(x^2 + w^2)) / 2, x how far the voltage is beyond the limit, and all
derivatives are those of the blended law. A width of zero is the law itself.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from common.compiled import njit
from common.feeder import Complexes, Floats
from common.multiphase import Legs

SHARPEST = 1e-12
"""width that stands for none: pieces that meet differ by less than rounding within it"""
LIMITS_THAT_COUNT = (0.05, 5.0)
"""limits outside this range, per rated voltage, are never met: their pieces are not blended"""


@dataclass(frozen=True)
class LawTerms:
    """What ``factor`` needs of each leg, (leg,) each."""

    least: Floats
    most: Floats
    low: Floats
    slope: Floats
    """of the current over the rated one between ``low`` and ``least``"""
    above: Floats
    """admittance above ``most``, over the rated one"""
    blend_low: Floats
    """1 where the piece below ``least`` is blended, else 0"""
    blend_high: Floats


def law_terms(legs: Legs) -> LawTerms:
    """The constants of each leg's law."""
    least, most, edge, low = legs.v_min, legs.v_max, legs.edge, legs.v_low
    near, far = LIMITS_THAT_COUNT
    # Where there is nothing between the two, the rated impedance goes on.
    span = np.where(least - low > 1e-6, least - low, np.inf)
    with np.errstate(divide="ignore"):
        rise = np.where(np.isinf(span), 1.0, (np.maximum(least, 1e-9) ** (edge - 1) - low) / span)
    return LawTerms(
        least=least,
        most=most,
        low=low,
        slope=rise,
        above=most ** (edge - 2),
        blend_low=((least > near) & (least < far)).astype(float),
        blend_high=((most > near) & (most < far)).astype(float),
    )


def factor(
    r: Any,
    inside: Any,
    exponent: Any,
    least: Any,
    most: Any,
    low: Any,
    slope: Any,
    above: Any,
    blend_low: Any,
    blend_high: Any,
    width: Any,
) -> Any:
    """Power over rated power at the voltage r, its first and its second derivative by r.

    ``inside`` is r to the ``exponent``, the others are as in LawTerms. Plain arithmetic: for numbers, and for arrays
    that broadcast.
    """
    bend = width * width
    d_inside = exponent * inside / r
    b_inside = (exponent - 1.0) * d_inside / r
    x = r - most
    q = np.sqrt(x * x + bend)
    beyond = 1.0 * (x > 0.0)
    s = blend_high * (0.5 + 0.5 * x / q) + (1.0 - blend_high) * beyond
    s1 = blend_high * 0.5 * bend / (q * q * q)
    s2 = -3.0 * s1 * x / (q * q)
    g, g1, g2 = above * r * r - inside, 2.0 * above * r - d_inside, 2.0 * above - b_inside
    f, f1, f2 = inside + g * s, d_inside + g1 * s + g * s1, b_inside + g2 * s + 2.0 * g1 * s1 + g * s2
    x = least - r
    q = np.sqrt(x * x + bend)
    beyond = 1.0 * (x > 0.0)
    s = blend_low * (0.5 + 0.5 * x / q) + (1.0 - blend_low) * beyond
    s1 = -blend_low * 0.5 * bend / (q * q * q)
    s2 = 3.0 * s1 * x / (q * q)
    under = 1.0 * (r < low)
    rise = under + (1.0 - under) * slope
    current = under * r + (1.0 - under) * (low + slope * (r - low))
    g, g1, g2 = current * r - inside, rise * r + current - d_inside, 2.0 * rise - b_inside
    return f + g * s, f1 + g1 * s + g * s1, f2 + g2 * s + 2.0 * g1 * s1 + g * s2


compiled_factor = njit(inline="always")(factor)


@njit(inline="always")
def power_of(r: float, exponent: float) -> float:
    """r to the exponent; most are whole."""
    if exponent == 0.0:
        return 1.0
    if exponent == 1.0:
        return r
    if exponent == 2.0:
        return r * r
    return float(r**exponent)


def law_table(legs: Legs) -> Floats:
    """(leg, 12) rated real and reactive power, rated voltage, both exponents, then LawTerms: for compiled functions."""
    terms = law_terms(legs)
    columns = [legs.s.real, legs.s.imag, legs.v_rated, legs.alpha, legs.beta]
    return np.column_stack([*columns, *(getattr(terms, field.name) for field in fields(terms))])


@njit
def _currents(laws: Floats, v: Complexes, multipliers: Floats, width: float, found: Complexes) -> None:
    for leg in range(len(laws)):
        law = laws[leg]
        for t in range(v.shape[1]):
            r = abs(v[leg, t]) / law[2]
            f = power_of(r, law[3])
            f, _, _ = compiled_factor(r, f, law[3], law[5], law[6], law[7], law[8], law[9], law[10], law[11], width)
            g = power_of(r, law[4])
            g, _, _ = compiled_factor(r, g, law[4], law[5], law[6], law[7], law[8], law[9], law[10], law[11], width)
            # Not a complex quotient: that raises where the voltage is zero.
            share = multipliers[leg, t] / (v[leg, t].real ** 2 + v[leg, t].imag ** 2)
            found[leg, t] = complex(law[0] * f, -law[1] * g) * v[leg, t] * share


def law_currents(laws: Floats, v: Complexes, multipliers: Floats, width: float = 0.0) -> Complexes:
    """:func:`leg_currents` of a :func:`law_table`."""
    found = np.empty(v.shape, complex)
    _currents(laws, np.ascontiguousarray(v), np.ascontiguousarray(multipliers), max(width, SHARPEST), found)
    return found


def leg_currents(legs: Legs, v: Complexes, multipliers: Floats, width: float = 0.0) -> Complexes:
    """(leg, T) current that each leg draws at its voltage ``v`` (leg, T), the pieces of its law blended over
    ``width``, per rated voltage."""
    return law_currents(law_table(legs), v, multipliers, width)


def leg_powers(legs: Legs, v: Complexes, width: float = 0.0) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
    """Real and reactive power of each leg with multiplier 1, and their first and second derivatives by the voltage
    over the rated one: (leg, T) each."""
    terms = law_terms(legs)
    r = np.abs(v) / legs.v_rated[:, None]
    columns: Any = [getattr(terms, field.name)[:, None] for field in fields(terms)]
    found = []
    for exponent, rated in ((legs.alpha, legs.s.real), (legs.beta, legs.s.imag)):
        e = exponent[:, None]
        values: tuple[Floats, ...] = factor(*(r, r**e, e, *columns, max(width, SHARPEST)))
        found.append(tuple(rated[:, None] * value for value in values))
    return found[0], found[1]
