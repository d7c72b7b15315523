"""The interior point on small systems whose answer is known by hand, and on those that have none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import clarabel
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from common.feeder import Bools, Floats
from common.interior_point.algorithm import Iteration, Prediction, Result, Settings, State, Step, _Search, minimize
from common.interior_point.limits import (
    CLIP,
    Limit,
    Magnitudes,
    Slacks,
    condensed,
    expanded,
    first_slacks,
    longest,
    make_limits,
    zeta,
)
from common.joint_step import LEFT, Lengths, Measures, together

NONE = np.zeros(0, np.int64)
NO_PAIRS = Magnitudes(NONE, NONE, NONE.astype(bool), np.zeros(0))
ALONG = (np.zeros((0, 1)),) * 2
Function = Callable[[Floats], Any]


@dataclass
class Dense:
    """min f(x), c(x) = 0, low <= x <= high, the bounds at a price where they have one; by dense algebra, one period."""

    f: Function
    gradient: Function
    hessian: Function
    """of f, (n, n)"""
    x: Floats
    c: Function = lambda x: np.zeros(0)
    jacobian: Function = lambda x: np.zeros((0, len(x)))
    bends: Function | None = None
    """(equation, n, n) second derivatives of c; None: it has none"""
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    price: float | None = None
    asked: list[tuple[float, bool]] = field(default_factory=list)
    """delta and convex of every factorization"""

    def __post_init__(self) -> None:
        self.y = np.zeros(len(self.c(self.x)))
        limits = []
        for sign, bounds in ((1.0, self.low), (-1.0, self.high)):
            at = np.array([k for k, bound in enumerate(bounds) if bound is not None], np.int64)
            value = np.array([[bound] for bound in bounds if bound is not None]).reshape(-1, 1)
            price = None if self.price is None else np.full((len(at), 1), self.price)
            limits.append(Limit(at, sign, value, price=price))
        self.limits = make_limits(limits, NO_PAIRS, 1)
        self.slacks = first_slacks(self.limits, self.margin(self.x), Settings().first_barrier)
        self.step: tuple[Floats, Floats, Slacks] | None = None

    def margin(self, x: Floats) -> Floats:
        return self.limits.margins(x[:, None], np.zeros((0, 1)))

    def reduce(
        self, lengths: Lengths, width: float, barrier: float, delta: Floats, convex: Bools, prices: int = LEFT
    ) -> State:
        if self.step is not None:
            dx, dy, ds = self.step
            self.x, self.y = self.x + lengths.primal * dx, self.y + lengths.multiplier * dy
            self.slacks = self.slacks.moved(ds, lengths.primal, lengths.dual).centered(barrier)
        self.asked.append((float(delta[0]), bool(convex[0])))
        n, m = len(self.x), len(self.y)
        self.at = condensed(self.limits, self.slacks, self.margin(self.x))
        h = self.hessian(self.x) + delta[0] * np.eye(n)
        if self.bends is not None:
            h += np.tensordot(self.y, self.bends(self.x), 1)
        bounded = self.limits.bounded
        h[bounded, bounded] += self.limits.of_bounds(self.at.stiffness)[:, 0]
        self.k = np.block([[h, self.jacobian(self.x).T], [self.jacobian(self.x), np.zeros((m, m))]])
        finite = np.isfinite(self.k).all()
        values = np.linalg.eigvalsh(self.k) if finite else np.zeros(1)
        unknown = not finite or np.abs(values).min(initial=np.inf) < 1e-13
        excess = -1 if unknown else int((values < 0).sum()) - m
        return self.state(np.array([excess]))

    def state(self, excess: Any) -> State:
        s = self.slacks
        residuals = np.concatenate([self.c(self.x), self.at.residual[:, 0]])
        pull = self.limits.gradient(s.z, ALONG, len(self.x))[:, 0]
        dual = [self.gradient(self.x) + self.jacobian(self.x).T @ self.y - pull]
        dual.append((self.limits.price - s.z[self.limits.hard :] - s.w)[:, 0])
        products = np.concatenate([s.s * s.z, s.t * s.w])
        measures = Measures(
            infeasibility=float(np.abs(residuals).sum()),
            primal=float(np.abs(residuals).max(initial=0.0)),
            dual=float(max(np.abs(part).max(initial=0.0) for part in dual)),
            least_product=float(products.min(initial=np.inf)),
            most_product=float(products.max(initial=0.0)),
            products=float(products.sum()),
            limits=float(products.size),
            multipliers=float(s.z.sum() + s.w.sum() + np.abs(self.y).sum()),
            equations=float(len(self.y)),
            objective=self.f(self.x) + float((self.limits.price * s.t).sum()),
            logs=float(np.log(s.s).sum() + np.log(s.t).sum()),
        )
        return State(measures, excess)

    def solved(self, k: Any, k_t: Any) -> tuple[Floats, Floats, Slacks]:
        pull = zeta(self.limits, self.slacks, self.at, k, k_t, 1.0)
        right = self.limits.gradient(pull, ALONG, len(self.x))[:, 0]
        right -= self.gradient(self.x) + self.jacobian(self.x).T @ self.y
        right = np.concatenate([right, -self.c(self.x)])
        finite = np.isfinite(self.k).all() and np.isfinite(right).all()
        found = np.linalg.lstsq(self.k, right, rcond=None)[0] if finite else np.nan * right
        dx, dy = np.split(found, [len(self.x)])
        change = self.limits.changes(dx[:, None], ALONG)
        return dx, dy, expanded(self.limits, self.slacks, self.at, change, k, k_t)

    def predict(self, average: float) -> Prediction:
        _, _, d = self.solved(0.0, 0.0)
        s, most = self.slacks, CLIP * average
        self.off = np.clip(d.s * d.z, -most, most), np.clip(d.t * d.w, -most, most)
        pairs = ((s.s, s.z, s.t, s.w), (s.s, d.z, s.t, d.w), (d.s, s.z, d.t, s.w), (d.s, d.z, d.t, d.w))
        products = np.array([(a * b).sum() + (c * e).sum() for a, b, c, e in pairs])
        return Prediction(*self.lengths(d, 1.0), products)

    def lengths(self, d: Slacks, keep: float) -> tuple[float, float]:
        s = self.slacks
        primal = min(longest(s.s, d.s, keep), longest(s.t, d.t, keep))
        return primal, min(longest(s.z, d.z, keep), longest(s.w, d.w, keep))

    def expand(self, barrier: float, corrected: bool, keep: float) -> Step:
        off = self.off if corrected else (0.0, 0.0)
        self.step = dx, dy, d = self.solved(barrier - off[0], barrier - off[1])
        s = self.slacks
        slope = self.gradient(self.x) @ dx + (self.limits.price * d.t).sum()
        slope -= barrier * ((d.s / s.s).sum() + (d.t / s.t).sum())
        primal, dual = self.lengths(d, keep)
        return Step(primal, dual, float(slope), float(np.abs(dx).max()), float(np.abs(dy).max(initial=0.0)))

    def trial(self, primal: float, width: float) -> tuple[float, float, float]:
        assert self.step is not None
        dx, _, d = self.step
        x, s = self.x + primal * dx, self.slacks.moved(d, primal, 0.0)
        missing = self.margin(x) - s.s
        missing[self.limits.hard :] += s.t
        infeasibility = np.abs(self.c(x)).sum() + np.abs(missing).sum()
        objective = self.f(x) + float((self.limits.price * s.t).sum())
        return float(infeasibility), objective, float(np.log(s.s).sum() + np.log(s.t).sum())


def quadratic(h: Any, g: Any, x: Any, **rest: Any) -> Dense:
    h, g = np.array(h, float), np.array(g, float)
    return Dense(
        lambda x: float(x @ h @ x / 2 + g @ x), lambda x: h @ x + g, lambda x: h.copy(), np.array(x, float), **rest
    )


def solved(system: Dense, **changes: Any) -> Result:
    with np.errstate(all="ignore"):
        return minimize(system, 1, Settings(**changes))


def test_a_convex_problem_ends_where_its_first_order_conditions_say() -> None:
    # On the line x + y = 1 it is least at x = 2.5, beyond the bound of 1.5, whose multiplier is the slope there: 4.
    system = quadratic(
        2 * np.eye(2),
        [-6.0, 2.0],
        [0.5, 0.0],
        c=lambda x: np.array([x[0] + x[1] - 1]),
        jacobian=lambda x: np.ones((1, 2)),
        low=[0.0, None],
        high=[1.5, None],
    )
    found = solved(system)
    assert (found.converged, found.reason, found.corrected) == (True, "", 0)
    assert found.iterations <= 15
    assert system.x == pytest.approx([1.5, -0.5], abs=1e-7)
    assert system.slacks.z[:, 0] == pytest.approx([0.0, 4.0], abs=1e-6)
    assert system.y == pytest.approx([-(2 * -0.5 + 2)], abs=1e-6)
    assert found.error <= Settings().tolerance
    assert found.state.at.products <= 2 * Settings().gap * max(abs(system.f(system.x)), 1.0)


def test_an_equation_alone_takes_newton_s_steps() -> None:
    # Without limits nothing is to be lowered: a square root by Newton's method.
    system = Dense(
        lambda x: 0.0,
        lambda x: np.zeros(1),
        lambda x: np.zeros((1, 1)),
        np.array([3.0]),
        c=lambda x: x**2 - 2,
        jacobian=lambda x: 2 * x[None],
        bends=lambda x: 2 * np.ones((1, 1, 1)),
    )
    found = solved(system, first_width=Settings().least_width)
    assert found.converged
    assert found.iterations <= 6
    assert system.x[0] == pytest.approx(2**0.5, abs=1e-8)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
@settings(max_examples=30)
def test_random_convex_problems_are_solved_as_clarabel_solves_them(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    root, a = rng.normal(size=(n, n)), rng.normal(size=(1, n))
    h, g, b = root @ root.T, 3 * rng.normal(size=n), a @ rng.uniform(0.2, 0.8, n)
    system = quadratic(
        h,
        g,
        np.full(n, 0.5),
        c=lambda x: a @ x - b,
        jacobian=lambda x: a,
        low=[0.0] * n,
        high=[1.0] * n,
    )
    assert solved(system).converged
    rows = sp.csc_matrix(np.concatenate([a, np.eye(n), -np.eye(n)]))
    right = np.concatenate([b, np.ones(n), np.zeros(n)])
    quiet = clarabel.DefaultSettings()
    quiet.verbose = False
    cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(2 * n)]
    expected = clarabel.DefaultSolver(sp.csc_matrix(np.triu(h)), g, rows, right, cones, quiet).solve().obj_val
    assert system.f(system.x) == pytest.approx(expected, abs=1e-6)


def test_a_limit_with_a_price_is_overstepped_where_that_is_cheaper_and_kept_where_it_is_not() -> None:
    # x^2 / 2 - 3 x: at the bound of 1 the slope is -2.
    for price, expected, multiplier in ((0.5, 2.5, 0.5), (5.0, 1.0, 2.0)):
        system = quadratic([[1.0]], [-3.0], [0.5], high=[1.0], price=price)
        assert solved(system).converged
        assert system.x[0] == pytest.approx(expected, abs=1e-6)
        assert system.slacks.z[0, 0] == pytest.approx(multiplier, abs=1e-6)


def double_well(start: float, **rest: Any) -> Dense:
    """x^4 / 4 - x^2 / 2, bending down between -0.58 and 0.58, least at -1 and 1."""
    return Dense(
        lambda x: float(x[0] ** 4 / 4 - x[0] ** 2 / 2),
        lambda x: x**3 - x,
        lambda x: np.array([[3 * x[0] ** 2 - 1]]),
        np.array([start]),
        **rest,
    )


def test_where_the_first_inertia_is_wrong_it_is_put_right_and_the_end_is_a_minimum() -> None:
    system = double_well(0.2, low=[-3.0], high=[3.0])
    found = solved(system)
    assert found.converged
    assert found.corrected >= 1
    assert abs(system.x[0]) == pytest.approx(1.0, abs=1e-5)
    # First the limits' own second derivatives are made convex, then something is added.
    first = next(k for k, (delta, _) in enumerate(system.asked) if delta > 0)
    assert system.asked[first - 1] == (0.0, True)
    # It ends where nothing needs to be added.
    assert system.asked[-1] == (0.0, False)


def test_once_the_inertia_is_right_and_the_barrier_problem_solved_predictors_lower_the_barrier_again() -> None:
    # From 1 on the well is convex: what is left is a bound, as fast as by predictors from the start.
    predicted: list[int] = []

    class Counted(Dense):
        def predict(self, average: float) -> Prediction:
            predicted.append(len(self.asked))
            return super().predict(average)

    well = double_well(0.2)
    system = Counted(well.f, well.gradient, well.hessian, np.array([0.2]), low=[-3.0], high=[3.0])
    found = solved(system)
    assert found.converged and found.corrected >= 1
    wrong = max(k for k, asked in enumerate(system.asked) if asked != (0.0, False))
    assert predicted[-1] > wrong
    assert found.iterations <= 20


def test_a_filter_does_not_take_a_point_that_it_has_had() -> None:
    search = _Search(Settings(), 1, 0.1, 0.03)
    search.filter = [(1e-6, 2.0)]
    assert not search.takes(1e-6, 2.0)
    assert search.takes(1e-6, 2.0 - 1e-9) and search.takes(0.9e-6, 2.0)


def test_a_product_on_a_circle_ends_at_one_of_its_two_minima() -> None:
    circle: dict[str, Any] = {
        "c": lambda x: np.array([x @ x - 1]),
        "jacobian": lambda x: 2 * x[None],
        "bends": lambda x: 2 * np.eye(2)[None],
    }
    system = Dense(
        lambda x: float(x[0] * x[1]),
        lambda x: x[::-1],
        lambda x: np.eye(2)[::-1].copy(),
        np.array([0.9, 0.8]),
        **circle,
    )
    found = solved(system)
    assert found.converged
    assert found.corrected >= 1
    assert system.f(system.x) == pytest.approx(-0.5, abs=1e-7)


def test_a_maximum_within_bounds_is_left_for_a_bound() -> None:
    system = quadratic([[-1.0]], [0.1], [0.1], low=[-1.0], high=[1.0])
    assert solved(system).converged
    assert system.x[0] == pytest.approx(-1.0, abs=1e-6)


def test_equations_that_nothing_satisfies_end_with_a_reason() -> None:
    system = quadratic(
        [[1.0]],
        [0.0],
        [0.7],
        c=lambda x: x**2 + 1,
        jacobian=lambda x: 2 * x[None],
        bends=lambda x: 2 * np.ones((1, 1, 1)),
        low=[-5.0],
        high=[5.0],
    )
    found = solved(system)
    assert not found.converged
    assert found.reason
    assert len(system.asked) <= Settings().iterations * (Settings().attempts + 2)


def test_bounds_that_exclude_each_other_end_with_a_reason() -> None:
    found = solved(quadratic([[1.0]], [0.0], [0.0], low=[2.0], high=[1.0]))
    assert not found.converged
    assert found.reason


@pytest.mark.parametrize("bend", [0.0, -1.0])
def test_costs_without_a_bottom_end_with_a_reason(bend: float) -> None:
    system = quadratic([[bend]], [-1.0], [1.0], low=[0.0])
    found = solved(system)
    assert not found.converged
    assert found.reason
    assert found.iterations <= Settings().iterations


def test_iterations_that_are_spent_say_how_many_they_were() -> None:
    found = solved(double_well(0.2, low=[-3.0], high=[3.0]), iterations=2)
    assert (found.converged, found.iterations) == (False, 2)
    assert found.reason == "2 iterations were not enough"


def test_numbers_that_are_none_end_at_once_with_a_reason() -> None:
    system = quadratic([[1.0]], [np.nan], [0.0], low=[-1.0], high=[1.0])
    found = solved(system)
    assert (found.converged, found.iterations) == (False, 0)
    assert found.reason == "a step left no finite numbers"


def test_the_record_has_every_iteration_with_barriers_that_fall() -> None:
    record: list[Iteration] = []
    system = quadratic(np.eye(2), [-3.0, 1.0], [0.5, 0.5], low=[0.0, 0.0], high=[1.0, 1.0])
    found = minimize(system, 1, Settings(), record.append)
    assert [line.number for line in record] == list(range(found.iterations + 1))
    assert record[-1].error == found.error
    assert record[-1].state is found.state
    averages = [line.state.average for line in record]
    assert averages[-1] < 1e-7 < averages[0]
    assert all(0 < line.lengths.primal <= 1 for line in record[1:])
    assert record[-1].width == pytest.approx(Settings().least_width)


def test_parts_of_one_point_add_up() -> None:
    def state(system: Dense) -> State:
        return system.reduce(Lengths(0, 0, 0), 0.0, 0.0, np.zeros(1), np.zeros(1, bool))

    one = quadratic(np.eye(2), [-3.0, 1.0], [0.5, 0.5], low=[0.0, 0.0], high=[1.0, 1.0])
    other = quadratic([[2.0]], [1.0], [0.3], low=[0.0])
    both = quadratic(np.diag([1.0, 1.0, 2.0]), [-3.0, 1.0, 1.0], [0.5, 0.5, 0.3], low=[0.0] * 3, high=[1.0, 1.0, None])
    expected = state(both)
    found = State(together([state(one).at, state(other).at]), expected.excess)
    for name in ("infeasibility", "primal", "dual", "least_product", "most_product", "products", "limits", "objective"):
        assert getattr(found.at, name) == pytest.approx(getattr(expected.at, name)), name
    assert found.error(0.1, Settings()) == pytest.approx(expected.error(0.1, Settings()))
    assert found.merit(0.1) == pytest.approx(expected.merit(0.1))
