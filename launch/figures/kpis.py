"""Key performance indicators of a stored run, from OpenDSS's replay where there is one; docs/kpis.md defines them.

Nothing is drawn or printed here: ``rows`` tells the indicators as text, and ``lines`` as a table for a spreadsheet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.case import Case
from tieflow.common.inputs.devices import Device
from tieflow.common.results.result import Result
from tieflow.common.results.schedule import NetworkState, Schedule, completed
from tieflow.common.results.terms import objective_terms, objective_value
from tieflow.common.results.violations import branch_loads, overstepped

V_REFERENCE_PU = 1.0
SUBSTATION = "substation"
SAME_DIGITS = 6
"""voltages that differ beyond these count as equal when the first of the lowest or highest is named"""
OPENDSS, OPTIMIZER = "OpenDSS replay", "optimizer"


@dataclass(frozen=True)
class Extreme:
    """The least or greatest of a quantity, and where and when it occurs first."""

    value: float
    place: str
    """bus, node (``bus.phase``), or what the quantity belongs to"""
    hour: int
    """row of profiles.csv"""
    time: str
    """of day at which that row begins, HH:MM"""


def _told(label: str, unit: str, digits: int) -> Any:
    return field(metadata={"label": label, "unit": unit, "digits": digits})


@dataclass(frozen=True)
class Kpis:
    """Over the horizon; powers and energies of a balanced case per phase. None: there is nothing to measure."""

    energy_cost: float = _told("Energy cost", "$", 2)
    substation_energy_kwh: float = _told("Substation energy", "kWh", 1)
    peak_substation_kw: Extreme = _told("Peak substation power", "kW", 1)
    load_factor: float | None = _told("Load factor", "", 3)
    losses_kwh: float = _told("Losses", "kWh", 2)
    line_losses_kwh: float | None = _told("Line losses", "kWh", 2)
    transformer_losses_kwh: float | None = _told("Transformer losses", "kWh", 2)
    peak_losses_kw: float = _told("Peak losses", "kW", 2)
    system_efficiency_percent: float | None = _told("System efficiency", "%", 2)
    lowest_voltage_pu: Extreme = _told("Lowest voltage", "pu", 4)
    highest_voltage_pu: Extreme = _told("Highest voltage", "pu", 4)
    max_voltage_deviation_percent: float = _told("Largest voltage deviation", "%", 2)
    mean_voltage_deviation_percent: float = _told("Mean voltage deviation", "%", 2)
    voltage_performance_index: float = _told("Voltage performance index", "", 4)
    pv_utilization_percent: float | None = _told("PV utilization", "%", 2)
    wind_utilization_percent: float | None = _told("Wind utilization", "%", 2)
    battery_cycles: float | None = _told("Battery cycles", "", 3)
    load_flexibility_percent: float | None = _told("Load flexibility", "%", 2)
    largest_branch_load_percent: Extreme | None = _told("Largest branch load", "% of its limit", 2)
    violations: int = _told("Limits violated", "", 0)
    objective: float | None = _told("Objective", "$", 4)
    """this and the terms below where the case has weights"""
    voltage_deviation: float | None = _told("Voltage deviation term", "", 4)
    battery_use_kwh: float | None = _told("Battery use", "kWh", 1)
    flexibility_kwh: float | None = _told("Flexible energy moved", "kWh", 1)


@dataclass(frozen=True)
class KpiReport:
    """The indicators of a run and where they come from."""

    source: str
    """``OpenDSS replay``, or ``optimizer`` with the reason why"""
    per_phase: bool
    """whether powers and energies are those of one phase"""
    kpis: Kpis
    optimizer: Kpis | None
    """by the optimizer's own state, beside those of the replay"""


@dataclass(frozen=True)
class Row:
    """An indicator as text."""

    name: str
    label: str
    value: str
    optimizer: str
    """empty where the optimizer's does not differ from ``value``, or there is no other"""


def shown_state(result: Result) -> tuple[NetworkState, str]:
    """The state that indicators and pictures show, and its source: OpenDSS's, unless that is missing or not whole."""
    check = result.check
    if check is None:
        return result.state, f"{OPTIMIZER} (not checked in OpenDSS)"
    if check.failed_hours:
        times = ", ".join(map(result.case.horizon.time, check.failed_hours))
        return result.state, f"{OPTIMIZER} (OpenDSS found no solution at {times})"
    return check.state, OPENDSS


def kpi_report(result: Result) -> KpiReport:
    """The indicators of a run."""
    case, schedule = result.case, result.schedule
    state, source = shown_state(result)
    own = len(overstepped(case, result.state))
    if source != OPENDSS or result.check is None:
        return KpiReport(source, case.is_balanced, kpis(case, schedule, state, own), None)
    found = kpis(case, schedule, state, len(result.check.violations))
    return KpiReport(source, case.is_balanced, found, kpis(case, schedule, result.state, own))


def kpis(case: Case, schedule: Schedule, state: NetworkState, violations: int) -> Kpis:
    """The indicators of a schedule whose network is in ``state``."""
    dt, power = case.horizon.dt, state.substation_p_kw
    places, v = limited_voltages(case, state)
    deviation = np.abs(v - V_REFERENCE_PU) / V_REFERENCE_PU
    (pv, pv_available), (wind, wind_available) = (weather_power(case, schedule, kind) for kind in ("pv", "wind"))
    battery = schedule.batteries["discharge_kw"] - schedule.batteries["charge_kw"]
    produced = float(power.sum() + pv.sum() + wind.sum())
    # What is neither stored nor lost is drawn by the loads, whatever law they follow.
    drawn = produced + float((battery.sum(axis=0) - state.losses_kw).sum())
    capacity = sum(unit.energy_kwh for unit in case.batteries)
    demand, nominal = flexible_power(case, schedule)
    peak = int(power.argmax())
    terms = objective_terms(case, schedule, state)
    is_weighted = case.settings.weights is not None

    def extreme(at: int) -> Extreme:
        i, t = np.unravel_index(at, v.shape)
        return Extreme(float(v[i, t]), places[i], *_when(case, t))

    return Kpis(
        energy_cost=terms["energy"],
        substation_energy_kwh=float(power.sum()) * dt,
        peak_substation_kw=Extreme(float(power[peak]), SUBSTATION, *_when(case, peak)),
        load_factor=_ratio(float(power.mean()), float(power.max())),
        losses_kwh=terms["losses"],
        line_losses_kwh=_energy(state.line_losses_kw, dt),
        transformer_losses_kwh=_energy(state.transformer_losses_kw, dt),
        peak_losses_kw=float(state.losses_kw.max()),
        system_efficiency_percent=_percent(drawn, produced),
        lowest_voltage_pu=extreme(int(np.round(v, SAME_DIGITS).argmin())),
        highest_voltage_pu=extreme(int(np.round(v, SAME_DIGITS).argmax())),
        max_voltage_deviation_percent=100 * float(deviation.max()),
        mean_voltage_deviation_percent=100 * float(deviation.mean()),
        voltage_performance_index=float((deviation**2).sum()) / len(power),
        pv_utilization_percent=_percent(float(pv.sum()), float(pv_available.sum())),
        wind_utilization_percent=_percent(float(wind.sum()), float(wind_available.sum())),
        battery_cycles=_ratio(float(np.abs(battery).sum()) * dt, 2 * capacity),
        load_flexibility_percent=_percent(float(np.abs(demand - nominal).sum()), float(nominal.sum())),
        largest_branch_load_percent=_largest_load(case, state),
        violations=violations,
        objective=objective_value(case, schedule, state) if is_weighted else None,
        voltage_deviation=terms["voltage_deviation"] if is_weighted else None,
        battery_use_kwh=terms["battery_use"] if is_weighted and case.batteries else None,
        flexibility_kwh=terms["flexibility"] if is_weighted and case.flexible_loads else None,
    )


def _largest_load(case: Case, state: NetworkState) -> Extreme | None:
    """Of a branch over its limit, %."""
    names, load, s_max = branch_loads(case, state)
    if not names:
        return None
    share = 100 * load / s_max
    k, t = np.unravel_index(int(share.argmax()), share.shape)
    return Extreme(float(share[k, t]), names[k], *_when(case, t))


def _when(case: Case, t: np.intp | int) -> tuple[int, str]:
    """Row and time of day of a period."""
    return case.horizon.hour[t], case.horizon.times[t]


def limited_voltages(case: Case, state: NetworkState) -> tuple[list[str], Floats]:
    """Names and voltages, (place, T) pu, of the buses (balanced) or nodes (multi-phase) where limits hold."""
    places = case.feeder.places
    chosen = places.looked_at
    return [name for name, is_chosen in zip(places.names, chosen, strict=True) if is_chosen], state.v_pu[chosen]


def weather_power(case: Case, schedule: Schedule, kind: str) -> tuple[Floats, Floats]:
    """Real power that PV systems (``pv``) or wind turbines (``wind``) give and could give, (unit, T) kW each."""
    units = getattr(case, kind)
    return getattr(completed(case, schedule), kind)["p_kw"], _left_alone(case, units)


def flexible_power(case: Case, schedule: Schedule) -> tuple[Floats, Floats]:
    """What flexible loads draw and would draw if left alone, (unit, T) kW each."""
    return completed(case, schedule).flexible_loads["p_kw"], -_left_alone(case, case.flexible_loads)


def _left_alone(case: Case, units: Sequence[Device]) -> Floats:
    power = [case.horizon.idle(unit).real for unit in units]
    return np.array(power, float).reshape(len(units), len(case.horizon))


def rows(report: KpiReport) -> Iterator[Row]:
    """The indicators that there are, as text with units."""
    for item in fields(Kpis):
        value = getattr(report.kpis, item.name)
        if value is None:
            continue
        text = _text(value, item.metadata["unit"], item.metadata["digits"])
        other = None if report.optimizer is None else getattr(report.optimizer, item.name)
        own = "" if other is None else _text(other, item.metadata["unit"], item.metadata["digits"])
        yield Row(item.name, item.metadata["label"], text, "" if _alone(own) == _alone(text) else own)


def lines(report: KpiReport) -> Iterator[tuple[object, ...]]:
    """A table for a spreadsheet, its header first; full precision, the same rows whatever the run has."""
    yield "name", "value", "unit", "place", "hour", "time", "optimizer", "source"
    for item in fields(Kpis):
        value, other = getattr(report.kpis, item.name), getattr(report.optimizer, item.name, None)
        at = (value.place, value.hour, value.time) if isinstance(value, Extreme) else ("", "", "")
        yield item.name, _number(value), item.metadata["unit"], *at, _number(other), report.source


def _number(value: Any) -> object:
    return value.value if isinstance(value, Extreme) else "" if value is None else value


def _text(value: Any, unit: str, digits: int) -> str:
    number = value.value if isinstance(value, Extreme) else value
    # Adding zero turns -0.0, as in "-0.00 kWh", into 0.0.
    text = f"{round(number, digits) + 0.0:,.{digits}f} {unit}".rstrip()
    if not isinstance(value, Extreme):
        return text
    where = "" if value.place == SUBSTATION else f" at {value.place}"
    return f"{text}{where} at {value.time}"


def _alone(text: str) -> str:
    """The number and its unit, without place and time: of two equal ones noise decides which is the first."""
    return text.partition(" at ")[0]


def _energy(power: Floats | None, dt: float) -> float | None:
    return None if power is None else float(power.sum()) * dt


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _percent(part: float, whole: float) -> float | None:
    ratio = _ratio(part, whole)
    return None if ratio is None else 100 * ratio
