"""The compiled problem, its solver and the sensitivities of its answers, on a small problem with a known answer."""

from __future__ import annotations

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp

from areas.conic import SOLVED, ConicProblem, compile_problem, solve_conic


@pytest.fixture
def problem() -> ConicProblem:
    """minimize t + x^2 subject to (y, x) in the disc of radius t around (3, 0) and 0 <= y <= 2, x + y + u = 1."""
    x, y, t, u = (cp.Variable(1, name=name) for name in "xytu")
    # A cone of four rows, as branch flow has: |(x, y - 3, 0)| <= t.
    cone = cp.SOC(t, cp.vstack([x, y - 3, 0 * x]), axis=0)
    constraints = [cone, y <= 2, y >= 0, x + y + u == 1]
    return compile_problem(cp.Problem(cp.Minimize(cp.sum(t) + cp.sum_squares(x)), constraints), dict(x=x, y=y, u=u))


def columns(problem: ConicProblem, *names: str) -> np.ndarray:
    return np.concatenate([problem.columns[name] for name in names])


def linear(problem: ConicProblem, **costs: float) -> np.ndarray:
    c = np.zeros(len(problem.c))
    for name, cost in costs.items():
        c[problem.columns[name]] = cost
    return c


def test_the_answer_is_the_known_one(problem: ConicProblem) -> None:
    answer = solve_conic(problem)
    assert answer.status in SOLVED
    assert answer.x[columns(problem, "x", "y", "u")] == pytest.approx([0, 2, -1], abs=1e-4)
    assert answer.objective == pytest.approx(1, abs=1e-7)


def test_the_dual_objective_is_a_lower_bound(problem: ConicProblem) -> None:
    answer = solve_conic(problem, linear(problem, x=0.3, y=0.2))
    assert answer.dual_objective <= answer.objective + 1e-9
    assert answer.dual_objective == pytest.approx(answer.objective, abs=1e-6)


def test_the_own_cost_leaves_out_the_added_terms(problem: ConicProblem) -> None:
    added = linear(problem, x=-1.0)
    answer = solve_conic(problem, added)
    assert problem.cost(answer.x) == pytest.approx(answer.objective - added @ answer.x, abs=1e-8)


@pytest.mark.parametrize("value", [-0.5, 0.2])
def test_the_dual_of_a_fixed_column_is_the_slope_of_the_optimal_value(problem: ConicProblem, value: float) -> None:
    def solve(at: float) -> tuple[float, float]:
        answer = solve_conic(problem, fixed=(columns(problem, "x"), np.array([at])))
        return answer.objective, float(answer.fixed_dual[0])

    step = 1e-4
    difference = (solve(value + step)[0] - solve(value - step)[0]) / (2 * step)
    assert solve(value)[1] == pytest.approx(difference, rel=1e-3)


def test_sensitivities_are_the_derivative_of_the_answer(problem: ConicProblem) -> None:
    wanted = columns(problem, "x", "y")
    # Both columns and their product: x^2 / 4 + y^2 / 4 + x y / 10, by its upper triangle.
    added = np.zeros((len(problem.c), len(problem.c)))
    added[wanted, wanted] = 0.5
    added[wanted.min(), wanted.max()] = 0.1
    curvature = sp.csc_matrix(added)
    costs = linear(problem, x=0.7, y=1.5)

    def solve(c: np.ndarray) -> np.ndarray:
        return solve_conic(problem, c, curvature).x[wanted]

    moved = solve_conic(problem, costs, curvature, wanted=wanted).sensitivity
    for i, name in enumerate("xy"):
        step = linear(problem, **{name: 1e-3})
        assert moved[:, i] == pytest.approx((solve(costs + step) - solve(costs - step)) / 2e-3, abs=1e-3)
    assert np.all(np.linalg.eigvalsh(moved) <= 1e-9)


def test_scaling_the_cost_scales_nothing_but_the_cost(problem: ConicProblem) -> None:
    one = solve_conic(problem, linear(problem, x=0.3), fixed=(columns(problem, "y"), np.array([1.0])))
    thousand = replace(problem, p=problem.p * 1e3, c=problem.c * 1e3)
    other = solve_conic(thousand, linear(problem, x=300.0), fixed=(columns(problem, "y"), np.array([1.0])))
    assert other.x == pytest.approx(one.x, abs=1e-6)
    assert other.fixed_dual == pytest.approx(one.fixed_dual * 1e3, rel=1e-5)


def test_an_infeasible_problem_says_so(problem: ConicProblem) -> None:
    assert solve_conic(problem, fixed=(columns(problem, "y"), np.array([3.0]))).status == "PrimalInfeasible"
