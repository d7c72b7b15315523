"""The power flow of a balanced feeder against the optimizer's own state, which OpenDSS confirms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tieflow.common.case import read_case
from tieflow.common.errors import SolverError
from tieflow.common.results.distflow import balanced_flow
from tieflow.common.results.result import Result
from tieflow.common.results.schedule import injected
from tieflow.launch.runs.base_run import power_flow
from tieflow.launch.runs.solve import Options, solve


def assert_same(result: Result, voltage: float) -> None:
    found = power_flow(result.case, result.schedule)
    np.testing.assert_allclose(found.v_pu, result.state.v_pu, atol=voltage)
    for name in ("substation_p_kw", "substation_q_kvar", "losses_kw", "p_kw", "q_kvar"):
        np.testing.assert_allclose(getattr(found, name), getattr(result.state, name), atol=0.01, err_msg=name)


@pytest.mark.parametrize("capacitors", ["constant_impedance", "constant_power"])
def test_a_schedule_has_the_state_that_the_optimizer_expects(capacitors: str) -> None:
    case = read_case("ieee123", {"capacitor_model": capacitors})
    assert_same(solve(case, Options("centralized", check=False)), 1e-6)


def test_a_schedule_of_many_phases_too() -> None:
    assert_same(solve(read_case("ieee13", {"periods": 2}), Options("centralized", check=False)), 1e-6)


def test_a_feeder_that_collapses_is_an_error(small_result: Result) -> None:
    case = replace(small_result.case, horizon=replace(small_result.case.horizon, load=np.full(2, 1e4)))
    with pytest.raises(SolverError, match="no power flow with these devices"):
        balanced_flow(case, injected(case, small_result.schedule))
