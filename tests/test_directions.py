"""Batteries do one thing at a time, also where doing both would pay."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.optimize as so
from device_feeders import feeder
from hypothesis import given
from hypothesis import strategies as st
from joint_parts import BARRIER, Parts

from tieflow.areas.devices import area_controls, one_way
from tieflow.areas.joint_area import JointArea
from tieflow.common.arrays import Floats
from tieflow.common.case import Case, read_case
from tieflow.common.inputs.devices import PV, Battery, FlexibleLoad
from tieflow.common.interior_point.algorithm import Settings, minimize
from tieflow.common.interior_point.joint_system import JointSystem
from tieflow.common.results.result import Result
from tieflow.common.ties.boundary import make_boundary
from tieflow.common.ties.cutting import one_area
from tieflow.coordinator.directions import LEVELS, best_moves
from tieflow.launch.figures.summary import exit_code, summary
from tieflow.launch.runs.solve import CENTRALIZED, Options, solve


def paid(name: str, share: float = 0.4, price: float = -0.05, **settings: Any) -> Case:
    """A shipped case in whose cheapest hours, a share of all, taking energy is paid for."""
    case = read_case(name, settings)
    cheap = case.horizon.price <= np.quantile(case.horizon.price, share)
    return replace(case, horizon=replace(case.horizon, price=np.where(cheap, price, case.horizon.price)))


def assert_one_thing_at_a_time(result: Result) -> None:
    battery = result.schedule.batteries
    assert not np.minimum(battery["charge_kw"], battery["discharge_kw"]).any()
    assert result.converged and result.check is not None and result.check.passed, result.notes


@pytest.mark.parametrize(
    "case",
    [
        read_case("ieee123", {"price_low_per_kwh": -0.05}),
        read_case("ieee123", {"price_low_per_kwh": -0.1, "der_fraction": 0.35}),
        paid("ieee13"),
        paid("ieee13", 1.0),
        paid("ieee123_unbalanced", periods=12),
    ],
    ids=["balanced", "balanced, many devices", "ieee13", "ieee13, always", "ieee123"],
)
def test_at_negative_prices_opendss_confirms_schedules_in_areas_that_cost_what_one_area_costs(case: Case) -> None:
    areas, whole = solve(case, Options("newton")), solve(case, Options(CENTRALIZED, check=False))
    assert_one_thing_at_a_time(areas)
    assert exit_code(areas) == 0
    assert areas.relaxed_objective is not None and whole.relaxed_objective is not None
    assert areas.objective > areas.relaxed_objective
    assert areas.objective == pytest.approx(whole.objective, rel=1e-7)
    assert areas.relaxed_objective == pytest.approx(whole.relaxed_objective, rel=1e-7)
    (note,) = [note for note in areas.notes if "at once" in note]
    assert f"{areas.relaxed_objective:.6f}" in note
    assert f"{areas.objective - areas.relaxed_objective:.6f} more" in note
    assert summary(areas)["relaxed_objective"] == areas.relaxed_objective


@pytest.mark.parametrize("method", ["newton", CENTRALIZED])
def test_far_outside_its_limits_batteries_do_not_waste_energy_to_lower_the_voltage(method: str) -> None:
    result = solve(read_case("ieee123_unbalanced", {"periods": 2, "v_min_pu": 0.9, "v_max_pu": 0.95}), Options(method))
    assert_one_thing_at_a_time(result)
    assert result.relaxed_objective is not None and exit_code(result) == 5


def forced(case: Case, direction: Floats) -> float:
    """The least cost, $, with directions (store, T) given."""
    parts, span = one_area(case, exact=True), slice(0, len(case.horizon))
    boundary = make_boundary(parts)
    area = JointArea(parts.areas[0], span, direction=direction)
    area.begin(boundary.forecast[boundary.ends[0][0]], BARRIER)
    system = JointSystem(
        boundary.ends, boundary.periods, Parts([area], [(0, span)]).exchange, [(0, span)], [area.opened()], BARRIER
    )
    assert minimize(system, boundary.periods, Settings()).converged
    return system.objective()


@pytest.mark.parametrize("price", [(-0.2, -0.1, -0.3, -0.2), (-0.2, 0.3, -0.1, -0.1)])
def test_one_battery_goes_the_way_that_is_best_of_all(price: tuple[float, ...]) -> None:
    unit = Battery(bus="b", p_rated_kw=100, s_rated_kva=100, energy_kwh=300, eta_charge=0.9, eta_discharge=0.9)
    case = feeder("multiphase", price=price, given={"v_max_pu": 1.1}, batteries=(unit,))
    result = solve(case, Options("newton"))
    assert_one_thing_at_a_time(result)
    least = min(forced(case, np.array([ways], float)) for ways in product((-1, 1), repeat=len(price)))
    assert result.objective == pytest.approx(least, rel=1e-7)


def test_a_limit_that_only_wasting_keeps_is_said_not_to_be_kept() -> None:
    sun = PV(bus="b", p_rated_kw=600, s_rated_kva=600)
    unit = Battery(bus="b", p_rated_kw=100, s_rated_kva=100, energy_kwh=50, eta_charge=0.5, eta_discharge=0.5)
    settings = {"v_max_pu": 1.3, "substation_export_kw": 10}
    case = feeder("multiphase", sun=(1.0,) * 3, given=settings, pv=(sun,), batteries=(unit,))
    result = solve(case, Options("newton", check=False))
    assert result.relaxed_objective is not None
    assert not result.converged and exit_code(result) == 2
    assert any("limits are overstepped that batteries kept by wasting energy" in note for note in result.notes)


@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_moves_are_those_of_a_mixed_integer_program(seed: int, periods: int) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.normal(size=(2, periods))
    most, start = rng.integers(1, LEVELS, 2), int(rng.integers(0, LEVELS + 1))
    direction = rng.choice([-1.0, 0.0, 1.0], periods, p=[0.1, 0.8, 0.1])
    moves = best_moves(costs[0], costs[1], float(most[0]), float(most[1]), start, direction)
    gains, losses = np.maximum(moves, 0), np.maximum(-moves, 0)
    level = start + np.cumsum(moves)
    assert (level >= 0).all() and (level <= LEVELS).all() and level[-1] == start
    assert (gains <= most[0]).all() and (losses <= most[1]).all()
    assert (direction * moves >= 0).all()
    # With whole numbers given, that program has a solution in whole numbers.
    one, none, each = np.eye(periods), np.zeros((periods, periods)), np.tril(np.ones((periods, periods)))
    low, high = np.full(periods, -start), np.full(periods, LEVELS - start)
    low[-1] = high[-1] = 0
    free = np.concatenate([np.repeat(most, periods), np.ones(periods)])
    expected = so.milp(
        np.concatenate([*costs, np.zeros(periods)]),
        integrality=np.repeat([0, 0, 1], periods),
        bounds=so.Bounds(
            np.concatenate([np.zeros(2 * periods), direction > 0]),
            np.where(np.arange(3 * periods) < 2 * periods, free, np.tile(direction >= 0, 3)),
        ),
        constraints=[
            so.LinearConstraint(np.hstack([each, -each, none]), low, high),
            so.LinearConstraint(np.hstack([one, none, -most[0] * one]), -np.inf, 0.0),
            so.LinearConstraint(np.hstack([none, one, most[1] * one]), -np.inf, most[1]),
        ],
    )
    assert costs[0] @ gains + costs[1] @ losses == pytest.approx(expected.fun, rel=1e-6, abs=1e-6)


def test_a_direction_fixes_the_other_control_at_zero_and_leaves_flexible_loads_alone() -> None:
    unit = Battery(bus="b", p_rated_kw=10, s_rated_kva=12, energy_kwh=40)
    load = FlexibleLoad(bus="a", p_kw=20, q_kvar=0, down=0.5, up=0.5)
    case = feeder("multiphase", batteries=(unit,), flexible_loads=(load,))
    controls = area_controls(one_area(case).areas[0])
    found = one_way(controls, np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert found.fixed.tolist() == [[False, True, False], [True, False, False], *[[False] * 3] * 3]
    assert not found.first[found.fixed].any()
    assert [store.exclusive for store in controls.stores] == [True, False]


def test_a_flexible_load_whose_energy_is_paid_for_is_no_battery() -> None:
    load = FlexibleLoad(bus="b", p_kw=50, q_kvar=10, down=0.5, up=0.5)
    case = feeder("multiphase", price=(-0.2, -0.1, 0.3), given={"v_max_pu": 1.1}, flexible_loads=(load,))
    result = solve(case, Options("newton"))
    assert result.converged and result.check is not None and result.check.passed
    assert result.relaxed_objective is None
    # The whole band is used, once.
    np.testing.assert_allclose(result.schedule.flexible_loads["p_kw"][0], [75, 50, 25], atol=0.01)


def test_a_method_that_gives_no_directions_names_batteries_that_do_both() -> None:
    unit = Battery(bus="b", p_rated_kw=100, s_rated_kva=120, energy_kwh=400)
    case = feeder("multiphase", price=(-0.2, -0.2, -0.2), given={"v_max_pu": 1.1}, batteries=(unit,))
    result = solve(replace(case, areas=()), Options("admm"))
    (note,) = [note for note in result.notes if "at once" in note]
    assert note.startswith("1 battery(ies) charge and discharge at once, which none can: b (")
    assert "--method newton gives each one direction" in note
    assert exit_code(result) == 4
