"""What a solve tells of its own result."""

from __future__ import annotations

from common.case import read_case
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
