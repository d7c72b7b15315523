"""The linear equations of an area's problem, and the entries of its Newton system.

See ``common.interior_point.block_ldl`` for what entries are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from areas.devices import Store
from areas.layout import Layout
from areas.leg_kernel import DEVICE_ROWS, LEG_ROWS
from areas.network import Network
from areas.own_ends import end_entries
from areas.problem import Ends, Problem
from common.boundary import ANGLE, P, Q, W
from common.feeder import Ints
from common.interior_point.block_ldl import Entries
from common.interior_point.collector import Collector, Terms

CONTROL_CURVATURE = 1e-6
"""added to the second derivative by every control: where a control costs nothing, digits of its step would be lost"""


def linear_equations(
    layout: Layout, network: Network, tie_nodes: Ints, stores: Sequence[Store], ends: Ends
) -> sp.csr_array:
    """(multiplier, row) the linear part of all equations: the network's; what is drawn at the own root, less what the
    coordinator knows is drawn; the voltages given to children, less those that the coordinator knows, and the currents
    that they draw; levels of stores; metered powers and boundary quantities."""
    x, equation, n, ties = layout.x, layout.multiplier, layout.nodes, layout.ties
    found = Terms()
    flow, roots, network_row, first = network.flow, layout.roots, equation["network"].start, x["network"].start
    found.complex_matrix(flow.terms, network_row, 2 * n, first, 2 * n)
    if roots:
        found.complex_matrix(flow.root_terms, network_row, 2 * n, x["root"].start, roots, -1.0)
        if layout.joint:
            # The currents into the branches at the own root, by its voltages and by the currents that they deliver.
            ports, at, draw = flow.ports, slice(roots), equation["draw"].start
            found.complex_matrix(ports.c.part(at, at), draw, roots, x["root"].start, roots)
            found.complex_matrix(ports.d.part(at, slice(roots, None)), draw, roots, first + n, 2 * n)
    if layout.joint:
        for half, rows in enumerate(layout.voltage(tie_nodes)):
            own = half * ties + np.arange(ties)
            found.add(equation["given"].start + own, rows, 1.0)
            # Rows of the current balances.
            found.add(rows + n, x["tie"].start + own, -1.0)
    for store, kept in enumerate(stores):
        controls = x["control"].start + np.array(list(kept.gains), np.int64)
        found.add(
            np.full(len(controls), equation["store"].start + store), controls, -np.array(list(kept.gains.values()))
        )
    for name in ("p", "q"):
        each = np.arange(layout.meters)
        found.add(equation[name].start + each, x[name].start + each, 1.0)
    each, z = np.arange(layout.ends), ends.z.tocoo()
    of_w, of_a = equation["w"].start, equation["a"].start
    found.add(of_w + each, ends.rows[:, W], 1.0)
    found.add(of_a + each, ends.rows[:, ANGLE], 1.0)
    p, q = ends.rows[z.col, P], ends.rows[z.col, Q]
    found.add(of_w + z.row, p, -z.data.real)
    found.add(of_w + z.row, q, -z.data.imag)
    found.add(of_a + z.row, p, -z.data.imag)
    found.add(of_a + z.row, q, z.data.real)
    return found.matrix_of(layout.multipliers, layout.rows)


def entries(problem: Problem) -> Entries:
    """Of the Newton system [[H + limits, J'], [J, 0]], lower triangle only."""
    layout, tables = problem.layout, problem.tables
    found = Collector(tables["delta"].stop)
    at, of = layout.at_x, layout.at_multiplier
    n = layout.nodes
    linear = problem.linear.tocoo()
    found.constant(of[linear.row], at[linear.col], linear.data)
    _leg_entries(problem, found)
    _meter_entries(problem, found)
    pairs = problem.limits.magnitudes
    row = tables["pairs"].start + 3 * np.arange(len(pairs.first))
    first, second = at[pairs.first], at[pairs.second]
    found.varying(first, first, row)
    found.varying(second, second, row + 1)
    found.varying(first, second, row + 2)
    bounded = at[problem.limits.bounded]
    found.varying(bounded, bounded, tables["bounds"].start + np.arange(len(bounded)))
    controls = at[problem.control_rows]
    corrected = np.concatenate([controls, at[:n], at[2 * n : 3 * n]])
    found.varying(corrected, corrected, tables["delta"].start)
    found.constant(controls, controls, CONTROL_CURVATURE)
    end_entries(problem, found)
    found.constant(layout.dummies, layout.dummies, 1.0)
    return found.entries()


def _leg_entries(problem: Problem, found: Collector) -> None:
    layout, network = problem.layout, problem.network
    at, of, n = layout.at_x, layout.at_multiplier, layout.nodes
    im = 2 * n
    row = LEG_ROWS * np.arange(len(network.a))
    ends = [(network.a, network.a, 1.0), (network.a, network.b, -1.0)]
    ends += [(network.b, network.a, -1.0), (network.b, network.b, 1.0)]
    for of_end, by_end, sign in ends:
        kept = np.flatnonzero((of_end >= 0) & (by_end >= 0))
        balance, by, rows = of_end[kept] + n, by_end[kept], row[kept]
        for k, (part, by_part) in enumerate(((0, 0), (0, im), (im, 0), (im, im))):
            found.varying(of[balance + part], at[by + by_part], rows + k, -sign)
    for nodes in (network.a, network.b):
        kept = np.flatnonzero(nodes >= 0)
        re, im_rows, rows = at[nodes[kept]], at[nodes[kept] + im], row[kept] + 4
        found.varying(re, re, rows)
        found.varying(im_rows, im_rows, rows + 1)
        found.varying(re, im_rows, rows + 2)
    kept = np.flatnonzero((network.a >= 0) & (network.b >= 0))
    a, b, rows = network.a[kept], network.b[kept], row[kept] + 4
    for part, by_part, k in ((0, 0, 0), (im, im, 1), (0, im, 2), (im, 0, 2)):
        found.varying(at[a + part], at[b + by_part], rows + k, -1.0)
    # By the controls that move a device's leg.
    loads, legs = len(network.laws), len(network.a)
    control, leg = np.nonzero(problem.control_unit[:, None] == network.owner)
    first = LEG_ROWS * legs + DEVICE_ROWS * leg
    column = at[problem.control_rows[control]]
    by_p, by_q = problem.control_p[control], problem.control_q[control]
    for nodes, sign in ((network.a[loads:][leg], 1.0), (network.b[loads:][leg], -1.0)):
        kept = np.flatnonzero(nodes >= 0)
        node, by, rows = nodes[kept], column[kept], first[kept]
        for target, row_p, row_q, minus in (
            (of[node + n], 0, 1, 1.0),
            (of[node + n + im], 1, 0, -1.0),
            (at[node], 2, 3, 1.0),
            (at[node + im], 3, 2, -1.0),
        ):
            found.varying(target, by, rows + row_p, sign * by_p[kept])
            found.varying(target, by, rows + row_q, sign * minus * by_q[kept])


def _meter_entries(problem: Problem, found: Collector) -> None:
    layout, taps, tables = problem.layout, problem.network.taps, problem.tables
    at, of = layout.at_x, layout.at_multiplier
    count = len(taps.k)
    (vr, vi), (ur, ui) = problem.tap_rows
    for part, name in enumerate(("p", "q")):
        equation = of[layout.multiplier[name]][taps.meter]
        for k, rows in enumerate((vr, vi, ur, ui)):
            first = tables["taps"].start + (4 * part + k) * count
            found.varying(equation, at[rows], first + np.arange(count))
        price = tables[f"price_{name}"].start + taps.meter
        k1, k2 = taps.k.real, taps.k.imag
        bends = ((vr, ur, k1), (vr, ui, -k2), (vi, ur, k2), (vi, ui, k1))
        if name == "q":
            bends = ((vr, ur, -k2), (vr, ui, -k1), (vi, ur, k1), (vi, ui, -k2))
        for one, other, bend in bends:
            # A square bends twice.
            found.varying(at[one], at[other], price, -bend * np.where(one == other, 2.0, 1.0))
