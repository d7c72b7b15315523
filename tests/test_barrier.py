"""Softened limits: the central path's points, their derivatives, and where the path ends."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp

from areas.barrier import solve_barrier
from areas.conic import ConicProblem, compile_problem, solve_conic


def small_problem(seed: int) -> ConicProblem:
    """A quadratic problem with equalities and limits, some of which bind."""
    random = np.random.default_rng(seed)
    x = cp.Variable(6, name="x")
    root = random.normal(size=(3, 6))
    cost = cp.sum_squares(root @ x) + random.normal(size=6) @ x
    limits = [x <= 1.0, x >= -0.5, np.ones(6) @ x == 0.3, random.normal(size=(4, 6)) @ x <= 0.8]
    return compile_problem(cp.Problem(cp.Minimize(cost), limits), {"x": x})


@pytest.mark.parametrize("seed", range(5))
def test_the_path_ends_at_the_exact_answer(seed: int) -> None:
    problem = small_problem(seed)
    nothing = sp.csc_matrix((len(problem.c), len(problem.c)))
    exact = solve_conic(problem)
    start = None
    for barrier in (1.0, 1e-2, 1e-4, 1e-6, 1e-8):
        answer, start = solve_barrier(problem, np.zeros(len(problem.c)), nothing, barrier, start=start)
        assert answer.status == "Solved"
        # With m limits the gap of a point of the path is m times the barrier.
        assert -1e-7 <= answer.objective - exact.objective <= 1.01 * problem.counts[1] * barrier + 1e-7
    np.testing.assert_allclose(answer.x, exact.x, atol=1e-4)


def test_the_answer_does_not_depend_on_where_it_started() -> None:
    problem = small_problem(1)
    nothing = sp.csc_matrix((len(problem.c), len(problem.c)))
    zero = np.zeros(len(problem.c))
    afresh, _ = solve_barrier(problem, zero, nothing, 1e-3)
    _, elsewhere = solve_barrier(problem, zero + 0.3, nothing, 1e-1)
    again, _ = solve_barrier(problem, zero, nothing, 1e-3, start=elsewhere)
    np.testing.assert_allclose(again.x, afresh.x, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_sensitivities_are_the_derivatives_of_softened_answers(seed: int) -> None:
    problem = small_problem(seed)
    nothing = sp.csc_matrix((len(problem.c), len(problem.c)))
    wanted, step = np.arange(4), 1e-4

    def answer(linear: np.ndarray) -> np.ndarray:
        found: np.ndarray = solve_barrier(problem, linear, nothing, 1e-2)[0].x[wanted]
        return found

    zero = np.zeros(len(problem.c))
    told = solve_barrier(problem, zero, nothing, 1e-2, wanted)[0].sensitivity
    for k in range(4):
        way = np.zeros(len(problem.c))
        way[k] = step
        np.testing.assert_allclose(told[:, k], (answer(zero + way) - answer(zero - way)) / (2 * step), atol=1e-4)


def test_a_problem_without_an_inside_is_reported_as_stalled() -> None:
    x = cp.Variable(2, name="x")
    problem = compile_problem(cp.Problem(cp.Minimize(cp.sum_squares(x)), [x <= -1.0, x >= 1.0]), {"x": x})
    answer, _ = solve_barrier(problem, np.zeros(len(problem.c)), sp.csc_matrix((2, 2)), 1e-3)
    assert answer.status == "Stalled"
