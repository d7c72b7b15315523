"""What the check accepts, and each way in which it must not pass. The replays are real."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from device_feeders import feeder

from tieflow.common.case import Case, Horizon
from tieflow.common.feeder.balanced import BranchRow, BusRow
from tieflow.common.inputs.devices import PV, Battery, FlexibleLoad
from tieflow.common.inputs.settings import Settings
from tieflow.common.replay.balanced import replay
from tieflow.common.replay.multiphase import replay as replay_multiphase
from tieflow.common.results.result import Check, Tolerances
from tieflow.common.results.schedule import NetworkState, Schedule, idle_schedule
from tieflow.common.results.violations import device_violations
from tieflow.coordinator.checker import BALANCED, MULTIPHASE, check

HOURS = (10, 11, 12, 13)


def make_case(**changes: Any) -> Case:
    """Substation s, then a, then b with PV and a battery; ``changes`` are settings."""
    return Case(
        name="small",
        settings=Settings.model_validate(
            {"voltage_kv": 4.16, "substation_bus": "s", "substation_v_pu": 1.0, "periods": 4} | changes
        ),
        buses=(BusRow(bus="s"), BusRow(bus="a", p_load_kw=200, q_load_kvar=80), BusRow(bus="b", p_load_kw=100)),
        branches=(
            BranchRow(from_bus="s", to_bus="a", r_ohm=0.2, x_ohm=0.4),
            BranchRow(from_bus="a", to_bus="b", r_ohm=0.2, x_ohm=0.4, i_max_a=60),
        ),
        pv=(PV(bus="b", p_rated_kw=40, s_rated_kva=50),),
        batteries=(Battery(bus="b", p_rated_kw=50, s_rated_kva=60, energy_kwh=200, eta_charge=1, eta_discharge=1),),
        horizon=Horizon(HOURS, np.ones(4), np.array([0.5, 1, 1, 0.5]), np.array([0.1, 0.2, 0.2, 0.1]), 1.0),
        areas=(),
    )


def make_schedule(charge: tuple[float, ...] = (0, 20, 0, 0), discharge: tuple[float, ...] = (0, 0, 0, 20)) -> Schedule:
    charge_kw, discharge_kw = np.array([charge], float), np.array([discharge], float)
    return Schedule(
        pv={"p_kw": np.array([[20.0, 40, 40, 20]]), "q_kvar": np.array([[0.0, 5, 5, 0]])},
        batteries={
            "charge_kw": charge_kw,
            "discharge_kw": discharge_kw,
            "q_kvar": np.zeros((1, 4)),
            "energy_kwh": 125 + np.cumsum(charge_kw - discharge_kw, axis=1),
        },
    )


def state_of(case: Case, schedule: Schedule) -> NetworkState:
    """A state that agrees with OpenDSS; that it is right is the matter of test_replay_balanced."""
    return replay(case, schedule).state


def test_a_right_schedule_passes_with_its_cost() -> None:
    case, schedule = make_case(), make_schedule()
    state = state_of(case, schedule)
    result = check(case, schedule, state)
    assert result.passed
    assert result.violations == () == result.failed_hours
    assert result.max_soc_error < 1e-8
    assert result.cost == pytest.approx(float(np.sum(case.horizon.price * state.substation_p_kw)))


@pytest.mark.parametrize(
    ("field", "error", "measure"),
    [
        ("v_pu", 5e-5, "max_voltage_error_pu"),
        ("substation_p_kw", 0.1, "max_substation_error_kw"),
        ("substation_q_kvar", 0.1, "max_substation_error_kvar"),
        ("losses_kw", 0.1, "max_loss_error_kw"),
    ],
)
def test_a_state_unlike_the_replay_does_not_pass(field: str, error: float, measure: str) -> None:
    case, schedule = make_case(), make_schedule()
    state = state_of(case, schedule)
    wrong = getattr(state, field).copy()
    wrong[..., 2] -= error
    result = check(case, schedule, replace(state, **{field: wrong}))
    assert not result.passed
    assert getattr(result, measure) == pytest.approx(error)
    assert check(case, schedule, replace(state, **{field: wrong}), Tolerances(1e-4, 0.2)).passed
    wrong[..., 2] = np.nan
    assert not check(case, schedule, replace(state, **{field: wrong})).passed


def test_stored_energy_unlike_the_replay_does_not_pass() -> None:
    case, schedule = make_case(), make_schedule()
    schedule.batteries["energy_kwh"][0, 1] += 1
    result = check(case, schedule, state_of(case, schedule))
    assert not result.passed
    assert result.max_soc_error == pytest.approx(1 / 200)


def test_charging_and_discharging_at_once_does_not_pass() -> None:
    # With losses the two cost energy in the schedule's books; OpenDSS sees their difference only.
    case = make_case()
    lossy = replace(case, batteries=(case.batteries[0].model_copy(update={"eta_charge": 0.9}),))
    schedule = make_schedule(charge=(20, 0, 0, 0), discharge=(20, 0, 0, 0))
    schedule.batteries["energy_kwh"][:] -= 2
    result = check(lossy, schedule, state_of(lossy, schedule))
    assert not result.passed
    assert result.max_soc_error == pytest.approx(2 / 200)


@pytest.mark.parametrize(
    ("changes", "kind", "element", "limit"),
    [
        ({"v_min_pu": 0.99}, "voltage", "b", 0.99),
        ({"v_max_pu": 0.95, "v_min_pu": 0.9}, "voltage", "a", 0.95),
        ({"substation_peak_kw": 270}, "substation power", "s", 270),
    ],
)
def test_a_limit_of_the_network_overstepped_is_named(
    changes: dict[str, float], kind: str, element: str, limit: float
) -> None:
    case, schedule = make_case(**changes), make_schedule()
    state = state_of(case, schedule)
    result = check(case, schedule, state)
    assert not result.passed
    assert {v.kind for v in result.violations} == {kind}
    worst = next(v for v in result.violations if v.element == element and v.hour == 11)
    assert worst.limit == limit
    value = state.substation_p_kw[1] if element == "s" else state.v_pu[case.balanced_feeder.index[element], 1]
    assert worst.value == value
    assert all(v.element != "s" for v in result.violations if v.kind == "voltage")


def test_a_current_above_its_limit_is_named() -> None:
    case, schedule = make_case(), make_schedule(charge=(0, 40, 50, 0), discharge=(0, 45, 45, 0))
    case = replace(case, branches=(case.branches[0], case.branches[1].model_copy(update={"i_max_a": 30.0})))
    result = check(case, schedule, state_of(case, schedule))
    assert not result.passed
    assert {(v.kind, v.element, v.unit) for v in result.violations if v.kind == "current"} == {("current", "a-b", "A")}
    hour_10 = next(v for v in result.violations if v.hour == 10)
    assert hour_10.limit == pytest.approx(30)
    assert hour_10.value == pytest.approx(80 / 2.4, rel=0.02)


def sunny(**changes: Any) -> tuple[Case, Schedule]:
    """Of 10 times the sun: power flows back into the substation in hours 11 and 12."""
    case, schedule = make_case(**changes), make_schedule()
    case = replace(case, pv=(PV(bus="b", p_rated_kw=400, s_rated_kva=500),), branches=case.branches[:1])
    case = replace(case, branches=(*case.branches, BranchRow(from_bus="a", to_bus="b", r_ohm=0.2, x_ohm=0.4)))
    schedule.pv["p_kw"][:] *= 10
    return case, schedule


def exports(result: Check) -> set[tuple[str, int, float, str]]:
    return {(v.element, v.hour, v.limit, v.unit) for v in result.violations if v.kind == "substation power"}


def test_power_back_into_the_substation_is_named_where_it_has_a_limit() -> None:
    case, schedule = sunny()
    state = state_of(case, schedule)
    most = -state.substation_p_kw.min()
    assert most > 50
    free = check(case, schedule, state)
    assert free.passed and free.violations == ()
    case, schedule = sunny(substation_export_kw=0)
    result = check(case, schedule, state)
    assert not result.passed
    assert exports(result) == {("s", 11, 0.0, "kW"), ("s", 12, 0.0, "kW")}
    assert not any(np.signbit(violation.limit) for violation in result.violations)
    assert check(sunny(substation_export_kw=most + 0.01)[0], schedule, state).passed
    assert {limit for *_, limit, _ in exports(check(sunny(substation_export_kw=most - 1)[0], schedule, state))} == {
        -(most - 1)
    }


def test_power_back_into_the_substation_of_a_multi_phase_case_is_named_too() -> None:
    def judged(**given: object) -> Check:
        pv = (PV(bus="b", p_rated_kw=600, s_rated_kva=700),)
        case = feeder("multiphase", sun=(0.0, 1.0, 0.5), given={"v_max_pu": 1.2, **given}, pv=pv)
        schedule = idle_schedule(case)
        return check(case, schedule, replay_multiphase(case, schedule).state)

    assert judged().passed
    assert judged(substation_export_kw=200).passed
    result = judged(substation_export_kw=20)
    assert not result.passed
    assert exports(result) == {("the substation", 1, -20.0, "kW")}


def test_exported_energy_earns_its_own_price() -> None:
    case, schedule = sunny()
    state = state_of(case, schedule)
    drawn, sent = np.maximum(state.substation_p_kw, 0), np.maximum(-state.substation_p_kw, 0)
    plain = check(case, schedule, state).cost
    assert plain == pytest.approx(case.horizon.price @ state.substation_p_kw)
    cheaper = check(sunny(export_price_per_kwh=0.04)[0], schedule, state).cost
    assert cheaper == pytest.approx(case.horizon.price @ drawn - 0.04 * sent.sum())
    assert cheaper > plain + 10


def test_stored_energy_outside_its_range_is_named() -> None:
    case = make_case()
    schedule = make_schedule(charge=(50, 20, 0, 0), discharge=(0, 0, 20, 50))
    result = check(case, schedule, state_of(case, schedule))
    assert not result.passed
    (violation,) = result.violations
    assert (violation.kind, violation.element, violation.hour, violation.limit) == ("SOC", "b", 11, 0.95)
    assert violation.value == pytest.approx(195 / 200)
    schedule = make_schedule(charge=(0, 0, 50, 25), discharge=(50, 25, 0, 0))
    result = check(case, schedule, state_of(case, schedule))
    assert [(v.kind, v.hour, v.limit) for v in result.violations] == [("SOC", 11, 0.3)]


def test_a_battery_that_ends_less_full_than_it_began_is_named() -> None:
    case, schedule = make_case(), make_schedule(discharge=(0, 0, 0, 30))
    result = check(case, schedule, state_of(case, schedule))
    assert not result.passed
    (violation,) = result.violations
    assert (violation.kind, violation.element, violation.hour, violation.limit) == ("terminal SOC", "b", 13, 0.625)
    assert violation.value == pytest.approx(0.575)


def test_a_setpoint_beyond_the_inverter_shows_as_disagreement() -> None:
    case, schedule = make_case(), make_schedule()
    expected = state_of(case, schedule)
    schedule.batteries["charge_kw"][0, 2] = 70
    schedule.batteries["discharge_kw"][0, 2] = 0
    result = check(case, schedule, expected)
    assert not result.passed
    # The inverter stops at 50 kW.
    assert result.max_substation_error_kw == pytest.approx(50, rel=0.05)


def test_a_collapsed_hour_does_not_pass() -> None:
    case, schedule = make_case(), make_schedule()
    state = state_of(case, schedule)
    heavy = replace(case, horizon=replace(case.horizon, load=np.array([1, 1, 1e4, 1])))
    result = check(heavy, schedule, state)
    assert not result.passed
    assert result.failed_hours == (12,)
    assert result.violations == ()
    assert result.max_voltage_error_pu < 1e-8
    assert np.isnan(result.cost)


def test_a_case_without_devices_is_checked() -> None:
    case = replace(make_case(), pv=(), batteries=())
    schedule = Schedule(pv={}, batteries={})
    result = check(case, schedule, state_of(case, schedule))
    assert result.max_soc_error == 0
    assert result.passed


def tiny(off_kwh: float = 0.0, off_kw: float = 0.0) -> tuple[Case, Schedule]:
    """A battery of 4 Wh whose books are off by some energy, and that ends and charges with too much of both."""
    unit = Battery(bus="b", p_rated_kw=1e-3, s_rated_kva=1.2e-3, energy_kwh=4e-3, eta_charge=1, eta_discharge=1)
    case = replace(make_case(), pv=(PV(bus="b", p_rated_kw=1e-3, s_rated_kva=1.2e-3),), batteries=(unit,))
    schedule = make_schedule(charge=(0, 1e-3, 0, 0), discharge=(0, 0, 0, 1e-3))
    schedule.batteries["energy_kwh"][:] = unit.stored_kwh(
        *(schedule.batteries[n][0] for n in ("charge_kw", "discharge_kw")), 1
    )
    schedule.batteries["energy_kwh"][0, 1] += off_kwh
    schedule.pv["p_kw"][:] = 1e-3 * case.horizon.pv + off_kw
    schedule.pv["q_kvar"][:] = 0
    return case, schedule


def test_what_is_less_than_half_a_watt_hour_or_half_a_watt_is_no_disagreement() -> None:
    # 0.4 Wh is a tenth of this battery, a thousand times what counts of a large one.
    case, schedule = tiny(4e-4, 4e-4)
    result = check(case, schedule, state_of(case, schedule))
    assert result.passed and not result.violations
    assert 0 < result.max_soc_error <= result.tolerances.soc
    assert result.max_soc_error == pytest.approx(4e-4 / 5, rel=1e-3)


@pytest.mark.parametrize(("off_kwh", "off_kw"), [(6e-4, 0.0), (0.0, 6e-4)])
def test_a_small_device_that_is_off_by_more_than_that_is_no_longer_overlooked(off_kwh: float, off_kw: float) -> None:
    case, schedule = tiny(off_kwh, off_kw)
    result = check(case, schedule, state_of(case, schedule))
    assert not result.passed
    assert (result.max_soc_error > result.tolerances.soc) == (off_kwh > 0)
    assert {violation.kind for violation in result.violations} == ({"rating"} if off_kw else set())


def test_limits_of_devices_have_the_same_least_that_counts() -> None:
    unit = Battery(bus="b", p_rated_kw=1e-3, s_rated_kva=1.2e-3, energy_kwh=4e-3)
    load = FlexibleLoad(bus="b", p_kw=1e-3, q_kvar=0, down=0.5, up=0.5)
    case = replace(make_case(), pv=(), batteries=(unit,), flexible_loads=(load,))

    def kinds(off: float) -> set[str]:
        schedule = idle_schedule(case)
        schedule.batteries["charge_kw"][:] = 1e-3 + off
        schedule.flexible_loads["p_kw"][:] = 1e-3
        schedule.flexible_loads["p_kw"][0, 0] += off
        soc = np.array([[unit.soc_min, unit.soc_max + off / 4e-3, unit.soc_initial, unit.soc_initial - off / 4e-3]])
        found = device_violations(case, schedule, soc, MULTIPHASE)
        return {violation.kind for violation in found}

    assert kinds(4e-4) == set()
    assert kinds(7e-4) == {"rating", "SOC", "terminal SOC", "energy"}


def test_devices_of_multi_phase_feeders_are_held_to_their_own_size() -> None:
    assert (BALANCED.device_kw, BALANCED.energy_kwh) == (MULTIPHASE.device_kw, MULTIPHASE.energy_kwh) == (5e-4, 5e-4)
    case = make_case()
    schedule = idle_schedule(case)
    schedule.pv["q_kvar"][0, 1] = 30.1
    (found,) = device_violations(case, schedule, np.full((1, 4), 0.625), MULTIPHASE)
    assert (found.kind, found.limit, found.hour) == ("rating", 50.0, 11)
