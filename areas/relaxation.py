"""One area's multi-period optimal power flow of a balanced feeder, relaxed to second-order cones, in cvxpy: built once,
solved every round at new boundary terms."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp

from areas.branch_flow import branch_flow, incidence, rotated_cone
from areas.conic import ConicProblem, compile_problem
from areas.devices import Controls, area_controls
from common.area_case import AreaCase
from common.feeder import Feeder
from common.objective import energy, factors, forgone, losses, voltage_deviation


def model(area: AreaCase[Feeder]) -> tuple[cp.Problem, dict[str, cp.Variable], dict[str, cp.Constraint]]:
    """The area's problem in cvxpy, all per unit, its variables and equalities by name: v, p, q, l and ``balance`` as in
    ``BranchFlow``; ``decided`` (free control,); ``boundary`` (3 * tie end, T): w, p, q of the first end, then of the
    next; ``substation`` (2, T): real and reactive power, where the area has it.

    Each tie end has the boundary variables w = v + 2 r p + 2 x q, p and q, where v is the squared voltage of the split
    bus, p and q flow from the parent area into the child, and r + jx is the tie's impedance as the tie end gives it.
    """
    feeder, settings, ends = area.feeder, area.settings, area.tie_ends
    bus_count, periods = len(feeder.buses), len(area.horizon)
    controls = area_controls(area)
    free = ~controls.fixed
    decided = cp.Variable(int(free.sum()), name="decided")
    value = _spread(controls, decided)
    constraints = _device_limits(controls, value, decided)
    at = incidence([feeder.index[unit.bus] for unit in area.devices], bus_count)
    by_control = at @ incidence(controls.unit, len(controls.given))
    given = at @ controls.given - np.outer(feeder.p_load + 1j * feeder.q_load, area.horizon.load)
    p: Any = given.real + by_control * controls.power.real @ value
    q: Any = given.imag + by_control * controls.power.imag @ value
    constant_power = settings.capacitor_model == "constant_power"
    if constant_power:
        q = q + feeder.q_cap[:, None]
    shunt = np.zeros(bus_count) if constant_power else feeder.q_cap
    boundary = cp.Variable((3 * len(ends), periods), name="boundary")
    sign = np.array([1.0 if end.side == "child" else -1.0 for end in ends])
    into = incidence([int(end.nodes[0]) for end in ends], bus_count) * sign
    p, q = p + into @ boundary[1::3], q + into @ boundary[2::3]
    variables = {"decided": decided, "boundary": boundary}
    if area.has_substation:
        substation = variables["substation"] = cp.Variable((2, periods), name="substation")
        root = incidence([0], bus_count)
        p, q = p + root @ substation[:1], q + root @ substation[1:]
    v_root = settings.substation_v_pu if area.has_substation else None
    network = branch_flow(feeder, p, q, shunt, settings.v_min_pu, settings.v_max_pu, v_root)
    for i, end in enumerate(ends):
        w, p_tie, q_tie = (boundary[3 * i + k] for k in range(3))
        z = complex(end.z[0, 0])
        constraints.append(w == network.v[int(end.nodes[0])] + 2 * z.real * p_tie + 2 * z.imag * q_tie)
        constraints += [cp.abs(p_tie) <= area.flow_limit, cp.abs(q_tie) <= area.flow_limit]
    # An area counts its own share of each term. Energy is a price of losses too, which keeps the relaxation tight.
    cost: cp.Expression = controls.cost[free] @ decided + float((controls.cost * controls.low)[~free].sum())
    if area.has_substation:
        paid, limits = _substation(area, substation[0])
        cost, constraints = cost + paid, constraints + limits
    counts, r = factors(settings), feeder.r[~feeder.is_switch]
    if counts.losses and len(r):
        cost = cost + counts.losses * losses(area.horizon, settings.base_kva * (r @ network.l))
    # The first bus is the substation's, whose voltage is given, or the parent area's.
    if counts.voltage_deviation and bus_count > 1:
        cost = cost + counts.voltage_deviation * voltage_deviation(network.v[1:])
    problem = cp.Problem(cp.Minimize(cost), network.constraints + constraints)
    variables |= {"v": network.v, "p": network.p, "q": network.q, "l": network.l}
    return problem, variables, {"balance": network.balance}


def build(area: AreaCase[Feeder]) -> ConicProblem:
    """Write the area's problem and compile it."""
    return compile_problem(*model(area))


def _spread(controls: Controls, decided: cp.Variable) -> cp.Expression:
    """(control, T) values of all controls, those that are fixed among them."""
    given, free = np.where(controls.fixed, controls.low, 0.0), np.flatnonzero(~controls.fixed)
    return given + cp.reshape(incidence(free, controls.low.size) @ decided, controls.low.shape, order="C")


def _device_limits(controls: Controls, value: cp.Expression, decided: cp.Variable) -> list[cp.Constraint]:
    """Bounds, circles and stores of ``areas.devices``, whose cost is linear."""
    free = ~controls.fixed
    constraints = [decided >= controls.low[free], decided <= controls.high[free]]
    a, b, s = np.array(controls.circles).reshape(-1, 3).T
    radius = cp.Constant(np.repeat(s[:, None], free.shape[1], axis=1))
    constraints += rotated_cone(value[a.astype(int)], value[b.astype(int)], radius, radius)
    stores = [store for store in controls.stores if free[list(store.gains)].any()]
    if stores:
        gains = np.array([[store.gains.get(k, 0.0) for k in range(len(free))] for store in stores])
        start, low, high = (np.array([[getattr(store, f)] for store in stores]) for f in ("start", "low", "high"))
        level = cp.Variable((len(stores), free.shape[1]), name="level")
        before = cp.hstack([start, level[:, :-1]])
        constraints += [level == before + sp.csr_array(gains) @ value, level[:, -1:] == start]
        held = np.flatnonzero(np.isfinite(low))
        constraints += [level[held] >= low[held], level[held] <= high[held]]
    return constraints


def _substation(area: AreaCase[Feeder], p: cp.Expression) -> tuple[cp.Expression, list[cp.Constraint]]:
    """What its real power (T,) costs, $, and its limits.

    What is exported may earn less than the price of its period: a variable of its own that is no less than the power
    out of the substation. In periods of the same price nothing would hold it down there.
    """
    settings, horizon, counts = area.settings, area.horizon, factors(area.settings).energy
    export_price, base = settings.export_price_per_kwh, settings.base_kva
    limits: list[cp.Constraint] = []
    if settings.substation_export_kw is not None:
        limits.append(p >= -settings.substation_export_kw / base)
    if settings.substation_peak_kw is not None:
        limits.append(p <= settings.substation_peak_kw / base)
    if not counts:
        return cp.Constant(0.0), limits
    cost = counts * energy(horizon, base * p)
    dearer = np.flatnonzero(horizon.price > (np.inf if export_price is None else export_price))
    if export_price is not None and len(dearer):
        exported = cp.Variable(len(dearer), name="exported")
        in_all = incidence(dearer, len(horizon)) @ exported
        cost = cost + counts * forgone(horizon, base * in_all, export_price)
        limits += [exported >= -p[dearer], exported >= 0]
    return cost, limits
