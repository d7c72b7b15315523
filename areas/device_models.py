"""What each device can do, as cvxpy variables and constraints: one function a device.

Curtailment, the temperature of cells and flexible loads follow Massaoudi et al., "An efficient framework for multi-DER
integration in distribution networks with time-series demand flexibility" (2025).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cvxpy as cp
import numpy as np

from common.devices import PV, Battery, FlexibleLoad, Wind
from common.feeder import Floats
from common.horizon import Horizon
from common.objective import factors, used, wasted
from common.settings import Settings

SIDES = 32
"""of the polygon in an inverter's circle, a multiple of four"""
LEAST = 1e-6
"""share of rated power below which there is nothing to decide"""


@dataclass(frozen=True)
class DeviceModel:
    """Devices of one kind; all per unit, shape (unit, T)."""

    buses: tuple[str, ...]
    """(unit,) bus names"""
    p: cp.Expression
    """real power injected into the feeder"""
    q: cp.Expression
    """reactive power injected into the feeder"""
    setpoints: Mapping[str, cp.Variable]
    """what the schedule tells, by its name there"""
    constraints: list[cp.Constraint]
    cost: cp.Expression
    """$"""


def inverter_model(units: Sequence[PV | Wind], horizon: Horizon, settings: Settings) -> DeviceModel:
    """Power from the weather through an inverter: p follows its profile, or where it may be curtailed, is a decision
    between 0 and the profile; p^2 + q^2 <= s_rated^2 in every period.

    A p that is given leaves q the box |q| <= sqrt(s_rated^2 - p^2), exactly. Where p is a decision, the circle becomes
    the inscribed regular polygon of SIDES sides, of which p >= 0 needs the half with corners at (0, -s_rated),
    (s_rated, 0) and (0, s_rated): linear rows, as the multi-phase model needs them. Between two corners the inverter
    loses at most 1 - cos(pi / SIDES) of its rating, 0.5 %; at them nothing.
    """
    rated = _column([unit.p_rated_kw for unit in units], settings)
    s_rated = _column([unit.s_rated_kva for unit in units], settings)
    available = rated * np.array([horizon.profile(unit) for unit in units])
    # Where there is next to nothing, as at night, p is given, for the reason that _within gives.
    decided = np.array([[unit.curtailable] for unit in units]) & (available > LEAST * rated)
    room = np.where(decided, s_rated, np.sqrt(np.maximum(s_rated**2 - available**2, 0.0)))
    q = cp.Variable(available.shape, name="q")
    p: cp.Expression = cp.Constant(available)
    setpoints, constraints = {"q_kvar": q}, _within(q, room, s_rated)
    if decided.any():
        p = setpoints["p_kw"] = cp.Variable(available.shape, name="p")
        constraints += [p[decided] >= 0, p[decided] <= available[decided]]
        if not decided.all():
            constraints.append(p[~decided] == available[~decided])
        s = np.broadcast_to(s_rated, available.shape)
        for normal in np.pi * (np.arange(SIDES // 2) + 0.5 - SIDES / 4) / (SIDES / 2):
            # A side beyond what is available cuts nothing off.
            cuts = decided & (s * np.cos(abs(normal) + np.pi / SIDES) < available)
            if cuts.any():
                constraints.append(
                    np.cos(normal) * p[cuts] + np.sin(normal) * q[cuts] <= np.cos(np.pi / SIDES) * s[cuts]
                )
    return DeviceModel(
        buses=tuple(unit.bus for unit in units),
        p=p,
        q=q,
        setpoints=setpoints,
        constraints=constraints,
        cost=cp.Constant(0.0),
    )


def battery_model(units: Sequence[Battery], horizon: Horizon, settings: Settings) -> DeviceModel:
    """Charge and discharge power, reactive power, and the stored energy they leave.

    Stored energy after a period: e' = e + dt (eta_c charge - discharge / eta_d), within its limits, back at its start
    value at the end. The cost (1 - eta_c) charge + (1 / eta_d - 1) discharge, by weight, discourages doing both at once
    (Nazir et al., "Receding horizon control of battery storage", SCD term of the case study). A price on |p|, as in
    c_b |P_b| of the objective (1) of Massaoudi et al. (2025), is one on charge + discharge, and convex: each battery's
    own, and the weight of ``battery_use``.
    """
    eta_c, eta_d = (np.array([[getattr(u, f)] for u in units]) for f in ("eta_charge", "eta_discharge"))
    capacity = _column([unit.energy_kwh for unit in units], settings)
    soc_min, soc_max, soc_initial = (
        np.array([[getattr(u, f)] for u in units]) for f in ("soc_min", "soc_max", "soc_initial")
    )
    p_max = _column([unit.p_rated_kw for unit in units], settings)
    q_max = _column([unit.q_max_kvar for unit in units], settings)
    shape = (len(units), len(horizon))
    charge, discharge, q, energy = (cp.Variable(shape, name=name) for name in ("charge", "discharge", "q", "energy"))
    start = soc_initial * capacity
    before = cp.hstack([start, energy[:, :-1]]) if len(horizon) > 1 else cp.Constant(start)
    gained = cp.multiply(eta_c, charge) - cp.multiply(1 / eta_d, discharge)
    counts = factors(settings)
    cost = counts.simultaneous * wasted(eta_c, eta_d, charge, discharge)
    price = counts.device_prices * np.array([unit.cost_per_kwh for unit in units]) + counts.battery_use
    if price.any():
        cost = cost + settings.base_kva * cp.sum(price @ used(horizon, charge, discharge))
    return DeviceModel(
        buses=tuple(unit.bus for unit in units),
        p=discharge - charge,
        q=q,
        setpoints={"charge_kw": charge, "discharge_kw": discharge, "q_kvar": q, "energy_kwh": energy},
        constraints=[
            charge >= 0,
            charge <= p_max,
            discharge >= 0,
            discharge <= p_max,
            *_within(q, q_max, _column([unit.s_rated_kva for unit in units], settings)),
            energy == before + horizon.dt * gained,
            energy >= soc_min * capacity,
            energy <= soc_max * capacity,
            energy[:, -1:] == start,
        ],
        cost=cost,
    )


def flexible_load_model(units: Sequence[FlexibleLoad], horizon: Horizon, settings: Settings) -> DeviceModel:
    """Demand within a band about its profile, its energy over the horizon kept, its power factor constant.

    (1 - down) P_l <= P_f <= (1 + up) P_l and sum_t P_f = sum_t P_l (Massaoudi et al. (2025), as above). The price of
    |P_f - P_l|, each load's own and the weight of ``flexibility``, is linear in two parts: P_f = P_l + above - below,
    both >= 0, of which at most one is worth its price.
    """
    nominal = np.array([unit.p_kw * horizon.profile(unit) for unit in units]) / settings.base_kva
    rated = _column([unit.p_kw for unit in units], settings)
    down, up, own_price = (np.array([[getattr(unit, f)] for unit in units]) for f in ("down", "up", "cost_per_kwh"))
    counts = factors(settings)
    price = counts.device_prices * own_price + counts.flexibility
    # A load that has nothing to move, or nowhere to move it, draws its profile, for the reason that _within gives.
    free = (np.minimum(down, up) > LEAST) & (nominal > LEAST * rated)
    free &= free.sum(axis=1, keepdims=True) > 1
    p = cp.Variable(nominal.shape, name="p")
    constraints, cost = [], cp.Constant(0.0)
    if not free.all():
        constraints.append(p[~free] == nominal[~free])
    if free.any():
        above, below = (cp.Variable(int(free.sum()), name=name) for name in ("above", "below"))
        moving = np.flatnonzero(free.any(axis=1))
        constraints += [
            above >= 0,
            above <= (up * nominal)[free],
            below >= 0,
            below <= (down * nominal)[free],
            p[free] == nominal[free] + above - below,
            cp.sum(p[moving], axis=1) == nominal[moving].sum(axis=1),
        ]
        per_unit = horizon.dt * settings.base_kva * np.broadcast_to(price, nominal.shape)[free]
        cost = per_unit @ (above + below)
    ratio = np.array([[unit.q_kvar / unit.p_kw] for unit in units])
    return DeviceModel(
        buses=tuple(unit.bus for unit in units),
        p=-p,
        q=-cp.multiply(np.broadcast_to(ratio, nominal.shape), p),
        setpoints={"p_kw": p},
        constraints=constraints,
        cost=cost,
    )


def _within(q: cp.Variable, room: Floats, s_rated: Floats) -> list[cp.Constraint]:
    """|q| <= room; q = 0 where there is no room to speak of, for limits that meet leave a solver no way inside."""
    room = np.broadcast_to(room, q.shape)
    free = room > LEAST * s_rated
    if free.all():
        return [q <= room, q >= -room]
    held = [q[~free] == 0]
    return [*held, q[free] <= room[free], q[free] >= -room[free]] if free.any() else held


def _column(values: Sequence[float], settings: Settings) -> Floats:
    """(unit, 1) in per unit."""
    return np.array(values, float)[:, None] / settings.base_kva
