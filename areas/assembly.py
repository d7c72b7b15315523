"""Putting an area's problem together: unknowns, limits, and the entries of its Newton system."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp

from areas.devices import Controls, area_controls
from areas.entries import Collector
from areas.layout import Layout
from areas.leg_kernel import DEVICE_ROWS, LEG_ROWS
from areas.network import (
    Network,
    Taps,
    area_network,
    branch_taps,
    delivered_taps,
    joined_taps,
    root_taps,
    substation_taps,
)
from areas.own_ends import area_ends, end_entries
from areas.problem import Problem
from common.branch_limits import limited_branches
from common.feeder import Bools, Complexes, Floats, Ints
from common.interior_point.block_ldl import Entries
from common.interior_point.lanes import padded
from common.interior_point.limits import GUARD, Limit, Limits, Magnitudes, make_limits
from common.multiphase import MultiphaseFeeder, multipliers
from common.objective import factors, prices
from common.partition import AreaCase
from common.power_flow import PowerFlow

OVERLOAD_PRICE = 100.0
"""price of substation power beyond its limits, over the dearest hour's price of losses: any schedule within them is
cheaper, and where there is none the areas can still agree on one, to tell by how much"""
LEAST_SCALE = 0.01
"""$ per kWh that costs are over at least"""
TYPICAL = 10.0
"""times the median price that costs are over at most: a single dear hour must not make the others look free"""
LEAST_KINK = 1e-9
"""difference of prices, over the scale, below which two count as one"""
CONTROL_CURVATURE = 1e-6
"""added to the second derivative by every control: where a control costs nothing, digits of its step would be lost"""


def cost_scale(area: AreaCase[MultiphaseFeeder]) -> float:
    """$ per pu that all costs of a case are over: the dearest hour's price of power, but a typical one at most."""
    costs, settings = prices(area.settings, area.horizon), area.settings
    price = np.abs(costs.energy) + np.abs(costs.losses)
    paid = price[price > 0]
    most = float(min(price.max(), TYPICAL * np.median(paid))) if len(paid) else 0.0
    return max(most, LEAST_SCALE * settings.base_kva * area.horizon.dt)


def build(area: AreaCase[MultiphaseFeeder], span: slice, joint: bool = True) -> Problem:
    """The problem of an area in a span of its periods, as part of a larger one (``joint``) or by itself."""
    feeder, settings, horizon = area.feeder, area.settings, area.horizon
    shapes = multipliers(feeder.legs, horizon.load, horizon.shapes)[:, span]
    flow = PowerFlow(feeder, shapes)
    tie_nodes = np.concatenate([np.zeros(0, np.int64), *(e.nodes for e in area.tie_ends if e.side == "parent")])
    metered = _metered(area)
    parts = [substation_taps(feeder)] if area.has_substation else []
    parts += [taps for taps, _, _ in metered]
    first_root_meter = sum(part.meters for part in parts)
    if not joint and not area.has_substation:
        parts.append(root_taps(flow))
    taps = joined_taps(parts)
    network = area_network(area, flow, tie_nodes[:0] if joint else tie_nodes, taps)
    controls = area_controls(area)
    layout = Layout(
        nodes=len(feeder.node_bus) - feeder.roots,
        pairs=controls.pairs,
        meters=taps.meters,
        roots=0 if area.has_substation else feeder.roots,
        ties=len(tie_nodes),
        stores=len(controls.stores),
        joint=joint,
        given_nodes=feeder.roots,
        unfed=network.unfed,
        real_first=tuple((np.abs(feeder.v_no_load.real) >= np.abs(feeder.v_no_load.imag))[: feeder.roots].tolist()),
    )

    def spanned(array: Floats) -> Floats:
        return padded(np.ascontiguousarray(array[:, span]))

    costs, scale = prices(settings, horizon), cost_scale(area)
    periods = shapes.shape[1]
    count = spanned(horizon.load[None]).shape[1]
    cost = np.zeros((layout.rows, count))
    # Losses are what comes in and what devices give, less what loads draw.
    lost = costs.losses[None]
    cost[layout.x["control"]] = spanned(controls.cost + controls.p[:, None] * lost) / scale
    constant = float((lost * controls.given.real)[:, span].sum()) / scale
    if area.has_substation:
        cost[layout.x["p"].start] = spanned((costs.energy + costs.losses)[None])[0] / scale
    limits, deviation = _limits(area, layout, controls, metered, count, spanned, scale)
    tables = _tables(layout, network, limits)
    source = np.zeros((4 * layout.nodes, count))
    if area.has_substation:
        v = np.repeat(feeder.v_no_load[: feeder.roots, None], count, axis=1)
        source = network.by_root @ np.concatenate([v.real, v.imag])
    rows, columns, gains = [], [], []
    for store, kept in enumerate(controls.stores):
        rows += [store] * len(kept.gains)
        columns += list(kept.gains)
        gains += list(kept.gains.values())
    row, drawn = layout.x["control"].start, 0 if joint else len(tie_nodes)
    tap = network.taps
    problem = Problem(
        layout=layout,
        network=network,
        controls=controls,
        limits=limits,
        tables=tables,
        given=padded_complex(np.concatenate([controls.given[:, span], np.zeros((drawn, periods), complex)])),
        control_rows=np.concatenate([row + np.arange(layout.controls), layout.x["tie"].start + np.arange(2 * drawn)]),
        # What children draw leaves the feeder.
        control_unit=np.concatenate([controls.unit, np.tile(len(controls.given) + np.arange(drawn), 2)]),
        control_p=np.concatenate([controls.p, -np.ones(drawn), np.zeros(drawn)]),
        control_q=np.concatenate([controls.q, np.zeros(drawn), -np.ones(drawn)]),
        load_scale=padded(np.ascontiguousarray(shapes)),
        load_price=-spanned(lost)[0] / scale,
        from_source=source,
        cost=cost,
        constant=constant,
        deviation=deviation,
        tie_rows=layout.voltage(tie_nodes),
        tap_rows=(layout.voltage(tap.node), _either(layout, tap.other, tap.is_current)),
        gains=sp.csr_array((gains, (rows, columns)), shape=(len(controls.stores), layout.controls)),
        scale=scale,
        periods=periods,
        first_control=spanned(controls.first),
        ends=None if joint else area_ends(area, layout, first_root_meter),
    )
    return problem


def padded_complex(array: Complexes) -> Complexes:
    return padded(np.ascontiguousarray(array.real)) + 1j * padded(np.ascontiguousarray(array.imag))


def _either(layout: Layout, node: Ints, is_current: Bools) -> tuple[Ints, Ints]:
    voltage, current = layout.voltage(node), layout.current(node)
    return np.where(is_current, current[0], voltage[0]), np.where(is_current, current[1], voltage[1])


Spanned = Callable[[Floats], Floats]
"""takes the span's periods of an array (row, T) into lanes"""
Metered = tuple[Taps, float, float]
"""a branch's power, its limit in pu, and the price of a pu beyond it in a period, $"""


def _metered(area: AreaCase[MultiphaseFeeder]) -> list[Metered]:
    """Branches with a limit of their apparent power: at the parent's end, those of a balanced feeder at both."""
    feeder, settings = area.feeder, area.settings
    dear = settings.overload_price_per_kvah * settings.base_kva * area.horizon.dt
    found: list[Metered] = []
    for limit, k in zip(area.branch_limits, limited_branches(feeder, area.branch_limits).tolist(), strict=True):
        found.append((branch_taps(feeder, k), limit.s_max_kva / settings.base_kva, dear))
    for rating in area.ratings:
        if rating.s_max is not None:
            ends = branch_taps(feeder, rating.branch), delivered_taps(feeder, rating.branch)
            found += [(taps, rating.s_max, dear) for taps in ends]
    return found


def limited_nodes(area: AreaCase[MultiphaseFeeder]) -> Ints:
    """Nodes with voltage limits. The substation's own, of a balanced feeder, is held at a voltage."""
    limited = area.feeder.limited.copy()
    if area.has_substation and area.settings.model == "balanced":
        limited[area.feeder.node_bus == 1] = False
    return np.flatnonzero(limited)


def _limits(
    area: AreaCase[MultiphaseFeeder],
    layout: Layout,
    controls: Controls,
    metered: Sequence[Metered],
    count: int,
    spanned: Spanned,
    scale: float,
) -> tuple[Limits, Floats]:
    """All limits, and what (|V|^2 - 1)^2 of each pair costs."""
    feeder, settings, horizon = area.feeder, area.settings, area.horizon
    dt, row, periods = horizon.dt, layout.x["control"].start, len(horizon)

    def level(value: float | Floats, size: int) -> Floats:
        return spanned(np.broadcast_to(np.asarray(value, float).reshape(-1, 1), (size, periods)))

    nodes, branch = limited_nodes(area), np.arange(len(metered))
    volts = layout.voltage(nodes)
    p, q = layout.x["p"].start + int(area.has_substation), layout.x["q"].start + int(area.has_substation)
    s_max, dear = (np.array([one[k] for one in metered]) for k in (1, 2))
    currents = [(rating.branch, rating.i_max) for rating in area.ratings if rating.i_max is not None]
    ends = [np.flatnonzero(feeder.node_bus == k + 1) for k, _ in currents]
    into = layout.current(np.concatenate([np.zeros(0, np.int64), *ends]))
    i_max = np.array([most for _, most in currents])
    circles = np.array([(a, b) for a, b, _ in controls.circles], np.int64).reshape(-1, 2)
    radius = np.array([s for _, _, s in controls.circles])
    sizes = [len(circles), len(nodes), len(branch), len(i_max)]
    magnitudes = Magnitudes(
        first=np.concatenate([row + circles[:, 0], volts[0], p + branch, into[0]]),
        second=np.concatenate([row + circles[:, 1], volts[1], q + branch, into[1]]),
        is_log=np.repeat([False, True, False, False], sizes),
        guard=np.concatenate([radius, np.zeros(len(nodes)), GUARD * s_max, GUARD * i_max]),
    )
    # A circle has no tip at its middle, where idle devices are: sqrt(a^2 + b^2 + s^2) <= sqrt(2) s is the same limit.
    pair = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    slack = level(settings.voltage_slack_price * dt / scale, len(nodes))
    each = row + np.arange(layout.controls)
    # A pu of current beyond its limit costs what a pu of power does.
    of_currents = settings.overload_price_per_kvah * settings.base_kva * dt / scale
    limits = [
        Limit(each, 1.0, spanned(controls.low)),
        Limit(each, -1.0, spanned(controls.high)),
        Limit(pair[0], -1.0, level(2**0.5 * radius, len(circles)), True),
        Limit(pair[1], 1.0, level(np.log(settings.v_min_pu), len(nodes)), True, slack),
        Limit(pair[1], -1.0, level(np.log(settings.v_max_pu), len(nodes)), True, slack),
        Limit(pair[2], -1.0, level(s_max, len(branch)), True, level(dear / scale, len(branch))),
        Limit(pair[3], -1.0, level(i_max, len(i_max)), True, level(of_currents, len(i_max))),
    ]
    if area.has_substation:
        limits += _substation_limits(area, np.array([layout.x["p"].start]), level, spanned, scale)
    deviation = np.zeros(sum(sizes))
    deviation[pair[1]] = factors(settings).voltage_deviation / scale
    return make_limits(limits, magnitudes, count), deviation


def _substation_limits(
    area: AreaCase[MultiphaseFeeder],
    at: Ints,
    level: Callable[[float, int], Floats],
    spanned: Spanned,
    scale: float,
) -> list[Limit]:
    settings = area.settings
    costs, base = prices(settings, area.horizon), settings.base_kva
    flatter = factors(settings).voltage_deviation * len(area.feeder.node_bus)
    dear = level((OVERLOAD_PRICE * float(costs.in_all.max()) + flatter) / scale, 1)
    found = []
    if settings.substation_peak_kw is not None:
        found.append(Limit(at, -1.0, level(settings.substation_peak_kw / base, 1), price=dear))
    if settings.substation_export_kw is not None:
        found.append(Limit(at, 1.0, level(-settings.substation_export_kw / base, 1), price=dear))
    if settings.export_price_per_kwh is not None:
        worth = factors(settings).energy * settings.export_price_per_kwh * area.horizon.dt * base
        forgone = (costs.energy - worth) / scale
        # Where an exported unit earns what an imported one costs, there is no kink at zero.
        kinked = forgone > LEAST_KINK
        far = np.where(kinked, 0.0, -area.flow_limit)
        found.append(Limit(at, 1.0, spanned(far[None]), price=spanned(np.where(kinked, forgone, 1.0)[None])))
    return found


def _tables(layout: Layout, network: Network, limits: Limits) -> dict[str, slice]:
    """Rows of the table of varying values, by name: of legs, taps, the meters' prices, pairs (aa, bb, ab), bounds by
    row of unknowns, and what is added to correct the inertia."""
    legs, taps, pairs = len(network.a), len(network.taps.k), len(limits.magnitudes.first)
    bounded = len(bounded_rows(limits))
    sizes = {
        "legs": LEG_ROWS * legs + DEVICE_ROWS * len(network.owner),
        "taps": 8 * taps,
        "price_p": layout.meters,
        "price_q": layout.meters,
        "pairs": 3 * pairs,
        "bounds": bounded,
        "ends": 7 * layout.ends,
        "curvature": 4 * layout.ends,
        "upstream": int(layout.ends > 0),
        "delta": 1,
    }
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}


def bounded_rows(limits: Limits) -> Ints:
    """Rows of unknowns that have bounds."""
    rows = [group.of for group in limits.groups if not group.is_magnitude]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *rows]))


def entries(problem: Problem) -> Entries:
    """Of the Newton system [[H + limits, J'], [J, 0]], lower triangle only."""
    layout, network, tables = problem.layout, problem.network, problem.tables
    found = Collector(tables["delta"].stop)
    at, of = layout.at_x, layout.at_multiplier
    n, x, equation = layout.nodes, layout.x, layout.multiplier
    system, root = network.system.tocoo(), network.by_root.tocoo()
    found.constant(of[equation["network"]][system.row], at[x["network"]][system.col], system.data)
    if layout.roots:
        found.constant(of[equation["network"]][root.row], at[x["root"]][root.col], root.data)
        for matrix, name in ((network.draw_by_root, "root"), (network.draw, "network")) if layout.joint else ():
            matrix = matrix.tocoo()
            found.constant(of[equation["draw"]][matrix.row], at[x[name]][matrix.col], matrix.data)
    if layout.joint and layout.ties:
        for half, rows in enumerate(problem.tie_rows):
            part = slice(half * layout.ties, (half + 1) * layout.ties)
            found.constant(of[equation["given"]][part], at[rows], 1.0)
            found.constant(of[rows + n], at[x["tie"]][part], -1.0)
    gains = problem.gains.tocoo()
    found.constant(of[equation["store"]][gains.row], at[x["control"]][gains.col], -gains.data)
    _leg_entries(problem, found)
    _meter_entries(problem, found)
    pairs = problem.limits.magnitudes
    row = tables["pairs"].start + 3 * np.arange(len(pairs.first))
    first, second = at[pairs.first], at[pairs.second]
    found.varying(first, first, row)
    found.varying(second, second, row + 1)
    found.varying(first, second, row + 2)
    bounded = at[bounded_rows(problem.limits)]
    found.varying(bounded, bounded, tables["bounds"].start + np.arange(len(bounded)))
    corrected = np.concatenate([at[problem.control_rows], at[:n], at[2 * n : 3 * n]])
    found.varying(corrected, corrected, np.full(len(corrected), tables["delta"].start))
    found.constant(at[problem.control_rows], at[problem.control_rows], CONTROL_CURVATURE)
    if problem.ends is not None:
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
    for nodes, sign in ((network.a[loads:], 1.0), (network.b[loads:], -1.0)):
        for control, unit in enumerate(problem.control_unit.tolist()):
            leg = np.flatnonzero((network.owner == unit) & (nodes >= 0))
            node, first = nodes[leg], LEG_ROWS * legs + DEVICE_ROWS * leg
            column = np.full(len(leg), at[problem.control_rows[control]])
            p, q = sign * problem.control_p[control], sign * problem.control_q[control]
            for target, by_p, by_q, minus in (
                (of[node + n], 0, 1, 1.0),
                (of[node + n + im], 1, 0, -1.0),
                (at[node], 2, 3, 1.0),
                (at[node + im], 3, 2, -1.0),
            ):
                if p:
                    found.varying(target, column, first + by_p, p)
                if q:
                    found.varying(target, column, first + by_q, minus * q)


def _meter_entries(problem: Problem, found: Collector) -> None:
    layout, taps, tables = problem.layout, problem.network.taps, problem.tables
    at, of = layout.at_x, layout.at_multiplier
    for name in ("p", "q"):
        found.constant(of[layout.multiplier[name]], at[layout.x[name]], 1.0)
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
