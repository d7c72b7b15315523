"""What a battery asks for being used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from device_feeders import BOTH, MODELS, confirmed, feeder

from tieflow.common.case import Case, read_case
from tieflow.common.inputs.devices import Battery
from tieflow.launch import api
from tieflow.launch.runs.solve import Options, solve


def stored(model: str, cost: float, dt: float = 1.0) -> Case:
    battery = Battery(
        bus="b", p_rated_kw=40, s_rated_kva=50, energy_kwh=400, eta_charge=1, eta_discharge=1, cost_per_kwh=cost
    )
    case = feeder(model, price=(0.1, 0.3, 0.2, 0.28), batteries=(battery,), given={"dt_hours": dt})
    return replace(case, horizon=replace(case.horizon, dt=dt))


@pytest.mark.parametrize(("model", "method"), BOTH)
def test_a_battery_is_used_where_prices_differ_by_more_than_charging_and_discharging_cost(
    model: str, method: str
) -> None:
    # From 0.1 to 0.3 $ is worth 2 * 0.06 $; from 0.2 to 0.28 is not.
    result = confirmed(stored(model, cost=0.06), method)
    battery = result.schedule.batteries
    np.testing.assert_allclose(battery["discharge_kw"] - battery["charge_kw"], [[-40, 40, 0, 0]], atol=0.02)
    assert result.objective == pytest.approx(result.cost + 0.06 * 80, abs=1e-2)


@pytest.mark.parametrize("model", MODELS)
def test_a_battery_that_asks_nothing_uses_every_difference_and_a_dear_one_none(model: str) -> None:
    free, dear = (confirmed(stored(model, cost)).schedule.batteries for cost in (0.0, 0.2))
    np.testing.assert_allclose(free["discharge_kw"] - free["charge_kw"], [[-40, 40, -40, 40]], atol=0.02)
    np.testing.assert_allclose(dear["discharge_kw"] + dear["charge_kw"], 0, atol=0.02)


def test_the_price_is_one_of_energy_whatever_a_period_lasts() -> None:
    result = confirmed(stored("balanced", cost=0.06, dt=2.0))
    assert result.objective == pytest.approx(result.cost + 2 * 0.06 * 80, abs=1e-2)


@pytest.mark.parametrize("by", ["newton", "admm"])
def test_areas_of_a_feeder_of_many_phases_use_their_batteries_as_one_does(by: str) -> None:
    case = read_case("ieee13", {"periods": 3})
    case = replace(case, horizon=replace(case.horizon, price=np.array([0.1, 0.3, 0.2])))
    priced = tuple(unit.model_copy(update={"cost_per_kwh": 0.04}) for unit in case.batteries)
    one, four = (solve(replace(case, batteries=priced), Options(m, 1e-6)) for m in ("centralized", by))
    for result in (one, four):
        assert result.converged and result.check is not None and result.check.passed
    assert four.objective == pytest.approx(one.objective, rel=1e-6)
    used = one.schedule.batteries["charge_kw"].sum()
    plain = solve(case, Options("centralized", check=False)).schedule.batteries["charge_kw"].sum()
    assert 0 < used < plain + 1e-3


def test_a_price_below_nothing_is_refused() -> None:
    battery = stored("balanced", 0.0).batteries[0].model_copy(update={"cost_per_kwh": -0.1})
    with pytest.raises(api.CaseError, match="cost_per_kwh: must be greater than or equal to 0"):
        api.with_batteries(feeder("balanced"), battery)
