"""A primal-dual interior point method for a nonconvex problem whose Newton steps somebody else takes.

Steps are Mehrotra's predictor and corrector until a Newton system of wrong inertia, a step that is too short, or no
progress. From there the barrier is the average product, and steps are those that a filter accepts, until this barrier
problem is solved and the inertia right: then predictors are tried again (in the manner of Nocedal, Waechter and
Waltz, "Adaptive barrier update strategies for nonlinear interior methods" (2009)). Where only the inertia is not yet
right, the barrier falls monotonically (Waechter and Biegler, "On the implementation of an interior-point filter
line-search algorithm for large-scale nonlinear programming" (2006)). Where the inertia of a period is wrong, its
limits' second derivatives are first made convex, then a growing multiple of the identity is added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from common.feeder import Bools, Floats, Ints
from common.joint_step import FIRST_WIDTH, LEFT, Lengths, Measures


@dataclass(frozen=True)
class Settings:
    """Every constant of the method."""

    tolerance: float = 1e-8
    """of the scaled first-order residual"""
    gap: float = 1e-8
    """of the sum of all products of slacks and multipliers, over the objective: what the barrier costs at most where
    the problem is convex"""
    barriers: tuple[float, float] = (1e-12, 1e-9)
    """bounds of the last barrier, which the gap asks for"""
    centered: float = 2.0
    """average product over the last barrier at which the barrier counts as reached"""
    iterations: int = 300
    first_barrier: float = 0.1
    first_width: float = FIRST_WIDTH
    """of blended load laws, per rated voltage"""
    least_width: float = 3e-4
    width_factor: float = 1.0
    """width over the barrier's root"""
    least_centering: float = 1e-3
    """of Mehrotra's rule"""
    short: float = 0.5
    """share of the predicted length that a corrected step must reach"""
    patience: int = 2
    """steps with a predictor that may leave both the first-order residual and the average product above ``progress``
    times their best"""
    progress: float = 0.8
    behind: float = 1e-4
    """of the residual, below which a falling average product is no progress: the equations no longer follow"""
    least_length: float = 0.1
    """of a step with a predictor; a shorter one counts as rejected"""
    recentering: float = 0.3
    """barrier over the average product of a step that takes the place of a corrected one"""
    fall: float = 0.2
    superlinear_fall: float = 1.5
    """factor on the barrier and exponent of it, whichever is lower"""
    least_share: float = 0.3
    """of the average product that the barrier keeps where it is lowered: far below it steps are short, for products
    that are small already leave no room"""
    solved: float = 100.0
    """residual over barrier at which a barrier problem counts as solved: predictors are tried again, or the barrier is
    lowered"""
    keep: float = 0.99
    """least share of a slack that a step may use up"""
    first_delta: float = 1e-4
    delta_growth: tuple[float, float] = (30.0, 8.0)
    """factor on what is added, the first time and later"""
    delta_fall: float = 1 / 3
    mending: float = 1.0
    """added in all periods, after inertia has been wrong, from where only the equations' residuals are above the
    tolerance: where a cost is flat, its curvature has no sign to speak of, and steps along it would spoil the equations
    again. From step to step a tenth of it where the residual hardly falls, ten times as much where it grows"""
    attempts: int = 40
    """factorizations of one point"""
    filter_infeasibility: float = 1e-5
    filter_objective: float = 1e-8
    armijo: float = 1e-8
    halvings: int = 30
    soft: float = 0.9999
    """factor on the first-order residual of a barrier problem by which a whole step must lower it where the filter
    takes none"""
    rejections: int = 12
    """steps in a row that no length made acceptable, after which the method gives up"""
    dual_scale: float = 100.0
    """mean multiplier above which residuals are scaled down"""
    largest_first_multiplier: float = 1e4


@dataclass(frozen=True)
class State:
    """All parts together at a point."""

    at: Measures
    excess: Ints
    """(T,) negative eigenvalues too many; -1: not known"""

    @property
    def average(self) -> float:
        return self.at.products / max(self.at.limits, 1.0)

    def least_barrier(self, settings: Settings) -> float:
        """The last barrier."""
        asked = 0.5 * settings.gap * max(abs(self.at.objective), 1.0) / max(self.at.limits, 1.0)
        return float(np.clip(asked, *settings.barriers))

    def error(self, barrier: float, settings: Settings) -> float:
        """The first-order residual of the problem with a barrier, scaled as IPOPT does."""
        at = self.at
        mean = at.multipliers / max(at.limits + at.equations, 1.0)
        scale = max(settings.dual_scale, mean) / settings.dual_scale
        off = max(at.most_product - barrier, barrier - at.least_product, 0.0) if at.limits else 0.0
        return max(at.primal, at.dual / scale, off / scale)

    def merit(self, barrier: float) -> float:
        return self.at.objective - barrier * self.at.logs


@dataclass(frozen=True)
class Step:
    """A step that all parts have ready."""

    primal: float
    dual: float
    slope: float
    change: float
    multiplier: float


@dataclass(frozen=True)
class Prediction:
    primal: float
    dual: float
    products: Floats
    """(4,) sums of s z, s dz, ds z, ds dz"""


class System(Protocol):
    """Whose Newton steps are taken."""

    def reduce(
        self, lengths: Lengths, width: float, barrier: float, delta: Floats, convex: Bools, prices: int = LEFT
    ) -> State:
        """Take shares of the last step, evaluate and factorize. With a ``barrier`` above zero, the limits' multipliers
        are kept within ``common.interior_point.limits.FAR_OFF`` of it."""

    def predict(self, average: float) -> Prediction:
        """The step without a barrier."""

    def expand(self, barrier: float, corrected: bool, keep: float) -> Step:
        """The step with a barrier."""

    def trial(self, primal: float, width: float) -> tuple[float, float, float]:
        """Infeasibility, objective and logarithms at a share of the step."""


@dataclass(frozen=True)
class Iteration:
    """One line of the record."""

    number: int
    state: State
    error: float
    barrier: float
    width: float
    step: Step | None
    lengths: Lengths
    delta: float


@dataclass(frozen=True)
class Result:
    converged: bool
    reason: str
    """why it ended, where it has not converged"""
    iterations: int
    state: State
    error: float
    width: float
    corrected: int
    """iterations whose inertia was wrong at first"""


STAY = Lengths(0.0, 0.0, 0.0)


@dataclass
class _Search:
    """What a run carries from iteration to iteration."""

    settings: Settings
    periods: int
    barrier: float
    width: float
    monotone: bool = False
    last_delta: Floats = field(default_factory=lambda: np.zeros(0))
    boost: float = 0.0
    filter: list[tuple[float, float]] = field(default_factory=list)
    infeasibility: tuple[float, float] = (0.0, 0.0)
    """above which no point is accepted, below which the objective alone may decide"""
    wrong: int = 0
    primal: float = np.inf
    dual: float = np.inf
    """residuals at the last point"""
    mended: float = np.inf
    """the larger of both at the point before"""
    mending: float = 0.0
    """what was added there after ``Settings.mending``; 0: nothing"""

    @property
    def center(self) -> float:
        """The barrier that multipliers are kept near to; 0: none."""
        return self.barrier if self.monotone else 0.0

    def takes(self, infeasibility: float, merit: float) -> bool:
        """Whether no point of the filter is as good. Rounding has no say here, lest steps go in circles."""
        gain, of_merit = self.settings.filter_infeasibility, self.settings.filter_objective
        return not any(
            infeasibility >= (1 - gain) * theta and merit >= phi - of_merit * theta for theta, phi in self.filter
        )


def minimize(
    system: System,
    periods: int,
    settings: Settings,
    record: Callable[[Iteration], None] = lambda _: None,
    prices: int = LEFT,
) -> Result:
    """Take Newton steps of a system until its first-order residual is within the tolerance. With other ``prices`` of
    overstepped limits (``common.joint_step``) it goes on where the last call ended."""
    search = _Search(settings, periods, settings.first_barrier, settings.first_width)
    search.last_delta = np.zeros(periods)
    if prices == LEFT:
        state, delta = _begun(system, search)
    else:
        search.width = settings.least_width
        state = system.reduce(STAY, search.width, 0.0, search.last_delta, np.zeros(periods, bool), prices)
        _go_monotone(search, state)
        state, delta = _factorized(system, search, STAY)
    search.infeasibility = 1e4 * max(1.0, state.at.infeasibility), 1e-4 * max(1.0, state.at.infeasibility)
    lengths, step, rejected = STAY, None, 0
    best, since = (np.inf, np.inf), 0
    for number in range(settings.iterations + 1):
        error = state.error(0.0, settings)
        record(
            Iteration(number, state, error, search.barrier, search.width, step, lengths, float(delta.max(initial=0.0)))
        )
        if not np.isfinite(error):
            return Result(False, "a step left no finite numbers", number, state, error, search.width, search.wrong)
        is_narrow = search.width <= 1.01 * settings.least_width
        is_centered = state.average <= settings.centered * state.least_barrier(settings)
        if error <= settings.tolerance and is_narrow and is_centered:
            return Result(True, "", number, state, error, search.width, search.wrong)
        if number == settings.iterations:
            break
        is_solved = state.error(search.barrier, settings) <= settings.solved * search.barrier
        if search.monotone and is_solved and not delta.any():
            search.monotone, best, since = False, (np.inf, np.inf), 0
        if not search.monotone:
            step = _predicted(system, search, state)
            primal = step.primal
            falls = settings.behind * error < state.average <= settings.progress * best[1]
            if error <= settings.progress * best[0] or falls:
                best, since = (min(error, best[0]), min(state.average, best[1])), 0
            since += 1
            if min(step.primal, step.dual) < settings.least_length or since > settings.patience:
                _go_monotone(search, state)
        if search.monotone:
            state, delta = _lowered(system, search, state, delta)
            step, found = _searched(system, search, state)
            if found is None:
                # A whole step may still bring the first-order residual down where rounding hides what the merit gains.
                whole = Lengths(step.primal, step.dual, step.dual)
                before = state.error(search.barrier, settings)
                tried, added = _factorized(system, search, whole)
                if tried.error(search.barrier, settings) < settings.soft * before:
                    state, delta, lengths = tried, added, whole
                    search.filter.clear()
                    continue
                rejected += 1
                if rejected > settings.rejections:
                    reason = "no step length is acceptable"
                    return Result(False, reason, number, state, error, search.width, search.wrong)
                search.boost = 10.0 ** min(rejected, 4)
                search.filter.clear()
                lengths = Lengths(-whole.primal, -whole.multiplier, -whole.dual)
                state, delta = _factorized(system, search, lengths)
                continue
            primal = found
        assert step is not None
        rejected = 0
        lengths = Lengths(primal, step.dual, step.dual)
        _narrow(search, state)
        state, delta = _factorized(system, search, lengths)
    reason = f"{settings.iterations} iterations were not enough"
    return Result(False, reason, number, state, error, search.width, search.wrong)


def _begun(system: System, search: _Search) -> tuple[State, Floats]:
    """The first point, with the multipliers of the equations that its first step asks for."""
    settings = search.settings
    _factorized(system, search, STAY)
    first = system.expand(search.barrier, False, settings.keep)
    usable = first.multiplier < settings.largest_first_multiplier
    return _factorized(system, search, Lengths(0.0, float(usable), 0.0))


def _factorized(system: System, search: _Search, lengths: Lengths) -> tuple[State, Floats]:
    """The point after a step, its Newton system of the right inertia; and what was added for that, (T,)."""
    settings = search.settings
    mending = _mending(search) if search.wrong else 0.0
    delta, convex = np.full(search.periods, mending), np.zeros(search.periods, bool)
    if search.boost:
        delta = np.maximum(search.last_delta, settings.first_delta) * search.boost
        search.boost = 0.0
    state = system.reduce(lengths, search.width, search.center, delta, convex)
    if (state.excess != 0).any():
        search.wrong += 1
        if not search.monotone:
            _go_monotone(search, state)
    for _ in range(settings.attempts):
        bad = state.excess != 0
        if not bad.any():
            break
        if (bad & ~convex).any():
            convex = convex | bad
        else:
            grown = settings.delta_growth[int(search.last_delta.any())]
            begun = np.where(
                search.last_delta > 0, np.maximum(search.last_delta * settings.delta_fall, 1e-8), settings.first_delta
            )
            delta = np.where(bad, np.where(delta == 0, begun, delta * grown), delta)
        state = system.reduce(STAY, search.width, search.center, delta, convex)
    search.primal, search.dual = state.at.primal, state.at.dual
    if not mending:
        search.last_delta = np.where(delta > 0, delta, search.last_delta)
    return state, delta


def _mending(search: _Search) -> float:
    """What ``Settings.mending`` adds at this point."""
    settings, largest = search.settings, max(search.primal, search.dual)
    if search.mending:
        if largest > search.mended:
            search.mending *= 10
        elif largest > 0.5 * search.mended:
            search.mending /= 10
        if not settings.first_delta < search.mending <= settings.mending:
            search.mending = 0.0
    elif search.dual <= settings.tolerance < search.primal:
        search.mending = settings.mending
    search.mended = largest
    return search.mending


def _go_monotone(search: _Search, state: State) -> None:
    search.monotone, search.barrier = True, max(state.average, state.least_barrier(search.settings))
    search.filter.clear()


def _predicted(system: System, search: _Search, state: State) -> Step:
    """Mehrotra's step (Nocedal and Wright, "Numerical Optimization" (2006), chapter 19.3)."""
    settings, average = search.settings, state.average
    ahead = system.predict(average)
    primal, dual = ahead.primal, ahead.dual
    weights = np.array([1.0, dual, primal, primal * dual])
    left = float(weights @ ahead.products) / max(state.at.limits, 1.0)
    centering = min(max((left / average) ** 3, settings.least_centering), 1.0) if average > 0 else 0.0
    # Products are never raised: those that have gone too far would have to come back all the way.
    search.barrier = max(centering * average, min(state.least_barrier(settings), average))
    step = system.expand(search.barrier, True, settings.keep)
    if min(step.primal, step.dual) < settings.short * min(primal, dual):
        # The corrector spoils the step: go to the center instead.
        search.barrier = max(search.barrier, settings.recentering * average)
        step = system.expand(search.barrier, False, settings.keep)
    return step


def _lowered(system: System, search: _Search, state: State, delta: Floats) -> tuple[State, Floats]:
    """The barrier lowered while its problem is solved."""
    settings, least = search.settings, state.least_barrier(search.settings)
    while state.error(search.barrier, settings) <= settings.solved * search.barrier:
        lower = max(least, min(settings.fall * search.barrier, search.barrier**settings.superlinear_fall))
        lower = min(search.barrier, max(lower, settings.least_share * state.average))
        width = max(settings.least_width, min(search.width, settings.width_factor * lower**0.5))
        if lower == search.barrier and width == search.width:
            break
        search.barrier = lower
        search.filter.clear()
        if width < search.width:
            search.width = width
            return _factorized(system, search, STAY)
    return state, delta


def _searched(system: System, search: _Search, state: State) -> tuple[Step, float | None]:
    """A step and a share of it that the filter accepts; None: there is none."""
    settings, barrier = search.settings, search.barrier
    step = system.expand(barrier, False, settings.keep)
    infeasible, merit = state.at.infeasibility, state.merit(barrier)
    most, small = search.infeasibility
    gain, of_merit = settings.filter_infeasibility, settings.filter_objective
    rounding = 1e-12 * max(1.0, abs(merit))
    slope = step.slope
    length = step.primal
    least = max(1e-10, 0.05 * gain * 1e-3)
    for _ in range(settings.halvings):
        if length < least:
            break
        tried, objective, logs = system.trial(length, search.width)
        value = objective - barrier * logs
        acceptable = np.isfinite(tried) and np.isfinite(value) and tried <= most
        if acceptable and search.takes(tried, value):
            by_merit = infeasible <= small and slope < 0 and length * np.float64(-slope) ** 2.3 > infeasible**1.1
            if by_merit:
                if value <= merit + settings.armijo * length * slope + rounding:
                    return step, length
            elif tried <= (1 - gain) * infeasible + 1e-12 or value <= merit - of_merit * infeasible + rounding:
                search.filter.append(((1 - gain) * infeasible, merit - of_merit * infeasible))
                return step, length
        length /= 2
    return step, None


def _narrow(search: _Search, state: State) -> None:
    """Narrower load laws after a step with a predictor: as its barrier falls."""
    settings = search.settings
    if not search.monotone:
        width = settings.width_factor * max(state.average, 1e-30) ** 0.5
        search.width = max(settings.least_width, min(search.width, width))
