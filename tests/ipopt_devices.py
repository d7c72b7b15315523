"""Devices in the nonlinear program that IPOPT solves: what they may do and what it costs, by formulas of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import casadi
import numpy as np
import scipy.sparse as sp
from ipopt_program import Pair, Program, Symbol, casadi_matrix, total, wide

from tieflow.common.arrays import Floats
from tieflow.common.case import Case
from tieflow.common.feeder.multiphase import connection, incidence
from tieflow.common.inputs.devices import PV, Battery, FlexibleLoad, Wind
from tieflow.common.inputs.objective import factors


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


def device_kinds(case: Case) -> list[tuple[Any, Any]]:
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
    circle = (p**2 + q**2) / wide(s**2, program.periods)
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
    low, high = (capacity * np.where(is_last, first, soc) for soc in (least, most))
    energy = program.unknown(count, low, high, capacity * first, capacity)
    before = casadi.horzcat(casadi.DM(capacity * first), energy[:, :-1])
    gained = charge * wide(eta_c, periods) - discharge / wide(eta_d, periods)
    program.demand((energy - before - dt * gained) / wide(capacity, periods), 0.0, 0.0)
    counts = factors(case.settings)
    wasted = charge * wide(1 - eta_c, periods) + discharge * wide(1 / eta_d - 1, periods)
    price = counts.battery_use + counts.device_prices * np.array([unit.cost_per_kwh for unit in units])
    used = dt * case.settings.base_kva * wide(price, periods) * (charge + discharge)
    setpoints = {"charge_kw": charge, "discharge_kw": discharge, "q_kvar": q, "energy_kwh": energy}
    cost = counts.simultaneous * total(wasted) + total(used)
    return Devices("batteries", discharge - charge, q, setpoints, cost)


def _flexible_loads(program: Program, case: Case, units: Sequence[FlexibleLoad]) -> Devices:
    """P = nominal + above - below within its band, its energy kept, q in a constant ratio; both parts are priced."""
    profile = np.array([case.horizon.profile(unit) for unit in units])
    rated = _column(case, units, "p_kw")
    down, up, ratio = np.array([(unit.down, unit.up, unit.q_kvar / unit.p_kw) for unit in units]).T[:, :, None]
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
    moved = case.horizon.dt * case.settings.base_kva * wide(price, program.periods) * (above + below)
    return Devices("flexible_loads", -p, -p * wide(ratio, program.periods), {"p_kw": p}, total(moved))


def _column(case: Case, units: Sequence[Any], name: str) -> Floats:
    """(unit, 1) a rating, pu."""
    return np.array([[getattr(unit, name)] for unit in units], float) / case.settings.base_kva


def device_legs(case: Case, s: Pair) -> tuple[Any, Pair]:
    """(device leg, node) what takes voltages across the legs from the nodes', and the power (device leg, T) of each:
    an even share of its device's."""
    ends = [connection(case.exact_feeder, unit.bus, unit.phases) for unit in case.devices]
    none = [np.zeros(0, np.int64)]
    a, b = (np.concatenate(none + [end[k] for end in ends]) for k in (0, 1))
    owner = np.repeat(np.arange(len(ends)), [len(end[0]) for end in ends])
    shares = sp.csc_matrix(
        (1 / np.bincount(owner)[owner], (np.arange(len(owner)), owner)), shape=(len(owner), len(ends))
    )
    across = incidence(a, b, len(case.exact_feeder.node_bus))
    p, q = (casadi_matrix(shares) @ part for part in s)
    return across, (p, q)
