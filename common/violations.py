"""Limits that are overstepped, as a list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from common.case import Case
from common.feeder import Floats
from common.result import Violation
from common.schedule import NetworkState

UNITS = {
    "voltage": "pu",
    "current": "A",
    "branch load": "kVA",
    "substation power": "kW",
    "SOC": "pu",
    "terminal SOC": "pu",
    "rating": "kW or kVA",
    "energy": "kWh",
}
"""of a violation's value and limit, by its kind"""


def beyond(
    kind: str,
    names: Sequence[str],
    hours: Sequence[int],
    value: Floats,
    limits: tuple[ArrayLike, ArrayLike],
    slack: ArrayLike,
) -> list[Violation]:
    """A violation for each ``value`` (element, hour) beyond its lower or upper limit by more than ``slack``."""
    low, high = (np.broadcast_to(np.asarray(limit, float), value.shape) for limit in limits)
    limit = np.where(value > high, high, low)
    overstepped = np.maximum(value - high, low - value) > slack
    return [
        Violation(kind, names[i], hours[t], float(value[i, t]), float(limit[i, t]), UNITS[kind])
        for i, t in np.argwhere(overstepped)
    ]


def voltage_violations(case: Case, state: NetworkState, slack: float) -> list[Violation]:
    """Voltages beyond the case's limits by more than ``slack``, by bus (balanced) or node (multi-phase) and hour."""
    limits = (case.settings.v_min_pu, case.settings.v_max_pu)
    if case.is_balanced:
        return beyond("voltage", case.feeder.buses[1:], case.horizon.hour, state.v_pu[1:], limits, slack)
    feeder = case.network
    limited = np.flatnonzero(feeder.limited)
    names = [feeder.node_names[node] for node in limited]
    return beyond("voltage", names, case.horizon.hour, state.v_pu[limited - feeder.roots], limits, slack)


def branch_loads(case: Case, state: NetworkState) -> tuple[list[str], Floats, Floats]:
    """Names of the limited branches, their apparent power (branch, T) and its limits (branch, 1), kVA; of a balanced
    case at the end that carries more."""
    if not case.is_balanced:
        s_max = np.array([[limit.s_max_kva] for limit in case.branch_limits]).reshape(-1, 1)
        return [limit.branch for limit in case.branch_limits], state.branch_kva, s_max
    feeder, base_kva = case.feeder, case.settings.base_kva
    limited = np.flatnonzero(np.isfinite(feeder.s_max))
    s = (state.p_kw + 1j * state.q_kvar)[limited]
    squared_current = (state.i_a[limited] * case.settings.voltage_kv / np.sqrt(3) / base_kva) ** 2
    lost = (feeder.r + 1j * feeder.x)[limited, None] * squared_current * base_kva
    names = [feeder.branch_name(k) for k in limited.tolist()]
    return names, np.maximum(np.abs(s), np.abs(s - lost)), feeder.s_max[limited, None] * base_kva


def load_violations(case: Case, state: NetworkState, slack: float) -> list[Violation]:
    """Apparent power of branches beyond its limit by more than a share ``slack`` of that, by branch and hour."""
    names, load, s_max = branch_loads(case, state)
    return beyond("branch load", names, case.horizon.hour, load, (0.0, s_max), slack * s_max) if names else []


def current_violations(case: Case, state: NetworkState, slack: float) -> list[Violation]:
    """Currents beyond the limit of their branch by more than a share ``slack`` of that, by branch and hour; a
    multi-phase case has no such limits."""
    if not case.is_balanced:
        return []
    feeder, settings = case.feeder, case.settings
    names = [feeder.branch_name(k) for k in range(len(feeder.parent))]
    i_max = np.sqrt(feeder.l_max)[:, None] * settings.base_kva / (settings.voltage_kv / np.sqrt(3))
    return beyond("current", names, case.horizon.hour, state.i_a, (0.0, i_max), slack * i_max)
