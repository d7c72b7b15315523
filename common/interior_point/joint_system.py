"""The Newton system of a feeder cut into areas: what is left when they have eliminated all but what they share.

Every tie has a voltage V and a current J drawn by the child as unknowns, with the multipliers of two equations: the
parent's voltage is V, and the child draws J. Areas eliminate all else (``common.joint_step``); what is left is

    sum of the areas' Schur complements  +  [V  x  given  -1]  +  [J  x  drawn  -1]  +  stored energies over time

which is factorized as the areas factorize theirs (``common.interior_point.block_ldl``), keeping the multipliers of
stored energies, and then over time (``common.interior_point.stores``). A Schur complement does not care who eliminated
what, so the iterates are those of one area.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from common.boundary import CHILD
from common.feeder import Bools, Floats, Ints
from common.interior_point.algorithm import Prediction, State, Step
from common.interior_point.block_ldl import Entries, Factors, Pattern
from common.interior_point.lanes import padded
from common.interior_point.limits import (
    CLIP,
    Limit,
    Limits,
    Magnitudes,
    Products,
    Slacks,
    condensed,
    expanded,
    first_slacks,
    longest,
    make_limits,
    products,
    zeta,
)
from common.interior_point.stores import TimeFactors
from common.joint_step import (
    LEFT,
    Expand,
    Expanded,
    Lengths,
    Measures,
    Opened,
    Predict,
    Predicted,
    Reduce,
    Reduced,
    Trial,
    Tried,
    together,
)


class Parts(Protocol):
    """Areas in spans of their periods, whose steps these are."""

    def reduce(self, asks: Sequence[Reduce]) -> list[Reduced]: ...

    def predict(self, asks: Sequence[Predict]) -> list[Predicted]: ...

    def expand(self, asks: Sequence[Expand]) -> list[Expanded]: ...

    def trial(self, asks: Sequence[Trial]) -> list[Tried]: ...


VOLTAGE, GIVEN, CURRENT, DRAWN = 0, 1, 4, 5
"""scalars of a tie's conductor: real V, the multiplier of the real voltage that the parent gives, real J, that of the
real current drawn; the imaginary ones are two further on"""
SCALARS = 8
"""of a tie's conductor"""


@dataclass(frozen=True)
class Point:
    """What the coordinator knows; arrays (row, T)."""

    ties: Floats
    """(scalar of the ties,)"""
    nu: Floats
    """(store,) multipliers of stored energies"""
    level: Floats
    """(store,) at the end of each period"""
    slacks: Slacks
    """of the levels' limits"""


@dataclass(frozen=True)
class Reach:
    """Right-hand sides of a step: of the border's equations (scalar, T), and of the levels' (store, T)."""

    border: Floats
    levels: Floats


class JointSystem:
    """The whole feeder's Newton system; ``common.interior_point.algorithm.System``."""

    def __init__(
        self,
        ends: Sequence[tuple[Ints, Ints]],
        periods: int,
        parts: Parts,
        spans: Sequence[tuple[int, slice]],
        opened: Sequence[Opened],
        barrier: float,
    ) -> None:
        """``ends`` tells the conductors and sides of each area's ties, ``spans`` the area and the periods of each part;
        ``barrier`` is the first."""
        self._parts, self._spans, self.periods = parts, spans, periods
        self._ties = SCALARS * max((int(conductors.max()) + 1 for conductors, _ in ends if len(conductors)), default=0)
        first_of = {area: k for k, (area, _) in reversed(list(enumerate(spans)))}
        self._areas = sorted(first_of)
        stores = np.concatenate([np.zeros((3, 0)), *(_stores(opened[first_of[a]]) for a in self._areas)], axis=1)
        counts = [opened[first_of[area]].start.size for area in self._areas]
        firsts = np.cumsum([self._ties, *counts])
        self._places = [
            _places(ends[area], first + np.arange(count))
            for area, first, count in zip(self._areas, firsts[:-1], counts, strict=True)
        ]
        self._start, low, high = stores
        self._limits = _level_limits(low, high, self.periods)
        ties = np.zeros((self._ties + len(self._start), self.periods))
        for (area, span), told in zip(spans, opened, strict=True):
            ties[self._places[area][:, None], np.arange(self.periods)[span]] = told.border
        level = np.repeat(self._start[:, None], self.periods, axis=1)
        inside = np.clip(level, low[:, None] + 0.1 * _range(low, high), high[:, None] - 0.1 * _range(low, high))
        level[:, :-1] = inside[:, :-1]
        margin = self._limits.margins(np.ascontiguousarray(level[:, :-1]), np.zeros((0, self.periods - 1)))
        self.point = Point(
            ties[: self._ties],
            np.zeros_like(level),
            level,
            first_slacks(self._limits, margin, barrier),
        )
        self._factors = self._pattern()
        self._step: Point | None = None
        self.replaced = 0.0
        """factorizations whose static pivots failed"""

    def _pattern(self) -> Factors | None:
        """Of the border: dense between the unknowns of each area, and each tie's own equations."""
        stores = len(self._start)
        blocks = self._ties // 2 + (stores + 1) // 2
        if not blocks:
            return None
        i, j = [], []
        for places in self._places:
            one, other = np.triu_indices(len(places))
            i.append(places[one])
            j.append(places[other])
        varying = sum(map(len, i))
        own = np.arange(0, self._ties, 2)
        i += [own + 1, np.arange(self._ties + stores, 2 * blocks)]
        j += [own, np.arange(self._ties + stores, 2 * blocks)]
        constant = np.concatenate([np.zeros(varying), -np.ones(len(own)), np.ones(stores % 2)])
        rows = sp.csr_array(
            (np.ones(varying), (np.arange(varying), np.arange(varying))), shape=(len(constant), varying)
        )
        entries = Entries(np.concatenate(i), np.concatenate(j), constant, rows)
        return Factors(Pattern(blocks, np.arange(self._ties // 2, blocks), entries), self.periods)

    # The algorithm's calls.

    def reduce(
        self, lengths: Lengths, width: float, barrier: float, delta: Floats, convex: Bools, prices: int = LEFT
    ) -> State:
        if self._step is not None:
            self.point = _moved(self.point, self._step, lengths)
            self.point = replace(self.point, slacks=self.point.slacks.centered(barrier))
        told = self._parts.reduce(
            [Reduce(lengths, width, barrier, delta[span], convex[span], prices) for _, span in self._spans]
        )
        self._told = told
        self.replaced += sum(answer.replaced for answer in told)
        excess, wrong = self._factorize(told)
        at = together([self._own_measures(told), *(answer.measures for answer in told)])
        balance = int(excess.sum() - wrong.sum())
        unknown = np.zeros(self.periods, bool)
        for (_, span), answer in zip(self._spans, told, strict=True):
            unknown[span] |= answer.negatives < 0
        bad = (excess != 0) | (wrong != 0) | unknown
        # Rounding can take back more than there was.
        right = not unknown.any() and balance <= 0
        return State(at, np.zeros(self.periods, np.int64) if right else np.where(bad, 1, 0))

    def predict(self, average: float) -> Prediction:
        step = self._solved(self._reach(0.0, [answer.right for answer in self._told]))
        step, products, lengths = self._with_slacks(step, 0.0)
        told = self._parts.predict([Predict(part, average) for part in self._split(step)])
        most = CLIP * average
        self._off = np.clip(step.slacks.s * step.slacks.z, -most, most)
        self._correctors = [answer.right for answer in told]
        return Prediction(
            primal=min(lengths[0], *(answer.primal for answer in told)),
            dual=min(lengths[1], *(answer.dual for answer in told)),
            products=products + sum(answer.products for answer in told),
        )

    def expand(self, barrier: float, corrected: bool, keep: float) -> Step:
        parts = [answer.right + barrier * answer.right_barrier for answer in self._told]
        k: Floats | float = barrier
        if corrected:
            parts = [part + more for part, more in zip(parts, self._correctors, strict=True)]
            k = barrier - self._off
        step, _, _ = self._with_slacks(self._solved(self._reach(k, parts)), k)
        self._step = step
        told = self._parts.expand([Expand(part, barrier, corrected, keep) for part in self._split(step)])
        slacks, moved = self.point.slacks, step.slacks
        slope = self._own_slope(step) - barrier * float((moved.s / slacks.s).sum())
        return Step(
            primal=min(longest(slacks.s, moved.s, keep), *(answer.primal for answer in told)),
            dual=min(longest(slacks.z, moved.z, keep), *(answer.dual for answer in told)),
            slope=slope + sum(answer.slope for answer in told),
            change=max(answer.change for answer in told),
            multiplier=max(
                float(np.abs(step.ties).max(initial=0.0)),
                float(np.abs(step.nu).max(initial=0.0)),
                *(answer.multiplier for answer in told),
            ),
        )

    def trial(self, primal: float, width: float) -> tuple[float, float, float]:
        told = self._parts.trial([Trial(primal, width)] * len(self._spans))
        assert self._step is not None
        # The coordinator's own equations are linear: a step takes its share off their residuals.
        left = (1 - primal) * self._own_infeasibility
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = float(np.log(self.point.slacks.s + primal * self._step.slacks.s).sum())
        return (
            left + sum(answer.infeasibility for answer in told),
            sum(answer.objective for answer in told),
            logs + sum(answer.logs for answer in told),
        )

    def objective(self) -> float:
        """$ of all areas at the last point, oversteps at their price among it."""
        return sum(part.measures.objective * part.scale for part in self._told)

    def energy_cost(self) -> float:
        """$"""
        return sum(part.energy_cost for part in self._told)

    def mismatch(self) -> float:
        """Largest difference of a tie's voltage or current between both areas, pu."""
        rows = np.arange(1, self._ties, 2)
        return float(np.abs(self._residual[rows]).max(initial=0.0))

    # What they are made of.

    def _scattered(self, parts: Sequence[Floats]) -> Floats:
        """(scalar, T) the sum of the parts' border arrays."""
        found = np.zeros((self._ties + len(self._start), self.periods))
        for (area, span), part in zip(self._spans, parts, strict=True):
            found[self._places[area], span] += part
        return found

    def _split(self, step: Point) -> list[Floats]:
        """Each part's share of the border's step."""
        both = np.concatenate([step.ties, step.nu])
        return [both[self._places[area]][:, span] for area, span in self._spans]

    def _factorize(self, told: Sequence[Reduced]) -> tuple[Ints, Ints]:
        """Negative eigenvalues too many in each period, of areas and ties; and those that the coupling in time takes
        back."""
        excess = np.zeros(self.periods, np.int64)
        for (_, span), answer in zip(self._spans, told, strict=True):
            excess[span] += np.maximum(answer.negatives, 0)
        wrong = np.zeros(self.periods, np.int64)
        if self._factors is None:
            return excess, wrong
        sizes = [len(places) * (len(places) + 1) // 2 for places in self._places]
        firsts = np.cumsum([0, *sizes])
        table = np.zeros((firsts[-1], self.periods))
        for (area, span), answer in zip(self._spans, told, strict=True):
            table[firsts[area] : firsts[area + 1], span] = answer.schur
        self._factors.factor(padded(table))
        excess += self._factors.negatives - self._ties // 2
        stores = len(self._start)
        if stores:
            size = 2 * len(self._factors.pattern.border)
            rows, columns = np.triu_indices(size)
            schur = np.zeros((self.periods, size, size))
            pairs = self._factors.schur()[:, : self.periods].T
            schur[:, rows, columns] = schur[:, columns, rows] = pairs
            weights = condensed(self._limits, self.point.slacks, self._level_margin())
            self._condensed = weights
            sigma = np.zeros((self.periods, stores))
            sigma[:-1] = self._limits.of_rows(weights.stiffness, np.arange(stores)).T
            self._time = TimeFactors.of(np.ascontiguousarray(schur[:, :stores, :stores]), sigma)
            wrong += self._time.wrong
        return excess, wrong

    def _level_margin(self) -> Floats:
        return self._limits.margins(np.ascontiguousarray(self.point.level[:, :-1]), np.zeros((0, self.periods - 1)))

    def _reach(self, k: Floats | float, parts: Sequence[Floats]) -> Reach:
        point = self.point
        border = self._scattered(parts)
        border[: self._ties] += _swapped(point.ties)
        border[self._ties :] -= _risen(point.level, self._start)
        levels = np.zeros_like(point.level)
        if len(levels):
            pull = zeta(self._limits, point.slacks, self._condensed, k, 0.0, 1.0)
            empty = (np.zeros((0, self.periods - 1)),) * 2
            levels[:, :-1] = self._limits.gradient(pull, empty, len(levels))
            levels[:, :-1] -= point.nu[:, :-1] - point.nu[:, 1:]
        return Reach(border, levels)

    def _solved(self, reach: Reach) -> Point:
        """Without the slacks of levels."""
        nothing = self.point.slacks
        if self._factors is None:
            return Point(reach.border, reach.levels, reach.levels, nothing)
        blocks, stores = self._factors.pattern.structure.blocks, len(self._start)
        right = np.zeros((2 * blocks, self.periods))
        right[: len(reach.border)] = reach.border
        half, g = self._factors.forward(padded(right))
        nu, level = np.zeros((2, stores, self.periods))
        kept = np.zeros((2 * len(self._factors.pattern.border), g.shape[1]))
        if stores:
            nu, level = self._time.solve(g[:stores, : self.periods], reach.levels)
            kept[:stores] = padded(nu)
        found = self._factors.backward(half, kept)
        return Point(np.ascontiguousarray(found[: self._ties, : self.periods]), nu, level, nothing)

    def _with_slacks(self, step: Point, k: Floats | float) -> tuple[Point, Floats, tuple[float, float]]:
        """The step with its slacks, sums of products, and how far they let it go."""
        if not len(self._start):
            return replace(step, slacks=_no_step(self.point.slacks)), np.zeros(4), (1.0, 1.0)
        slacks = self.point.slacks
        empty = (np.zeros((0, self.periods - 1)),) * 2
        change = self._limits.changes(step.level[:, :-1], empty)
        moved = expanded(self._limits, slacks, self._condensed, change, k, 0.0)
        lengths = longest(slacks.s, moved.s, 1.0), longest(slacks.z, moved.z, 1.0)
        return replace(step, slacks=moved), products(slacks, moved, self.periods - 1), lengths

    def _own_measures(self, told: Sequence[Reduced]) -> Measures:
        """The coordinator's equations, unknowns and limits."""
        point = self.point
        residual = self._residual = self._scattered([answer.residual for answer in told])
        residual[: self._ties] -= _swapped(point.ties)
        residual[self._ties :] += _risen(point.level, self._start)
        unknowns, equations = residual[0 : self._ties : 2], residual[1 : self._ties : 2]
        equations = np.concatenate([equations, residual[self._ties :]])
        stationary, missing = np.zeros((0, 0)), np.zeros((0, 0))
        slacks = point.slacks
        if len(self._start):
            empty = (np.zeros((0, self.periods - 1)),) * 2
            pull = self._limits.gradient(slacks.z, empty, len(point.level))
            stationary = point.nu[:, :-1] - point.nu[:, 1:] - pull
            missing = self._condensed.residual
        pairs = Products.of(slacks, self.periods - 1)
        self._own_infeasibility = float(np.abs(equations).sum() + np.abs(missing).sum())
        return Measures(
            infeasibility=self._own_infeasibility,
            primal=max(float(np.abs(part).max(initial=0.0)) for part in (equations, missing)),
            dual=max(float(np.abs(part).max(initial=0.0)) for part in (unknowns, stationary)),
            least_product=pairs.least,
            most_product=pairs.most,
            products=pairs.total,
            limits=float(pairs.count),
            # Areas count the multipliers that they share.
            multipliers=pairs.multipliers,
            equations=0.0,
            objective=0.0,
            logs=pairs.logs,
        )

    def _own_slope(self, step: Point) -> float:
        """What the shared unknowns and equations add to the derivative of the objective along the step."""
        point, residual = self.point, self._residual
        odd = np.arange(1, self._ties, 2)
        # Derivatives by V and J of the coordinator's part of the Lagrangian, and the shared equations' residuals, which
        # the step takes off.
        slope = -float((point.ties[odd] * step.ties[odd - 1]).sum()) + float((point.ties[odd] * residual[odd]).sum())
        if len(self._start):
            slope += float(((point.nu[:, :-1] - point.nu[:, 1:]) * step.level[:, :-1]).sum())
            slope += float((point.nu * residual[self._ties :]).sum())
        return slope


def _stores(opened: Opened) -> Floats:
    return np.stack([opened.start, opened.low, opened.high])


def _range(low: Floats, high: Floats) -> Floats:
    """(store, 1); 0 where there is no limit."""
    wide = (high - low)[:, None]
    return np.where(np.isfinite(wide), wide, 0.0)


def _level_limits(low: Floats, high: Floats, periods: int) -> Limits:
    """Of every level but the last, which is given."""
    bounded = np.flatnonzero(np.isfinite(low))
    none = np.zeros(0, np.int64)
    pairs = Magnitudes(none, none, none.astype(bool), np.zeros(0))
    limits = [Limit(bounded, 1.0, low[bounded, None]), Limit(bounded, -1.0, high[bounded, None])]
    return make_limits(limits, pairs, periods - 1)


def _places(end: tuple[Ints, Ints], stores: Ints) -> Ints:
    """Scalars of the coordinator's system of an area's border unknowns, in their order."""
    conductors, sides = end
    roots, ties = SCALARS * conductors[sides == CHILD], SCALARS * conductors[sides != CHILD]
    parts = [roots + VOLTAGE, roots + VOLTAGE + 2, roots + DRAWN, roots + DRAWN + 2]
    parts += [ties + CURRENT, ties + CURRENT + 2, ties + GIVEN, ties + GIVEN + 2]
    return np.concatenate([*parts, stores])


def _swapped(ties: Floats) -> Floats:
    """Each unknown's place taken by its equation's multiplier, and the other way round."""
    found = np.empty_like(ties)
    found[0::2], found[1::2] = ties[1::2], ties[0::2]
    return found


def _risen(level: Floats, start: Floats) -> Floats:
    """(store, T) change of each level since the period before."""
    return np.diff(level, axis=1, prepend=start[:, None])


def _moved(point: Point, step: Point, lengths: Lengths) -> Point:
    ties = point.ties.copy()
    ties[0::2] += lengths.primal * step.ties[0::2]
    ties[1::2] += lengths.multiplier * step.ties[1::2]
    return Point(
        ties,
        point.nu + lengths.multiplier * step.nu,
        point.level + lengths.primal * step.level,
        point.slacks.moved(step.slacks, lengths.primal, lengths.dual),
    )


def _no_step(slacks: Slacks) -> Slacks:
    return Slacks(0 * slacks.s, 0 * slacks.z, 0 * slacks.t, 0 * slacks.w)
