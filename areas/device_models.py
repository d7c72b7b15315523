"""What each device can do, as cvxpy variables and constraints: one function a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cvxpy as cp
import numpy as np

from common.case import Horizon
from common.devices import PV, Battery
from common.feeder import Floats
from common.settings import Settings


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


def pv_model(units: Sequence[PV], horizon: Horizon, settings: Settings) -> DeviceModel:
    """PV follows its profile; |q| <= sqrt(s_rated^2 - p^2) in every period."""
    rated = _column([unit.p_rated_kw for unit in units], settings)
    s_rated = _column([unit.s_rated_kva for unit in units], settings)
    p = rated * np.array([horizon.pv_profile(unit) for unit in units])
    room = np.sqrt(np.maximum(s_rated**2 - p**2, 0.0))
    q = cp.Variable(p.shape, name="q")
    return DeviceModel(
        buses=tuple(unit.bus for unit in units),
        p=cp.Constant(p),
        q=q,
        setpoints={"q_kvar": q},
        constraints=[q <= room, q >= -room],
        cost=cp.Constant(0.0),
    )


def battery_model(units: Sequence[Battery], horizon: Horizon, settings: Settings) -> DeviceModel:
    """Charge and discharge power, reactive power, and the stored energy they leave.

    Stored energy after a period: e' = e + dt (eta_c charge - discharge / eta_d), within its limits, back at its start
    value at the end. The cost (1 - eta_c) charge + (1 / eta_d - 1) discharge, by weight, discourages doing both at once
    (Nazir et al., "Receding horizon control of battery storage", SCD term of the case study).
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
            q <= q_max,
            q >= -q_max,
            energy == before + horizon.dt * gained,
            energy >= soc_min * capacity,
            energy <= soc_max * capacity,
            energy[:, -1:] == start,
        ],
        cost=settings.scd_weight * cp.sum(cp.multiply(1 - eta_c, charge) + cp.multiply(1 / eta_d - 1, discharge)),
    )


def _column(values: Sequence[float], settings: Settings) -> Floats:
    """(unit, 1) in per unit."""
    return np.array(values, float)[:, None] / settings.base_kva
