"""A multi-phase area at work: what it corrects, what it answers and what it says of its own answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from areas.multiphase_worker import MultiphaseWorker
from common.boundary import ANGLE, CHILD, P, Q, W, make_boundary
from common.case import Case, read_case
from common.partition import one_area, partition
from common.transport import InProcess
from coordinator.loop import run
from coordinator.methods import admm, enapp


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
    assert worker.respond(proposal).report.kept == 0
    target = proposal.target.copy()
    target[:, W] = -5.0
    assert worker.respond(replace(proposal, target=target)).report.kept == 1


def test_softened_limits_lead_to_the_exact_answer_as_the_barrier_vanishes(case: Case) -> None:
    parts = partition(replace(case, settings=case.settings.model_copy(update={"v_max_pu": 1.02})))
    boundary = make_boundary(parts)
    proposal = admm.start(boundary, boundary.forecast).proposal.split(boundary)[1]
    worker = MultiphaseWorker(parts.areas[1])
    exact = worker.respond(proposal)
    # Not a point: the model stays as it is.
    away = [
        float(np.abs(worker.respond(replace(proposal, barrier=barrier, is_point=False)).value - exact.value).max())
        for barrier in (1.0, 1e-2, 1e-4, 1e-7)
    ]
    assert away == sorted(away, reverse=True)
    assert away[-1] < 1e-5 < away[0]
