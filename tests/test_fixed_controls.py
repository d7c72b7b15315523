"""Controls that have no choice: they are worth exactly what they give, and an interior point does not feel them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from device_feeders import MODELS, feeder

from tieflow.common.case import Case, read_case
from tieflow.common.inputs.devices import PV, Battery, FlexibleLoad
from tieflow.launch.runs.solve import CENTRALIZED, Options, solve

METHODS = (CENTRALIZED, "newton")
EXACTLY = 2e-8
"""relative, what the barrier may cost in both of two runs"""
SUN = (0.0, 0.6, 0.0)


def objective(case: Case, method: str) -> float:
    result = solve(case, Options(method, check=False))
    assert result.converged, result.notes
    return result.objective


def by_hand(model: str, **devices: Any) -> Case:
    return feeder(model, sun=SUN, given={"v_max_pu": 1.1}, **devices)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", MODELS)
def test_a_battery_whose_limits_meet_costs_as_much_as_none(model: str, method: str) -> None:
    full = Battery(bus="b", p_rated_kw=100, s_rated_kva=100, energy_kwh=400, soc_min=0.5, soc_max=0.5, soc_initial=0.5)
    expected = objective(by_hand(model), method)
    assert objective(by_hand(model, batteries=(full,)), method) == pytest.approx(expected, rel=EXACTLY)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", MODELS)
def test_a_flexible_load_without_a_band_costs_as_much_as_one_that_moves_at_a_forbidding_price(
    model: str, method: str
) -> None:
    unit = FlexibleLoad(bus="b", p_kw=50, q_kvar=10, down=0.0, up=0.0)
    dear = unit.model_copy(update={"down": 0.3, "up": 0.3, "cost_per_kwh": 100.0})
    fixed, moving = (objective(by_hand(model, flexible_loads=(load,)), method) for load in (unit, dear))
    assert fixed == pytest.approx(moving, rel=EXACTLY)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", MODELS)
def test_a_night_of_sun_that_may_be_curtailed_costs_as_much_as_one_of_sun_that_may_not(model: str, method: str) -> None:
    free, given = (
        objective(by_hand(model, pv=(PV(bus="b", p_rated_kw=60, s_rated_kva=70, curtailable=may),)), method)
        for may in (True, False)
    )
    assert free == pytest.approx(given, rel=EXACTLY)


@pytest.mark.parametrize("name", ["ieee13", "ieee123_unbalanced", "ieee123"])
def test_the_shipped_cases_cost_the_same_whether_sun_that_is_never_too_much_may_be_curtailed(name: str) -> None:
    given = read_case(name)
    free = replace(given, pv=tuple(unit.model_copy(update={"curtailable": True}) for unit in given.pv))
    results = [solve(case, Options("newton", check=False)) for case in (given, free)]
    assert results[1].objective == pytest.approx(results[0].objective, rel=EXACTLY)
    at_night = np.flatnonzero(given.horizon.pv == 0)
    assert not results[1].schedule.pv["p_kw"][:, at_night].any()
    # A control that could do a watt at night would take two or three times as many.
    assert len(results[1].history.cost) <= len(results[0].history.cost) + 6
