"""Limits as an interior point sees them, against the whole uncondensed Newton system in dense algebra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieflow.common.arrays import Floats
from tieflow.common.interior_point.limits import (
    FAR_OFF,
    FIRST_SLACK,
    FOLLOWS,
    Limit,
    Limits,
    Magnitudes,
    Slacks,
    condensed,
    expanded,
    first_slacks,
    longest,
    make_limits,
    settled,
    zeta,
)

seeds = st.integers(0, 2**32 - 1)
ROWS = 9


@dataclass(frozen=True)
class Point:
    """Random limits on ROWS unknowns: bounds, circles and logarithms, hard and elastic; and a point inside."""

    limits: Limits
    x: Floats
    slacks: Slacks
    rng: np.random.Generator

    @property
    def margin(self) -> Floats:
        return self.limits.margins(self.x, self.limits.magnitudes.at(self.x)[0])

    @property
    def along(self) -> tuple[Floats, Floats]:
        return self.limits.magnitudes.at(self.x)[1:3]

    def jacobian(self, period: int) -> Floats:
        """(limit, row) of the margins."""
        found = np.zeros((len(self.limits.value), ROWS))
        for row in range(ROWS):
            one = np.zeros_like(self.x)
            one[row] = 1.0
            found[:, row] = self.limits.changes(one, self.along)[:, period]
        return found


def random_point(seed: int, periods: int) -> Point:
    rng = np.random.default_rng(seed)
    pairs = Magnitudes(
        np.array([0, 2, 4]), np.array([1, 3, 5]), np.array([False, True, False]), np.array([0.1, 0, 0.3])
    )

    def level(count: int) -> Floats:
        return rng.normal(size=(count, periods))

    def price(count: int) -> Floats:
        return rng.uniform(0.1, 10, (count, periods))

    some = np.flatnonzero(rng.random(ROWS) < 0.6)
    limits = [
        Limit(np.array([1]), -1.0, level(1), True, price(1)),
        Limit(some, 1.0, level(len(some))),
        Limit(np.array([0, 2]), -1.0, level(2), True),
        Limit(some, -1.0, level(len(some)), price=price(len(some))),
        Limit(np.array([1]), 1.0, level(1), True),
        Limit(np.zeros(0, np.int64), 1.0, level(0)),
    ]
    made = make_limits(limits, pairs, periods)
    count, elastic = len(made.value), len(made.price)
    slacks = Slacks(*(10.0 ** rng.uniform(-3, 2, (size, periods)) for size in (count, count, elastic, elastic)))
    return Point(made, rng.normal(size=(ROWS, periods)), slacks, rng)


@given(seeds, st.integers(1, 3))
def test_the_condensed_step_is_that_of_the_whole_system(seed: int, periods: int) -> None:
    at = random_point(seed, periods)
    limits, slacks, rng = at.limits, at.slacks, at.rng
    hard, count, elastic = limits.hard, len(limits.value), len(limits.price)
    root = rng.normal(size=(ROWS, ROWS))
    hessian, cost = root @ root.T + np.eye(ROWS), rng.normal(size=(ROWS, periods))
    k, k_t = rng.normal(size=(count, periods)), rng.normal(size=(elastic, periods))
    known = condensed(limits, slacks, at.margin)

    dx = np.zeros_like(at.x)
    right = limits.gradient(zeta(limits, slacks, known, k, k_t, 1.0), at.along, ROWS) - cost
    for t in range(periods):
        j = at.jacobian(t)
        dx[:, t] = np.linalg.solve(hessian + j.T @ (known.stiffness[:, t, None] * j), right[:, t])
    moved = expanded(limits, slacks, known, limits.changes(dx, at.along), k, k_t)

    # Rows and columns: x, s, t, z, w.
    first = np.cumsum([0, ROWS, count, elastic, count, elastic])
    x, s, e, z, w = (slice(a, b) for a, b in zip(first[:-1], first[1:], strict=True))
    pick = np.eye(count)[:, hard:]
    for t in range(periods):
        j, system, b = at.jacobian(t), np.zeros((first[-1],) * 2), np.zeros(first[-1])
        system[x, x], system[x, z] = hessian, -j.T
        b[x] = -(cost[:, t] - j.T @ slacks.z[:, t])
        # The overstep: price - z - w = 0.
        system[e, z], system[e, w] = -pick.T, -np.eye(elastic)
        b[e] = -(limits.price[:, t] - slacks.z[hard:, t] - slacks.w[:, t])
        system[z, x], system[z, s], system[z, e] = j, -np.eye(count), pick
        b[z] = -(at.margin[:, t] - slacks.s[:, t] + pick @ slacks.t[:, t])
        system[s, s], system[s, z] = np.diag(slacks.z[:, t]), np.diag(slacks.s[:, t])
        b[s] = k[:, t] - slacks.s[:, t] * slacks.z[:, t]
        system[w, e], system[w, w] = np.diag(slacks.w[:, t]), np.diag(slacks.t[:, t])
        b[w] = k_t[:, t] - slacks.t[:, t] * slacks.w[:, t]
        whole = np.linalg.solve(system, b)
        for found, part in ((dx, x), (moved.s, s), (moved.t, e), (moved.z, z), (moved.w, w)):
            scale = np.abs(whole[part]).max(initial=1.0)
            np.testing.assert_allclose(found[:, t], whole[part], rtol=1e-6, atol=1e-7 * scale)


@given(seeds)
def test_pulls_are_linear_in_their_products_and_what_does_not_depend_on_them_counts_as_often_as_told(seed: int) -> None:
    at = random_point(seed, 2)
    known = condensed(at.limits, at.slacks, at.margin)

    def pull(k: float, own: float) -> Floats:
        return zeta(at.limits, at.slacks, known, k, k, own)

    np.testing.assert_allclose(pull(0.0, 1.0) + 0.3 * pull(1.0, 0.0), pull(0.3, 1.0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(2 * pull(0.0, 1.0), pull(0.0, 2.0), rtol=1e-12)


@given(seeds)
def test_margins_move_as_their_derivatives_say(seed: int) -> None:
    at, step = random_point(seed, 2), 1e-6
    dx = at.rng.normal(size=at.x.shape)
    around = [at.limits.margins(x, at.limits.magnitudes.at(x)[0]) for x in (at.x + step * dx, at.x - step * dx)]
    expected = (around[0] - around[1]) / (2 * step)
    # The logarithm of a small magnitude bends.
    small = np.hypot(at.x[2], at.x[3]).min()
    found = at.limits.changes(dx, at.along)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8 + 1e-11 / small**3)


@given(seeds)
def test_pulls_on_margins_reach_the_unknowns_by_the_transposed_derivatives(seed: int) -> None:
    at = random_point(seed, 3)
    dx, weight = at.rng.normal(size=at.x.shape), at.rng.normal(size=at.limits.value.shape)
    changes = at.limits.changes(dx, at.along)
    gradient = at.limits.gradient(weight, at.along, ROWS)
    np.testing.assert_allclose((weight * changes).sum(axis=0), (gradient * dx).sum(axis=0), rtol=1e-9, atol=1e-9)


def test_limits_with_a_price_come_last_and_keep_their_own_numbers() -> None:
    none = np.zeros(0, np.int64)
    pairs = Magnitudes(none, none, none.astype(bool), np.zeros(0))
    limits = [
        Limit(np.array([2]), 1.0, np.array([[7.0]]), price=np.array([[5.0]])),
        Limit(np.array([0, 1]), -1.0, np.array([[1.0], [2.0]])),
    ]
    made = make_limits(limits, pairs, 3)
    assert made.hard == 2
    assert made.value.tolist() == [[1.0] * 3, [2.0] * 3, [7.0] * 3]
    assert made.price.tolist() == [[5.0] * 3]
    x = np.array([[0.5], [3.0], [9.0]]) * np.ones(3)
    assert made.margins(x, np.zeros((0, 3))).tolist() == [[0.5] * 3, [-1.0] * 3, [2.0] * 3]


@given(seeds)
def test_first_slacks_are_at_the_center_and_multipliers_of_elastic_limits_add_up_to_their_price(seed: int) -> None:
    at = random_point(seed, 2)
    hard = at.limits.hard
    found = first_slacks(at.limits, at.margin, 0.1)
    for values in (found.s, found.z, found.t, found.w):
        assert (values > 0).all()
    # A margin is its slack where that is inside; elsewhere the first step has to make up for it.
    inside = at.margin[:hard] > 0
    np.testing.assert_array_equal(found.s[:hard][inside], at.margin[:hard][inside])
    assert (found.s[:hard][~inside] == FIRST_SLACK).all()
    np.testing.assert_allclose(found.s[hard:] - found.t, at.margin[hard:], atol=1e-12)
    np.testing.assert_allclose(found.z[hard:] + found.w, at.limits.price)
    np.testing.assert_allclose(found.s * found.z, 0.1)
    np.testing.assert_allclose(found.t * found.w, 0.1)


@given(seeds)
def test_slacks_and_oversteps_follow_their_margins_where_that_leaves_enough_of_them(seed: int) -> None:
    at = random_point(seed, 2)
    hard, old = at.limits.hard, at.slacks
    new = settled(at.limits, old, at.margin)
    assert ((new.s > 0).all(), (new.t > 0).all()) == (True, True)
    assert (new.z is old.z, new.w is old.w) == (True, True)
    left = condensed(at.limits, new, at.margin).residual
    follows = at.margin >= FOLLOWS * old.s
    by_slack, by_overstep = at.margin[hard:] + old.t, old.s[hard:] - at.margin[hard:]
    is_over = old.t > old.s[hard:]
    follows[hard:] = np.where(is_over, by_overstep >= FOLLOWS * old.t, by_slack >= FOLLOWS * old.s[hard:])
    np.testing.assert_allclose(left[follows], 0.0, atol=1e-12)
    # The others stay, and so does the smaller of an elastic limit's two.
    np.testing.assert_array_equal(new.s[~follows], old.s[~follows])
    np.testing.assert_array_equal(np.where(is_over, new.s[hard:], new.t), np.where(is_over, old.s[hard:], old.t))


def test_multipliers_are_brought_back_only_where_their_products_are_far_off_the_barrier() -> None:
    s = np.array([[1.0, 1.0, 1.0]])
    z = np.array([[1e-3, 1e3 * FAR_OFF, 1e-12 / FAR_OFF]])
    found = Slacks(s, z, s, z).centered(1e-3)
    expected = [1e-3, 1e-3 * FAR_OFF, 1e-3 / FAR_OFF]
    assert found.z[0] == pytest.approx(expected)
    assert found.w[0] == pytest.approx(expected)
    assert found.s is s
    kept = Slacks(s, z, s, z)
    assert kept.centered(0.0) is kept


@given(st.lists(st.tuples(st.floats(1e-6, 1e3), st.floats(-1e3, 1e3)), max_size=6), st.floats(0.5, 1.0))
def test_the_longest_share_leaves_so_much_of_every_value_and_could_not_be_longer(
    pairs: list[tuple[float, float]], keep: float
) -> None:
    value, step = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    share = longest(value, step, keep)
    assert 0 < share <= 1
    left = value + share * step
    assert (left >= (1 - keep) * value - 1e-9 * (value + np.abs(step))).all()
    if share < 1:
        assert ((value + 1.001 * share * step) < (1 - keep) * value).any()
