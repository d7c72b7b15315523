"""An area of a balanced feeder at work."""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from feeders import agree

from tieflow.areas.relaxed_area import RelaxedArea
from tieflow.common.case import Case, read_case
from tieflow.common.ties.area_case import AreaCase
from tieflow.common.ties.boundary import (
    INFEASIBLE,
    SOLVED,
    SOLVED_AGAIN,
    AreaProposal,
    Boundary,
    P,
    Q,
    W,
    make_boundary,
)
from tieflow.common.ties.cutting import one_area, partition
from tieflow.launch.runs.solve import CENTRALIZED, Options, solve


@pytest.fixture(scope="module")
def area() -> AreaCase:
    """Area 3 of the shipped case, which is a child only."""
    return partition(read_case("ieee123", {"der_fraction": 0.35})).areas[2]


@pytest.fixture(scope="module")
def boundary() -> Boundary:
    return make_boundary(partition(read_case("ieee123", {"der_fraction": 0.35})))


def proposal(area: AreaCase, boundary: Boundary, hold: tuple[int, ...] = (), price: float = 1.0) -> AreaProposal:
    ends = [end.tie for end in area.tie_ends]
    shape = (len(ends), 3, len(area.horizon))
    prices, curvature, fixed = np.zeros(shape), np.zeros(shape), np.zeros((len(ends), 3), bool)
    prices[:, P] = price * boundary.energy_price
    curvature[...] = np.array([4.0, 0.1, 0.1])[:, None] * boundary.loss_price
    fixed[:, list(hold)] = True
    free = np.zeros(len(area.horizon))
    return AreaProposal(prices, boundary.forecast[ends], curvature, fixed, upstream=free, sensitivities=True)


def test_an_answer_is_solved_and_consistent(area: AreaCase, boundary: Boundary) -> None:
    asked = proposal(area, boundary)
    answer = RelaxedArea(area).optimum(asked)
    assert answer.report.status in (SOLVED, SOLVED_AGAIN)
    assert answer.slope == pytest.approx(-(asked.price + asked.curvature * (answer.value - asked.target)))
    assert 0 < answer.report.solve_s <= answer.report.area_s


def test_the_slope_of_a_held_quantity_is_the_derivative_of_the_own_cost(area: AreaCase, boundary: Boundary) -> None:
    worker, asked = RelaxedArea(area), proposal(area, boundary, hold=(W,))

    def value(shift: float) -> float:
        target = asked.target.copy()
        target[0, W, 2] += shift
        report = worker.optimum(replace(asked, target=target)).report
        return report.dual_objective + constant(target)

    def constant(target: np.ndarray) -> float:
        # The solver is not told the constant part of the boundary terms.
        return float(0.5 * (asked.curvature * target**2).sum())

    difference = (value(1e-3) - value(-1e-3)) / 2e-3
    assert worker.optimum(asked).slope[0, W, 2] == pytest.approx(difference, rel=2e-2, abs=1e-3)


def test_losses_upstream_cost_what_the_power_drawn_at_the_root_loses(boundary: Boundary) -> None:
    # Area 2 is a child of one area and the parent of another: its own root alone has anything upstream.
    area = partition(read_case("ieee123", {"der_fraction": 0.35})).areas[1]
    assert [end.side for end in area.tie_ends] == ["child", "parent"]
    asked, upstream = proposal(area, boundary), np.linspace(1, 2, boundary.periods) * boundary.loss_price
    curvature = asked.curvature.copy()
    curvature[0, P : Q + 1] += 2 * area.tie_ends[0].z[0, 0].real * upstream
    told = RelaxedArea(area).optimum(replace(asked, upstream=upstream))
    expected = RelaxedArea(area).optimum(replace(asked, curvature=curvature))
    np.testing.assert_allclose(told.value, expected.value, atol=1e-9)
    np.testing.assert_allclose(told.slope, expected.slope, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(told.sensitivity, expected.sensitivity, atol=1e-9)
    assert np.abs(told.value - RelaxedArea(area).optimum(asked).value).max() > 1e-5


def test_sensitivities_predict_the_answer_to_a_small_change_of_prices(area: AreaCase, boundary: Boundary) -> None:
    worker, asked = RelaxedArea(area), proposal(area, boundary)
    answer = worker.optimum(asked)
    # The voltage price moves the answer smoothly; power prices can make batteries jump.
    change = np.zeros_like(asked.price)
    change[0, W, 1] = 1e-3 * boundary.loss_price[1]
    moved = worker.optimum(replace(asked, price=asked.price + change)).value - answer.value
    predicted = (answer.sensitivity @ change.ravel()).reshape(moved.shape)
    assert np.abs(moved - predicted).max() <= 0.05 * np.abs(moved).max()


def test_a_voltage_that_the_area_cannot_live_with_is_infeasible(area: AreaCase, boundary: Boundary) -> None:
    asked = proposal(area, boundary, hold=(W,))
    answer = RelaxedArea(area).optimum(replace(asked, target=asked.target * 0.5))
    assert answer.report.status == INFEASIBLE


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"v_min_pu": 1.02, "v_max_pu": 1.02}, "voltage limits"),
        ({"substation_peak_kw": 1e-3}, "substation power cap"),
    ],
)
def test_a_diagnosis_tells_the_kind_of_limit_that_is_in_the_way(changes: dict[str, float], kind: str) -> None:
    whole = one_area(read_case("ieee123", changes)).areas[0]
    nothing = np.zeros((0, 3, len(whole.horizon)))
    free = np.zeros(len(whole.horizon))
    alone = AreaProposal(nothing, nothing, nothing, np.zeros((0, 3), bool), upstream=free, sensitivities=False)
    worker = RelaxedArea(whole)
    assert worker.optimum(alone).report.status == INFEASIBLE
    feasible = [told for told, cost in worker.diagnosis(alone).items() if np.isfinite(cost)]
    assert len(feasible) == 1
    assert kind in feasible[0]


def test_each_area_is_canonicalized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    original = cp.Problem.get_problem_data

    def counted(self: cp.Problem, *args: object, **kwargs: object) -> object:
        compiled.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(cp.Problem, "get_problem_data", counted)
    outcome, *_ = agree(read_case("ieee123"), "admm")
    assert len(outcome.rounds) > 1
    assert len(compiled) == 4


def with_row(case: Case, table: str, at: int, **changes: float) -> Case:
    rows = list(getattr(case, table))
    rows[at] = rows[at].model_copy(update=changes)
    return replace(case, **{table: tuple(rows)})


@pytest.mark.parametrize("method", ["admm", "newton"])
@pytest.mark.parametrize("limit", [{}, {"v_min_pu": 1.0088}, {"i_max_a": 380.0}, {"s_max_kva": 940.0}])
def test_the_price_at_a_bus_is_what_one_more_kwh_drawn_there_costs(limit: dict[str, float], method: str) -> None:
    settings = {key: value for key, value in limit.items() if key == "v_min_pu"}
    case = replace(read_case("ieee123", {"der_fraction": 0.35, **settings}), areas=())
    options = Options(method, check=False)
    if limit != settings:
        trunk = next(i for i, row in enumerate(case.branches) if {row.from_bus, row.to_bus} == {"2", "3"})
        case = with_row(case, "branches", trunk, **limit)
    price = solve(case, options).state.nodal_price
    assert price is not None
    at = next(i for i, row in enumerate(case.buses) if row.bus == "66")

    def cost(kw: float) -> float:
        changed = with_row(case, "buses", at, p_load_kw=case.buses[at].p_load_kw + kw)
        return solve(changed, options).objective

    drawn = case.horizon.load * case.horizon.dt
    # The solver's accuracy of the two costs, 1e-8 of each, leaves five digits of their difference.
    assert price[case.balanced_feeder.index["66"]] @ drawn == pytest.approx((cost(1.0) - cost(-1.0)) / 2, rel=1e-5)


def test_areas_that_agree_at_the_optimum_have_its_prices_at_buses() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35, "v_min_pu": 1.007})
    methods = (CENTRALIZED, "admm", "dlmp", "newton")
    whole, *areas = (solve(case, Options(method, 1e-6, check=False)).state.nodal_price for method in methods)
    assert whole is not None
    for told in areas:
        assert told is not None
        np.testing.assert_allclose(told, whole, rtol=0, atol=1e-6)


def test_areas_that_do_not_know_what_their_power_loses_upstream_have_no_prices() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35, "periods": 2})
    run = solve(case, Options("enapp", check=False))
    assert run.converged and run.state.nodal_price is None
    assert solve(replace(case, areas=()), Options("enapp", check=False)).state.nodal_price is not None


def test_a_loose_relaxation_has_no_prices() -> None:
    curtailed = {"pv_percent": 100, "der_fraction": 3, "battery_percent": 0, "substation_export_kw": 0}
    case = replace(read_case("ieee123", {"periods": 1, **curtailed}), areas=())
    # Those of a method that is not meant to find the optimum stay as they are.
    run = solve(case, Options("enapp", check=False))
    assert run.converged and run.relaxation_gap_pu > 1e-6 and run.state.nodal_price is None
