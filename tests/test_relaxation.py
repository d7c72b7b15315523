"""The area's model as a whole: objectives, and areas that together are the whole."""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import pytest
from device_feeders import feeder
from feeders import optimum

from tieflow.areas.conic import SOLVED, solve_conic
from tieflow.areas.relaxation import build, model
from tieflow.common.case import Case, read_case
from tieflow.common.errors import InfeasibleError
from tieflow.common.inputs.devices import PV, Battery
from tieflow.common.results.result import Result
from tieflow.common.results.terms import objective_terms, objective_value
from tieflow.common.ties.cutting import one_area, partition
from tieflow.launch.runs.solve import Options, solve

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
    problem, *_ = model(one_area(case).areas[0])
    problem.solve(solver=cp.CLARABEL)
    assert optimum(case) == pytest.approx(problem.value, rel=1e-6)


def test_areas_held_together_are_the_whole_feeder() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    parts = partition(case)
    models = [model(area) for area in parts.areas]
    constraints = [constraint for problem, *_ in models for constraint in problem.constraints]
    copies: dict[int, list[cp.Expression]] = {}
    for area, (_, variables, _) in zip(parts.areas, models, strict=True):
        for i, end in enumerate(area.tie_ends):
            copies.setdefault(end.tie, []).append(variables["boundary"][3 * i : 3 * i + 3])
    constraints += [one == other for one, other in copies.values()]
    whole = cp.Problem(cp.Minimize(sum(problem.objective.expr for problem, *_ in models)), constraints)
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


SUNNY = {"der_fraction": 3.0, "pv_percent": 60, "battery_percent": 10}


def sunny(curtailable: bool = True, **given: float) -> Case:
    """The shipped case with far more sun than load, as one area."""
    case = read_case("ieee123", SUNNY | given)
    pv = tuple(unit.model_copy(update={"curtailable": curtailable}) for unit in case.pv)
    return replace(case, pv=pv, areas=())


@pytest.mark.parametrize("method", ["admm", "newton"])
def test_without_a_limit_power_flows_back_and_earns_the_price_of_its_hour(method: str) -> None:
    result = solve(sunny(), Options(method))
    assert result.check is not None and result.check.passed
    assert set(result.history.method) == {method} and result.relaxation_gap_pu <= 1e-6
    assert result.state.substation_p_kw.min() < -100
    assert result.objective == pytest.approx(objective_value(result.case, result.schedule, result.state), rel=1e-6)
    # A limit that is not reached changes nothing; half of it costs something.
    most = -result.state.substation_p_kw.min()
    wider, half = (
        solve(sunny(substation_export_kw=share * most), Options(method, check=False)) for share in (1.1, 0.5)
    )
    assert wider.objective == pytest.approx(result.objective, rel=1e-6)
    assert half.state.substation_p_kw.min() == pytest.approx(-0.5 * most, rel=1e-4)
    assert half.objective > result.objective


@pytest.mark.parametrize("method", ["admm", "newton"])
def test_a_feeder_that_may_not_export_does_not(method: str) -> None:
    result = solve(sunny(substation_export_kw=0, der_fraction=1.5), Options(method, check=False))
    assert result.converged and set(result.history.method) == {method}
    assert -1e-3 <= result.state.substation_p_kw.min() < 1.0


@pytest.mark.parametrize("method", ["admm", "newton", "centralized"])
def test_a_feeder_that_may_not_export_what_it_must_is_refused_though_its_relaxation_has_an_answer(method: str) -> None:
    case = sunny(curtailable=False, substation_export_kw=0)
    assert solve(case, Options("enapp", check=False)).relaxation_gap_pu > 1e-6
    with pytest.raises(InfeasibleError, match=r"substation_export_kw = 0 cannot be kept: .* 4 of 5 periods are beyond"):
        solve(case, Options(method))


def test_where_exported_energy_earns_less_the_battery_keeps_it() -> None:
    # At noon the sun gives more than the load takes. A kWh stored then gives back 0.81 kWh: at 0.21 $ per kWh that is
    # less than the 0.2 $ that it would have earned, and more than 0.05 $.
    pv = (PV(bus="b", p_rated_kw=600, s_rated_kva=700),)
    battery = (Battery(bus="b", p_rated_kw=80, s_rated_kva=100, energy_kwh=400, eta_charge=0.9, eta_discharge=0.9),)

    def best(**given: object) -> Result:
        limits = {"v_max_pu": 1.2, **given}
        case = feeder("balanced", (0, 1, 0), (0.21, 0.2, 0.21), given=limits, pv=pv, batteries=battery)
        result = solve(case, Options("centralized"))
        assert result.check is not None and result.check.passed and result.relaxation_gap_pu <= 1e-6
        assert result.objective == pytest.approx(objective_value(case, result.schedule, result.state), rel=1e-6)
        assert result.check.cost == pytest.approx(objective_terms(case, result.schedule, result.state)["energy"])
        return result

    same, cheap = best(), best(export_price_per_kwh=0.05)
    assert same.state.substation_p_kw[1] < -50
    assert same.schedule.batteries["charge_kw"].max() < 1e-3
    assert cheap.schedule.batteries["charge_kw"][0, 1] > 50
    level = best(export_price_per_kwh=0.2)
    assert level.objective == pytest.approx(same.objective, rel=1e-6)


@pytest.mark.parametrize(("objective", "more"), [("cost", 3), ("losses", 0)])
def test_exported_energy_is_a_variable_only_where_it_costs_something(objective: str, more: int) -> None:
    # Elsewhere nothing would tell its value.
    given = {"objective": objective, "periods": 5, "price_low_per_kwh": 0.1, "price_high_share": 0.6}
    plain, other = (
        build(one_area(read_case("ieee123", given | earned)).areas[0]) for earned in ({}, {"export_price_per_kwh": 0.1})
    )
    assert len(other.c) - len(plain.c) == more


def test_a_negative_price_loosens_the_relaxation_so_newton_takes_over_and_says_so() -> None:
    case = read_case("ieee123", {"price_low_per_kwh": -0.05, "price_high_per_kwh": 0.3})
    whole = replace(case, areas=())
    exact = solve(case, Options("newton"))
    for asked, reason in ((case, "admm gave up in round "), (whole, "the cone relaxation that admm solves is loose, ")):
        result = solve(asked, Options("admm"))
        assert list(dict.fromkeys(result.history.method)) == ["admm", "newton"]
        (note,) = [note for note in result.notes if "newton takes over" in note]
        assert note.startswith(reason)
        assert result.objective == pytest.approx(exact.objective, rel=1e-7)
        assert result.converged and result.relaxation_gap_pu == 0
        # Taking energy is paid for, and wasting it would be, which no battery can.
        assert result.relaxed_objective is not None and result.relaxed_objective < result.objective
        assert result.check is not None and result.check.passed
        assert not any("relaxation is loose on" in note for note in result.notes)
    # A method that does not look for the optimum keeps its answer, and tells.
    swapped = solve(whole, Options("enapp", check=False))
    assert swapped.relaxation_gap_pu > 1e-6
    assert any("the cone relaxation is loose on" in note for note in swapped.notes)


def test_without_devices_and_ties_the_problem_still_compiles() -> None:
    case = read_case("ieee123", {"pv_percent": 0, "battery_percent": 0, "periods": 1})
    assert solve_conic(build(one_area(case).areas[0])).status in SOLVED
