"""Stored energies over time against one dense system of all periods: solutions by exact fractions, inertia by numpy."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieflow.common.arrays import Floats
from tieflow.common.interior_point.stores import TimeFactors

seeds = st.integers(0, 2**32 - 1)
FREE, FULL = 0.0, 1e12
"""stiffness of a level without limits, and of one at its limit"""


def dense(s: Floats, sigma: Floats) -> Floats:
    """The whole system: multipliers of all periods, then levels of all but the last."""
    periods, n = sigma.shape
    size = periods * n
    matrix = np.zeros((size + (periods - 1) * n,) * 2)
    one = np.eye(n)
    for t in range(periods):
        nu = slice(t * n, (t + 1) * n)
        matrix[nu, nu] = s[t]
        for at, sign in ((t, 1.0), (t - 1, -1.0)):
            if 0 <= at < periods - 1:
                level = slice(size + at * n, size + (at + 1) * n)
                matrix[nu, level] = matrix[level, nu] = sign * one
                matrix[level, level] = np.diag(sigma[at])
    return matrix


def by_fractions(matrix: Floats, right: Floats) -> Floats:
    """The solution, with no rounding at all."""
    rows = [[Fraction(x) for x in (*row, b)] for row, b in zip(matrix.tolist(), right.tolist(), strict=True)]
    size = len(rows)
    for k in range(size):
        at = next(i for i in range(k, size) if rows[i][k])
        rows[k], rows[at] = rows[at], rows[k]
        for i in range(size):
            if i != k and rows[i][k]:
                share = rows[i][k] / rows[k][k]
                rows[i] = [a - share * b for a, b in zip(rows[i], rows[k], strict=True)]
    return np.array([float(rows[k][-1] / rows[k][k]) for k in range(size)])


def of_areas(rng: np.random.Generator, periods: int, n: int) -> Floats:
    """Schur complements of the multipliers of stored energies of very unequal sizes, negative definite."""
    root = rng.normal(size=(periods, n, n))
    size = 10.0 ** rng.uniform(-3, 3, (periods, n, 1))
    found: Floats = -size * (root @ root.transpose(0, 2, 1) + np.eye(n)) * size.transpose(0, 2, 1)
    return found


def split(solution: Floats, periods: int, n: int) -> tuple[Floats, Floats]:
    """(store, T) multipliers and levels, the last of which do not move."""
    nu, level = solution[: periods * n].reshape(periods, n).T, np.zeros((n, periods))
    level[:, :-1] = solution[periods * n :].reshape(periods - 1, n).T
    return nu, level


@given(seeds, st.integers(1, 13), st.integers(1, 5))
def test_a_step_is_that_of_one_dense_system_over_all_periods(seed: int, periods: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(periods, n, n))
    s = -root @ root.transpose(0, 2, 1) - np.eye(n)
    sigma, g, r = rng.uniform(0, 3, (periods, n)), rng.normal(size=(n, periods)), rng.normal(size=(n, periods))
    factors = TimeFactors.of(s, sigma)
    nu, level = factors.solve(g, r)
    expected = split(np.linalg.solve(dense(s, sigma), np.concatenate([g.T.ravel(), r.T[:-1].ravel()])), periods, n)
    np.testing.assert_allclose(nu, expected[0], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(level, expected[1], rtol=1e-9, atol=1e-10)
    assert not factors.wrong.any()


def assert_exact(seed: int, periods: int, n: int, kinds: list[float], rtol: float) -> None:
    """The step's digits, those of small numbers that may be differences of large ones left out."""
    rng = np.random.default_rng(seed)
    s, sigma = of_areas(rng, periods, n), rng.choice(kinds, (periods, n))
    g, r = rng.normal(size=(n, periods)), rng.normal(size=(n, periods))
    found = TimeFactors.of(s, sigma).solve(g, r)
    exact = by_fractions(dense(s, sigma), np.concatenate([g.T.ravel(), r.T[:-1].ravel()]))
    for one, expected in zip(found, split(exact, periods, n), strict=True):
        np.testing.assert_allclose(one, expected, rtol=rtol, atol=rtol * np.abs(expected).max(initial=0.0))


@given(seeds, st.integers(1, 6))
def test_a_level_without_limits_and_one_at_its_limit_keep_their_digits(seed: int, periods: int) -> None:
    assert_exact(seed, periods, 1, [FREE, 1e-6, 1.0, 1e6, FULL], 1e-10)


@given(seeds, st.integers(1, 4), st.integers(2, 3))
def test_levels_of_stores_that_act_on_each_other_keep_half_of_their_digits_beside_a_full_one(
    seed: int, periods: int, n: int
) -> None:
    assert_exact(seed, periods, n, [FREE, 1e-6, 1.0, 1e6, FULL], 1e-6)


def test_where_the_whole_system_is_well_conditioned_they_keep_nearly_all() -> None:
    # There numpy's dense solution has 15 digits.
    assert_exact(3273, 3, 2, [FREE, 1e-6, 1.0, 1e6, FULL], 1e-9)


@pytest.mark.parametrize("stiff", [FREE, FULL])
def test_a_store_that_nothing_holds_spreads_and_one_that_is_full_stays(stiff: float) -> None:
    # Two periods, S = -1: nu_1 = nu_2 + r - sigma e, -nu_1 + e = g_1, -nu_2 - e = g_2.
    s, sigma = -np.ones((2, 1, 1)), np.array([[stiff], [0.0]])
    nu, level = TimeFactors.of(s, sigma).solve(np.array([[1.0, 0.0]]), np.zeros((1, 2)))
    expected = 0.0 if stiff else 0.5
    assert level[0, 0] == pytest.approx(expected, abs=1e-11)
    assert nu[0] == pytest.approx([expected - 1.0, -expected], abs=1e-11)
    assert level[0, 1] == 0.0


@given(seeds, st.integers(1, 9), st.integers(1, 4))
def test_eigenvalues_on_the_wrong_side_are_as_many_as_numpy_finds(seed: int, periods: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(periods, n, n)) + 2 * np.eye(n)
    s = -(root * rng.choice([1.0, 1.0, -1.0], (periods, 1, n))) @ root.transpose(0, 2, 1)
    sigma = rng.choice([-1.0, 0.0, 1.0, 100.0], (periods, n), p=[0.1, 0.2, 0.5, 0.2])
    matrix = dense(s, sigma)
    values = np.linalg.eigvalsh(matrix)
    # One that could be either sign is nobody's to count.
    if np.abs(values).min() < 1e-6 * np.abs(values).max():
        return
    found = TimeFactors.of(s, sigma).wrong
    assert found.sum() == periods * n - int((values < 0).sum())


def test_a_period_that_prefers_to_waste_without_bound_is_told_from_the_others() -> None:
    s = -np.ones((4, 1, 1))
    s[2] = 1e3
    wrong = TimeFactors.of(s, np.ones((4, 1))).wrong
    assert wrong.sum() == 4 - int((np.linalg.eigvalsh(dense(s, np.ones((4, 1)))) < 0).sum()) == 1
    assert not wrong[:2].any()


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_where_a_pivot_is_none_the_inertia_is_not_known(value: float) -> None:
    s = -np.ones((3, 2, 2)) - np.eye(2)
    s[0] = value
    assert (TimeFactors.of(s, np.ones((3, 2))).wrong == -1).all()


def test_the_stiffness_of_the_last_level_counts_for_nothing() -> None:
    rng = np.random.default_rng(0)
    s, g, r = of_areas(rng, 4, 2), rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    one = np.ones((4, 2))
    other = one.copy()
    other[-1] = 1e9
    for a, b in zip(TimeFactors.of(s, one).solve(g, r), TimeFactors.of(s, other).solve(g, r), strict=True):
        np.testing.assert_array_equal(a, b)
