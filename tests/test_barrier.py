"""Softened limits: the central path's points, their derivatives, and where the path ends."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp

from areas.barrier import CentralPath, further, longest
from areas.conic import ConicProblem, compile_problem, solve_conic


def small_problem(seed: int) -> ConicProblem:
    """A quadratic problem with equalities and limits, some of which bind."""
    random = np.random.default_rng(seed)
    x = cp.Variable(6, name="x")
    root = random.normal(size=(3, 6))
    cost = cp.sum_squares(root @ x) + random.normal(size=6) @ x
    limits = [x <= 1.0, x >= -0.5, np.ones(6) @ x == 0.3, random.normal(size=(4, 6)) @ x <= 0.8]
    return compile_problem(cp.Problem(cp.Minimize(cost), limits), {"x": x})


def path_of(problem: ConicProblem) -> CentralPath:
    return CentralPath(problem, sp.csc_matrix((len(problem.c), len(problem.c))))


@pytest.mark.parametrize("seed", range(5))
def test_the_path_ends_at_the_exact_answer(seed: int) -> None:
    problem = small_problem(seed)
    exact = solve_conic(problem)
    path, zero = path_of(problem), np.zeros(len(problem.c))
    for barrier in (1.0, 1e-2, 1e-4, 1e-6, 1e-8):
        point, reached = path.solve(zero, barrier)
        assert reached
        # With m limits the gap of a point of the path is m times the barrier.
        assert -1e-7 <= problem.cost(point.x) - exact.objective <= 1.01 * problem.counts[1] * barrier + 1e-7
    np.testing.assert_allclose(point.x, exact.x, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_steps_with_a_falling_barrier_end_at_the_exact_answer(seed: int) -> None:
    problem = small_problem(seed)
    path, zero = path_of(problem), np.zeros(len(problem.c))
    barrier = 1.0
    point, _ = path.solve(zero, barrier)
    for _ in range(25):
        barrier = max(0.2 * barrier, 1e-9)
        way = path.direction(point, zero, barrier)
        point = further(point, way, longest(point, way))
        assert (point.slack > 0).all() and (point.dual > 0).all()
    np.testing.assert_allclose(point.x, solve_conic(problem).x, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_sensitivities_are_the_derivatives_of_softened_answers(seed: int) -> None:
    problem = small_problem(seed)
    wanted, step, barrier = np.arange(4), 1e-4, 1e-2
    path, zero = path_of(problem), np.zeros(len(problem.c))
    point, _ = path.solve(zero, barrier)
    told = path.sensitivity(point, wanted)
    for k in range(4):
        way = np.zeros(len(problem.c))
        way[k] = step
        moved = path.solve(way, barrier)[0].x - path.solve(-way, barrier)[0].x
        np.testing.assert_allclose(told[:, k], moved[wanted] / (2 * step), atol=1e-4)


def test_where_the_next_step_leads_is_linear_in_the_cost_and_in_the_barrier() -> None:
    problem = small_problem(2)
    path, zero = path_of(problem), np.zeros(len(problem.c))
    point, _ = path.solve(zero, 1e-1)
    here, drift = path.ahead(point, zero, 1e-1)
    moved = path.sensitivity(point, np.arange(len(problem.c)))
    change = np.linspace(-0.3, 0.4, len(problem.c))
    np.testing.assert_allclose(path.ahead(point, change, 3e-2)[0], here + moved @ change - 7e-2 * drift, atol=1e-9)


def test_a_problem_without_an_inside_is_not_reached() -> None:
    x = cp.Variable(2, name="x")
    problem = compile_problem(cp.Problem(cp.Minimize(cp.sum_squares(x)), [x <= -1.0, x >= 1.0]), {"x": x})
    assert not path_of(problem).solve(np.zeros(len(problem.c)), 1e-3)[1]
