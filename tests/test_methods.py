"""Coordination methods as functions of arrays: small quadratic areas, no MPI, no solver."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import scipy.sparse as sp
from feeders import agree, objective, optimum

from areas.multiphase_worker import MultiphaseWorker
from common.boundary import (
    BALANCED,
    CHILD,
    PARENT,
    SOLVED,
    AreaProposal,
    AreaReport,
    AreaResponse,
    Boundary,
    P,
    Proposal,
    Q,
    join,
    make_boundary,
)
from common.case import read_case
from common.feeder import Floats
from common.partition import Tie, partition
from common.schedule import AreaSolution
from common.transport import InProcess
from coordinator.anderson import Anderson, accelerate
from coordinator.loop import METHODS, Outcome, lower_bound, run
from coordinator.methods import admm, enapp

PERIODS = 3
Z = 0.01 + 0.02j
"""of both ties"""


@dataclass
class QuadraticArea:
    """An area whose own cost is 1/2 (b - center)' stiffness (b - center)."""

    center: Floats
    stiffness: Floats
    has_root: bool

    def reach(self, proposal: AreaProposal) -> float:
        return 1.0

    def respond(self, proposal: AreaProposal) -> AreaResponse:
        curvature = proposal.curvature.copy()
        if self.has_root:
            # Losses in the resistance upstream are resistance * (p^2 + q^2).
            curvature[0, P : Q + 1] += 2 * Z.real * proposal.upstream
        total = self.stiffness + curvature
        value = (self.stiffness * self.center - proposal.price + curvature * proposal.target) / total
        value = np.where(proposal.fixed[..., None], proposal.target, value)
        away = value - self.center
        own = float(0.5 * (self.stiffness * away**2).sum())
        added = float((proposal.price * value + 0.5 * curvature * (value - proposal.target) ** 2).sum())
        report = AreaReport(
            status=SOLVED,
            energy_cost=own,
            objective=own,
            dual_objective=own + added,
            relaxation_gap=0.0,
            model_error=0.0,
            change=0.0,
            kept=0.0,
            iterations=1,
            solve_s=0.0,
            area_s=0.0,
        )
        return AreaResponse(value, self.stiffness * away, -np.diag(1 / total.ravel()), report)

    def solution(self) -> AreaSolution:
        raise NotImplementedError

    def diagnosis(self) -> str:
        return "feasible"


def quadratic_chain(seed: int) -> tuple[Boundary, list[QuadraticArea], Floats, float]:
    """Three areas in a row with two ties; the boundary, the areas, the optimal boundary and its cost."""
    rng = np.random.default_rng(seed)
    ties = tuple(Tie(bus=f"b{i}", parent=i, child=i + 1, z=np.array([[Z]])) for i in range(2))
    ends = [[(0, PARENT)], [(0, CHILD), (1, PARENT)], [(1, CHILD)]]
    shape = (2, 2, 3, PERIODS)
    # Parents hold w, children hold p and q, as feeders do.
    scale = np.array([[2.0, 0.1, 0.1], [0.1, 3.0, 3.0]])[None, :, :, None]
    stiffness = scale * rng.uniform(0.5, 2, shape)
    center = rng.uniform(-1, 1, shape)
    areas = [
        QuadraticArea(
            center[tuple(zip(*own, strict=True))], stiffness[tuple(zip(*own, strict=True))], has_root=own[0][1] == CHILD
        )
        for own in ends
    ]
    best = (stiffness * center).sum(axis=1) / stiffness.sum(axis=1)
    cost = float(0.5 * (stiffness * (best[:, None] - center) ** 2).sum())
    boundary = Boundary(
        ties=ties,
        ends=tuple(tuple(np.array(part) for part in zip(*own, strict=True)) for own in ends),  # type: ignore[misc]
        quantities=BALANCED,
        conductors=((0, 1), (1, 1)),
        drop=sp.csr_array(2 * Z * np.eye(2)),
        hours=tuple(range(PERIODS)),
        energy_price=np.ones(PERIODS),
        loss_price=np.ones(PERIODS),
        forecast=np.zeros((2, 3, PERIODS)),
        cost_ceiling=1e6,
    )
    return boundary, areas, best, cost


def run_chain(seed: int, method: str) -> tuple[Outcome, Boundary, list[QuadraticArea], Floats, float]:
    boundary, areas, best, cost = quadratic_chain(seed)
    outcome = run(boundary, InProcess(areas), ["a", "b", "c"], method, 1e-8, 300)
    return outcome, boundary, areas, best, cost


@pytest.mark.parametrize("seed", range(3))
def test_admm_finds_the_optimum_of_quadratic_areas(seed: int) -> None:
    outcome, _, _, best, cost = run_chain(seed, "admm")
    assert outcome.converged
    assert outcome.response.value.mean(axis=1) == pytest.approx(best, abs=1e-6)
    assert sum(report.objective for report in outcome.response.reports) == pytest.approx(cost, abs=1e-6)


def test_newton_steps_settle_smooth_areas_in_a_few_rounds() -> None:
    outcome, *_ = run_chain(0, "admm")
    assert len(outcome.rounds) <= 12


@pytest.mark.parametrize("seed", range(3))
def test_dlmp_finds_the_optimum_of_quadratic_areas(seed: int) -> None:
    outcome, _, _, best, _ = run_chain(seed, "dlmp")
    assert outcome.converged
    assert outcome.response.value.mean(axis=1) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("method", ["admm", "dlmp"])
def test_prices_of_the_two_sides_cancel_at_the_end(method: str) -> None:
    slope = run_chain(1, method)[0].response.slope
    assert slope[:, PARENT] == pytest.approx(-slope[:, CHILD], abs=1e-5)


@pytest.mark.parametrize("method", ["admm", "dlmp"])
def test_the_lower_bound_meets_the_optimum(method: str) -> None:
    outcome, boundary, areas, _, cost = run_chain(2, method)
    bound = lower_bound(boundary, InProcess(areas), outcome.response)
    assert bound <= cost + 1e-9
    assert bound == pytest.approx(cost, abs=1e-5)


def test_enapp_swaps_voltages_for_powers() -> None:
    boundary, areas, _, _ = quadratic_chain(0)
    state = enapp.start(boundary)
    outcome = run(boundary, InProcess(areas), ["a", "b", "c"], "enapp", 1e-8, 100)
    assert outcome.converged
    following = enapp.update(state, outcome.response).proposal
    assert np.all(following.target[:, CHILD, 0] == outcome.response.value[:, PARENT, 0])
    assert np.all(following.target[:, PARENT, 1:] == outcome.response.value[:, CHILD, 1:])
    assert following.fixed[:, PARENT].tolist() == [[False, True, True]] * 2
    assert following.fixed[:, CHILD].tolist() == [[True, False, False]] * 2


def test_enapp_ends_near_the_optimum_not_at_it() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    outcome, _ = agree(case, "enapp")
    above = objective(outcome) / optimum(case) - 1
    assert 1e-6 < above < 1e-4


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_method_starts_from_the_forecast(method: str) -> None:
    boundary, *_ = quadratic_chain(0)
    state = METHODS[method].start(boundary)
    assert np.all(state.proposal.target == 0)
    assert state.failing is None


@pytest.mark.parametrize(
    ("shares", "fall", "asked"),
    [((1.0, 0.95), 0.1, 1), ((0.6, 1.0), 0.5, 3), ((1.0, 0.45), 0.75, 4), ((0.3, 0.2), 1, 5)],
)
def test_the_barrier_falls_as_far_as_all_areas_can_follow(shares: tuple[float, ...], fall: float, asked: int) -> None:
    parts = partition(read_case("ieee13", {"periods": 1}))
    boundary = make_boundary(parts)
    state = admm.start(boundary)
    workers = InProcess([MultiphaseWorker(area) for area in parts.areas])
    state = admm.update(state, join(boundary, workers.exchange(state.proposal.split(boundary))))
    barriers: list[float] = []

    def reaches(proposal: Proposal) -> tuple[float, ...]:
        barriers.append(proposal.barrier)
        return shares

    found = admm.within_reach(state, reaches)
    assert found.barrier == found.proposal.barrier == barriers[-1] == pytest.approx(fall * state.barrier)
    assert len(barriers) == asked
    assert found.proposal.length == min(shares)
    assert admm.within_reach(found, reaches) is found
    nearly = replace(state, barrier=3 * boundary.least_barrier)
    # Exactly: a run that ends above it has not converged.
    assert admm.within_reach(nearly, lambda _: (1.0,)).barrier == boundary.least_barrier


def test_anderson_solves_a_linear_fixed_point_in_as_many_steps_as_it_has_dimensions() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.uniform(-0.4, 0.4, (4, 4))
    offset = rng.uniform(-1, 1, 4)
    point, history = np.zeros(4), Anderson(memory=6)
    for _ in range(7):
        history, point = accelerate(history, point, matrix @ point + offset)
    assert point == pytest.approx(np.linalg.solve(np.eye(4) - matrix, offset), abs=1e-4)


def test_anderson_remembers_no_more_than_it_may() -> None:
    history = Anderson(memory=2)
    for k in range(6):
        history, _ = accelerate(history, np.array([float(k), 0.0]), np.array([0.5 * k, 1.0 / (k + 1)]))
    assert len(history.points) == len(history.images) == 3
