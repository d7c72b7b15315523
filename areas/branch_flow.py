"""Balanced branch flow (DistFlow) equations of one area as cvxpy expressions.

Source: Baran and Wu, "Optimal capacitor placement on radial distribution systems" (1989); the squared current is
relaxed to a rotated second-order cone as in Farivar and Low, "Branch flow model: relaxations and convexification"
(2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp

from common.feeder import Feeder, Floats, Ints


@dataclass(frozen=True)
class BranchFlow:
    """Variables and constraints; all per unit, time last."""

    v: cp.Variable
    """(bus, T) squared voltage magnitude"""
    p: cp.Variable
    """(branch, T) real power into the branch at the end nearer the root"""
    q: cp.Variable
    l: cp.Variable  # noqa: E741 - the field's symbol
    """(impedance, T) squared current magnitude of the branches that are not switches"""
    balance: cp.Constraint
    """(bus, T) real power of each bus: what flows in and is injected, less what flows out, is zero"""
    constraints: list[cp.Constraint]


def branch_flow(
    feeder: Feeder,
    p_injected: Any,
    q_injected: Any,
    shunt: Floats,
    v_min: float,
    v_max: float,
    v_root: float | None = None,
) -> BranchFlow:
    """The network equations of a radial feeder.

    ``p_injected`` and ``q_injected`` are (bus, T) expressions of the net power injected at each bus, loads (negative)
    and what flows in at the root included. ``v_min`` and ``v_max`` limit the voltage magnitude at every bus but a root
    that ``v_root`` holds at a magnitude. ``shunt`` is the (bus,) susceptance of constant-impedance capacitors. A
    switch drops voltage but loses no power: it has no squared current, for nothing would hold a relaxed one at its true
    value.
    """
    periods = p_injected.shape[1]
    bus_count, branch_count = len(feeder.buses), len(feeder.parent)
    has_current = np.flatnonzero(~feeder.is_switch)
    v = cp.Variable((bus_count, periods), name="v")
    p = cp.Variable((branch_count, periods), name="p")
    q = cp.Variable((branch_count, periods), name="q")
    squared_current = cp.Variable((len(has_current), periods), name="l")
    if shunt.any():
        q_injected = q_injected + sp.diags_array(shunt) @ v
    limited = v if v_root is None else v[1:]
    constraints: list[cp.Constraint] = [limited >= v_min**2, limited <= v_max**2]
    if v_root is not None:
        constraints.append(v[0] == v_root**2)
    into = sp.eye_array(bus_count, branch_count, k=-1, format="csr")
    out_of = incidence(feeder.parent, bus_count)
    spread = incidence(has_current, branch_count)
    of_r, of_x = (sp.diags_array(part, shape=(branch_count, branch_count)) for part in (feeder.r, feeder.x))
    lost_p, lost_q = of_r @ spread @ squared_current, of_x @ spread @ squared_current
    balance = into @ (p - lost_p) - out_of @ p + p_injected == 0
    constraints += [
        balance,
        into @ (q - lost_q) - out_of @ q + q_injected == 0,
        (into - out_of).T @ v + 2 * (of_r @ p + of_x @ q) == of_r @ lost_p + of_x @ lost_q,
    ]
    constraints += _current(feeder, has_current, v, p, q, squared_current)
    constraints += _power(feeder, p, q, lost_p, lost_q)
    return BranchFlow(v=v, p=p, q=q, l=squared_current, balance=balance, constraints=constraints)


def relaxation_gap(feeder: Feeder, v: Floats, p: Floats, q: Floats, squared_current: Floats) -> Floats:
    """l * v - p^2 - q^2 of each branch and period, (branch, T); zero where the relaxation is tight and on switches."""
    gap = np.zeros_like(p)
    k = np.flatnonzero(~feeder.is_switch)
    gap[k] = squared_current * v[feeder.parent[k]] - p[k] ** 2 - q[k] ** 2
    return gap


def _current(
    feeder: Feeder, has_current: Ints, v: cp.Variable, p: cp.Variable, q: cp.Variable, squared_current: cp.Variable
) -> list[cp.Constraint]:
    """p^2 + q^2 <= l v on branches with impedance, l <= l_max, and p^2 + q^2 <= l_max v on limited switches."""
    limited = np.isfinite(feeder.l_max)
    own, switches = np.flatnonzero(limited[has_current]), np.flatnonzero(feeder.is_switch & limited)
    ceiling = cp.Constant(np.repeat(feeder.l_max[switches][:, None], v.shape[1], axis=1))
    return [
        *rotated_cone(p[has_current], q[has_current], squared_current, v[feeder.parent[has_current]]),
        squared_current[own] <= feeder.l_max[has_current][own][:, None],
        *rotated_cone(p[switches], q[switches], ceiling, v[feeder.parent[switches]]),
    ]


def _power(feeder: Feeder, p: cp.Variable, q: cp.Variable, lost_p: Any, lost_q: Any) -> list[cp.Constraint]:
    """p^2 + q^2 <= s_max^2 at both ends of branches that have such a limit. At the end nearer the root alone, power
    that flows towards it could keep the limit by losses that are none."""
    limited = np.flatnonzero(np.isfinite(feeder.s_max))
    ceiling = cp.Constant(np.repeat(feeder.s_max[limited][:, None], p.shape[1], axis=1))
    ends = ((p, q), (p - lost_p, q - lost_q))
    return [cone for at_p, at_q in ends for cone in rotated_cone(at_p[limited], at_q[limited], ceiling, ceiling)]


def rotated_cone(p: Any, q: Any, product_a: Any, product_b: Any) -> list[cp.Constraint]:
    """p^2 + q^2 <= a b, elementwise."""
    a, b = (cp.vec(e, order="F") for e in (product_a, product_b))
    rows = cp.vstack([2 * cp.vec(p, order="F"), 2 * cp.vec(q, order="F"), a - b])
    return [cp.SOC(a + b, rows, axis=0)]


def incidence(index: Sequence[int] | Ints, size: int) -> sp.csr_array:
    """(size, len(index)) matrix that adds column k to row index[k]."""
    return sp.csr_array((np.ones(len(index)), (index, np.arange(len(index)))), shape=(size, len(index)))
