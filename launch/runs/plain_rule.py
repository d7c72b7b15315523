"""The plain rule that a study's optimized schedules are measured against: what devices do that nobody optimizes.

PV and wind give all they can at unity power factor, flexible loads follow their profiles, batteries charge at constant
power in some hours and discharge at constant power in others. Nothing is solved but the power flow.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, model_validator

from tieflow.common.arrays import Bools, Floats
from tieflow.common.case import Case
from tieflow.common.inputs.clock import clock, hours_of
from tieflow.common.inputs.devices import PV, Battery, Wind
from tieflow.common.inputs.tables import Row
from tieflow.common.results.result import History, Result
from tieflow.common.results.schedule import Schedule
from tieflow.common.results.terms import objective_value
from tieflow.common.results.violations import overstepped
from tieflow.launch.runs.base_run import power_flow, with_bases
from tieflow.launch.runs.solve import checked, energy_cost, library_versions, now

PLAIN_RULE = "plain rule"


def _moment(value: Any) -> Any:
    if isinstance(value, str) and not hours_of(value)[0]:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 23:
        return value
    raise ValueError(f'must be an hour of the day, 0 to 23, or a time such as "19:15" (got {value!r}).')


Moment = Annotated[int | str, BeforeValidator(_moment)]
"""an hour of the day as a whole, or a time of day"""


class Rule(Row):
    """When batteries charge and discharge: from the first to the last of two hours of the day, both included, or from
    one time of day to another. A span whose end is not after its beginning goes over midnight."""

    charge_hours: tuple[Moment, Moment] = (10, 15)
    discharge_hours: tuple[Moment, Moment] = (17, 21)

    @model_validator(mode="after")
    def _consistent(self) -> Rule:
        minutes = np.arange(24 * 60) / 60
        both = minutes[_within(self.charge_hours, minutes) & _within(self.discharge_hours, minutes)]
        if len(both):
            raise ValueError(
                f"charge_hours and discharge_hours share {clock(both[0])}. Let one end before the other begins."
            )
        return self


def run_rule(case: Case, rule: Rule) -> Result:
    """The run of a case by the plain rule, replayed in OpenDSS, as a result without rounds.

    Its state is that of tieflow's own power flow. Raises SolverError where there is none, CaseError as ``with_bases``.
    """
    started, date = time.perf_counter(), now()
    case = with_bases(case)
    schedule = plain_schedule(case, rule)
    state, none = power_flow(case, schedule), np.zeros(0)
    result = Result(
        case=case,
        method=PLAIN_RULE,
        areas=("1",),
        tolerance_pu=0.0,
        converged=True,
        schedule=schedule,
        state=state,
        history=History((), none, none, none, none, none, none, np.zeros((0, 1)), np.zeros((0, 1))),
        cost=energy_cost(case, state),
        objective=objective_value(case, schedule, state),
        relaxation_gap_pu=0.0,
        lower_bound=None,
        max_mismatch_pu=0.0,
        max_change_pu=0.0,
        total_s=time.perf_counter() - started,
        ranks=1,
        check=None,
        versions=library_versions(),
        oversteps=() if case.settings.hard_limits else tuple(overstepped(case, state)),
        notes=tuple(_at_rest(case, rule)),
        date=date,
    )
    return checked(replace(result, total_s=time.perf_counter() - started))


def plain_schedule(case: Case, rule: Rule) -> Schedule:
    """What every device does by the rule. An inverter smaller than its panels gives its rating."""
    horizon, still = case.horizon, np.zeros((len(case.batteries), len(case.horizon)))
    charge, discharge, energy = still.copy(), still.copy(), still.copy()
    for i, battery in enumerate(case.batteries):
        charge[i], discharge[i], energy[i] = battery_power(case, battery, rule)

    def weather(units: tuple[PV, ...] | tuple[Wind, ...]) -> dict[str, Floats]:
        p = [np.minimum(horizon.idle(unit), unit.s_rated_kva) for unit in units]
        power = np.array(p, float).reshape(len(units), len(horizon))
        return {"p_kw": power, "q_kvar": np.zeros_like(power)}

    drawn = [-horizon.idle(load).real for load in case.flexible_loads]
    return Schedule(
        pv=weather(case.pv),
        batteries={"charge_kw": charge, "discharge_kw": discharge, "q_kvar": still, "energy_kwh": energy},
        flexible_loads={"p_kw": np.array(drawn, float).reshape(len(drawn), len(horizon))},
        wind=weather(case.wind),
    )


def battery_power(case: Case, battery: Battery, rule: Rule) -> tuple[Floats, Floats, Floats]:
    """(T,) charging and discharging power, kW, and stored energy at the ends of periods, kWh.

    The battery takes up E in n_c periods and gives it back in n_d, so it ends as full as it began:
    p_c = E / (eta_c n_c dt) and p_d = eta_d E / (n_d dt). E is the largest for which neither exceeds the rated power
    and the stored energy E_0 + E s(t) stays within its limits; s(t) rises by 1 / n_c in every period of charging and
    falls by 1 / n_d in every one of discharging. The battery rests when the horizon lacks periods of either.
    """
    dt = case.horizon.dt
    charging, discharging = _hours(case, rule.charge_hours), _hours(case, rule.discharge_hours)
    n_c, n_d = int(charging.sum()), int(discharging.sum())
    start = battery.soc_initial * battery.energy_kwh
    still: Floats = np.zeros(len(case.horizon))
    if not (n_c and n_d):
        return still, still, still + start
    # Rounded, for a sum that should end at zero may end below it.
    stored = np.cumsum(charging / n_c - discharging / n_d).round(12)
    rise, fall = max(0.0, float(stored.max())), max(0.0, -float(stored.min()))
    room = [
        battery.p_rated_kw * battery.eta_charge * n_c * dt,
        battery.p_rated_kw * n_d * dt / battery.eta_discharge,
        *([(battery.soc_max - battery.soc_initial) * battery.energy_kwh / rise] if rise else []),
        *([(battery.soc_initial - battery.soc_min) * battery.energy_kwh / fall] if fall else []),
    ]
    moved = min(room)
    charge = np.where(charging, moved / (battery.eta_charge * n_c * dt), 0.0)
    discharge = np.where(discharging, moved * battery.eta_discharge / (n_d * dt), 0.0)
    return charge, discharge, start + moved * stored


def _hours(case: Case, span: tuple[Moment, Moment]) -> Bools:
    """(T,) which periods of the horizon begin in a span."""
    return _within(span, case.horizon.edges[:-1])


def _within(span: tuple[Moment, Moment], hours: Floats) -> Bools:
    """Which hours since midnight are in a span."""
    first, last = span
    begin = hours_of(first)[1] if isinstance(first, str) else first
    end = hours_of(last)[1] if isinstance(last, str) else last + 1
    after, before = hours >= begin, hours < end
    return after & before if begin < end else after | before


def _at_rest(case: Case, rule: Rule) -> list[str]:
    lacking = [
        name for name in ("charge_hours", "discharge_hours") if not _hours(case, getattr(rule, name)).any()
    ] * bool(case.batteries)
    return [f"batteries rest: the horizon, {case.horizon.extent}, has none of {name}" for name in lacking]
