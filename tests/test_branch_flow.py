"""The network equations: tight, limited, and exact where a power flow can tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feeders import agree, random_cases, with_settings
from hypothesis import given, settings

from tieflow.areas.branch_flow import relaxation_gap
from tieflow.common.case import Case, read_case
from tieflow.common.results.result import Result
from tieflow.launch.runs.solve import Options, solve


def relaxed(case: Case, check: bool = False) -> Result:
    """The whole feeder as one area, its branch flow relaxed to cones."""
    result = solve(replace(case, areas=()), Options(method="admm", check=check))
    assert set(result.history.method) == {"admm"}, result.notes
    return result


@given(case=random_cases())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_the_relaxation_is_tight_on_random_radial_feeders(case: Case) -> None:
    assert relaxed(case).relaxation_gap_pu <= 1e-6


@given(case=random_cases())
@settings(max_examples=10, deadline=None, derandomize=True)
def test_opendss_finds_the_state_that_the_model_expects(case: Case) -> None:
    check = relaxed(case, check=True).check
    assert check is not None
    assert check.passed, check


def test_a_binding_current_limit_is_kept() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    free = relaxed(case)
    branch = case.balanced_feeder.index["3"] - 1
    limit = 0.97 * free.state.i_a[branch].max()
    rows = tuple(
        replace_limit(row, limit) if {row.from_bus, row.to_bus} == {"2", "3"} else row for row in case.branches
    )
    limited = relaxed(replace(case, branches=rows), check=True)
    assert limited.state.i_a[branch].max() == pytest.approx(limit, rel=1e-4)
    assert limited.cost > free.cost
    assert limited.check is not None
    assert limited.check.passed


def test_a_binding_current_limit_on_a_switch_is_kept() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    free = relaxed(case)
    branch = case.balanced_feeder.index["2"] - 1
    assert case.balanced_feeder.is_switch[branch]
    limit = 0.97 * free.state.i_a[branch].max()
    rows = tuple(
        replace_limit(row, limit) if {row.from_bus, row.to_bus} == {"1", "2"} else row for row in case.branches
    )
    limited = relaxed(replace(case, branches=rows))
    assert limited.state.i_a[branch].max() == pytest.approx(limit, rel=1e-4)


def test_voltage_limits_are_kept_in_every_area() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35, "v_min_pu": 1.007})
    result = relaxed(case)
    assert result.state.v_pu.min() >= 1.007 - 1e-7
    assert result.state.v_pu.min() == pytest.approx(1.007, abs=1e-6)


@pytest.mark.parametrize(("limit", "least"), [(0, 0.0), (300, -300.0), (None, -1306.044)])
def test_no_more_power_is_exported_than_may_be(limit: float | None, least: float) -> None:
    given = {} if limit is None else {"substation_export_kw": limit}
    case = read_case("ieee123", {"der_fraction": 3.0, "pv_percent": 60, "battery_percent": 10, **given})
    result = solve(replace(case, areas=()), Options(method="enapp", check=False))
    assert result.state.substation_p_kw.min() == pytest.approx(least, abs=1e-2)


def test_capacitors_at_constant_impedance_follow_the_squared_voltage() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35, "capacitor_model": "constant_impedance"})
    result = relaxed(case, check=True)
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
    result = relaxed(replace(case, branches=rows), check=True)
    assert result.check is not None
    assert result.check.max_voltage_error_pu <= 2e-6
    drop = result.state.v_pu[0] - result.state.v_pu[case.balanced_feeder.index["2"]]
    assert drop.min() > 1e-5


def test_methods_run_on_a_case_of_one_area_are_done_in_one_round() -> None:
    outcome, *_ = agree(replace(read_case("ieee123"), areas=()), "admm")
    assert outcome.converged
    assert len(outcome.rounds) == 1


def replace_limit(row, amperes: float):  # type: ignore[no-untyped-def]
    return row.model_copy(update={"i_max_a": float(amperes)})
