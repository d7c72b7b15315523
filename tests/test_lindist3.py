"""The flat model: what it leaves out, that areas and the whole feeder agree on it, and that its error is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from areas.lindist3 import linearize_flat
from areas.linearization import Linearization
from areas.multiphase import build_multiphase
from areas.network import area_network
from common.case import Case, read_case
from common.errors import CaseError
from common.multiphase import multipliers
from common.multiphase_partition import idle_power_flow
from common.partition import one_area
from common.power_flow import PowerFlow
from launch.solve import CENTRALIZED, Options, solve


@pytest.fixture(scope="module")
def case() -> Case:
    return read_case("ieee13", {"periods": 2, "model": "lindist3"})


def flat_and_exact(case: Case, share: float) -> tuple[Linearization, np.ndarray]:
    """The model of a feeder with a share of its load and nothing else, and its AC voltages."""
    bare = replace(case, pv=(), batteries=(), horizon=replace(case.horizon, load=share * case.horizon.load))
    area = one_area(bare).areas[0]
    flow = PowerFlow(area.feeder, multipliers(area.feeder.legs, area.horizon.load, area.horizon.shapes))
    network = area_network(flow, build_multiphase(area).inputs, np.zeros(0, np.int64))
    return linearize_flat(network), idle_power_flow(bare, flow)[0]


def test_its_error_falls_with_the_square_of_the_load(case: Case) -> None:
    limited = case.network.limited

    def error(share: float) -> float:
        flat, v = flat_and_exact(case, share)
        return float(np.abs(np.abs(flat.point.v) - np.abs(v))[limited].max())

    assert error(1.0) > 1e-3
    assert error(0.01) < 2e-4 * error(1.0)


def test_its_flows_are_linear_in_the_load_and_its_losses_quadratic(case: Case) -> None:
    none, half, whole = (flat_and_exact(case, share)[0] for share in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(whole.root_s_here - none.root_s_here, 2 * (half.root_s_here - none.root_s_here))
    np.testing.assert_allclose(whole.losses_here, 4 * half.losses_here, rtol=1e-9)
    assert (none.losses_here == 0).all() and (half.losses_here > 0).all()


def test_areas_and_the_whole_feeder_agree(case: Case) -> None:
    whole = solve(case, Options(CENTRALIZED, check=False))
    areas = solve(case, Options("admm", check=False))
    assert whole.converged and len(whole.history.cost) <= 2
    assert areas.converged and len(areas.history.cost) <= 40
    assert areas.objective == pytest.approx(whole.objective, rel=1e-6)
    assert areas.cost == pytest.approx(whole.cost, rel=1e-5)


def test_its_result_is_an_ac_power_flow_and_tells_what_the_model_was_off_by(case: Case) -> None:
    result = solve(case, Options(CENTRALIZED))
    assert result.check is not None
    assert result.check.max_voltage_error_pu < 1e-6
    assert 1e-3 < result.model_error_pu < 0.1
    assert any("lindist3" in note and "off by up to" in note for note in result.notes)
    exact = solve(read_case("ieee13", {"periods": 2}), Options(CENTRALIZED, check=False))
    assert result.cost == pytest.approx(exact.cost, rel=0.02)
    assert result.cost != pytest.approx(exact.cost, rel=1e-7)


def test_a_balanced_case_has_no_such_model() -> None:
    with pytest.raises(CaseError, match=r"circuit\.dss"):
        read_case("ieee123", {"model": "lindist3"})
