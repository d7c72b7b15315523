"""The multi-period optimal power flow of a multi-phase case as IPOPT solves it: the reference for optimizers.

The whole problem of docs/models.md as one nonlinear program, with nothing approximated but the corners of load laws:
the two-ports' equations in rectangular V and I of every node (those of ``common.power_flow``, exact for switches too),
loads and devices as currents, stored energy over time. It shares the feeder's equations with tieflow, and no formula of
loads, devices, limits or objective. Local optima only: the problem is not convex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal

import casadi
import numpy as np
import scipy.sparse as sp

from common.branch_limits import limited_branches
from common.case import Case
from common.devices import DEVICE_KINDS, PV, Battery, FlexibleLoad, Wind
from common.errors import SolverError
from common.feeder import Bools, Complexes, Floats
from common.multiphase import Legs, MultiphaseFeeder, connection, incidence, multipliers
from common.multiphase_partition import idle_power_flow
from common.objective import factors
from common.power_flow import PowerFlow, two_port
from common.schedule import Schedule

Symbol = Any
"""a casadi expression"""
Pair = tuple[Symbol, Symbol]
"""real and imaginary part, (row, T) each"""
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
    base of its weights (``launch.base_run.with_bases``).
    """
    feeder, horizon, settings, base = case.network, case.horizon, case.settings, case.settings.base_kva
    counts, hours = factors(settings), case.horizon.dt * settings.base_kva
    flow = PowerFlow(feeder, multipliers(feeder.legs, horizon.load, horizon.shapes))
    program = Program(len(horizon))

    v, i = _network_unknowns(program, case, flow)
    devices = [model(program, case, units) for model, units in _kinds(case) if units]
    p, q = (casadi.vertcat(program.zeros(0), *(getattr(kind, power) for kind in devices)) for power in ("p", "q"))
    drawn = _load_power(feeder.legs, flow, v, width)
    taken = _currents(flow.load_incidence, drawn, v)
    put = _currents(*_device_legs(case, (p, q)), v)
    _network_equations(program, flow, v, i, _minus(taken, put))

    at = np.flatnonzero(feeder.node_bus == 1).tolist()
    substation = casadi.sum1(_dot(_rows(v, at), _rows(i, at)))
    exported = _substation_limits(program, case, substation, substation_floor_kw)
    voltage_slack = _voltage_limits(program, case, v, priced)
    load_slack = _branch_limits(program, case, v, i, priced)

    at_limited = _rows(v, np.flatnonzero(feeder.limited).tolist())
    lost = substation + casadi.sum1(p) - casadi.sum1(drawn[0])
    cost = sum(kind.cost for kind in devices)
    cost += counts.energy * hours * casadi.dot(casadi.DM(horizon.price[None]), substation)
    if settings.export_price_per_kwh is not None:
        forgone = casadi.DM(horizon.price[None] - settings.export_price_per_kwh)
        cost += counts.energy * hours * casadi.dot(forgone, exported)
    cost += counts.losses * hours * casadi.sum2(lost)
    cost += counts.voltage_deviation * casadi.sumsqr(_dot(at_limited, at_limited) - 1)
    cost += counts.overstep * horizon.dt * _total(voltage_slack) + counts.overload * hours * _total(load_slack)

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


# The nonlinear program.


@dataclass(frozen=True)
class Solution:
    """Where IPOPT stopped; as in Optimum, and all unknowns."""

    x: Any
    """(unknown,) numbers"""
    symbols: Symbol
    """(unknown,)"""
    cost: float
    iterations: int
    status: str
    succeeded: bool
    seconds: float

    def values(self, *expressions: Symbol) -> list[Floats]:
        """(row, T) numbers of expressions at the solution."""
        found = casadi.Function("at", [self.symbols], list(expressions))(self.x)
        return [np.array(value) for value in (found if len(expressions) > 1 else [found])]


@dataclass
class Program:
    """A nonlinear program, collected block by block. Bounds and starts of a block broadcast to (row, T)."""

    periods: int
    _unknowns: list[tuple[Symbol, Floats, Floats, Floats]] = field(default_factory=list)
    """symbols, lower and upper bounds, starts"""
    _demands: list[tuple[Symbol, Floats, Floats]] = field(default_factory=list)
    """expressions, lower and upper bounds"""

    def zeros(self, rows: int) -> Symbol:
        return casadi.MX.zeros(rows, self.periods)

    def unknown(self, rows: int, lower: Any, upper: Any, start: Any, unit: Any = 1.0) -> Symbol:
        """(rows, T) new unknowns, bounded. IPOPT sees them in the ``unit`` (row, 1), the size they are expected to
        have: of devices their rating, which may be a millionth of a pu."""
        symbol = casadi.MX.sym(f"x{len(self._unknowns)}", rows, self.periods)
        sized = [np.array(np.broadcast_to(bound / unit, symbol.shape), float) for bound in (lower, upper, start)]
        self._unknowns.append((symbol, *sized))
        return casadi.DM(np.array(np.broadcast_to(unit, symbol.shape), float)) * symbol

    def demand(self, expression: Symbol, lower: Any, upper: Any) -> None:
        """That an expression lies within bounds."""
        bounds = (np.array(np.broadcast_to(bound, expression.shape), float) for bound in (lower, upper))
        self._demands.append((expression, *bounds))

    def start(self, expression: Symbol) -> Floats:
        """(row, T) of an expression of the unknowns so far, where they start."""
        x, _, _, start = (_stacked(column) for column in zip(*self._unknowns, strict=True))
        return np.array(casadi.Function("at", [x], [expression])(start))

    def solve(self, cost: Symbol, options: dict[str, Any]) -> Solution:
        """Minimize the cost, with options of IPOPT."""
        x, lower, upper, start = (_stacked(column) for column in zip(*self._unknowns, strict=True))
        g, g_lower, g_upper = (_stacked(column) for column in zip(*self._demands, strict=True))
        always = {"bound_relax_factor": 0.0, "acceptable_iter": 0, "print_level": 0, "sb": "yes"}
        solver = casadi.nlpsol(
            "opf",
            "ipopt",
            {"x": x, "f": cost, "g": g},
            {"expand": True, "print_time": False, "error_on_fail": False, "ipopt": always | options},
        )
        began = perf_counter()
        found = solver(x0=start, lbx=lower, ubx=upper, lbg=g_lower, ubg=g_upper)
        seconds, stats = perf_counter() - began, solver.stats()
        return Solution(
            x=found["x"],
            symbols=x,
            cost=float(found["f"]),
            iterations=int(stats["iter_count"]),
            status=str(stats["return_status"]),
            succeeded=bool(stats["success"]),
            seconds=seconds,
        )


def _stacked(blocks: Sequence[Any]) -> Any:
    if isinstance(blocks[0], casadi.MX):
        return casadi.vertcat(*map(casadi.vec, blocks))
    return np.concatenate([block.ravel(order="F") for block in blocks])


# The network.


def _network_unknowns(program: Program, case: Case, flow: PowerFlow) -> tuple[Pair, Pair]:
    """(node, T) voltages, given at bus 0, and currents into each node from its branch, none at bus 0."""
    feeder = case.network
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
    left = _times(flow.system, inside)
    for total, given, out in zip(left, (fixed.real, fixed.imag), drawn, strict=True):
        program.demand(total - casadi.vertcat(casadi.DM(given), out[roots:, :]), 0.0, 0.0)


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
    limited = np.flatnonzero(case.network.limited).tolist()
    here = _rows(v, limited)
    log_v = casadi.log(_dot(here, here)) / 2
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
    feeder, slacks = case.network, [program.zeros(0)]
    for limit, k in zip(case.branch_limits, limited_branches(feeder, case.branch_limits).tolist(), strict=True):
        s_max = limit.s_max_kva / case.settings.base_kva
        nodes, port = feeder.branches[k].nodes, two_port(feeder, k)
        is_child = feeder.node_bus[nodes] == k + 1
        at_parent, at_child = _rows(v, nodes[~is_child].tolist()), _rows(i, nodes[is_child].tolist())
        by_v, by_i = _times(port.c, at_parent), _times(port.d, at_child)
        current = (by_v[0] + by_i[0], by_v[1] + by_i[1])
        p = casadi.sum1(_dot(at_parent, current))
        q = casadi.sum1(at_parent[1] * current[0] - at_parent[0] * current[1])
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
    across = _times(flow.load_incidence, v)
    r = casadi.sqrt(_dot(across, across)) / _wide(legs.v_rated, v[0].shape[1])
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
    low = _wide(legs.v_low, periods)
    inside = r ** _wide(exponent, periods)
    above = _wide(v_max ** (legs.edge - 2), periods) * r**2
    below = casadi.if_else(r < low, r, low + _wide(c, periods) * (r - low)) * r

    def share(x: Symbol, exists: Bools) -> Symbol:
        return _wide(exists, periods) * (1 + x / casadi.sqrt(x**2 + width**2)) / 2

    up, down = share(r - _wide(v_max, periods), has_above), share(_wide(v_min, periods) - r, has_below)
    return inside + (above - inside) * up + (below - inside) * down


def _within_reach(limit: Floats) -> Bools:
    return (limit > REACH[0]) & (limit < REACH[1])


# Devices.


@dataclass(frozen=True)
class Devices:
    """All devices of one kind; (unit, T) each, pu."""

    name: str
    """of the kind, as in a schedule"""
    p: Symbol
    """put into the feeder"""
    q: Symbol
    setpoints: dict[str, Symbol]
    """by their names in a schedule"""
    cost: Symbol
    """$"""


def _kinds(case: Case) -> list[tuple[Any, Any]]:
    """Models and units, in the order of ``Case.devices``."""
    return [
        (_inverters, case.pv),
        (_batteries, case.batteries),
        (_flexible_loads, case.flexible_loads),
        (_inverters, case.wind),
    ]


def _inverters(program: Program, case: Case, units: Sequence[PV | Wind]) -> Devices:
    """p at its profile, or where it may be curtailed between 0 and that; p^2 + q^2 <= s^2, a true circle."""
    profile = np.array([case.horizon.profile(unit) for unit in units])
    available, s = _column(case, units, "p_rated_kw") * profile, _column(case, units, "s_rated_kva")
    curtailed = np.array([[unit.curtailable] for unit in units]) & (available > 0)
    fixed = np.where(curtailed, 0.0, available)
    p = program.unknown(len(units), fixed, available, np.minimum(available, s), s)
    room = np.where(curtailed, s, np.sqrt(np.maximum(s**2 - available**2, 0.0)))
    q = program.unknown(len(units), -room, room, 0.0, s)
    circle = (p**2 + q**2) / _wide(s**2, program.periods)
    rows = np.flatnonzero(curtailed.any(axis=1)).tolist()
    program.demand(circle[rows, :], -np.inf, np.where(curtailed, 1.0, np.inf)[rows])
    return Devices("pv" if isinstance(units[0], PV) else "wind", p, q, {"p_kw": p, "q_kvar": q}, 0.0)


def _batteries(program: Program, case: Case, units: Sequence[Battery]) -> Devices:
    """Charge c and discharge d in 0..p_max, |q| in the box that full power leaves; e' = e + dt (eta_c c - d / eta_d),
    within its limits and at the end where it began. c and d cost what they lose, by ``scd_weight``, and what their use
    is priced at."""
    count, periods, dt = len(units), program.periods, case.horizon.dt
    p_max, q_max = _column(case, units, "p_rated_kw"), _column(case, units, "q_max_kvar")
    capacity = _column(case, units, "energy_kwh")
    eta_c, eta_d, least, most, first = (
        np.array([[getattr(unit, name)] for unit in units])
        for name in ("eta_charge", "eta_discharge", "soc_min", "soc_max", "soc_initial")
    )
    charge, discharge = (program.unknown(count, 0.0, p_max, 0.0, p_max) for _ in range(2))
    q = program.unknown(count, -q_max, q_max, 0.0, _column(case, units, "s_rated_kva"))
    is_last = np.arange(periods) == periods - 1
    bounds = (capacity * np.where(is_last, first, soc) for soc in (least, most))
    energy = program.unknown(count, *bounds, capacity * first, capacity)
    before = casadi.horzcat(casadi.DM(capacity * first), energy[:, :-1])
    gained = charge * _wide(eta_c, periods) - discharge / _wide(eta_d, periods)
    program.demand((energy - before - dt * gained) / _wide(capacity, periods), 0.0, 0.0)
    counts = factors(case.settings)
    wasted = charge * _wide(1 - eta_c, periods) + discharge * _wide(1 / eta_d - 1, periods)
    price = counts.battery_use + counts.device_prices * np.array([unit.cost_per_kwh for unit in units])
    used = dt * case.settings.base_kva * _wide(price, periods) * (charge + discharge)
    setpoints = {"charge_kw": charge, "discharge_kw": discharge, "q_kvar": q, "energy_kwh": energy}
    cost = counts.simultaneous * _total(wasted) + _total(used)
    return Devices("batteries", discharge - charge, q, setpoints, cost)


def _flexible_loads(program: Program, case: Case, units: Sequence[FlexibleLoad]) -> Devices:
    """P = nominal + above - below within its band, its energy kept, q in a constant ratio; both parts are priced."""
    profile = np.array([case.horizon.profile(unit) for unit in units])
    rated = _column(case, units, "p_kw")
    down, up, ratio = (
        np.array([[value(unit)] for unit in units])
        for value in (lambda unit: unit.down, lambda unit: unit.up, lambda unit: unit.q_kvar / unit.p_kw)
    )
    nominal = rated * profile
    # What is moved must be made up for in another period, the other way.
    movable = (np.minimum(down, up) > 0) & (nominal > 0)
    movable &= movable.sum(axis=1, keepdims=True) > 1
    above, below = (
        program.unknown(len(units), 0.0, np.where(movable, share * nominal, 0.0), 0.0, rated) for share in (up, down)
    )
    moving = np.flatnonzero(movable.any(axis=1)).tolist()
    kept = casadi.sum2((above - below)[moving, :]) / casadi.DM(rated[moving])
    program.demand(kept, 0.0, 0.0)
    p = casadi.DM(nominal) + above - below
    counts = factors(case.settings)
    price = counts.flexibility + counts.device_prices * np.array([unit.cost_per_kwh for unit in units])
    moved = case.horizon.dt * case.settings.base_kva * _wide(price, program.periods) * (above + below)
    return Devices("flexible_loads", -p, -p * _wide(ratio, program.periods), {"p_kw": p}, _total(moved))


def _column(case: Case, units: Sequence[Any], name: str) -> Floats:
    """(unit, 1) a rating, pu."""
    return np.array([[getattr(unit, name)] for unit in units], float) / case.settings.base_kva


def _device_legs(case: Case, s: Pair) -> tuple[Any, Pair]:
    """(device leg, node) what takes voltages across the legs from the nodes', and the power (device leg, T) of each:
    an even share of its device's."""
    ends = [connection(case.network, unit.bus, unit.phases) for unit in case.devices]
    none = [np.zeros(0, np.int64)]
    a, b = (np.concatenate(none + [end[k] for end in ends]) for k in (0, 1))
    owner = np.repeat(np.arange(len(ends)), [len(end[0]) for end in ends])
    shares = sp.csc_matrix(
        (1 / np.bincount(owner)[owner], (np.arange(len(owner)), owner)), shape=(len(owner), len(ends))
    )
    across = incidence(a, b, len(case.network.node_bus))
    p, q = (_casadi(shares) @ part for part in s)
    return across, (p, q)


# Complex numbers as pairs.


def _currents(across: Any, s: Pair, v: Pair) -> Pair:
    """(node, T) current taken from the nodes by legs (leg, T) of power s: conj(s / v) each."""
    at = _times(across, v)
    squared = _dot(at, at)
    current = ((s[0] * at[0] + s[1] * at[1]) / squared, (s[0] * at[1] - s[1] * at[0]) / squared)
    return _times(across.T, current)


def _times(matrix: Any, v: Pair) -> Pair:
    """A matrix, dense or sparse, times complex columns."""
    real, imaginary = _casadi(matrix.real), _casadi(matrix.imag)
    return real @ v[0] - imaginary @ v[1], real @ v[1] + imaginary @ v[0]


def _dot(a: Pair, b: Pair) -> Symbol:
    """Real part of a conj(b), element by element."""
    return a[0] * b[0] + a[1] * b[1]


def _minus(a: Pair, b: Pair) -> Pair:
    return a[0] - b[0], a[1] - b[1]


def _rows(pair: Pair, rows: list[int]) -> Pair:
    return pair[0][rows, :], pair[1][rows, :]


def _total(matrix: Symbol) -> Symbol:
    return casadi.sum1(casadi.sum2(matrix))


def _casadi(matrix: Any) -> casadi.DM:
    m = sp.csc_matrix(matrix, copy=True)
    m.eliminate_zeros()
    m.sort_indices()
    return casadi.DM(casadi.Sparsity(*m.shape, m.indptr.tolist(), m.indices.tolist()), m.data.tolist())


def _wide(values: Any, periods: int) -> casadi.DM:
    """(row, T) from one value a row."""
    return casadi.DM(np.repeat(np.reshape(np.array(values, float), (-1, 1)), periods, axis=1))
