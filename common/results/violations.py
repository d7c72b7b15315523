"""Limits that are overstepped, as a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from tieflow.common.arrays import Floats
from tieflow.common.case import Case
from tieflow.common.inputs.devices import PV, Device, Wind, column
from tieflow.common.inputs.horizon import Horizon
from tieflow.common.results.result import Tolerances, Violation
from tieflow.common.results.schedule import NetworkState, Schedule, completed

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
OVERSTEP_PU = 1e-6
"""voltage beyond a limit that counts as overstepped"""
OVERSTEP_SHARE = 2e-5
"""the same of a branch's current or power, per limit"""


def overstepped(case: Case, state: NetworkState) -> list[Violation]:
    """Limits of voltages and branches beyond which the optimizer's own state is."""
    return [
        *voltage_violations(case, state, OVERSTEP_PU),
        *current_violations(case, state, OVERSTEP_SHARE),
        *load_violations(case, state, OVERSTEP_SHARE),
    ]


def beyond(
    kind: str,
    names: Sequence[str],
    horizon: Horizon,
    value: Floats,
    limits: tuple[ArrayLike, ArrayLike],
    slack: ArrayLike,
) -> list[Violation]:
    """A violation for each ``value`` beyond its lower or upper limit by more than ``slack``; (element, T), or (element,
    1) of the last period."""
    low, high = (np.broadcast_to(np.asarray(limit, float), value.shape) for limit in limits)
    limit = np.where(value > high, high, low)
    overstepped = np.maximum(value - high, low - value) > slack
    rows = horizon.hour[-value.shape[1] :]
    return [
        Violation(
            kind, names[i], rows[t], float(value[i, t]), float(limit[i, t]), UNITS[kind], time=horizon.time(rows[t])
        )
        for i, t in np.argwhere(overstepped)
    ]


def timed(case: Case, found: Sequence[Violation]) -> tuple[Violation, ...]:
    """The violations of an older result with their times of day."""
    return tuple(own if own.time else replace(own, time=case.horizon.time(own.hour)) for own in found)


def voltage_violations(case: Case, state: NetworkState, slack: float) -> list[Violation]:
    """Voltages beyond the case's limits by more than ``slack``, by bus (balanced) or node (multi-phase) and period."""
    limits = (case.settings.v_min_pu, case.settings.v_max_pu)
    places = case.feeder.places
    names = [places.names[place] for place in np.flatnonzero(places.limited).tolist()]
    return beyond("voltage", names, case.horizon, state.v_pu[places.limited], limits, slack)


def branch_loads(case: Case, state: NetworkState) -> tuple[list[str], Floats, Floats]:
    """Names of the limited branches, their apparent power (branch, T) and its limits (branch, 1), kVA; of a balanced
    case at the end that carries more."""
    if not case.is_balanced:
        s_max = np.array([[limit.s_max_kva] for limit in case.branch_limits]).reshape(-1, 1)
        return [limit.branch for limit in case.branch_limits], state.branch_kva, s_max
    feeder, base_kva = case.balanced_feeder, case.settings.base_kva
    limited = np.flatnonzero(np.isfinite(feeder.s_max))
    s = (state.p_kw + 1j * state.q_kvar)[limited]
    squared_current = (state.i_a[limited] * case.settings.voltage_kv / np.sqrt(3) / base_kva) ** 2
    lost = (feeder.r + 1j * feeder.x)[limited, None] * squared_current * base_kva
    names = [feeder.branch_name(k) for k in limited.tolist()]
    return names, np.maximum(np.abs(s), np.abs(s - lost)), feeder.s_max[limited, None] * base_kva


def load_violations(case: Case, state: NetworkState, slack: float) -> list[Violation]:
    """Apparent power of branches beyond its limit by more than a share ``slack`` of that, by branch and period."""
    names, load, s_max = branch_loads(case, state)
    return beyond("branch load", names, case.horizon, load, (0.0, s_max), slack * s_max) if names else []


def current_violations(case: Case, state: NetworkState, slack: float) -> list[Violation]:
    """Currents beyond the limit of their branch by more than a share ``slack`` of that, by branch and period; a
    multi-phase case has no such limits."""
    if not case.is_balanced:
        return []
    feeder, settings = case.balanced_feeder, case.settings
    names = [feeder.branch_name(k) for k in range(len(feeder.parent))]
    i_max = np.sqrt(feeder.l_max)[:, None] * settings.base_kva / (settings.voltage_kv / np.sqrt(3))
    return beyond("current", names, case.horizon, state.i_a, (0.0, i_max), slack * i_max)


def network_violations(case: Case, found: NetworkState, tolerances: Tolerances) -> list[Violation]:
    """All that a state of the network oversteps."""
    settings = case.settings
    peak = np.inf if settings.substation_peak_kw is None else settings.substation_peak_kw
    least = -np.inf if settings.substation_export_kw is None else 0.0 - settings.substation_export_kw
    power, name = found.substation_p_kw[None], [settings.substation_bus or "the substation"]
    return [
        *voltage_violations(case, found, tolerances.voltage_pu),
        *load_violations(case, found, tolerances.current),
        *beyond("substation power", name, case.horizon, power, (least, peak), tolerances.power_kw),
        *current_violations(case, found, tolerances.current),
    ]


def device_violations(case: Case, schedule: Schedule, soc: Floats, tolerances: Tolerances) -> list[Violation]:
    """Stored energy beyond its limits; setpoints beyond what a device can give, which OpenDSS cuts to the ratings and
    says nothing; and energy of flexible loads that is not theirs. Each by more than a share of the device's size, and
    by more than the least that counts."""
    horizon, schedule = case.horizon, completed(case, schedule)

    def over(
        kind: str,
        units: Sequence[Device],
        value: Floats,
        low: ArrayLike,
        high: ArrayLike,
        slack: ArrayLike | None = None,
    ) -> list[Violation]:
        if slack is None:
            slack = np.maximum(tolerances.current * column(units, "s_rated_kva"), tolerances.device_kw)
        return beyond(kind, [unit.label for unit in units], horizon, value, (low, high), slack)

    units, told = case.batteries, schedule.batteries
    charge, discharge, p_rated = told["charge_kw"], told["discharge_kw"], column(units, "p_rated_kw")
    s, initial = np.hypot(discharge - charge, told["q_kvar"]), column(units, "soc_initial")
    of_soc = np.maximum(tolerances.soc, tolerances.energy_kwh / column(units, "energy_kwh"))
    stored = over("SOC", units, soc, column(units, "soc_min"), column(units, "soc_max"), of_soc)
    stored += over("terminal SOC", units, soc[:, -1:], initial, initial, of_soc)
    of_batteries = over("rating", units, charge, 0.0, p_rated) + over("rating", units, discharge, 0.0, p_rated)
    of_batteries += over("rating", units, s, 0.0, column(units, "s_rated_kva"))
    of_inverters: list[Violation] = []
    kinds: list[tuple[Sequence[PV | Wind], Mapping[str, Floats]]] = [(case.pv, schedule.pv), (case.wind, schedule.wind)]
    for inverters, weather in kinds:
        p = weather["p_kw"]
        most = np.array([horizon.idle(unit) for unit in inverters]).reshape(p.shape)
        least = np.where(column(inverters, "curtailable"), 0.0, most)
        of_inverters += over("rating", inverters, p, least, most)
        of_inverters += over("rating", inverters, np.hypot(p, weather["q_kvar"]), 0.0, column(inverters, "s_rated_kva"))
    loads, p = case.flexible_loads, schedule.flexible_loads["p_kw"]
    nominal = np.array([load.p_kw * horizon.profile(load) for load in loads]).reshape(p.shape)
    low, high = (1 - column(loads, "down")) * nominal, (1 + column(loads, "up")) * nominal
    drawn, due = (horizon.dt * power.sum(axis=1, keepdims=True) for power in (p, nominal))
    of_energy = np.maximum(tolerances.soc * due, tolerances.energy_kwh)
    of_loads = over("rating", loads, p, low, high) + over("energy", loads, drawn, due, due, of_energy)
    return stored + of_inverters + of_batteries + of_loads
