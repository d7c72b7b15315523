"""The multi-period optimal power flow of a multi-phase case as IPOPT solves it: nonconvex, in rectangular voltages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import casadi
import numpy as np
import scipy.sparse as sp

from common.branch_limits import limited_branches
from common.case import Case
from common.feeder import Complexes, Floats
from common.multiphase import GROUND, connection, multipliers
from common.multiphase_partition import idle_power_flow
from common.objective import factors
from common.power_flow import PowerFlow

Pair = tuple[Any, Any]
"""real and imaginary part, each (row, T)"""
STIFF = 1e3
"""pu of admittance above which a branch's current is a variable"""


@dataclass(frozen=True)
class Optimum:
    cost: float
    """$"""
    v: Complexes
    """(node, T)"""
    substation_p: Floats
    """(T,)"""
    iterations: int


def ipopt_optimum(case: Case) -> Optimum:
    """A local optimum, found from the power flow with idle devices. The limits of the network have no slack."""
    feeder, horizon, settings, base = case.network, case.horizon, case.settings, case.settings.base_kva
    size, roots, periods = len(feeder.node_bus), feeder.roots, len(horizon)
    # Elements by their admittance; of stiff ones, in which digits would drown, the currents are variables of their own.
    elements = (*feeder.branches, *feeder.shunts)
    stiff = [k for k, branch in enumerate(feeder.branches) if k == 0 or np.abs(branch.y).max() > STIFF]
    y = sum(_placed(element.nodes, element.y, size) for k, element in enumerate(elements) if k not in stiff)
    drop, into, stiff_nodes = _stiff_rows(case, stiff)
    rows = len(stiff_nodes)
    idle = PowerFlow(feeder, multipliers(feeder.legs, horizon.load, horizon.shapes))
    start, start_i = idle_power_flow(case, idle)
    free = casadi.MX.sym("v", 2 * (size - roots), periods)
    v = tuple(
        casadi.vertcat(casadi.DM(part(start[:roots])), free[k * (size - roots) : (k + 1) * (size - roots), :])
        for k, part in enumerate((np.real, np.imag))
    )

    # What each load leg draws.
    load = _legs(feeder.legs.a, feeder.legs.b, size)
    across = _times(load, v)
    factor = multipliers(feeder.legs, horizon.load, horizon.shapes)
    squared = across[0] ** 2 + across[1] ** 2
    r = casadi.sqrt(squared) / _wide(feeder.legs.v_rated, periods)
    drawn = tuple(
        casadi.DM(part(feeder.legs.s)[:, None] * factor) * r ** _wide(exponent, periods)
        for part, exponent in ((np.real, feeder.legs.alpha), (np.imag, feeder.legs.beta))
    )
    out = _times(load.T, _current(drawn, across))

    # What the devices put in.
    pv_p = np.array([unit.p_rated_kw * horizon.profile(unit) / base for unit in case.pv]).reshape(-1, periods)
    pv_s = _column([unit.s_rated_kva for unit in case.pv]) / base
    pv_q = casadi.MX.sym("pv_q", len(case.pv), periods)
    names = ("charge", "discharge", "q", "energy")
    charge, discharge, battery_q, energy = (casadi.MX.sym(name, len(case.batteries), periods) for name in names)
    p_max, q_max, capacity = (
        _column([getattr(unit, name) for unit in case.batteries]) / base
        for name in ("p_rated_kw", "q_max_kvar", "energy_kwh")
    )
    eta_in, eta_out, least, most, initial = (
        _column([getattr(unit, name) for unit in case.batteries])
        for name in ("eta_charge", "eta_discharge", "soc_min", "soc_max", "soc_initial")
    )
    given, given_q = casadi.vertcat(casadi.DM(pv_p), discharge - charge), casadi.vertcat(pv_q, battery_q)
    for row, unit in enumerate((*case.pv, *case.batteries)):
        a, b = connection(feeder, unit.bus, unit.phases)
        legs, share = _legs(a, b, size), casadi.DM.ones(len(a), 1) / len(a)
        put = _current((share @ given[row, :], share @ given_q[row, :]), _times(legs, v))
        out = tuple(taken - pushed for taken, pushed in zip(out, _times(legs.T, put), strict=True))
    before = casadi.horzcat(casadi.DM(initial * capacity), energy[:, :-1])
    stored = energy - before - horizon.dt * (charge * _wide(eta_in, periods) - discharge / _wide(eta_out, periods))

    current = casadi.MX.sym("i", 2 * rows, periods)
    i = (current[:rows, :], current[rows:, :])
    flow = tuple(a + b for a, b in zip(_times(y, v), _times(into[0], v), strict=True))
    flow = tuple(a + b for a, b in zip(flow, _times(into[1], i), strict=True))
    dropped = [a - b for a, b in zip(_times(drop[0], v), _times(drop[1], i), strict=True)]
    balance = [(part_flow + part_out)[roots:, :] for part_flow, part_out in zip(flow, out, strict=True)]
    # The source impedance comes first among the stiff branches.
    first = np.flatnonzero(feeder.node_bus == 1).tolist()
    fed = [part[: len(first), :] for part in i]
    substation = -casadi.sum1(v[0][first, :] * fed[0] + v[1][first, :] * fed[1])
    lost = casadi.DM(1 - eta_in).T @ charge + casadi.DM(1 / eta_out - 1).T @ discharge
    limited = np.flatnonzero(feeder.limited).tolist()
    magnitude = (v[0] ** 2 + v[1] ** 2)[limited, :]
    counts, hours = factors(settings), base * horizon.dt
    cost = counts.energy * hours * casadi.dot(casadi.DM(horizon.price[None]), substation)
    cost += counts.losses * hours * casadi.sum2(substation + casadi.sum1(given) - casadi.sum1(drawn[0]))
    cost += counts.voltage_deviation * casadi.sumsqr(magnitude - 1)
    cost += counts.battery_use * hours * casadi.sum2(casadi.sum1(charge + discharge))
    cost += settings.scd_weight * casadi.sum2(casadi.sum1(lost))

    room = np.sqrt(np.maximum(pv_s**2 - pv_p**2, 0))
    last = np.arange(periods) == periods - 1
    held = initial * capacity
    infinite, unbounded = np.full(free.shape, np.inf), np.full(current.shape, np.inf)
    same = np.ones((len(case.batteries), periods))
    # Variables with their bounds and starts, then constraints with theirs.
    x = [
        (free, -infinite, infinite, np.concatenate([start[roots:].real, start[roots:].imag])),
        (current, -unbounded, unbounded, -np.concatenate([start_i[stiff_nodes].real, start_i[stiff_nodes].imag])),
        (pv_q, -room, room, 0 * room),
        (charge, 0 * same, p_max * same, 0 * same),
        (discharge, 0 * same, p_max * same, 0 * same),
        (battery_q, -q_max * same, q_max * same, 0 * same),
        (energy, np.where(last, held, least * capacity), np.where(last, held, most * capacity), held * same),
    ]
    g = [
        *((part, np.zeros(part.shape), np.zeros(part.shape)) for part in (*balance, *dropped, stored)),
        (magnitude, np.full(magnitude.shape, settings.v_min_pu**2), np.full(magnitude.shape, settings.v_max_pu**2)),
    ]
    for limit, squared_power in zip(case.branch_limits, _squared_powers(case, v, stiff), strict=True):
        ceiling = np.full(squared_power.shape, (limit.s_max_kva / base) ** 2)
        g.append((squared_power, 0 * ceiling, ceiling))
    problem = {
        "x": casadi.vertcat(*(casadi.vec(row[0]) for row in x)),
        "f": cost,
        "g": casadi.vertcat(*(casadi.vec(row[0]) for row in g)),
    }
    options = {
        "tol": 1e-9,
        "constr_viol_tol": 1e-9,
        "bound_relax_factor": 0.0,
        "acceptable_iter": 0,
        "max_iter": 300,
        "print_level": 0,
        "sb": "yes",
    }
    solver = casadi.nlpsol("opf", "ipopt", problem, {"expand": True, "print_time": False, "ipopt": options})
    lower, upper, guess = (np.concatenate([row[k].ravel(order="F") for row in x]) for k in (1, 2, 3))
    g_lower, g_upper = (np.concatenate([row[k].ravel(order="F") for row in g]) for k in (1, 2))
    found = solver(x0=guess, lbx=lower, ubx=upper, lbg=g_lower, ubg=g_upper)
    assert solver.stats()["success"], solver.stats()["return_status"]
    at = casadi.Function("at", [problem["x"]], [v[0], v[1], substation])(found["x"])
    v_r, v_i, p_found = (np.array(value) for value in at)
    return Optimum(float(found["f"]), v_r + 1j * v_i, p_found[0], int(solver.stats()["iter_count"]))


def _squared_powers(case: Case, v: Pair, stiff: list[int]) -> list[Any]:
    """(1, T) squared apparent power into each limited branch, none of which may be stiff."""
    feeder, found = case.network, []
    for k in limited_branches(feeder, case.branch_limits):
        assert k not in stiff
        nodes, y = feeder.branches[k].nodes, feeder.branches[k].y
        parents = feeder.node_bus[nodes] != k + 1
        current = _times(sp.csc_matrix(y[parents]), tuple(part[nodes.tolist(), :] for part in v))
        at = [part[nodes[parents].tolist(), :] for part in v]
        p = casadi.sum1(at[0] * current[0] + at[1] * current[1])
        q = casadi.sum1(at[1] * current[0] - at[0] * current[1])
        found.append(p**2 + q**2)
    return found


def _stiff_rows(case: Case, stiff: list[int]) -> tuple[Any, Any, Any]:
    """Matrices of the currents i that leave the child buses into stiff branches: drop[0] v = drop[1] i says how voltage
    drops along them, into[0] v + into[1] i is what they draw from all buses; and the nodes of i."""
    feeder, size = case.network, len(case.network.node_bus)
    nodes, drop_v, drop_i, into_v, into_i = [], [], [], [], []
    for k in stiff:
        branch = feeder.branches[k]
        child = feeder.node_bus[branch.nodes] == k + 1
        pp, pc, cp, cc = (branch.y[np.ix_(a, b)] for a in (~child, child) for b in (~child, child))
        at_p, at_c = _pick(branch.nodes[~child], size), _pick(branch.nodes[child], size)
        z = np.linalg.inv(cc)
        nodes.append(branch.nodes[child])
        # From i = cp v_p + cc v_c, and cc^-1 in both rows.
        drop_v.append(at_c + sp.csc_matrix(z @ cp) @ at_p)
        drop_i.append(z)
        into_v.append(at_p.T @ sp.csc_matrix(pp - pc @ z @ cp) @ at_p)
        into_i.append(at_c.T + at_p.T @ sp.csc_matrix(pc @ z))
    drop = sp.vstack(drop_v, format="csc"), sp.block_diag(drop_i, format="csc")
    return drop, (sum(into_v), sp.hstack(into_i, format="csc")), np.concatenate(nodes)


def _pick(nodes: Any, size: int) -> sp.csc_matrix:
    return sp.csc_matrix((np.ones(len(nodes)), (np.arange(len(nodes)), nodes)), shape=(len(nodes), size))


def _placed(nodes: Any, y: Complexes, size: int) -> sp.csc_matrix:
    at = _pick(nodes, size)
    return sp.csc_matrix(at.T @ sp.csc_matrix(y) @ at)


def _legs(a: Any, b: Any, size: int) -> sp.csc_matrix:
    """(leg, node)"""
    matrix = sp.lil_matrix((len(a), size))
    for leg, (node, other) in enumerate(zip(a, b, strict=True)):
        matrix[leg, node] = 1.0
        if other != GROUND:
            matrix[leg, other] = -1.0
    return sp.csc_matrix(matrix)


def _times(matrix: sp.csc_matrix, v: Any) -> Pair:
    real, imaginary = (_casadi(part) for part in (matrix.real, matrix.imag))
    return real @ v[0] - imaginary @ v[1], real @ v[1] + imaginary @ v[0]


def _current(s: Any, v: Any) -> Pair:
    """conj(s / v)"""
    squared = v[0] ** 2 + v[1] ** 2
    return (s[0] * v[0] + s[1] * v[1]) / squared, (s[0] * v[1] - s[1] * v[0]) / squared


def _casadi(matrix: Any) -> casadi.DM:
    m = sp.csc_matrix(matrix, copy=True)
    m.eliminate_zeros()
    m.sort_indices()
    return casadi.DM(casadi.Sparsity(*m.shape, m.indptr.tolist(), m.indices.tolist()), m.data.tolist())


def _wide(values: Floats, periods: int) -> casadi.DM:
    return casadi.DM(np.repeat(np.reshape(values, (-1, 1)), periods, axis=1))


def _column(values: list[float]) -> Floats:
    return np.array(values, float).reshape(-1, 1)
