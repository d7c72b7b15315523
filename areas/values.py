"""The values and derivatives of an area's problem at a point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tieflow.areas.leg_kernel import leg_values
from tieflow.areas.own_ends import end_values
from tieflow.areas.problem import Problem
from tieflow.common.arrays import Floats
from tieflow.common.feeder.load_law import leg_powers
from tieflow.common.row_kernels import add_product, add_terms, add_transposed, dot
from tieflow.common.ties.boundary import AreaProposal


@dataclass(frozen=True)
class Values:
    """A problem at a point."""

    slopes: Floats
    """(row, then multiplier; T) derivatives of cost + multiplier' equations by unknowns and multipliers"""
    gradient: Floats
    """(row, T) the part by unknowns"""
    equations: Floats
    """(multiplier, T) the part by multipliers: what the equations leave"""
    margin: Floats
    """(limit, T)"""
    magnitude: tuple[Floats, Floats, Floats, Floats]
    """as ``Magnitudes.at``"""
    table: Floats
    """(row, T) of varying values; what limits add is still missing"""
    objective: float
    """over ``scale``, oversteps left out"""


def values(problem: Problem, x: Floats, multiplier: Floats, width: float, offer: AreaProposal | None = None) -> Values:
    """The problem at unknowns (row, T) and multipliers, the loads' laws blended over ``width``; ``offer`` is what an
    area that is solved by itself is asked."""
    layout, network, linear = problem.layout, problem.network, problem.linear
    rows, equations = layout.x, layout.multiplier
    table = np.zeros((problem.tables["delta"].stop, x.shape[1]))
    slopes = np.concatenate([problem.cost, problem.source])
    gradient, found = slopes[: layout.rows], slopes[layout.rows :]
    add_product(linear.indptr, linear.indices, linear.data, x, found)
    add_transposed(linear.indptr, linear.indices, linear.data, multiplier, gradient)
    p, q = (given.copy() for given in problem.given)
    by_p, by_q = (np.zeros_like(given) for given in problem.given)
    by_control = (problem.control_p, p, by_p), (problem.control_q, q, by_q)
    for k, power, _ in by_control:
        add_terms(problem.control_unit, problem.control_rows, k, x, power)
    leg_values(
        layout.nodes,
        network.a,
        network.b,
        network.laws,
        network.owner,
        network.share,
        x[rows["network"]],
        multiplier[equations["network"]],
        problem.load_scale,
        problem.load_price,
        p,
        q,
        width,
        table,
        found[equations["network"]],
        gradient[rows["network"]],
        by_p,
        by_q,
    )
    for k, _, slope in by_control:
        add_terms(problem.control_rows, problem.control_unit, k, slope, gradient)
    _meter(problem, x, multiplier, found, gradient, table)
    magnitude = problem.limits.magnitudes.at(x)
    objective = dot(problem.cost, x, np.arange(layout.rows), problem.periods) + problem.constant
    if offer is not None:
        objective += end_values(problem, offer, x, multiplier, found, gradient, table)
    if problem.load_price.any():
        objective += _loads_cost(problem, x, width)
    if problem.deviation.any():
        pairs, off = problem.limits.magnitudes, magnitude[3] - 1.0
        weight = problem.deviation[:, None]
        gradient[pairs.first] += 4 * weight * off * x[pairs.first]
        gradient[pairs.second] += 4 * weight * off * x[pairs.second]
        objective += float((weight * off**2)[:, : problem.periods].sum())
    margin = problem.limits.margins(x, magnitude[0])
    return Values(slopes, gradient, found, margin, magnitude, table, objective)


def _meter(problem: Problem, x: Floats, multiplier: Floats, found: Floats, gradient: Floats, table: Floats) -> None:
    """The products in the definitions P = sum Re V conj(k u), Q = sum Im V conj(k u) of the metered powers."""
    layout, taps = problem.layout, problem.network.taps
    if not layout.meters:
        return
    equations = layout.multiplier
    (vr, vi), (ur, ui) = (tuple(x[row] for row in part) for part in problem.tap_rows)
    k1, k2 = taps.k.real[:, None], taps.k.imag[:, None]
    re, im = k1 * ur - k2 * ui, k2 * ur + k1 * ui
    p, q = vr * re + vi * im, vi * re - vr * im
    for name, power in (("p", p), ("q", q)):
        np.subtract.at(found[equations[name]], taps.meter, power)
    slopes = (
        (re, im, k1 * vr + k2 * vi, k1 * vi - k2 * vr),
        (-im, re, k1 * vi - k2 * vr, -k2 * vi - k1 * vr),
    )
    own = table[problem.tables["taps"]].reshape(2, 4, len(taps.k), -1)
    targets = (*problem.tap_rows[0], *problem.tap_rows[1])
    for part, name in enumerate(("p", "q")):
        price = multiplier[equations[name]]
        table[problem.tables[f"price_{name}"]] = price
        for k, row in enumerate(targets):
            own[part, k] = -slopes[part][k]
            np.subtract.at(gradient, row, price[taps.meter] * slopes[part][k])


def _loads_cost(problem: Problem, x: Floats, width: float) -> float:
    """What the loads' real power costs."""
    layout, periods = problem.layout, problem.periods
    legs = problem.network.flow.feeder.legs
    first = layout.given_nodes
    v = x[: layout.nodes] + 1j * x[2 * layout.nodes : 3 * layout.nodes]
    across = problem.network.flow.load_incidence[:, first:] @ v
    power = problem.load_scale * leg_powers(legs, across, width)[0][0]
    return float((problem.load_price * power.sum(axis=0))[:periods].sum())
