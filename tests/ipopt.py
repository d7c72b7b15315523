"""The multi-period optimal power flow of a multi-phase case as IPOPT solves it: the reference for optimizers.

The whole problem of docs/models.md as one nonlinear program, with nothing approximated but the corners of load laws:
the two-ports' equations in rectangular V and I of every node (those of ``common.feeder.power_flow``, exact for switches
too), loads and devices as currents, stored energy over time. It shares the feeder's equations with tieflow, and no
formula of loads, devices, limits or objective. Local optima only: the problem is not convex.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import casadi
import numpy as np
from ipopt_devices import device_kinds, device_legs
from ipopt_program import Pair, Program, Symbol, currents, dot, minus, rows_of, times, total, wide

from tieflow.common.arrays import Bools, Complexes, Floats
from tieflow.common.case import Case
from tieflow.common.errors import SolverError
from tieflow.common.feeder.branch_limits import limited_branches
from tieflow.common.feeder.multiphase import Legs, MultiphaseFeeder, multipliers
from tieflow.common.feeder.power_flow import PowerFlow, two_port
from tieflow.common.inputs.devices import DEVICE_KINDS
from tieflow.common.inputs.objective import factors
from tieflow.common.results.schedule import Schedule
from tieflow.common.ties.multiphase_partition import idle_power_flow

Barrier = Literal["monotone", "adaptive"]

WIDTH = 3e-4
"""distance from a limit of a load's law, per rated voltage, over which the pieces are blended"""
SHARP = 1e-6
"""width for loads without limits within reach: what blending does far from a limit falls with its square"""
REACH = (0.05, 5.0)
"""limits of load laws outside are never met, and their pieces left out"""
SLACK_START = 1e-3
"""what a priced limit is overstepped by at the start beyond what it must be"""


@dataclass(frozen=True)
class Optimum:
    """Where IPOPT stopped: a local optimum if it succeeded."""

    cost: float
    """$ of the objective, priced oversteps included"""
    v: Complexes
    """(node, T) voltages, pu"""
    i: Complexes
    """(node, T) currents into each node from its branch, pu"""
    substation_p: Floats
    """(T,) real power into the feeder, behind the source impedance, pu"""
    schedule: Schedule
    """kW, kvar, kWh"""
    voltage_slack: Floats
    """(limited node, T) by how much ln |V| may be beyond its limits; zero where they are hard"""
    load_slack: Floats
    """(branch limit, T) by how much power may be beyond its limit, pu; zero where limits are hard"""
    iterations: int
    status: str
    """IPOPT's word"""
    succeeded: bool
    seconds: float
    """of IPOPT alone"""


def ipopt_optimum(case: Case) -> Optimum:
    """A local optimum with hard limits of a case whose loads keep their law at all voltages it may see, found from the
    power flow with idle devices. Fails where IPOPT does."""
    found = solve_with_ipopt(case, priced=False, width=SHARP)
    assert found.succeeded, found.status
    return found


def solve_with_ipopt(
    case: Case,
    *,
    priced: bool = True,
    width: float = WIDTH,
    substation_floor_kw: float | None = None,
    barrier: Barrier = "monotone",
    tolerance: float = 1e-9,
    max_iterations: int = 500,
    max_seconds: float = 1e6,
) -> Optimum:
    """Where IPOPT ends from the power flow with idle devices, or if there is none, from the feeder without loads.

    With ``priced`` limits of voltages and branches may be overstepped at the prices of the settings; without they are
    hard. Bounds on substation power (of the settings, and the floor) and on devices always are. ``width`` is that of
    ``law``. The two ways to lower the ``barrier`` may end at different local optima. The case needs a number for every
    base of its weights (``launch.runs.base_run.with_bases``).
    """
    feeder, horizon, settings, base = case.exact_feeder, case.horizon, case.settings, case.settings.base_kva
    counts, hours = factors(settings), case.horizon.dt * settings.base_kva
    flow = PowerFlow(feeder, multipliers(feeder.legs, horizon.load, horizon.shapes))
    program = Program(len(horizon))

    v, i = _network_unknowns(program, case, flow)
    devices = [model(program, case, units) for model, units in device_kinds(case) if units]
    p, q = (casadi.vertcat(program.zeros(0), *(getattr(kind, power) for kind in devices)) for power in ("p", "q"))
    drawn = _load_power(feeder.legs, flow, v, width)
    taken = currents(flow.load_incidence, drawn, v)
    put = currents(*device_legs(case, (p, q)), v)
    _network_equations(program, flow, v, i, minus(taken, put))

    at = np.flatnonzero(feeder.node_bus == 1).tolist()
    substation = casadi.sum1(dot(rows_of(v, at), rows_of(i, at)))
    exported = _substation_limits(program, case, substation, substation_floor_kw)
    voltage_slack = _voltage_limits(program, case, v, priced)
    load_slack = _branch_limits(program, case, v, i, priced)

    at_limited = rows_of(v, np.flatnonzero(feeder.limited).tolist())
    lost = substation + casadi.sum1(p) - casadi.sum1(drawn[0])
    cost = sum(kind.cost for kind in devices)
    cost += counts.energy * hours * casadi.dot(casadi.DM(horizon.price[None]), substation)
    if settings.export_price_per_kwh is not None:
        forgone = casadi.DM(horizon.price[None] - settings.export_price_per_kwh)
        cost += counts.energy * hours * casadi.dot(forgone, exported)
    cost += counts.losses * hours * casadi.sum2(lost)
    cost += counts.voltage_deviation * casadi.sumsqr(dot(at_limited, at_limited) - 1)
    cost += counts.overstep * horizon.dt * total(voltage_slack) + counts.overload * hours * total(load_slack)

    options = {
        "mu_strategy": barrier,
        "tol": tolerance,
        "constr_viol_tol": tolerance,
        "max_iter": max_iterations,
        "max_cpu_time": max_seconds,
    }
    solution = program.solve(cost, options)
    v_re, v_im, i_re, i_im, power, *slacks = solution.values(*v, *i, substation, voltage_slack, load_slack)
    none = np.zeros((0, len(horizon)))
    setpoints = {kind: dict.fromkeys(names, none) for kind, names in DEVICE_KINDS.items()}
    for kind in devices:
        values = solution.values(*kind.setpoints.values())
        setpoints[kind.name] = {name: base * value for name, value in zip(kind.setpoints, values, strict=True)}
    return Optimum(
        cost=solution.cost,
        v=v_re + 1j * v_im,
        i=i_re + 1j * i_im,
        substation_p=power[0],
        schedule=Schedule(**setpoints),
        voltage_slack=slacks[0],
        load_slack=slacks[1],
        iterations=solution.iterations,
        status=solution.status,
        succeeded=solution.succeeded,
        seconds=solution.seconds,
    )


def _network_unknowns(program: Program, case: Case, flow: PowerFlow) -> tuple[Pair, Pair]:
    """(node, T) voltages, given at bus 0, and currents into each node from its branch, none at bus 0."""
    feeder = case.exact_feeder
    roots, size = feeder.roots, len(feeder.node_bus)
    try:
        start = idle_power_flow(case, flow)
    except SolverError:
        v_root = _v_root(feeder, program.periods)
        start = flow.linear(v_root, np.zeros((size, program.periods), complex))

    def pair(values: Complexes) -> Pair:
        parts = (np.real(values), np.imag(values))
        free = [program.unknown(size - roots, -np.inf, np.inf, part[roots:]) for part in parts]
        return tuple(casadi.vertcat(casadi.DM(part[:roots]), x) for part, x in zip(parts, free, strict=True))

    return pair(start[0]), pair(start[1])


def _network_equations(program: Program, flow: PowerFlow, v: Pair, i: Pair, drawn: Pair) -> None:
    """Drops of voltage along the branches and balances of current at the nodes, ``drawn`` (node, T) taken from them."""
    roots = flow.feeder.roots
    fixed = flow.from_root @ _v_root(flow.feeder, program.periods)
    inside = tuple(casadi.vertcat(x[roots:, :], y[roots:, :]) for x, y in zip(v, i, strict=True))
    left = times(flow.system, inside)
    for drop, given, out in zip(left, (fixed.real, fixed.imag), drawn, strict=True):
        program.demand(drop - casadi.vertcat(casadi.DM(given), out[roots:, :]), 0.0, 0.0)


def _v_root(feeder: MultiphaseFeeder, periods: int) -> Complexes:
    return np.repeat(feeder.v_no_load[: feeder.roots, None], periods, axis=1)


def _substation_limits(program: Program, case: Case, power: Symbol, floor_kw: float | None) -> Symbol:
    """-export <= power <= peak, and the floor, all hard; (1, T) what is exported where that has a price,
    which must be at most that of every period."""
    settings, base = case.settings, case.settings.base_kva
    if settings.substation_peak_kw is not None:
        program.demand(power, -np.inf, settings.substation_peak_kw / base)
    if settings.substation_export_kw is not None:
        program.demand(power, -settings.substation_export_kw / base, np.inf)
    if floor_kw is not None:
        program.demand(power, floor_kw / base, np.inf)
    if settings.export_price_per_kwh is None:
        return program.zeros(1)
    exported = program.unknown(1, 0.0, np.inf, np.maximum(-program.start(power), 0.0) + SLACK_START)
    program.demand(power + exported, 0.0, np.inf)
    return exported


def _voltage_limits(program: Program, case: Case, v: Pair, priced: bool) -> Symbol:
    """ln v_min - t <= ln |V| <= ln v_max + t at limited nodes; their slacks t >= 0, (limited node, T)."""
    least, most = np.log(case.settings.v_min_pu), np.log(case.settings.v_max_pu)
    limited = np.flatnonzero(case.exact_feeder.limited).tolist()
    here = rows_of(v, limited)
    log_v = casadi.log(dot(here, here)) / 2
    if not priced:
        program.demand(log_v, least, most)
        return program.zeros(len(limited))
    at_start = program.start(log_v)
    beyond = np.maximum(np.maximum(at_start - most, least - at_start), 0.0)
    slack = program.unknown(len(limited), 0.0, np.inf, beyond + SLACK_START)
    program.demand(log_v - slack, -np.inf, most)
    program.demand(log_v + slack, least, np.inf)
    return slack


def _branch_limits(program: Program, case: Case, v: Pair, i: Pair, priced: bool) -> Symbol:
    """|S| <= s_max + t of all phases together at a branch's parent end, S = sum V_p conj(C V_p + D I_c); the slacks
    t >= 0, (branch limit, T)."""
    feeder, slacks = case.exact_feeder, [program.zeros(0)]
    for limit, k in zip(case.branch_limits, limited_branches(feeder, case.branch_limits).tolist(), strict=True):
        s_max = limit.s_max_kva / case.settings.base_kva
        nodes, port = feeder.branches[k].nodes, two_port(feeder, k)
        is_child = feeder.node_bus[nodes] == k + 1
        at_parent, at_child = rows_of(v, nodes[~is_child].tolist()), rows_of(i, nodes[is_child].tolist())
        by_v, by_i = times(port.c, at_parent), times(port.d, at_child)
        current = (by_v[0] + by_i[0], by_v[1] + by_i[1])
        p: Any = casadi.sum1(dot(at_parent, current))
        q: Any = casadi.sum1(at_parent[1] * current[0] - at_parent[0] * current[1])
        squared = (p**2 + q**2) / s_max**2
        slack = program.zeros(1)
        if priced:
            beyond = np.maximum(np.sqrt(program.start(squared)) - 1.0, 0.0)
            slack = program.unknown(1, 0.0, np.inf, (beyond + SLACK_START) * s_max, s_max)
        # Squared, for |S| has no derivative at zero.
        program.demand(squared - (1 + slack / s_max) ** 2, -np.inf, 0.0)
        slacks.append(slack)
    return casadi.vertcat(*slacks)


# Loads.


def _load_power(legs: Legs, flow: PowerFlow, v: Pair, width: float) -> Pair:
    """(leg, T) power drawn."""
    across = times(flow.load_incidence, v)
    r = casadi.sqrt(dot(across, across)) / wide(legs.v_rated, v[0].shape[1])
    p, q = (
        casadi.DM(rated[:, None] * flow.multipliers) * law(legs, exponent, r, width)
        for rated, exponent in ((legs.s.real, legs.alpha), (legs.s.imag, legs.beta))
    )
    return p, q


def law(legs: Legs, exponent: Floats, r: Symbol, width: float) -> Symbol:
    """(leg, T) power over rated power at ``r`` (leg, T), voltage over rated voltage; ``exponent`` (leg,).

    r^exponent inside v_min..v_max; above v_max^(edge - 2) r^2; below (v_low + c (r - v_low)) r, a current that falls in
    a line to that of the rated impedance at v_low, and r^2 below that. The pieces are blended over the ``width`` w:
    inside + (above - inside) s(r - v_max) + (below - inside) s(v_min - r), s(x) = (1 + x / sqrt(x^2 + w^2)) / 2, which
    rounds kinks and jumps alike.
    """
    periods = r.shape[1]
    has_above, has_below = _within_reach(legs.v_max), _within_reach(legs.v_min)
    # Where a piece is left out its numbers mean nothing, but must be numbers.
    v_max, v_min = np.where(has_above, legs.v_max, 1.0), np.where(has_below, legs.v_min, 1.0)
    linear = v_min - legs.v_low > 1e-9
    c = np.where(linear, (v_min ** (legs.edge - 1) - legs.v_low) / np.where(linear, v_min - legs.v_low, 1.0), 1.0)
    low = wide(legs.v_low, periods)
    inside = r ** wide(exponent, periods)
    above = wide(v_max ** (legs.edge - 2), periods) * r**2
    below = casadi.if_else(r < low, r, low + wide(c, periods) * (r - low)) * r

    def share(x: Symbol, exists: Bools) -> Symbol:
        return wide(exists, periods) * (1 + x / casadi.sqrt(x**2 + width**2)) / 2

    up, down = share(r - wide(v_max, periods), has_above), share(wide(v_min, periods) - r, has_below)
    return inside + (above - inside) * up + (below - inside) * down


def _within_reach(limit: Floats) -> Bools:
    return (limit > REACH[0]) & (limit < REACH[1])
