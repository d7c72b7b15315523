"""What a solve tells of its own result."""

from __future__ import annotations

import re

import pytest

from common.case import read_case
from common.errors import InfeasibleError
from launch.solve import CENTRALIZED, Options, solve


def test_batteries_that_charge_and_discharge_at_once_are_named() -> None:
    # Far outside its limits, wasting energy lowers the voltage.
    overrides = {"periods": 2, "v_min_pu": 0.9, "v_max_pu": 0.95}
    result = solve(read_case("ieee123_unbalanced", overrides), Options(CENTRALIZED, max_rounds=30))
    noted = [note for note in result.notes if "at once" in note]
    assert result.converged and len(noted) == 1
    assert result.case.batteries[0].place in noted[0] and "scd_weight" in noted[0]
    assert result.check is not None and not result.check.passed


def test_batteries_of_a_case_within_its_limits_do_one_thing_at_a_time() -> None:
    result = solve(read_case("ieee123_unbalanced", {"periods": 2}), Options(CENTRALIZED, check=False))
    assert not [note for note in result.notes if "at once" in note]


def test_a_cap_on_substation_power_that_binds_is_kept_at_the_same_cost_in_areas_and_as_one() -> None:
    free = solve(read_case("ieee13"), Options(CENTRALIZED, check=False))
    cap = {"substation_peak_kw": free.state.substation_p_kw.max() - 20}
    whole = solve(read_case("ieee13", cap), Options(CENTRALIZED, check=False))
    areas = solve(read_case("ieee13", cap), Options("admm"))
    assert whole.converged and areas.converged and areas.check is not None and areas.check.passed
    assert areas.state.substation_p_kw.max() == pytest.approx(cap["substation_peak_kw"], abs=1e-3)
    assert whole.cost > free.cost
    assert areas.objective == pytest.approx(whole.objective, rel=1e-6)


def test_a_cap_that_no_schedule_keeps_is_refused_with_the_power_it_takes() -> None:
    cap = {"periods": 2, "substation_peak_kw": 100}
    told = []
    for method in (CENTRALIZED, "admm"):
        with pytest.raises(InfeasibleError, match="substation_peak_kw = 100") as caught:
            solve(read_case("ieee13", cap), Options(method))
        told.append(float(re.search(r"([\d.]+) kW in hour", str(caught.value))[1]))  # type: ignore[index]
    assert told[0] == pytest.approx(told[1], abs=0.01) and told[0] > 1000
