"""The boundary of an area that is solved by itself: w, p, q and a of ``common.ties.boundary`` as unknowns.

At every conductor of a tie end, w + j a = ln(V / V_no_load) + Z conj(s) is an equation. A child's p + jq are its own
root's metered power, those of a parent's ties unknown powers that it gives. What a proposal asks is a cost.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from tieflow.areas.layout import Layout
from tieflow.areas.problem import Ends, Problem
from tieflow.common.arrays import Floats
from tieflow.common.feeder.multiphase import MultiphaseFeeder
from tieflow.common.interior_point.collector import Collector
from tieflow.common.interior_point.lanes import padded
from tieflow.common.ties.area_case import AreaCase
from tieflow.common.ties.boundary import ANGLE, AreaProposal, P, Q, W
from tieflow.common.ties.thevenin import source_voltage

HELD = 1e15
"""second derivative that holds a quantity at its value"""
FREE = 1e-6
"""added to the second derivative by every boundary quantity: one that costs nothing has no other"""


def area_ends(area: AreaCase[MultiphaseFeeder], layout: Layout, first_meter: int) -> Ends:
    """``first_meter`` is that of the own root's first conductor. An area that is part of a larger problem has none."""
    tie_ends = () if layout.joint else area.tie_ends
    nodes = np.concatenate([np.zeros(0, np.int64), *(end.nodes for end in tie_ends)])
    x, r, k = layout.x, *((0, 0) if layout.joint else (layout.roots, layout.ties))
    root, tie = first_meter + np.arange(r), np.arange(k)
    rows = np.zeros((r + k, 4), np.int64)
    rows[:, W] = x["w"].start + np.arange(r + k)
    rows[:, ANGLE] = x["a"].start + np.arange(r + k)
    rows[:, P] = np.concatenate([x["p"].start + root, x["tie"].start + tie])
    rows[:, Q] = np.concatenate([x["q"].start + root, x["tie"].start + k + tie])
    losses = np.zeros((2 * r, 2 * r))
    if r:
        z = tie_ends[0].z
        hermitian = (z + z.conj().T) / 2
        losses = np.block([[hermitian.real, hermitian.imag], [-hermitian.imag, hermitian.real]])
    return Ends(
        voltage=layout.voltage(nodes),
        no_load=area.feeder.v_no_load[nodes],
        rows=rows,
        z=sp.csr_array(sp.block_diag([end.z for end in tie_ends])) if len(nodes) else sp.csr_array((0, 0)),
        losses=losses,
    )


def offered(proposal: AreaProposal, scale: float) -> AreaProposal:
    """A proposal in lanes, its costs over the scale."""
    shape = proposal.price.shape

    def lanes(array: Floats) -> Floats:
        found = padded(np.ascontiguousarray(array.reshape(-1, shape[-1])))
        return found.reshape(*shape[:2], found.shape[1])

    return replace(
        proposal,
        price=lanes(proposal.price) / scale,
        curvature=lanes(proposal.curvature) / scale,
        target=lanes(proposal.target),
        upstream=padded(proposal.upstream[None])[0] / scale,
    )


def place_ends(problem: Problem, offer: AreaProposal, x: Floats) -> None:
    """Give x the boundary's quantities at its voltages and powers; those that are held, their values."""
    ends = problem.ends
    re, im = ends.voltage
    p, q = x[ends.rows[:, P]], x[ends.rows[:, Q]]
    w = source_voltage(np.log((x[re] + 1j * x[im]) / ends.no_load[:, None]), ends.z, p + 1j * q)
    x[ends.rows[:, W]], x[ends.rows[:, ANGLE]] = w.real, w.imag
    end, quantity = np.nonzero(offer.fixed)
    x[ends.rows[end, quantity]] = offer.target[end, quantity]


def end_values(
    problem: Problem, offer: AreaProposal, x: Floats, multiplier: Floats, found: Floats, gradient: Floats, table: Floats
) -> float:
    """Add what is not linear in the equations, its part of the gradient and what the proposal adds to it; what the
    proposal costs."""
    ends, layout = problem.ends, problem.layout
    re, im = ends.voltage
    a, b = x[re], x[im]
    square = a * a + b * b
    by_w, by_a = multiplier[layout.multiplier["w"]], multiplier[layout.multiplier["a"]]
    log_v = np.log((a + 1j * b) / ends.no_load[:, None])
    found[layout.multiplier["w"]] -= log_v.real
    found[layout.multiplier["a"]] -= log_v.imag
    # Several ties may hang on one bus.
    slopes = (-a / square, -b / square), (b / square, -a / square)
    for price, (of_re, of_im) in zip((by_w, by_a), slopes, strict=True):
        np.add.at(gradient, re, price * of_re)
        np.add.at(gradient, im, price * of_im)
    fourth = square * square
    own = table[problem.tables["ends"]].reshape(7, len(re), x.shape[1])
    own[0], own[1] = slopes[0]
    own[2], own[3] = slopes[1]
    own[4] = -(by_w * (b * b - a * a) + 2 * by_a * a * b) / fourth
    own[5] = -(by_w * (a * a - b * b) - 2 * by_a * a * b) / fourth
    own[6] = -(-2 * by_w * a * b + by_a * (b * b - a * a)) / fourth
    curvature = np.where(offer.fixed[..., None], HELD, offer.curvature + FREE)
    table[problem.tables["curvature"]] = curvature.reshape(4 * len(re), x.shape[1])
    table[problem.tables["upstream"]] = offer.upstream
    slope, cost = asked(problem, offer, x)
    np.add.at(gradient, ends.rows, slope)
    return cost


def asked(problem: Problem, offer: AreaProposal, x: Floats) -> tuple[Floats, float]:
    """What the proposal adds to the area's cost, over the scale: its slopes (end, quantity, T), and all of it."""
    ends, r = problem.ends, problem.layout.roots
    value = x[ends.rows]
    moved = value - offer.target
    slope = offer.price + offer.curvature * moved
    cost = offer.price * value + 0.5 * offer.curvature * moved**2
    power = np.concatenate([moved[:r, P], moved[:r, Q]])
    lost = 2 * offer.upstream * (ends.losses @ power)
    for quantity, of_quantity in ((P, slice(r)), (Q, slice(r, None))):
        slope[:r, quantity] += lost[of_quantity]
        cost[:r, quantity] += 0.5 * (lost * power)[of_quantity]
    slope[offer.fixed], cost[offer.fixed] = 0.0, 0.0
    return slope, float(cost[..., : problem.periods].sum())


def end_entries(problem: Problem, found: Collector) -> None:
    """Of what is not linear in the equations, of their curvature and of what a proposal adds."""
    ends, layout, tables = problem.ends, problem.layout, problem.tables
    at, of = layout.at_x, layout.at_multiplier
    (re, im), count = ends.voltage, len(ends.no_load)
    w_eq, a_eq = of[layout.multiplier["w"]], of[layout.multiplier["a"]]
    row = tables["ends"].start + np.arange(7 * count).reshape(7, count)
    for equation, first in ((w_eq, 0), (a_eq, 2)):
        found.varying(equation, at[re], row[first])
        found.varying(equation, at[im], row[first + 1])
    found.varying(at[re], at[re], row[4])
    found.varying(at[im], at[im], row[5])
    found.varying(at[re], at[im], row[6])
    places = at[ends.rows].ravel()
    found.varying(places, places, tables["curvature"].start + np.arange(4 * count))
    power = at[np.concatenate([ends.rows[: layout.roots, P], ends.rows[: layout.roots, Q]])]
    i, j = np.triu_indices(len(power))
    found.varying(power[i], power[j], tables["upstream"].start, 2 * ends.losses[i, j])
