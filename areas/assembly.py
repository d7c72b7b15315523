"""Putting an area's problem together: unknowns, limits, and the entries of its Newton system."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from areas.devices import Controls, area_controls, one_way
from areas.entries import linear_equations
from areas.layout import Layout, slices
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
from areas.own_ends import area_ends
from areas.problem import Problem
from common.area_case import AreaCase
from common.branch_limits import limited_branches
from common.feeder import Bools, Floats, Ints
from common.interior_point.lanes import padded
from common.interior_point.limits import GUARD, Limit, Limits, Magnitudes, make_limits
from common.multiphase import MultiphaseFeeder, multipliers
from common.objective import factors, prices
from common.power_flow import PowerFlow

OVERLOAD_PRICE = 100.0
"""price of substation power beyond its limits, over the dearest hour's price of losses: any schedule within them is
cheaper, and where there is none the areas can still agree on one, to tell by how much"""
LEAST_SCALE = 0.01
"""$ per kWh that costs are over at least"""
TYPICAL = 10.0
"""times the median price that costs are over at most: a single dear hour must not make the others look free"""
APART = 1.0
"""distance of the bounds of a control that is fixed from it, pu: it is held otherwise, and they must not matter"""
LEAST_KINK = 1e-9
"""difference of prices, over the scale, below which two count as one"""


def cost_scale(area: AreaCase[MultiphaseFeeder]) -> float:
    """$ per pu that all costs of a case are over: the dearest hour's price of power, but a typical one at most."""
    costs, settings = prices(area.settings, area.horizon), area.settings
    price = np.abs(costs.energy) + np.abs(costs.losses)
    paid = price[price > 0]
    most = float(min(price.max(), TYPICAL * np.median(paid))) if len(paid) else 0.0
    return max(most, LEAST_SCALE * settings.base_kva * area.horizon.dt)


def build(
    area: AreaCase[MultiphaseFeeder], span: slice, joint: bool = True, direction: Floats | None = None
) -> Problem:
    """The problem of an area in a span of its periods, as part of a larger one (``joint``) or by itself; its stores
    move in a ``direction`` (store, T) only, where one is given, as ``areas.devices.one_way``."""
    feeder, settings, horizon = area.feeder, area.settings, area.horizon
    shapes = multipliers(feeder.legs, horizon.load, horizon.shapes)[:, span]
    flow = PowerFlow(feeder, shapes)
    tie_nodes = area.tie_nodes
    metered = _metered(area)
    parts = [substation_taps(feeder)] if area.has_substation else []
    parts += [taps for taps, _, _ in metered]
    first_root_meter = sum(part.meters for part in parts)
    if not joint and not area.has_substation:
        parts.append(root_taps(flow))
    taps = joined_taps(parts)
    network = area_network(area, flow, tie_nodes[:0] if joint else tie_nodes, taps)
    controls = area_controls(area)
    if direction is not None:
        controls = one_way(controls, direction)
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
    cost[layout.x["control"]] = spanned(controls.cost + controls.power.real[:, None] * lost) / scale
    constant = float((lost * controls.given.real)[:, span].sum()) / scale
    if area.has_substation:
        cost[layout.x["p"].start] = spanned((costs.energy + costs.losses)[None])[0] / scale
    limits, deviation = _limits(area, layout, controls, metered, count, spanned, scale)
    tables = _tables(layout, network, limits)
    source = np.zeros((layout.multipliers, count))
    if area.has_substation:
        given_v = -(flow.from_root @ feeder.v_no_load[: feeder.roots, None])
        source[: layout.nodes], source[2 * layout.nodes : 3 * layout.nodes] = given_v.real, given_v.imag
    row, drawn = layout.x["control"].start, 0 if joint else len(tie_nodes)
    given = np.concatenate([controls.given[:, span], np.zeros((drawn, periods), complex)])
    tap = network.taps
    control_rows = np.concatenate([row + np.arange(layout.controls), layout.x["tie"].start + np.arange(2 * drawn)])
    # What children draw leaves the feeder.
    unit = np.concatenate([controls.unit, np.tile(len(controls.given) + np.arange(drawn), 2)])
    power = np.concatenate([controls.power, np.full(drawn, -1.0), np.full(drawn, -1j)])
    ends = area_ends(area, layout, first_root_meter)
    return Problem(
        layout=layout,
        network=network,
        controls=controls,
        limits=limits,
        tables=tables,
        linear=linear_equations(layout, network, tie_nodes, controls.stores, ends),
        source=source,
        given=(padded(np.ascontiguousarray(given.real)), padded(np.ascontiguousarray(given.imag))),
        control_rows=control_rows,
        control_unit=unit,
        control_p=power.real,
        control_q=power.imag,
        load_scale=padded(np.ascontiguousarray(shapes)),
        load_price=-spanned(lost)[0] / scale,
        cost=cost,
        constant=constant,
        deviation=deviation,
        tap_rows=(layout.voltage(tap.node), _either(layout, tap.other, tap.is_current)),
        firm=_firm(area, len(limits.price)),
        scale=scale,
        periods=periods,
        first_control=spanned(controls.first),
        fixed=spanned(controls.fixed.astype(float)) > 0,
        ends=ends,
    )


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
        Limit(each, 1.0, spanned(controls.low - APART * controls.fixed)),
        Limit(each, -1.0, spanned(controls.high + APART * controls.fixed)),
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


def _firm(area: AreaCase[MultiphaseFeeder], elastic: int) -> slice:
    """Of so many elastic limits those of ``Problem.firm``: the substation's, of a balanced feeder all."""
    settings, has = area.settings, area.has_substation
    caps = has * sum(cap is not None for cap in (settings.substation_peak_kw, settings.substation_export_kw))
    stop = elastic - has * (settings.export_price_per_kwh is not None)
    return slice(0 if settings.model == "balanced" else stop - caps, stop)


def _tables(layout: Layout, network: Network, limits: Limits) -> dict[str, slice]:
    """Rows of the table of varying values, by name: of legs, taps, the meters' prices, pairs (aa, bb, ab), bounds by
    row of unknowns, and what is added to correct the inertia."""
    legs, taps, pairs = len(network.a), len(network.taps.k), len(limits.magnitudes.first)
    bounded = len(limits.bounded)
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
    return slices(sizes)
