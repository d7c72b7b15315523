"""The area's model as a whole: objectives, and areas that together are the whole."""

from __future__ import annotations

import cvxpy as cp
import pytest
from feeders import optimum

from areas.conic import SOLVED, solve_conic
from areas.subproblem import build, model
from common.case import read_case
from common.partition import one_area, partition
from common.result import Result
from launch.solve import Options, solve

CENTRALIZED = Options(method="centralized", check=False)


@pytest.fixture(scope="module")
def cheapest() -> Result:
    return solve(read_case("ieee123"), CENTRALIZED)


def test_the_energy_cost_is_the_published_optimum(cheapest: Result) -> None:
    larger = solve(read_case("ieee123", {"der_fraction": 0.35}), CENTRALIZED)
    for result, published in ((larger, 576.29185), (cheapest, 583.25057)):
        assert result.cost == pytest.approx(published, rel=1e-6)
        assert result.relaxation_gap_pu <= 1e-6


def test_cvxpy_itself_finds_the_same_optimum() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    problem = model(one_area(case).areas[0]).problem
    problem.solve(solver=cp.CLARABEL)
    assert optimum(case) == pytest.approx(problem.value, rel=1e-6)


def test_areas_held_together_are_the_whole_feeder() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    parts = partition(case)
    models = [model(area) for area in parts.areas]
    constraints = [constraint for part in models for constraint in part.problem.constraints]
    copies: dict[int, list[cp.Expression]] = {}
    for area, part in zip(parts.areas, models, strict=True):
        for i, end in enumerate(area.tie_ends):
            copies.setdefault(end.tie, []).append(part.boundary[3 * i : 3 * i + 3])
    constraints += [one == other for one, other in copies.values()]
    whole = cp.Problem(cp.Minimize(sum(part.problem.objective.expr for part in models)), constraints)
    whole.solve(solver=cp.CLARABEL)
    assert whole.value == pytest.approx(optimum(case), rel=1e-6)


def test_minimizing_losses_gives_fewer_losses_at_a_higher_cost(cheapest: Result) -> None:
    least = solve(read_case("ieee123", {"objective": "losses"}), CENTRALIZED)
    assert least.state.losses_kw.sum() < cheapest.state.losses_kw.sum() - 0.5
    assert least.cost > cheapest.cost
    assert least.objective == pytest.approx(least.state.losses_kw.sum(), abs=1e-2)


def test_minimizing_voltage_deviation_flattens_the_voltage(cheapest: Result) -> None:
    changes = {"objective": "voltage_deviation", "voltage_deviation_weight": 100}
    flat = solve(read_case("ieee123", changes), CENTRALIZED)
    # All but the substation's, which is given.
    least, more = (((result.state.v_pu[1:] ** 2 - 1) ** 2).sum() for result in (flat, cheapest))
    assert least < 0.9 * more
    deviation = 100 * least
    assert flat.objective == pytest.approx(flat.cost + deviation, rel=1e-5)


def test_a_cap_on_substation_power_is_kept(cheapest: Result) -> None:
    free = cheapest.state.substation_p_kw.max()
    capped = solve(read_case("ieee123", {"objective": "peak", "substation_peak_kw": 0.95 * free}), CENTRALIZED)
    assert capped.state.substation_p_kw.max() == pytest.approx(0.95 * free, rel=1e-5)


def test_without_devices_and_ties_the_problem_still_compiles() -> None:
    case = read_case("ieee123", {"pv_percent": 0, "battery_percent": 0, "periods": 1})
    assert solve_conic(build(one_area(case).areas[0])).status in SOLVED
