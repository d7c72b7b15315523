"""The network equations: tight, limited, and exact where a power flow can tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feeders import agree, random_cases, with_settings
from hypothesis import given, settings

from areas.branch_flow import relaxation_gap
from common.case import Case, read_case
from launch.solve import Options, solve

CENTRALIZED = Options(method="centralized", check=False)


@given(case=random_cases())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_the_relaxation_is_tight_on_random_radial_feeders(case: Case) -> None:
    assert solve(case, CENTRALIZED).relaxation_gap_pu <= 1e-6


@given(case=random_cases())
@settings(max_examples=10, deadline=None, derandomize=True)
def test_opendss_finds_the_state_that_the_model_expects(case: Case) -> None:
    check = solve(case, Options(method="centralized")).check
    assert check is not None
    assert check.passed, check


def test_a_binding_current_limit_is_kept() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    free = solve(case, CENTRALIZED)
    branch = case.feeder.index["3"] - 1
    limit = 0.97 * free.state.i_a[branch].max()
    rows = tuple(
        replace_limit(row, limit) if {row.from_bus, row.to_bus} == {"2", "3"} else row for row in case.branches
    )
    limited = solve(replace(case, branches=rows), Options(method="centralized"))
    assert limited.state.i_a[branch].max() == pytest.approx(limit, rel=1e-4)
    assert limited.cost > free.cost
    assert limited.check is not None
    assert limited.check.passed


def test_a_binding_current_limit_on_a_switch_is_kept() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    free = solve(case, CENTRALIZED)
    branch = case.feeder.index["2"] - 1
    assert case.feeder.is_switch[branch]
    limit = 0.97 * free.state.i_a[branch].max()
    rows = tuple(
        replace_limit(row, limit) if {row.from_bus, row.to_bus} == {"1", "2"} else row for row in case.branches
    )
    limited = solve(replace(case, branches=rows), CENTRALIZED)
    assert limited.state.i_a[branch].max() == pytest.approx(limit, rel=1e-4)


def test_voltage_limits_are_kept_in_every_area() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35, "v_min_pu": 1.007})
    result = solve(case, CENTRALIZED)
    assert result.state.v_pu.min() >= 1.007 - 1e-7
    assert result.state.v_pu.min() == pytest.approx(1.007, abs=1e-6)


def test_substation_power_is_not_negative() -> None:
    case = read_case("ieee123", {"der_fraction": 3.0, "pv_percent": 60, "battery_percent": 10})
    result = solve(case, CENTRALIZED)
    assert result.state.substation_p_kw.min() >= -1e-4
    assert result.state.substation_p_kw.min() < 1.0


def test_capacitors_at_constant_impedance_follow_the_squared_voltage() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35, "capacitor_model": "constant_impedance"})
    result = solve(case, Options(method="centralized"))
    assert result.check is not None
    assert result.check.passed
    assert result.cost == pytest.approx(576.3746, abs=2e-3)


def test_the_gap_of_a_switch_is_zero() -> None:
    feeder = read_case("ieee123").feeder
    ones = np.ones((len(feeder.parent), 1))
    currents = ones[~feeder.is_switch]
    gap = relaxation_gap(feeder, np.ones((len(feeder.buses), 1)), ones, ones, currents)
    assert np.all(gap[feeder.is_switch] == 0)
    assert np.all(gap[~feeder.is_switch] == -1)


def test_a_switch_drops_voltage_over_the_impedance_that_it_has() -> None:
    case = with_settings(read_case("ieee123", {"der_fraction": 0.35}), switch_ohm=1e-3)
    rows = tuple(
        row.model_copy(update={"r_ohm": 3e-4, "x_ohm": 9e-4}) if row.from_bus == "1" else row for row in case.branches
    )
    result = solve(replace(case, branches=rows), Options(method="centralized"))
    assert result.check is not None
    assert result.check.max_voltage_error_pu <= 2e-6
    drop = result.state.v_pu[0] - result.state.v_pu[case.feeder.index["2"]]
    assert drop.min() > 1e-5


def test_methods_run_on_a_case_of_one_area_are_done_in_one_round() -> None:
    outcome, _ = agree(replace(read_case("ieee123"), areas=()), "admm")
    assert outcome.converged
    assert len(outcome.rounds) == 1


def replace_limit(row, amperes: float):  # type: ignore[no-untyped-def]
    return row.model_copy(update={"i_max_a": float(amperes)})
