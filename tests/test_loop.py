"""Rounds on the shipped case: record, giving up, proof of infeasibility, bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feeders import agree, areas_for, optimum, task

from tieflow.common.case import Case, read_case
from tieflow.common.errors import InfeasibleError, SolverError
from tieflow.common.wire.messages import Command
from tieflow.common.wire.transport import Spent
from tieflow.coordinator.certificates import lower_bound
from tieflow.coordinator.convergence import Residuals
from tieflow.coordinator.methods import METHODS
from tieflow.coordinator.record import Round, history

BINDING = {"der_fraction": 0.35, "v_min_pu": 1.007}


@pytest.mark.parametrize("method", ["admm", "newton"])
def test_the_record_has_one_line_a_round(method: str) -> None:
    seen: list[Round] = []
    asked = task(areas_for(read_case("ieee123"), method))
    outcome = METHODS[method].solve(replace(asked, on_round=seen.append))
    past = history(outcome.rounds)
    assert outcome.converged
    assert tuple(seen) == outcome.rounds
    assert [round_.number for round_ in seen] == list(range(1, len(seen) + 1))
    assert past.method == (method,) * len(seen)
    assert past.solve_s.shape == past.area_s.shape == (len(seen), 4)
    assert np.all(np.diff(past.elapsed_s) > 0)
    assert past.mismatch_pu[-1] <= 1e-5
    assert np.isinf(past.change_pu[0])
    # A joint step ends by its first-order residual: the step to the last point is as long as its quadratic end needs.
    assert past.change_pu[-1] <= (1e-5 if method == "admm" else 1e-3)
    assert past.critical_path_s() <= past.elapsed_s[-1]
    assert past.cpu_s.shape == (len(seen), 2)
    assert (past.cpu_s > 0).all()


def test_areas_in_one_process_spend_no_time_on_communication() -> None:
    for method in ("admm", "newton"):
        outcome = METHODS[method].solve(task(areas_for(read_case("ieee123", {"periods": 2}), method)))
        past = history(outcome.rounds)
        # What is left are the calls themselves.
        assert past.communication_s.sum() < 0.2 * past.area_s.sum()


def test_newton_knows_how_far_the_whole_is_from_its_optimum_and_admm_does_not() -> None:
    case = read_case("ieee123")
    newton, admm = (METHODS[name].solve(task(areas_for(case, name))) for name in ("newton", "admm"))
    assert newton.optimality is not None and newton.optimality <= 1e-8
    assert history(newton.rounds).optimality[-1] == newton.optimality
    assert history(newton.rounds).optimality[0] > 1e-3
    assert admm.optimality is None
    assert np.isnan(history(admm.rounds).optimality).all()
    assert newton.objective == pytest.approx(admm.objective, rel=1e-6)


def test_a_record_of_methods_that_cut_differently_has_room_for_all() -> None:
    def line(method: str, areas: int) -> Round:
        return Round(1, method, Residuals(0.0, 0.0), 1.0, 1.0, 0.0, 0.0, (1.0,) * areas, (2.0,) * areas)

    past = history((line("admm", 2), line("newton", 3)))
    assert past.area_s.tolist() == [[2, 2, 0], [2, 2, 2]]
    assert history(()).area_s.shape == (0, 0)


def test_the_busiest_rank_is_the_one_with_most_work_in_all_its_parts() -> None:
    spent = Spent(np.array([1.0, 2.0, 2.5]), np.array([3.0, 1.0, 2.0]), (1, 1, 2))
    assert spent.critical_s() == (3.0, 4.0)


@pytest.mark.parametrize("method", ["admm", "newton"])
def test_a_run_out_of_rounds_is_not_converged(method: str) -> None:
    outcome = METHODS[method].solve(task(areas_for(read_case("ieee123"), method), max_rounds=3))
    assert not outcome.converged
    assert len(outcome.rounds) == 3


def test_dlmp_that_cannot_settle_gives_up_at_a_boundary_to_go_on_from() -> None:
    asked = task(areas_for(read_case("ieee123", BINDING), "dlmp"))
    outcome = METHODS["dlmp"].solve(asked)
    assert not outcome.converged and not outcome.infeasible
    assert outcome.gave_up.startswith(f"dlmp gave up in round {len(outcome.rounds)}: the mismatch has not halved")
    assert outcome.reached is not None
    # Powers of the best round, voltages of the forecast.
    np.testing.assert_array_equal(outcome.reached[:, 0], asked.boundary.forecast[:, 0])
    assert (outcome.reached[:, 1:] != asked.boundary.forecast[:, 1:]).all()


@pytest.mark.parametrize("method", ["admm", "dlmp"])
def test_the_bound_certifies_the_gap_to_the_optimum(method: str) -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    asked = task(areas_for(case, method))
    prices = METHODS[method].solve(asked).prices
    assert prices is not None
    bound, best = lower_bound(asked.boundary, asked.transport, prices), optimum(case)
    assert bound <= best * (1 + 1e-7)
    assert bound == pytest.approx(best, rel=1e-6)


def test_the_bound_of_enapp_is_honest_about_its_prices() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    asked = task(areas_for(case, "enapp"))
    prices = METHODS["enapp"].solve(asked).prices
    assert prices is not None
    assert lower_bound(asked.boundary, asked.transport, prices) <= optimum(case)


def test_there_is_no_bound_at_prices_that_leave_an_area_no_schedule() -> None:
    asked = task(areas_for(limited("67", "68", amperes=1.0), "admm"))
    with pytest.raises(SolverError, match="no lower bound: an area's solver says infeasible at the final prices"):
        lower_bound(asked.boundary, asked.transport, asked.boundary.forecast)


def test_limits_that_contradict_each_other_across_areas_are_proved_infeasible() -> None:
    with pytest.raises(InfeasibleError, match=r"because of voltage limits .* at bus '.+', \d\d:00\."):
        agree(read_case("ieee123", {"der_fraction": 0.35, "v_min_pu": 1.03}), "admm")


def test_an_area_that_is_infeasible_by_itself_is_named() -> None:
    with pytest.raises(InfeasibleError, match="area 2 is infeasible by itself because of branch current limits"):
        agree(limited("67", "68", amperes=1.0), "admm")


def test_a_cap_that_the_devices_cannot_keep_is_proved_infeasible() -> None:
    with pytest.raises(InfeasibleError, match="substation power cap"):
        agree(read_case("ieee123", {"substation_peak_kw": 100}), "admm")


def limited(from_bus: str, to_bus: str, amperes: float) -> Case:
    """The shipped case with a current limit on one branch."""
    case = read_case("ieee123")
    rows = [
        row.model_copy(update={"i_max_a": amperes}) if (row.from_bus, row.to_bus) == (from_bus, to_bus) else row
        for row in case.branches
    ]
    return replace(case, branches=tuple(rows))


def test_enapp_with_an_area_that_cannot_live_with_its_voltage_gives_up() -> None:
    outcome, *_ = agree(read_case("ieee123", {"der_fraction": 0.35, "v_min_pu": 1.0095}), "enapp")
    assert outcome.gave_up == "enapp gave up in round 2: an area cannot live with the voltage that its parent offers"
    assert outcome.infeasible and not outcome.converged
    assert np.isinf(outcome.rounds[-1].residuals.mismatch)


def test_an_attempt_to_prove_infeasibility_does_not_touch_what_is_stored() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35, "v_min_pu": 1.0088})
    asked = task(areas_for(case, "admm"), 1e-9, 20)
    exchange, told = asked.transport.exchange, []

    def watched(command: Command, asks: list) -> list:  # type: ignore[type-arg]
        told.append(exchange(command, asks))
        return told[-1]

    asked.transport.exchange = watched  # type: ignore[method-assign, assignment]
    outcome = METHODS["admm"].solve(asked)
    # A proof was tried, after round 10.
    assert len(told) > len(outcome.rounds) == 20
    for k, solution in enumerate(asked.transport.solutions()):
        kept = solution.values["boundary"].reshape(-1, 3, len(case.horizon))
        np.testing.assert_array_equal(kept, told[-1][k].value)
