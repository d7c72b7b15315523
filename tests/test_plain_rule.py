"""The plain rule: a feasible schedule that nobody optimized, and a run of it that OpenDSS replays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieflow.common.case import Case, read_case
from tieflow.common.inputs.devices import Battery, FlexibleLoad, Wind
from tieflow.launch.figures.summary import exit_code
from tieflow.launch.runs.plain_rule import PLAIN_RULE, Rule, battery_power, plain_schedule, run_rule

SMALL_DAY = read_case("ieee123", {"periods": 24}, with_devices=False)


def battery(**changes: float | str) -> Battery:
    given = {"bus": "5", "p_rated_kw": 100, "s_rated_kva": 120, "energy_kwh": 400}
    return Battery.model_validate(given | changes)


def test_a_battery_is_filled_and_emptied_again_at_constant_power() -> None:
    unit = battery(eta_charge=0.9, eta_discharge=0.8, soc_initial=0.5, soc_max=0.9)
    charge, discharge, energy = battery_power(SMALL_DAY, unit, Rule(charge_hours=(10, 13), discharge_hours=(17, 18)))
    # 0.4 of 400 kWh in four hours, and back in two.
    assert charge[10:14] == pytest.approx(160 / (0.9 * 4))
    assert discharge[17:19] == pytest.approx(0.8 * 160 / 2)
    assert np.count_nonzero(charge) == 4
    assert np.count_nonzero(discharge) == 2
    assert (energy[9], energy[13], energy[18]) == pytest.approx((200, 360, 200))


def test_a_battery_that_begins_empty_is_filled_and_emptied_too() -> None:
    # Six sixths less five fifths come to less than nothing.
    unit = battery(soc_min=0.2, soc_initial=0.2)
    charge, discharge, _ = battery_power(SMALL_DAY, unit, Rule(charge_hours=(10, 15), discharge_hours=(17, 21)))
    assert charge[10:16] == pytest.approx(0.75 * 400 / (0.95 * 6))
    assert discharge[17:22] == pytest.approx(0.95 * 0.75 * 400 / 5)


def test_the_rated_power_limits_what_a_battery_moves() -> None:
    unit = battery(p_rated_kw=10, eta_discharge=0.5)
    charge, discharge, _ = battery_power(SMALL_DAY, unit, Rule(charge_hours=(8, 15), discharge_hours=(20, 20)))
    # Discharging 10 kW for an hour takes 20 kWh.
    assert discharge.max() == pytest.approx(10)
    assert charge.max() == pytest.approx(20 / (0.95 * 8))


@given(
    hours=st.permutations(range(24)).map(lambda rows: sorted(rows[:4])),
    first=st.booleans(),
    eta=st.tuples(st.floats(0.5, 1), st.floats(0.5, 1)),
    soc=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)).map(sorted),
    power=st.floats(1, 500),
)
def test_whatever_the_battery_and_the_hours_it_stays_within_limits_and_ends_as_it_began(
    hours: list[int], first: bool, eta: tuple[float, float], soc: list[float], power: float
) -> None:
    early, late = (hours[0], hours[1]), (hours[2], hours[3])
    rule = Rule(charge_hours=early if first else late, discharge_hours=late if first else early)
    low, initial, high = soc
    unit = battery(p_rated_kw=power, s_rated_kva=power, soc_min=low, soc_initial=initial, soc_max=high)
    unit = unit.model_copy(update={"eta_charge": eta[0], "eta_discharge": eta[1]})
    charge, discharge, energy = battery_power(SMALL_DAY, unit, rule)
    before = np.concatenate([[initial * 400], energy[:-1]])
    assert energy - before == pytest.approx(eta[0] * charge - discharge / eta[1], abs=1e-9)
    assert energy[-1] == pytest.approx(initial * 400)
    assert (energy >= low * 400 - 1e-9).all() and (energy <= high * 400 + 1e-9).all()
    assert max(charge.max(), discharge.max()) <= power * (1 + 1e-12)


def test_a_span_may_go_over_midnight() -> None:
    charge, discharge, energy = battery_power(
        SMALL_DAY, battery(), Rule(charge_hours=(22, 3), discharge_hours=(17, 19))
    )
    assert np.flatnonzero(charge).tolist() == [0, 1, 2, 3, 22, 23]
    assert energy[-1] == pytest.approx(250)


def test_batteries_rest_where_the_horizon_lacks_the_hours_and_the_run_says_so(small: Path) -> None:
    result = run_rule(read_case(str(small)), Rule(charge_hours=(6, 11), discharge_hours=("18:00", "24:00")))
    assert not result.schedule.batteries["charge_kw"].any()
    assert result.notes == ("batteries rest: the horizon, 06:00 to 18:00, has none of discharge_hours",)


def with_all_kinds(case: Case) -> Case:
    horizon = replace(case.horizon, wind=np.full(len(case.horizon), 0.5))
    pv = case.pv[0].model_copy(update={"curtailable": True, "s_rated_kva": 0.8 * case.pv[0].p_rated_kw})
    return replace(
        case,
        horizon=horizon,
        pv=(pv, *case.pv[1:]),
        wind=(Wind(bus=case.pv[0].bus, p_rated_kw=20, s_rated_kva=24),),
        flexible_loads=(FlexibleLoad(bus=case.pv[0].bus, p_kw=10, q_kvar=3, down=0.5, up=0.5),),
    )


def test_weather_gives_all_it_can_at_unity_power_factor_and_loads_follow_their_profiles(small: Path) -> None:
    case = with_all_kinds(read_case(str(small)))
    schedule = plain_schedule(case, Rule(charge_hours=(6, 11), discharge_hours=(12, 17)))
    # The panels could give 30 kW, their inverter no more than 24.
    assert schedule.pv["p_kw"].tolist() == [[24.0, 15.0]]
    assert schedule.wind["p_kw"].tolist() == [[10.0, 10.0]]
    assert schedule.flexible_loads["p_kw"].tolist() == [[8.0, 10.0]]
    assert not (schedule.pv["q_kvar"].any() or schedule.wind["q_kvar"].any() or schedule.batteries["q_kvar"].any())


@pytest.mark.parametrize("name", ["small", "ieee13"])
def test_the_run_is_replayed_in_opendss_and_has_no_rounds(name: str, small: Path) -> None:
    case = with_all_kinds(read_case(str(small) if name == "small" else name, {"periods": 2}))
    first, second = case.horizon.times
    result = run_rule(case, Rule(charge_hours=(first, second), discharge_hours=(second, first)))
    assert result.check is not None and result.check.passed
    assert not [v for v in result.check.violations if v.kind != "voltage"]
    assert result.check.max_voltage_error_pu < 1e-6
    assert result.cost == pytest.approx(result.check.cost, rel=1e-6)
    assert (result.method, len(result.history.cost), exit_code(result)) == (PLAIN_RULE, 0, 0)
