"""The verdict on a schedule: replayed in OpenDSS, compared with what the optimizer expects and with every limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.case import Case
from tieflow.common.inputs.devices import column
from tieflow.common.inputs.objective import energy
from tieflow.common.replay import replay
from tieflow.common.results.result import Check, Tolerances, Violation
from tieflow.common.results.schedule import NetworkState, Schedule
from tieflow.common.results.violations import device_violations, network_violations, overstepped

BALANCED = Tolerances(energy_kwh=5e-4, device_kw=5e-4)
MULTIPHASE = replace(BALANCED, voltage_pu=1e-4, power_kw=0.5)
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
    replayed = replay(case, schedule)
    found, stored = replayed.state, replayed.battery_energy_kwh
    solved = ~np.isin(case.horizon.hour, replayed.failed_hours)
    capacity = column(case.batteries, "energy_kwh")
    soc = stored / capacity
    # So one tolerance holds for batteries of any size.
    size = np.maximum(capacity, tolerances.energy_kwh / tolerances.soc)

    def error(one: Floats, other: Floats) -> float:
        return float(np.max(np.abs(one - other)[..., solved], initial=0.0)) if solved.any() else np.nan

    errors = {
        "max_voltage_error_pu": error(found.v_pu, state.v_pu),
        "max_substation_error_kw": error(found.substation_p_kw, state.substation_p_kw),
        "max_substation_error_kvar": error(found.substation_q_kvar, state.substation_q_kvar),
        "max_loss_error_kw": error(found.losses_kw, state.losses_kw),
        "max_soc_error": error(stored / size, schedule.batteries["energy_kwh"] / size) if size.size else 0.0,
    }
    allowed = [tolerances.voltage_pu, *[tolerances.power_kw] * 3, tolerances.soc]
    violations = network_violations(case, found, tolerances) + device_violations(case, schedule, soc, tolerances)
    # Written so that NaN does not pass.
    agrees = all(value <= limit for value, limit in zip(errors.values(), allowed, strict=True))
    return Check(
        passed=agrees and not _unexpected(case, state, violations) and not replayed.failed_hours,
        tolerances=tolerances,
        **errors,
        violations=tuple(violations),
        cost=float(energy(case.horizon, found.substation_p_kw, case.settings.export_price_per_kwh)),
        state=found,
        battery_energy_kwh=stored,
        failed_hours=replayed.failed_hours,
    )


def _unexpected(case: Case, state: NetworkState, violations: Sequence[Violation]) -> list[Violation]:
    """Violations that the optimizer does not expect itself: its result does not list them as overstepped."""
    if case.settings.hard_limits:
        return list(violations)
    known = {(violation.kind, violation.element, violation.hour) for violation in overstepped(case, state)}
    return [violation for violation in violations if (violation.kind, violation.element, violation.hour) not in known]
