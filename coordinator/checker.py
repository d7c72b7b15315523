"""The verdict on a schedule: replayed in OpenDSS, compared with what the optimizer expects and with every limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from common.case import Case
from common.devices import PV, Wind
from common.feeder import Floats
from common.objective import energy
from common.result import Check, Tolerances, Violation
from common.schedule import NetworkState, Schedule
from common.violations import beyond, current_violations, load_violations, voltage_violations

if TYPE_CHECKING:
    from common.opendss import Replay

BALANCED, MULTIPHASE = Tolerances(), Tolerances(voltage_pu=1e-4, power_kw=0.5)
"""multi-phase feeders are larger, and their model is exact only where its corrections have settled"""


def check(case: Case, schedule: Schedule, state: NetworkState, tolerances: Tolerances | None = None) -> Check:
    """Replay ``schedule`` in OpenDSS and compare with the optimizer's ``state`` and the case's limits.

    It passes when every hour solves, no difference exceeds its tolerance and no limit is overstepped by more than
    that, but for limits of voltages and branches of a multi-phase feeder that the optimizer's own state says it cannot
    keep. Differences leave failed hours out, NaN if all hours failed; the cost is NaN if any did. Raises what the
    replay raises.
    """
    if tolerances is None:
        tolerances = BALANCED if case.is_balanced else MULTIPHASE
    replayed = _replay(case, schedule)
    found, stored = replayed.state, replayed.battery_energy_kwh
    solved = ~np.isin(case.horizon.hour, replayed.failed_hours)
    capacity = np.array([battery.energy_kwh for battery in case.batteries])[:, None]

    def error(one: Floats, other: Floats) -> float:
        return float(np.max(np.abs(one - other)[..., solved], initial=0.0)) if solved.any() else np.nan

    errors = {
        "max_voltage_error_pu": error(found.v_pu, state.v_pu),
        "max_substation_error_kw": error(found.substation_p_kw, state.substation_p_kw),
        "max_substation_error_kvar": error(found.substation_q_kvar, state.substation_q_kvar),
        "max_loss_error_kw": error(found.losses_kw, state.losses_kw),
        "max_soc_error": error(stored / capacity, schedule.batteries["energy_kwh"] / capacity)
        if capacity.size
        else 0.0,
    }
    allowed = [tolerances.voltage_pu, *[tolerances.power_kw] * 3, tolerances.soc]
    violations = _network_violations(case, found, tolerances) + _battery_violations(case, stored / capacity, tolerances)
    violations += _rating_violations(case, schedule, tolerances)
    # Written so that NaN does not pass.
    agrees = all(value <= limit for value, limit in zip(errors.values(), allowed, strict=True))
    return Check(
        passed=agrees and not _unexpected(case, state, violations, tolerances) and not replayed.failed_hours,
        tolerances=tolerances,
        **errors,
        violations=tuple(violations),
        cost=float(energy(case.horizon, found.substation_p_kw, case.settings.export_price_per_kwh)),
        state=found,
        battery_energy_kwh=stored,
        failed_hours=replayed.failed_hours,
    )


def _replay(case: Case, schedule: Schedule) -> Replay:
    # Loads OpenDSS.
    if case.is_balanced:
        from common.opendss import replay

        return replay(case, schedule)
    from common.multiphase_opendss import replay as replay_multiphase

    return replay_multiphase(case, schedule)


def _unexpected(
    case: Case, state: NetworkState, violations: Sequence[Violation], tolerances: Tolerances
) -> list[Violation]:
    """Violations that the optimizer does not expect itself."""
    if case.is_balanced:
        return list(violations)
    expected = voltage_violations(case, state, 0.0) + load_violations(case, state, 0.0)
    known = {(violation.kind, violation.element, violation.hour) for violation in expected}
    return [violation for violation in violations if (violation.kind, violation.element, violation.hour) not in known]


def _network_violations(case: Case, found: NetworkState, tolerances: Tolerances) -> list[Violation]:
    settings, hours = case.settings, case.horizon.hour
    peak = np.inf if settings.substation_peak_kw is None else settings.substation_peak_kw
    least = -np.inf if settings.substation_export_kw is None else 0.0 - settings.substation_export_kw
    power, name = found.substation_p_kw[None], [settings.substation_bus or "the substation"]
    return [
        *voltage_violations(case, found, tolerances.voltage_pu),
        *load_violations(case, found, tolerances.current),
        *beyond("substation power", name, hours, power, (least, peak), tolerances.power_kw),
        *current_violations(case, found, tolerances.current),
    ]


def _battery_violations(case: Case, soc: Floats, tolerances: Tolerances) -> list[Violation]:
    names, hours = [battery.place for battery in case.batteries], case.horizon.hour
    low, high, initial = (
        np.array([getattr(battery, field) for battery in case.batteries])[:, None]
        for field in ("soc_min", "soc_max", "soc_initial")
    )
    return [
        *beyond("SOC", names, hours, soc, (low, high), tolerances.soc),
        *beyond("terminal SOC", names, hours[-1:], soc[:, -1:], (initial, initial), tolerances.soc),
    ]


def _rating_violations(case: Case, schedule: Schedule, tolerances: Tolerances) -> list[Violation]:
    """Setpoints beyond what a device can give. OpenDSS cuts them to the ratings and says nothing."""
    hours, slack = case.horizon.hour, tolerances.power_kw
    p_rated, s_rated = (
        np.array([getattr(b, f) for b in case.batteries])[:, None] for f in ("p_rated_kw", "s_rated_kva")
    )
    battery = schedule.batteries
    found = []
    kinds: list[tuple[Sequence[PV | Wind], Mapping[str, Floats]]] = [(case.pv, schedule.pv), (case.wind, schedule.wind)]
    for units, told in kinds:
        if not units:
            continue
        names, p = [unit.place for unit in units], told["p_kw"]
        most = np.array([case.horizon.idle(unit) for unit in units])
        least = np.where([[unit.curtailable] for unit in units], 0.0, most)
        s = np.array([[unit.s_rated_kva] for unit in units])
        found += beyond("rating", names, hours, p, (least, most), slack)
        found += beyond("rating", names, hours, np.hypot(p, told["q_kvar"]), (0.0, s), slack)
    if case.batteries:
        names = [unit.place for unit in case.batteries]
        net = battery["discharge_kw"] - battery["charge_kw"]
        for name in ("charge_kw", "discharge_kw"):
            found += beyond("rating", names, hours, battery[name], (0.0, p_rated), slack)
        found += beyond("rating", names, hours, np.hypot(net, battery["q_kvar"]), (0.0, s_rated), slack)
    return found + _flexible_violations(case, schedule, tolerances)


def _flexible_violations(case: Case, schedule: Schedule, tolerances: Tolerances) -> list[Violation]:
    loads, hours, slack = case.flexible_loads, case.horizon.hour, tolerances.power_kw
    if not loads:
        return []
    names, p = [load.place for load in loads], schedule.flexible_loads["p_kw"]
    nominal = np.array([load.p_kw * case.horizon.profile(load) for load in loads])
    low, high = (np.array([[1 - load.down] for load in loads]), np.array([[1 + load.up] for load in loads]))
    energy, due = (case.horizon.dt * power.sum(axis=1, keepdims=True) for power in (p, nominal))
    return [
        *beyond("rating", names, hours, p, (low * nominal, high * nominal), slack),
        *beyond("energy", names, hours[-1:], energy, (due, due), slack * case.horizon.dt),
    ]
