"""The Newton system of a feeder cut into areas: what is left when they have eliminated all but what they share.

Every tie has a voltage V and a current J drawn by the child as unknowns, with the multipliers of two equations: the
parent's voltage is V, and the child draws J. Areas eliminate all else (``common.wire.joint_step``); what is left is

    sum of the areas' Schur complements  +  [V  x  given  -1]  +  [J  x  drawn  -1]  +  stored energies over time

which is factorized as the areas factorize theirs (``common.interior_point.block_ldl``), keeping the multipliers of
stored energies, and then over time (``common.interior_point.stores``). A Schur complement does not care who eliminated
what, so the iterates are those of one area.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tieflow.common.arrays import Bools, Floats, Ints
from tieflow.common.interior_point.algorithm import Prediction, State, Step
from tieflow.common.interior_point.block_ldl import Factors, Pattern
from tieflow.common.interior_point.collector import Collector
from tieflow.common.interior_point.lanes import LANES, groups, unset
from tieflow.common.interior_point.levels import Levels, StoredEnergies
from tieflow.common.interior_point.limits import CLIP, lengths, products
from tieflow.common.row_kernels import absolute, add_rows, dot
from tieflow.common.ties.boundary import CHILD
from tieflow.common.wire.joint_step import (
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
from tieflow.common.wire.messages import Command

Exchange = Callable[[Command, Sequence[Any]], list[Any]]
"""asks all parts, areas in spans of their periods whose steps these are; see ``common.wire.messages.EXCHANGES``"""
VOLTAGE, GIVEN, CURRENT, DRAWN = 0, 1, 4, 5
"""scalars of a tie's conductor: real V, the multiplier of the real voltage that the parent gives, real J, that of the
real current drawn; the imaginary ones are two further on"""
SCALARS = 8
"""of a tie's conductor"""


@dataclass(frozen=True)
class _Step:
    scalars: Floats
    """(scalar, T) in lanes, ties', then stores'"""
    levels: Levels


class JointSystem:
    """The whole feeder's Newton system; ``common.interior_point.algorithm.System``."""

    def __init__(
        self,
        ends: Sequence[tuple[Ints, Ints]],
        periods: int,
        exchange: Exchange,
        spans: Sequence[tuple[int, slice]],
        opened: Sequence[Opened],
        barrier: float,
    ) -> None:
        """``ends`` tells the conductors and sides of each area's ties, ``spans`` the area and the periods of each part;
        ``barrier`` is the first."""
        self._exchange, self._spans, self.periods = exchange, spans, periods
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
        start, low, high = stores
        self.stores = StoredEnergies(start, low, high, periods, barrier)
        sizes = np.array([len(places) for places in self._places])
        self._pair_windows = _windows(sizes * (sizes + 1) // 2, spans)
        blocks = self._blocks = self._ties // 2 + (self.stores.count + 1) // 2
        self._factors = self._pattern(blocks) if blocks else None
        self._store_pairs = _pair_numbers(2 * (blocks - self._ties // 2))[: self.stores.count, : self.stores.count]
        self._of_stores = slice(self._ties, self._ties + self.stores.count)
        """among the scalars"""
        self.ties = self._scattered([told.border for told in opened])[: self._ties]
        """(scalar of the ties, T) in lanes"""
        self._unknowns, self._equations = np.arange(0, self._ties, 2), np.arange(1, self._ties, 2)
        self._step: _Step | None = None
        self.replaced = 0.0
        """factorizations whose static pivots failed"""

    def _pattern(self, blocks: int) -> Factors:
        """Of the border: dense between the unknowns of each area, and each tie's own equations."""
        stores = self.stores.count
        pairs = [(places, *np.triu_indices(len(places))) for places in self._places]
        one, other = (np.concatenate([pair[0][pair[k]] for pair in pairs]) for k in (1, 2))
        found = Collector(len(one))
        found.varying(one, other, np.arange(len(one)))
        own, nothing = np.arange(0, self._ties, 2), np.arange(self._ties + stores, 2 * blocks)
        found.constant(own + 1, own, -1.0)
        found.constant(nothing, nothing, 1.0)
        return Factors(Pattern(blocks, np.arange(self._ties // 2, blocks), found.entries()), self.periods)

    # The algorithm's calls.

    def reduce(
        self, lengths: Lengths, width: float, barrier: float, delta: Floats, convex: Bools, prices: int = LEFT
    ) -> State:
        if self._step is not None:
            ties, step = self.ties.copy(), self._step
            ties[0::2] += lengths.primal * step.scalars[0 : self._ties : 2]
            ties[1::2] += lengths.multiplier * step.scalars[1 : self._ties : 2]
            self.ties = ties
            self.stores.take(step.levels, lengths, barrier)
        asks = [Reduce(lengths, width, barrier, delta[span], convex[span], prices) for _, span in self._spans]
        told: list[Reduced] = self._exchange(Command.REDUCE, asks)
        self._told = told
        self.replaced += sum(answer.replaced for answer in told)
        excess, wrong = self._factorize(told)
        self._rights = self._scattered([answer.right for answer in told])
        self._barrier_rights = self._scattered([answer.right_barrier for answer in told])
        residual = self._residual = self._scattered([answer.residual for answer in told])
        swapped, rises = _swapped(self.ties), self.stores.rises()
        for found, sign in ((residual, 1.0), (self._rights, -1.0)):
            found[: self._ties] -= sign * swapped
            found[self._of_stores, : self.periods] += sign * rises
        self._left = np.ascontiguousarray(residual[self._of_stores, : self.periods])
        own = [self._tie_measures(), *([self.stores.measures(self._left)] if self.stores.count else [])]
        self._own_infeasibility = sum(one.infeasibility for one in own)
        at = together([*own, *(answer.measures for answer in told)])
        balance = int(excess.sum() - wrong.sum())
        unknown = np.zeros(self.periods, bool)
        for (_, span), answer in zip(self._spans, told, strict=True):
            unknown[span] |= answer.negatives < 0
        bad = (excess != 0) | (wrong != 0) | unknown
        # Rounding can take back more than there was.
        right = not unknown.any() and balance <= 0
        return State(at, np.zeros(self.periods, np.int64) if right else np.where(bad, 1, 0))

    def predict(self, average: float) -> Prediction:
        step = self._solved(self._rights, 0.0)
        told: list[Predicted] = self._exchange(Command.PREDICT, [Predict(part, average) for part in self._split(step)])
        slacks, moved = self.stores.at.slacks, step.levels.slacks
        most = CLIP * average
        self._off = (moved.s * moved.z).clip(-most, most)
        self._correctors = self._scattered([answer.right for answer in told])
        primal, dual = lengths(slacks, moved, 1.0)
        return Prediction(
            primal=min(primal, *(answer.primal for answer in told)),
            dual=min(dual, *(answer.dual for answer in told)),
            products=products(slacks, moved, self.periods - 1) + sum(answer.products for answer in told),
        )

    def expand(self, barrier: float, corrected: bool, keep: float) -> Step:
        rights, k = self._rights + barrier * self._barrier_rights, barrier - self._off if corrected else barrier
        step = self._step = self._solved(rights + self._correctors if corrected else rights, k)
        asks = [Expand(part, barrier, corrected, keep) for part in self._split(step)]
        told: list[Expanded] = self._exchange(Command.EXPAND, asks)
        slacks, moved = self.stores.at.slacks, step.levels.slacks
        slope = self._tie_slope(step.scalars) + self.stores.slope(step.levels, self._left, barrier)
        primal, dual = lengths(slacks, moved, keep)
        return Step(
            primal=min(primal, *(answer.primal for answer in told)),
            dual=min(dual, *(answer.dual for answer in told)),
            slope=slope + sum(answer.slope for answer in told),
            change=max(answer.change for answer in told),
            multiplier=max(
                float(np.abs(step.scalars).max(initial=0.0)),
                *(answer.multiplier for answer in told),
            ),
        )

    def trial(self, primal: float, width: float) -> tuple[float, float, float]:
        told: list[Tried] = self._exchange(Command.TRIAL, [Trial(primal, width)] * len(self._spans))
        assert self._step is not None
        # The coordinator's own equations are linear: a step takes its share off their residuals.
        left = (1 - primal) * self._own_infeasibility
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = float(np.log(self.stores.at.slacks.s + primal * self._step.levels.slacks.s).sum())
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
        return absolute(self._residual, self._equations, self.periods)[1]

    # What they are made of.

    @property
    def _lanes(self) -> int:
        return LANES * groups(self.periods)

    def _stacked(self, parts: Sequence[Floats]) -> Floats:
        """(border pair of an area, one area below the other; T) in lanes."""
        found = unset(self._pair_windows[-1][0].stop, self._lanes)
        for window, part in zip(self._pair_windows, parts, strict=True):
            found[window] = part
        found[:, self.periods :] = found[:, self.periods - 1 : self.periods]
        return found

    def _scattered(self, parts: Sequence[Floats]) -> Floats:
        """(scalar, T) in lanes, the sum over parts of what is told of their border unknowns."""
        found = np.zeros((2 * self._blocks, self._lanes))
        for (area, span), part in zip(self._spans, parts, strict=True):
            add_rows(self._places[area], part, found, span.start)
        return found

    def _split(self, step: _Step) -> list[Floats]:
        """Each part's share of the border's step."""
        return [step.scalars[self._places[area], span] for area, span in self._spans]

    def _factorize(self, told: Sequence[Reduced]) -> tuple[Ints, Ints]:
        """Negative eigenvalues too many in each period, of areas and ties; and those that the coupling in time takes
        back."""
        excess = np.zeros(self.periods, np.int64)
        for (_, span), answer in zip(self._spans, told, strict=True):
            excess[span] += np.maximum(answer.negatives, 0)
        wrong = np.zeros(self.periods, np.int64)
        if self._factors is None:
            return excess, wrong
        self._factors.factor(self._stacked([answer.schur for answer in told]))
        excess += self._factors.negatives - self._ties // 2
        if self.stores.count:
            schur = self._factors.schur()[self._store_pairs, : self.periods]
            wrong = self.stores.factorize(np.ascontiguousarray(schur.transpose(2, 0, 1)))
        return excess, wrong

    def _solved(self, right: Floats, k: Floats | float) -> _Step:
        """Towards products k of the levels' slacks."""
        count, levels = self.stores.count, self.stores.at
        if self._factors is None:
            return _Step(right, levels)
        half, g = self._factors.forward(right)
        kept = np.zeros_like(g)
        if count:
            levels = self.stores.step(g[:count, : self.periods], k)
            kept[:count, : self.periods] = levels.nu
        return _Step(self._factors.backward(half, kept), levels)

    def _tie_measures(self) -> Measures:
        """Of the ties' equations and unknowns; areas count the shared multipliers."""
        missing, most = absolute(self._residual, self._equations, self.periods)
        return Measures(
            infeasibility=missing,
            primal=most,
            dual=absolute(self._residual, self._unknowns, self.periods)[1],
            least_product=np.inf,
            most_product=0.0,
            products=0.0,
            limits=0.0,
            multipliers=0.0,
            equations=0.0,
            objective=0.0,
            logs=0.0,
        )

    def _tie_slope(self, step: Floats) -> float:
        """What the ties add to the derivative of the objective along the step: derivatives by V and J of their part of
        the Lagrangian, and their equations' residuals, which the step takes off."""
        along = self.ties[1::2] * step[0 : self._ties : 2]
        return dot(self.ties, self._residual, self._equations, self.periods) - float(along[:, : self.periods].sum())


def _stores(opened: Opened) -> Floats:
    return np.stack([opened.start, opened.low, opened.high])


def _windows(sizes: Ints, spans: Sequence[tuple[int, slice]]) -> list[tuple[slice, slice]]:
    """(part,) rows and periods of each part, where so many rows of the areas stand one below the other."""
    ends = np.cumsum(sizes).tolist()
    return [(slice(ends[area] - int(sizes[area]), ends[area]), span) for area, span in spans]


def _pair_numbers(size: int) -> Ints:
    """(size, size) where a pair of the border stands in the order of np.triu_indices."""
    numbers = np.zeros((size, size), np.int64)
    rows, columns = np.triu_indices(size)
    numbers[rows, columns] = numbers[columns, rows] = np.arange(len(rows))
    return numbers


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
