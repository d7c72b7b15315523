"""Coordination methods as functions of arrays: small quadratic areas, no MPI, no solver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from feeders import Watched, agree, optimum, task

from tieflow.common.arrays import Floats
from tieflow.common.case import read_case
from tieflow.common.ties.area_case import AreaSolution, Tie
from tieflow.common.ties.boundary import (
    BALANCED,
    CHILD,
    MULTIPHASE,
    PARENT,
    SOLVED,
    AreaProposal,
    AreaReport,
    AreaResponse,
    Boundary,
    P,
    Q,
    Response,
    join,
)
from tieflow.common.ties.cutting import partition
from tieflow.common.wire.messages import Command, Open
from tieflow.common.wire.transport import InProcess, Part
from tieflow.coordinator.anderson import Anderson, accelerate
from tieflow.coordinator.certificates import lower_bound
from tieflow.coordinator.loop import Task
from tieflow.coordinator.methods import CENTRALIZED, METHODS, admm, dlmp, enapp, newton
from tieflow.coordinator.record import Outcome

PERIODS = 3
Z = 0.01 + 0.02j
"""of both ties"""


@dataclass
class QuadraticArea:
    """An area whose own cost is 1/2 (b - center)' stiffness (b - center)."""

    center: Floats
    stiffness: Floats
    has_root: bool

    def optimum(self, proposal: AreaProposal) -> AreaResponse:
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
            iterations=1,
            solve_s=0.0,
            area_s=0.0,
        )
        return AreaResponse(value, self.stiffness * away, -np.diag(1 / total.ravel()), report)

    def solution(self) -> AreaSolution:
        raise NotImplementedError

    def diagnosis(self, proposal: AreaProposal) -> dict[str, float]:
        raise NotImplementedError


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
        times=("",) * PERIODS,
        energy_price=np.ones(PERIODS),
        loss_price=np.ones(PERIODS),
        forecast=np.zeros((2, 3, PERIODS)),
        cost_ceiling=1e6,
    )
    return boundary, areas, best, cost


@dataclass
class Chain:
    """Three areas in a row, to be brought to agreement by any method; the optimal boundary and its cost."""

    boundary: Boundary
    areas: Sequence[QuadraticArea]
    best: Floats
    cost: float
    max_rounds: int = 300

    def __post_init__(self) -> None:
        parts = [Part(k, slice(0, PERIODS)) for k in range(3)]
        self.transport = Watched(parts, self.areas)  # type: ignore[arg-type]

    def outcome(self, method: str) -> Outcome:
        task = Task(self.boundary, self.transport, ["a", "b", "c"], 1e-8, self.max_rounds)
        return METHODS[method].solve(task)

    def response(self) -> Response:
        """The areas' last answers."""
        return join(self.boundary, self.transport.answers)


def chain_of(seed: int) -> Chain:
    return Chain(*quadratic_chain(seed))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", ["admm", "dlmp"])
def test_a_method_finds_the_optimum_of_quadratic_areas(method: str, seed: int) -> None:
    chain = chain_of(seed)
    outcome = chain.outcome(method)
    assert outcome.converged and not outcome.gave_up
    assert chain.response().value.mean(axis=1) == pytest.approx(chain.best, abs=1e-6)
    assert outcome.objective == pytest.approx(chain.cost, abs=1e-6)


def test_newton_steps_settle_smooth_areas_in_a_few_rounds() -> None:
    assert len(chain_of(0).outcome("admm").rounds) <= 12


@pytest.mark.parametrize("method", ["admm", "dlmp"])
def test_prices_of_the_two_sides_cancel_at_the_end(method: str) -> None:
    chain = chain_of(1)
    outcome = chain.outcome(method)
    slope = chain.response().slope
    assert slope[:, PARENT] == pytest.approx(-slope[:, CHILD], abs=1e-5)
    np.testing.assert_array_equal(outcome.prices, chain.response().prices())


@pytest.mark.parametrize("method", ["admm", "dlmp"])
def test_the_lower_bound_meets_the_optimum(method: str) -> None:
    chain = chain_of(2)
    prices = chain.outcome(method).prices
    assert prices is not None
    bound = lower_bound(chain.boundary, chain.transport, prices)
    assert bound <= chain.cost + 1e-9
    assert bound == pytest.approx(chain.cost, abs=1e-5)


def test_enapp_swaps_voltages_for_powers() -> None:
    chain = chain_of(0)
    state = enapp.start(chain.boundary)
    assert chain.outcome("enapp").converged
    value = chain.response().value
    following = enapp.update(state, chain.response()).proposal
    assert np.all(following.target[:, CHILD, 0] == value[:, PARENT, 0])
    assert np.all(following.target[:, PARENT, 1:] == value[:, CHILD, 1:])
    assert following.fixed[:, PARENT].tolist() == [[False, True, True]] * 2
    assert following.fixed[:, CHILD].tolist() == [[True, False, False]] * 2


def test_enapp_ends_near_the_optimum_not_at_it() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    outcome, *_ = agree(case, "enapp")
    above = outcome.objective / optimum(case) - 1
    assert 1e-6 < above < 1e-4


@pytest.mark.parametrize("method", [admm, dlmp, enapp])
def test_a_method_starts_from_the_forecast(method: ModuleType) -> None:
    boundary, *_ = quadratic_chain(0)
    state = method.start(boundary)
    assert np.all(state.proposal.target == 0)


def test_newton_starts_from_the_forecast() -> None:
    asked = task(partition(read_case("ieee13", {"periods": 2})), max_rounds=1)
    told: list[Open] = []

    class Told(InProcess):
        def exchange(self, command: Command, asks: Sequence[Any]) -> list[Any]:
            if command == Command.OPEN:
                told.extend(asks)
            return super().exchange(command, asks)

    transport = Told(asked.transport.parts, asked.transport._solvers)  # type: ignore[attr-defined]
    newton.solve(replace(asked, transport=transport))
    for own, end in zip(told, asked.boundary.ends, strict=True):
        np.testing.assert_array_equal(own.forecast, asked.boundary.forecast[end[0]])


def test_whoever_takes_over_is_a_method_too_and_finds_the_optimum() -> None:
    for name, method in METHODS.items():
        passed = [name]
        while (following := METHODS[passed[-1]].successor) is not None:
            assert following not in passed
            assert METHODS[following].optimal
            passed.append(following)
        assert passed[-1] in ("newton", CENTRALIZED) or not method.optimal


def test_admm_of_quadratic_areas_that_do_not_tell_how_they_move_combines_its_steps() -> None:
    boundary, areas, best, cost = quadratic_chain(0)
    boundary = replace(
        boundary, quantities=MULTIPHASE, forecast=np.zeros((2, 4, PERIODS)), drop=sp.csr_array(Z * np.eye(2))
    )
    rng = np.random.default_rng(1)
    for area in areas:
        shape = (len(area.center), 1, PERIODS)
        area.center = np.concatenate([area.center, rng.uniform(-1, 1, shape)], axis=1)
        area.stiffness = np.concatenate([area.stiffness, rng.uniform(0.2, 3, shape)], axis=1)
    assert not boundary.tells_sensitivities
    chain = Chain(boundary, areas, best, cost, max_rounds=200)
    assert chain.outcome("admm").converged
    assert chain.response().value[:, :, :3].mean(axis=1) == pytest.approx(best, abs=1e-6)


def test_a_method_that_does_not_get_on_gives_up_and_says_why() -> None:
    boundary, areas, *_ = quadratic_chain(0)

    @dataclass
    class Restless(QuadraticArea):
        """Wants something else every time."""

        def optimum(self, proposal: AreaProposal) -> AreaResponse:
            self.center = -self.center
            return super().optimum(proposal)

    restless = [Restless(area.center, 1e3 * area.stiffness, area.has_root) for area in areas]
    for method, patience in (("admm", admm.PATIENCE), ("dlmp", dlmp.PATIENCE)):
        chain = Chain(boundary, restless, np.zeros(0), 0.0)
        outcome = chain.outcome(method)
        assert not outcome.converged
        assert outcome.gave_up.startswith(f"{method} gave up in round {len(outcome.rounds)}: the ")
        assert f"not halved in {patience} rounds" in outcome.gave_up
        assert outcome.reached is not None and outcome.reached.shape == boundary.forecast.shape


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
