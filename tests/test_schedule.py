"""The areas' parts become one schedule and one network state, each value from the area that owns it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feeders import random_cases
from hypothesis import given
from hypothesis import strategies as st

from tieflow.common.arrays import Floats
from tieflow.common.case import Case
from tieflow.common.results.joining import join_gap, join_relaxed_state, join_schedule
from tieflow.common.results.result import Result
from tieflow.common.results.schedule import DEVICE_KINDS
from tieflow.common.ties.area_case import AreaSolution, Partition
from tieflow.common.ties.cutting import one_area, partition

FOREIGN = 99.0
"""what an area believes of the bus that it does not own; it must not show"""


def with_switches(case: Case) -> Case:
    """The same case, every third branch a switch."""
    closed = {"r_ohm": 0.0, "x_ohm": 0.0}
    rows = (row.model_copy(update=closed) if k % 3 == 1 else row for k, row in enumerate(case.branches))
    return replace(case, branches=tuple(rows))


def random_whole(case: Case, seed: int) -> dict[str, Floats]:
    """Per-unit arrays of the whole feeder, some of them impossible; only who owns what matters here."""
    random = np.random.default_rng(seed)
    periods, branches = len(case.horizon), len(case.balanced_feeder.parent)
    arrays = {"v": random.uniform(0.8, 1.2, (branches + 1, periods)), "substation": random.normal(size=(2, periods))}
    for name in ("p", "q", "gap"):
        arrays[name] = random.normal(size=(branches, periods))
    arrays["l"] = random.uniform(0, 1, (branches, periods))
    for kind, names in DEVICE_KINDS.items():
        for name in names:
            arrays[f"{kind}.{name}"] = random.normal(size=(len(getattr(case, kind)), periods))
    return arrays


def cut(case: Case, parts: Partition, whole: dict[str, Floats]) -> list[AreaSolution]:
    """Each area's share of the arrays, as its solver would tell it."""
    solutions = []
    for area in parts.areas:
        buses = [case.balanced_feeder.index[bus] for bus in area.feeder.buses]
        branches = [bus - 1 for bus in buses[1:]]
        values = {
            "v": whole["v"][buses],
            "p": whole["p"][branches],
            "q": whole["q"][branches],
            "l": whole["l"][branches][~area.feeder.is_switch],
        }
        if area.has_substation:
            values["substation"] = whole["substation"]
        else:
            values["v"][0] = FOREIGN
        for kind, names in DEVICE_KINDS.items():
            place = {unit.bus: i for i, unit in enumerate(getattr(case, kind))}
            rows = [place[unit.bus] for unit in getattr(area, kind)]
            values |= {f"{kind}.{name}": whole[f"{kind}.{name}"][rows] for name in names}
        told = {name: value for name, value in values.items() if value.size}
        solutions.append(AreaSolution(told, whole["gap"][branches]))
    return solutions


@given(case=random_cases(), seed=st.integers(0, 2**32 - 1))
def test_every_setpoint_of_the_areas_finds_its_place_in_kilowatts(case: Case, seed: int) -> None:
    pv = tuple(unit.model_copy(update={"curtailable": True}) for unit in case.pv)
    case = replace(case, pv=pv)
    parts, whole = partition(case), random_whole(case, seed)
    schedule = join_schedule(case, parts, cut(case, parts, whole))
    for kind, names in DEVICE_KINDS.items():
        joined = getattr(schedule, kind)
        assert set(joined) == set(names)
        for name in names:
            if name != "energy_kwh":
                np.testing.assert_allclose(joined[name], 1000 * whole[f"{kind}.{name}"])
    # What is stored follows from what is charged and discharged.
    charge, discharge = (1000 * whole[f"batteries.{name}"] for name in ("charge_kw", "discharge_kw"))
    start = np.array([0.625 * unit.energy_kwh for unit in case.batteries])[:, None]
    stored = start + np.cumsum(0.95 * charge - discharge / 0.95, axis=1)
    np.testing.assert_allclose(schedule.batteries["energy_kwh"], stored, atol=1e-9)


@given(case=random_cases(), seed=st.integers(0, 2**32 - 1))
def test_every_voltage_and_flow_is_told_by_the_area_that_owns_it(case: Case, seed: int) -> None:
    case = with_switches(case)
    parts, whole = partition(case), random_whole(case, seed)
    state = join_relaxed_state(case, parts, cut(case, parts, whole))
    np.testing.assert_allclose(state.v_pu, np.sqrt(whole["v"]))
    np.testing.assert_allclose(state.p_kw, 1000 * whole["p"])
    np.testing.assert_allclose(state.q_kvar, 1000 * whole["q"])
    np.testing.assert_allclose([state.substation_p_kw, state.substation_q_kvar], 1000 * whole["substation"])


@given(case=random_cases(), seed=st.integers(0, 2**32 - 1))
def test_currents_are_in_amperes_and_a_switch_has_that_of_its_flow(case: Case, seed: int) -> None:
    case = with_switches(case)
    parts, whole, feeder = partition(case), random_whole(case, seed), case.balanced_feeder
    state = join_relaxed_state(case, parts, cut(case, parts, whole))
    base = 1000 / (4.16 / np.sqrt(3))
    np.testing.assert_allclose(state.i_a[~feeder.is_switch], base * np.sqrt(whole["l"][~feeder.is_switch]))
    for k in np.flatnonzero(feeder.is_switch):
        volts = 4160 / np.sqrt(3) * state.v_pu[feeder.parent[k]]
        watts = 1000 * np.hypot(state.p_kw[k], state.q_kvar[k])
        np.testing.assert_allclose(state.i_a[k], watts / volts)


@given(case=random_cases(), seed=st.integers(0, 2**32 - 1))
def test_losses_are_those_of_all_branches_but_the_switches(case: Case, seed: int) -> None:
    case = with_switches(case)
    parts, whole, feeder = partition(case), random_whole(case, seed), case.balanced_feeder
    state = join_relaxed_state(case, parts, cut(case, parts, whole))
    ohms = feeder.r * 4.16**2 / 3
    np.testing.assert_allclose(state.losses_kw, (ohms[:, None] * state.i_a**2).sum(axis=0) / 1000)


@given(case=random_cases(), seed=st.integers(0, 2**32 - 1))
def test_the_relaxation_gap_is_in_the_order_of_the_feeders_branches(case: Case, seed: int) -> None:
    parts, whole = partition(case), random_whole(case, seed)
    np.testing.assert_array_equal(join_gap(case, parts, cut(case, parts, whole)), whole["gap"])


@given(case=random_cases(), seed=st.integers(0, 2**32 - 1))
def test_the_number_of_areas_does_not_show(case: Case, seed: int) -> None:
    whole = random_whole(case, seed)
    joined = [join_relaxed_state(case, parts, cut(case, parts, whole)) for parts in (partition(case), one_area(case))]
    for name in ("v_pu", "p_kw", "q_kvar", "i_a", "losses_kw"):
        np.testing.assert_allclose(getattr(joined[0], name), getattr(joined[1], name), rtol=1e-12)


def test_a_solved_schedule_keeps_the_books_of_its_batteries(small_result: Result) -> None:
    (battery,) = small_result.case.batteries
    schedule = {name: array[0] for name, array in small_result.schedule.batteries.items()}
    gained = 6 * (0.95 * schedule["charge_kw"] - schedule["discharge_kw"] / 0.95)
    assert schedule["energy_kwh"] == pytest.approx(0.625 * battery.energy_kwh + np.cumsum(gained), abs=1e-3)
    assert schedule["energy_kwh"][-1] == pytest.approx(0.625 * battery.energy_kwh, abs=1e-3)
    # Hour 1 is cheap, hour 2 dear.
    assert schedule["charge_kw"][0] > 1 > schedule["charge_kw"][1]
    assert schedule["discharge_kw"][1] > 1 > schedule["discharge_kw"][0]


def test_a_solved_state_balances_load_generation_and_losses(small_result: Result) -> None:
    case, schedule, state = small_result.case, small_result.schedule, small_result.state
    load = sum(row.p_load_kw for row in case.buses) * case.horizon.load
    sun = case.pv[0].p_rated_kw * case.horizon.pv
    battery = (schedule.batteries["discharge_kw"] - schedule.batteries["charge_kw"])[0]
    assert state.substation_p_kw + sun + battery == pytest.approx(load + state.losses_kw, abs=0.01)
