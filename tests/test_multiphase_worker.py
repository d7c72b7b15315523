"""A multi-phase area at work: what it corrects, what it answers and what it says of its own answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from areas.multiphase_worker import MultiphaseWorker
from common.boundary import ANGLE, CHILD, INFEASIBLE, AreaProposal, AreaResponse, P, Q, W, make_boundary
from common.case import Case, read_case
from common.errors import SolverError
from common.partition import one_area, partition
from common.transport import InProcess
from coordinator.loop import run
from coordinator.methods import admm, enapp
from launch.api import with_areas
from launch.solve import CENTRALIZED, Options, solve


@pytest.fixture(scope="module")
def case() -> Case:
    return read_case("ieee13", {"periods": 3})


def test_an_area_held_at_the_idle_point_answers_with_the_idle_power_flow(case: Case) -> None:
    parts = partition(replace(case, pv=(), batteries=()))
    boundary = make_boundary(parts)
    workers = InProcess([MultiphaseWorker(area) for area in parts.areas])
    answers = workers.exchange(enapp.start(boundary).proposal.split(boundary))
    for end, answer in zip(boundary.ends, answers, strict=True):
        np.testing.assert_allclose(answer.value, boundary.forecast[end[0]], atol=1e-7)
        assert answer.report.model_error < 1e-7


def test_the_forecast_of_both_sides_is_one_operating_point(case: Case) -> None:
    parts = partition(replace(case, pv=(), batteries=()))
    boundary = make_boundary(parts)
    physical = boundary.physical(np.stack([boundary.forecast] * 2, axis=1))[:, CHILD]
    # Of a feeder with load: lower than without, and power flows away from the substation.
    assert (physical[:, W].mean(axis=0) < 0).all()
    assert (physical[:, P] > 0).all()
    assert np.abs(physical[:, ANGLE]).max() < 0.2
    assert np.isfinite(physical[:, Q]).all()


def test_corrections_alone_settle_a_single_area(case: Case) -> None:
    parts = one_area(case)
    boundary = make_boundary(parts)
    outcome = run(boundary, InProcess([MultiphaseWorker(parts.areas[0])]), ["all"], "admm", 1e-5, 10)
    errors = [round_.residuals.model_error for round_ in outcome.rounds]
    assert outcome.converged
    assert len(errors) <= 4
    assert errors[0] > 1e-4
    assert errors == sorted(errors, reverse=True)


def test_a_point_without_a_power_flow_leaves_the_model_as_it_was(case: Case) -> None:
    parts = partition(case)
    boundary = make_boundary(parts)
    child = next(i for i, area in enumerate(parts.areas) if not area.has_substation)
    worker = MultiphaseWorker(parts.areas[child])
    proposal = admm.start(boundary).proposal.split(boundary)[child]
    proposal = replace(proposal, barrier=0.0)
    assert worker.respond(proposal).report.kept == 0
    target = proposal.target.copy()
    target[:, W] = -5.0
    assert worker.respond(replace(proposal, target=target)).report.kept == 1


def step(worker: MultiphaseWorker, proposal: AreaProposal) -> AreaResponse:
    """As far towards a proposal as the area can go."""
    return worker.respond(replace(proposal, length=worker.reach(proposal)))


def test_steps_of_an_area_alone_lead_to_its_exact_answer_as_the_barrier_vanishes(case: Case) -> None:
    parts = partition(replace(case, settings=case.settings.model_copy(update={"v_max_pu": 1.02})))
    boundary = make_boundary(parts)
    proposal = replace(admm.start(boundary).proposal.split(boundary)[1], is_point=False)
    worker = MultiphaseWorker(parts.areas[1])
    barrier, least = 1.0, boundary.least_barrier
    worker.respond(replace(proposal, barrier=barrier))
    while barrier > least:
        barrier = max(barrier * 0.2, least)
        step(worker, replace(proposal, barrier=barrier))
    for _ in range(5):
        response = step(worker, replace(proposal, barrier=least))
    assert worker.reach(replace(proposal, barrier=least)) == 1.0
    exact = worker.respond(replace(proposal, barrier=0.0))
    # Both at models corrected where their own last answers were, which are the same.
    np.testing.assert_allclose(response.value, exact.value, atol=1e-5)


def test_an_area_steps_as_far_as_it_is_told_however_often_it_was_asked(case: Case) -> None:
    parts = partition(case)
    boundary = make_boundary(parts)
    proposal = admm.start(boundary).proposal.split(boundary)[1]
    moved, far = (replace(proposal, price=proposal.price * factor) for factor in (1.3, 100.0))
    asked, once, shorter = workers = [MultiphaseWorker(parts.areas[1]) for _ in range(3)]
    for worker in workers:
        worker.respond(proposal)
    assert asked.reach(far) < 1.0
    whole = step(asked, moved)
    np.testing.assert_array_equal(step(once, moved).value, whole.value)
    share = shorter.reach(moved)
    assert np.abs(shorter.respond(replace(moved, length=share / 4)).value - whole.value).max() > 1e-9


def test_a_step_before_the_first_point_is_refused(case: Case) -> None:
    parts = partition(case)
    boundary = make_boundary(parts)
    proposal = admm.start(boundary).proposal.split(boundary)[1]
    worker = MultiphaseWorker(parts.areas[1])
    with pytest.raises(SolverError, match="before it has a point"):
        worker.reach(proposal)
    worker.respond(proposal)
    with pytest.raises(SolverError, match="before its length was asked for"):
        worker.respond(proposal)


def test_the_drift_tells_what_another_barrier_would_have_changed(case: Case) -> None:
    parts = partition(case)
    boundary = make_boundary(parts)
    proposal = admm.start(boundary).proposal.split(boundary)[1]
    values = []
    for factor in (1.0, 0.9):
        worker = MultiphaseWorker(parts.areas[1])
        worker.respond(proposal)
        moved = replace(proposal, price=proposal.price * 1.1)
        # The same step, and another barrier where the next one is told.
        length = worker.reach(moved)
        told = worker.respond(replace(moved, length=length, barrier=factor * proposal.barrier))
        values.append(told.value)
    assert told.drift is not None
    np.testing.assert_allclose(values[1] - values[0], -0.1 * proposal.barrier * told.drift, atol=1e-7)


def test_an_area_without_a_feasible_schedule_says_so_in_the_first_round(case: Case) -> None:
    parts = partition(case)
    proposal = admm.start(make_boundary(parts)).proposal.split(make_boundary(parts))[1]
    # Its loads need more than may come through its tie.
    response = MultiphaseWorker(replace(parts.areas[1], flow_limit=1e-3)).respond(proposal)
    assert response.report.status == INFEASIBLE


def test_limits_overstepped_all_over_a_feeder_do_not_keep_areas_from_agreeing() -> None:
    case = read_case("ieee123_unbalanced", {"periods": 2, "v_min_pu": 0.985, "v_max_pu": 1.035})
    whole = solve(case, Options(CENTRALIZED, tolerance_pu=1e-8, check=False))
    areas = solve(case, Options("admm", check=False))
    assert whole.converged and areas.converged
    assert len(areas.oversteps) > 50
    assert len(areas.history.cost) <= 40
    assert areas.objective == pytest.approx(whole.objective, rel=1e-5)


def test_sixteen_areas_deep_below_each_other_find_the_optimum_of_one() -> None:
    case = read_case("ieee123_unbalanced", {"periods": 1})
    whole = solve(case, Options(CENTRALIZED, check=False))
    areas = solve(with_areas(case, 16), Options("admm", check=False))
    assert areas.converged and len(areas.areas) == 16
    assert len(areas.history.cost) <= 40
    assert areas.cost == pytest.approx(whole.cost, rel=1e-6)
