"""One area's multi-period optimal power flow: built once, solved every round at new boundary terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp

from areas.branch_flow import BranchFlow, branch_flow
from areas.conic import ConicProblem, compile_problem
from areas.device_models import DeviceModel, battery_model, flexible_load_model, inverter_model
from areas.objectives import network_cost
from common.feeder import Feeder
from common.objective import factors, forgone
from common.partition import AreaCase


@dataclass(frozen=True)
class AreaModel:
    """An area's problem in cvxpy, all per unit."""

    problem: cp.Problem
    network: BranchFlow
    devices: Mapping[str, DeviceModel]
    """by their name in the schedule; kinds of which the area has none are left out"""
    substation: cp.Variable | None
    """(2, T) real and reactive power from the substation"""
    boundary: cp.Variable | None
    """(3 * tie end, T): w, p, q of the first end, then of the next"""

    def variables(self) -> dict[str, cp.Variable]:
        """Every variable that a solution tells, by name."""
        named: dict[str, cp.Variable | None] = {
            "v": self.network.v,
            "p": self.network.p,
            "q": self.network.q,
            "l": self.network.l,
            "substation": self.substation,
            "boundary": self.boundary,
        }
        for kind, device in self.devices.items():
            named |= {f"{kind}.{name}": variable for name, variable in device.setpoints.items()}
        return {name: variable for name, variable in named.items() if variable is not None and variable.size}


def model(area: AreaCase[Feeder]) -> AreaModel:
    """Write the area's problem.

    Each tie end has the boundary variables w = v + 2 r p + 2 x q, p and q, where v is the squared voltage of the split
    bus, p and q flow from the parent area into the child, and r + jx is the tie's impedance as the tie end gives it.
    """
    feeder, settings, ends = area.feeder, area.settings, area.tie_ends
    bus_count, periods = len(feeder.buses), len(area.horizon)
    devices = device_models(area)
    p: Any = -np.outer(feeder.p_load, area.horizon.load)
    q: Any = -np.outer(feeder.q_load, area.horizon.load)
    constant_power = settings.capacitor_model == "constant_power"
    if constant_power:
        q = q + feeder.q_cap[:, None]
    shunt = np.zeros(bus_count) if constant_power else feeder.q_cap
    for device in devices.values():
        at = _incidence([feeder.index[bus] for bus in device.buses], bus_count)
        p, q = p + at @ device.p, q + at @ device.q
    constraints: list[cp.Constraint] = []
    substation = cp.Variable((2, periods), name="substation") if area.has_substation else None
    if substation is not None:
        root = _incidence([0], bus_count)
        p, q = p + root @ substation[:1], q + root @ substation[1:]
        if settings.substation_export_kw is not None:
            constraints.append(substation[0] >= -settings.substation_export_kw / settings.base_kva)
        if settings.substation_peak_kw is not None:
            constraints.append(substation[0] <= settings.substation_peak_kw / settings.base_kva)
    boundary = cp.Variable((3 * len(ends), periods), name="boundary") if ends else None
    if boundary is not None:
        into = _incidence([int(end.nodes[0]) for end in ends], bus_count)
        into = into @ sp.diags_array([1.0 if end.side == "child" else -1.0 for end in ends])
        p, q = p + into @ boundary[1::3], q + into @ boundary[2::3]
    v_root = settings.substation_v_pu if area.has_substation else None
    network = branch_flow(feeder, p, q, shunt, settings.v_min_pu, settings.v_max_pu, v_root)
    if boundary is not None:
        for i, end in enumerate(ends):
            w, p_tie, q_tie = (boundary[3 * i + k] for k in range(3))
            z = complex(end.z[0, 0])
            constraints.append(w == network.v[int(end.nodes[0])] + 2 * z.real * p_tie + 2 * z.imag * q_tie)
            constraints += [cp.abs(p_tie) <= area.flow_limit, cp.abs(q_tie) <= area.flow_limit]
    cost = network_cost(area, network, None if substation is None else substation[0])
    if substation is not None and settings.export_price_per_kwh is not None:
        export_cost, sold = _export(area, substation[0], settings.export_price_per_kwh)
        cost, constraints = cost + export_cost, constraints + sold
    for device in devices.values():
        constraints += device.constraints
        cost = cost + device.cost
    problem = cp.Problem(cp.Minimize(cost), network.constraints + constraints)
    return AreaModel(problem, network, devices, substation, boundary)


def _export(
    area: AreaCase[Feeder], substation_p: cp.Expression, export_price: float
) -> tuple[cp.Expression, list[cp.Constraint]]:
    """What exported energy earns less than the price of its period, $, and the constraints of its variable, which is no
    less than the power out of the substation; in periods of the same price nothing would hold it down there."""
    counts, horizon = factors(area.settings).energy, area.horizon
    dearer = np.flatnonzero(horizon.price > export_price)
    if not counts or not len(dearer):
        return cp.Constant(0.0), []
    exported = cp.Variable(len(dearer), name="exported")
    in_all = _incidence([int(period) for period in dearer], len(horizon)) @ exported
    cost = counts * forgone(horizon, area.settings.base_kva * in_all, export_price)
    return cost, [exported >= -substation_p[dearer], exported >= 0]


def build(area: AreaCase[Feeder]) -> ConicProblem:
    """Write the area's problem and compile it."""
    written = model(area)
    return compile_problem(written.problem, written.variables(), {"balance": written.network.balance})


def device_models(area: AreaCase[Any]) -> dict[str, DeviceModel]:
    """In the order of ``AreaCase.devices``."""
    devices = {}
    if area.pv:
        devices["pv"] = inverter_model(area.pv, area.horizon, area.settings)
    if area.batteries:
        devices["batteries"] = battery_model(area.batteries, area.horizon, area.settings)
    if area.flexible_loads:
        devices["flexible_loads"] = flexible_load_model(area.flexible_loads, area.horizon, area.settings)
    if area.wind:
        devices["wind"] = inverter_model(area.wind, area.horizon, area.settings)
    return devices


def _incidence(index: Sequence[int], size: int) -> sp.csr_array:
    """(size, len(index)) matrix that adds column k to row index[k]."""
    return sp.csr_array((np.ones(len(index)), (index, np.arange(len(index)))), shape=(size, len(index)))
