"""The verdict on a schedule: replayed in OpenDSS, compared with what the optimizer expects and with every limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from common.case import Case
from common.feeder import Floats
from common.result import Check, Tolerances, Violation
from common.schedule import NetworkState, Schedule

DEFAULT_TOLERANCES = Tolerances()
UNITS = {
    "voltage": "pu",
    "current": "A",
    "substation power": "kW",
    "SOC": "pu",
    "terminal SOC": "pu",
    "rating": "kW or kVA",
}
"""of a violation's value and limit, by its kind"""


def check(case: Case, schedule: Schedule, state: NetworkState, tolerances: Tolerances = DEFAULT_TOLERANCES) -> Check:
    """Replay ``schedule`` in OpenDSS and compare with the optimizer's ``state`` and the case's limits.

    It passes when every hour solves, no difference exceeds its tolerance and no limit is overstepped by more than
    that. Differences leave failed hours out, NaN if all hours failed; the cost is NaN if any did. Raises what
    ``common.opendss.replay`` raises.
    """
    from common.opendss import replay

    replayed = replay(case, schedule)
    found, energy = replayed.state, replayed.battery_energy_kwh
    solved = ~np.isin(case.horizon.hour, replayed.failed_hours)
    capacity = np.array([battery.energy_kwh for battery in case.batteries])[:, None]

    def error(one: Floats, other: Floats) -> float:
        return float(np.max(np.abs(one - other)[..., solved], initial=0.0)) if solved.any() else np.nan

    errors = {
        "max_voltage_error_pu": error(found.v_pu, state.v_pu),
        "max_substation_error_kw": error(found.substation_p_kw, state.substation_p_kw),
        "max_substation_error_kvar": error(found.substation_q_kvar, state.substation_q_kvar),
        "max_loss_error_kw": error(found.losses_kw, state.losses_kw),
        "max_soc_error": error(energy / capacity, schedule.batteries["energy_kwh"] / capacity)
        if capacity.size
        else 0.0,
    }
    allowed = [tolerances.voltage_pu, *[tolerances.power_kw] * 3, tolerances.soc]
    violations = _network_violations(case, found, tolerances) + _battery_violations(case, energy / capacity, tolerances)
    violations += _rating_violations(case, schedule, tolerances)
    # Written so that NaN does not pass.
    agrees = all(value <= limit for value, limit in zip(errors.values(), allowed, strict=True))
    return Check(
        passed=agrees and not violations and not replayed.failed_hours,
        tolerances=tolerances,
        **errors,
        violations=tuple(violations),
        cost=float(case.horizon.price @ found.substation_p_kw * case.horizon.dt),
        state=found,
        battery_energy_kwh=energy,
        failed_hours=replayed.failed_hours,
    )


def _network_violations(case: Case, found: NetworkState, tolerances: Tolerances) -> list[Violation]:
    feeder, settings, hours = case.feeder, case.settings, case.horizon.hour
    branches = [feeder.branch_name(k) for k in range(len(feeder.parent))]
    i_max = np.sqrt(feeder.l_max)[:, None] * settings.base_kva / (settings.voltage_kv / np.sqrt(3))
    peak = np.inf if settings.substation_peak_kw is None else settings.substation_peak_kw
    v_limits, v, power = (settings.v_min_pu, settings.v_max_pu), found.v_pu[1:], found.substation_p_kw[None]
    return [
        *_beyond("voltage", feeder.buses[1:], hours, v, v_limits, tolerances.voltage_pu),
        *_beyond("current", branches, hours, found.i_a, (0.0, i_max), tolerances.current * i_max),
        *_beyond("substation power", feeder.buses[:1], hours, power, (0.0, peak), tolerances.power_kw),
    ]


def _battery_violations(case: Case, soc: Floats, tolerances: Tolerances) -> list[Violation]:
    names, hours = [battery.bus for battery in case.batteries], case.horizon.hour
    low, high, initial = (
        np.array([getattr(battery, field) for battery in case.batteries])[:, None]
        for field in ("soc_min", "soc_max", "soc_initial")
    )
    return [
        *_beyond("SOC", names, hours, soc, (low, high), tolerances.soc),
        *_beyond("terminal SOC", names, hours[-1:], soc[:, -1:], (initial, initial), tolerances.soc),
    ]


def _rating_violations(case: Case, schedule: Schedule, tolerances: Tolerances) -> list[Violation]:
    """Setpoints beyond what a device can give. OpenDSS cuts them to the ratings and says nothing."""
    hours, slack = case.horizon.hour, tolerances.power_kw
    pv_p = np.array([pv.p_rated_kw for pv in case.pv])[:, None] * case.horizon.pv
    pv_s = np.array([pv.s_rated_kva for pv in case.pv])[:, None]
    p_rated, s_rated = (
        np.array([getattr(b, f) for b in case.batteries])[:, None] for f in ("p_rated_kw", "s_rated_kva")
    )
    battery = schedule.batteries
    found = []
    if case.pv:
        names = [pv.bus for pv in case.pv]
        found += _beyond("rating", names, hours, np.hypot(pv_p, schedule.pv["q_kvar"]), (0.0, pv_s), slack)
    if case.batteries:
        names = [unit.bus for unit in case.batteries]
        net = battery["discharge_kw"] - battery["charge_kw"]
        for name in ("charge_kw", "discharge_kw"):
            found += _beyond("rating", names, hours, battery[name], (0.0, p_rated), slack)
        found += _beyond("rating", names, hours, np.hypot(net, battery["q_kvar"]), (0.0, s_rated), slack)
    return found


def _beyond(
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
    beyond = np.maximum(value - high, low - value) > slack
    return [
        Violation(kind, names[i], hours[t], float(value[i, t]), float(limit[i, t]), UNITS[kind])
        for i, t in np.argwhere(beyond)
    ]
