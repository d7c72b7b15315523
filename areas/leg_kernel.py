"""Currents and derivatives of an area's legs, loads and devices alike, compiled: period by period in the lanes of
``common.interior_point.lanes``.

A leg between nodes a and b draws the current conj(s / v), v the voltage across it. Loads follow their law
(``common.feeder.load_law``), devices inject what their controls say. The Lagrangian's part of a leg is
Re(conj(lambda) i), with the multipliers of the current balances at its ends, lambda_a - lambda_b, and for loads also
what their power costs where losses do. In u = dv / v the power s becomes s + s' Re(u - u^2 / 2) + s'' Re(u)^2 / 2,
s' and s'' its derivatives by ln|v|, and 1 / (1 + u) is 1 - u + u^2.
"""

from __future__ import annotations

import math

from tieflow.common.arrays import Floats, Ints
from tieflow.common.compiled import njit
from tieflow.common.feeder.load_law import compiled_factor as factor
from tieflow.common.feeder.load_law import power_of

LEG_ROWS = 7
"""of the table for a leg: the derivatives of its real and imaginary current by both parts of its voltage (re by re, re
by im, im by re, im by im), then the second derivatives of the Lagrangian by both parts (rr, ii, ri)"""
DEVICE_ROWS = 4
"""of the table for a device's leg: the current of a unit of real power (re, im), and the derivative of its part of the
Lagrangian by the real and imaginary voltage"""


@njit
def leg_values(
    nodes: int,
    a: Ints,
    b: Ints,
    laws: Floats,
    owner: Ints,
    share: Floats,
    x: Floats,
    multiplier: Floats,
    scale: Floats,
    power_price: Floats,
    device_p: Floats,
    device_q: Floats,
    width: float,
    table: Floats,
    balance: Floats,
    gradient: Floats,
    by_p: Floats,
    by_q: Floats,
) -> None:
    """Fill ``table`` (row, T) and add to the current balances, the Lagrangian's gradient by voltages, and by the
    devices' powers.

    ``a`` and ``b`` (leg,) are nodes, -1 for one whose voltage is no unknown; ``laws`` (load leg, 12) as
    ``common.feeder.load_law.law_table``, the load legs come first; ``owner`` and ``share`` (device leg,). ``x``
    (4 nodes, T) and ``multiplier`` alike: real V, real I, imaginary V, imaginary I, and the equations in this order;
    ``scale`` (load leg, T); ``power_price`` (T,) what a unit of the loads' real power costs; ``device_p`` and
    ``device_q`` (device, T).
    """
    periods = x.shape[1]
    loads = laws.shape[0]
    im = 2 * nodes
    for k in range(len(a)):
        ka, kb, row = a[k], b[k], LEG_ROWS * k
        for t in range(periods):
            vr, vi, lr, li = 0.0, 0.0, 0.0, 0.0
            if ka >= 0:
                vr += x[ka, t]
                vi += x[im + ka, t]
                lr += multiplier[nodes + ka, t]
                li += multiplier[im + nodes + ka, t]
            if kb >= 0:
                vr -= x[kb, t]
                vi -= x[im + kb, t]
                lr -= multiplier[nodes + kb, t]
                li -= multiplier[im + nodes + kb, t]
            square = vr * vr + vi * vi
            inverse = 1.0 / complex(vr, -vi)
            # The balance has the current drawn with a minus sign.
            price = complex(-lr, li)
            if k < loads:
                law = laws[k]
                r = math.sqrt(square) / law[2]
                m = scale[k, t]
                f, f1, f2 = factor(
                    r, power_of(r, law[3]), law[3], law[5], law[6], law[7], law[8], law[9], law[10], law[11], width
                )
                g, g1, g2 = factor(
                    r, power_of(r, law[4]), law[4], law[5], law[6], law[7], law[8], law[9], law[10], law[11], width
                )
                p, q = m * law[0], m * law[1]
                # Conjugates of the power and of its derivatives by ln|v|.
                s0 = complex(p * f, -q * g)
                s1 = complex(p * f1, -q * g1) * r
                s2 = complex(p * f2, -q * g2) * (r * r) + s1
                current = s0 * inverse
                by_v = s1 / (2.0 * square)
                by_conjugate = (s1 / 2.0 - s0) * inverse * inverse
                cost = price * inverse
                rr = (cost * (s2 / 2.0 - 1.5 * s1 + s0)).real
                ii = (cost * (s1 / 2.0 - s0)).real
                ri = (1j * cost * (s1 - 2.0 * s0)).real
                paid = power_price[t]
                # By ln|v|: the first derivative's gradient is (vr, vi) / |v|^2.
                rr += 0.5 * paid * (s2.real - s1.real)
                ii += 0.5 * paid * s1.real
                of_cost = paid * s1.real / square
                fourth = square * square
                xx = 2.0 * (rr * vr * vr - ri * vr * vi + ii * vi * vi) / fourth
                yy = 2.0 * (rr * vi * vi + ri * vr * vi + ii * vr * vr) / fourth
                xy = (2.0 * rr * vr * vi + ri * (vr * vr - vi * vi) - 2.0 * ii * vr * vi) / fourth
            else:
                j = k - loads
                o = owner[j]
                s = complex(device_p[o, t] * share[j], -device_q[o, t] * share[j])
                current = -s * inverse
                by_v = 0j
                by_conjugate = s * inverse * inverse
                second = -2.0 * price * s * inverse * inverse * inverse
                xx, yy, xy = second.real, -second.real, second.imag
                of_cost = 0.0
                unit = share[j] * inverse
                turn = price * unit * inverse
                at = LEG_ROWS * len(a) + DEVICE_ROWS * j
                table[at, t], table[at + 1, t] = unit.real, unit.imag
                table[at + 2, t], table[at + 3, t] = turn.real, turn.imag
                by_p[o, t] -= (price * unit).real
                by_q[o, t] -= (price * unit).imag
            same, opposite = by_v + by_conjugate, by_v - by_conjugate
            table[row, t], table[row + 1, t] = same.real, -opposite.imag
            table[row + 2, t], table[row + 3, t] = same.imag, opposite.real
            table[row + 4, t], table[row + 5, t], table[row + 6, t] = xx, yy, xy
            by_vr = -(same.real * lr + same.imag * li) + of_cost * vr
            by_vi = -(opposite.real * li - opposite.imag * lr) + of_cost * vi
            if ka >= 0:
                balance[nodes + ka, t] -= current.real
                balance[im + nodes + ka, t] -= current.imag
                gradient[ka, t] += by_vr
                gradient[im + ka, t] += by_vi
            if kb >= 0:
                balance[nodes + kb, t] += current.real
                balance[im + nodes + kb, t] += current.imag
                gradient[kb, t] -= by_vr
                gradient[im + kb, t] -= by_vi
