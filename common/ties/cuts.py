"""Cutting a tree into connected areas of even work, preferably where a cut is cheap.

First the smallest possible largest area is found, exactly. Then, among the partitions whose largest area is hardly
larger, one of low cost and little unevenness is built from the leaves up, and improved until no single change helps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tieflow.common.arrays import Floats, Ints
from tieflow.common.errors import CaseError

MOST_AREAS = 64
SLACK = 0.05
_ROUNDING = 1e-9
_CHOICES = 64
_PRICES = 10
_SWEEPS = 100


@dataclass(frozen=True)
class Tree:
    """What a cut has to know of a feeder. Bus 0 is the root; branch k leads from bus ``parent[k]`` to bus k + 1."""

    parent: Ints
    """(branch,) bus index of the end nearer the root, at most k: parents come first"""
    work: Floats
    """(bus,) work that the bus brings to its area, >= 0"""
    cut_cost: Floats
    """(branch,) work that cutting the branch adds to the two areas it joins, >= 0; inf: must not be cut"""


def cut(tree: Tree, areas: int, slack: float = SLACK) -> Ints:
    """(bus,) number of the area of each bus, from 0, in the order of the areas' first buses; each area is connected.

    No area has more than 1 + ``slack`` times the work that the tree allows (:func:`smallest_largest`). Within that, the
    cost of the cuts + sum(work of area^2) / mean work is made small: a cut may move to a cheaper branch where evenness
    suffers less than the cost gains. This part is a local search, without a guarantee; it is deterministic. Raises
    CaseError when the tree cannot be cut into so many areas.
    """
    small, group = _merge(tree)
    _check_areas(small, areas)
    limit = _smallest_largest(small, areas) * (1 + slack) * (1 + _ROUNDING)
    fewest, _ = _fewest(small.parent.tolist(), small.work.tolist(), limit)
    searches = [_Search(small, areas, limit, heads) for heads in (fewest, _priced(small, areas, limit, fewest))]
    best = min(searches, key=_Search.run)
    # An area's label is its first bus, so sorted labels are in the order of the areas' first buses.
    return np.unique(best.area[group], return_inverse=True)[1].astype(np.int64)


def smallest_largest(tree: Tree, areas: int) -> float:
    """The largest area's work in the partition into ``areas`` areas where it is smallest, to 1e-9 relative.

    A property of the tree: no partition into so many areas that respects uncuttable branches has a smaller largest
    area; other costs are ignored. Raises CaseError when the tree cannot be cut into so many areas.
    """
    small, _ = _merge(tree)
    _check_areas(small, areas)
    return _smallest_largest(small, areas)


def _merge(tree: Tree) -> tuple[Tree, Ints]:
    """The tree with one bus for those that must stay together, and which one that is, (bus,)."""
    group = np.zeros(len(tree.work), np.int64)
    kept: list[int] = []
    for k, free in enumerate(np.isfinite(tree.cut_cost).tolist()):
        if free:
            kept.append(k)
        group[k + 1] = len(kept) if free else group[tree.parent[k]]
    branches = np.array(kept, np.int64)
    work = np.zeros(len(kept) + 1)
    np.add.at(work, group, tree.work)
    return Tree(parent=group[tree.parent[branches]], work=work, cut_cost=tree.cut_cost[branches]), group


def _check_areas(small: Tree, areas: int) -> None:
    most = min(len(small.work), MOST_AREAS)
    if not 1 <= areas <= most:
        raise CaseError(f"{areas} areas: this feeder can be cut into 1 to {most}. Choose a number among these.")


def _smallest_largest(small: Tree, areas: int) -> float:
    """By bisection; where a limit can be met, the search goes on from what was reached under it."""
    parent, work = small.parent.tolist(), small.work.tolist()
    high: float = sum(work)
    low = trial = max(*work, high / areas)
    while high - low > _ROUNDING * high:
        heads, largest = _fewest(parent, work, trial * (1 + _ROUNDING / 4))
        if len(heads) <= areas:
            high = min(high, max(largest, low))
        else:
            low = trial
        trial = (low + high) / 2
    return high


def _fewest(parent: list[int], work: list[float], limit: float) -> tuple[list[int], float]:
    """The first buses of as few areas as can keep the limit, which no bus alone exceeds; and the largest area's work.

    From the leaves up, a bus gives away its heaviest subtrees until the rest fits (Kundu and Misra, A linear tree
    partitioning algorithm, SIAM J. Comput. 6, 1977).
    """
    rest = list(work)
    hanging: list[list[int]] = [[] for _ in work]
    heads = [0]
    largest = 0.0
    for bus in range(len(work) - 1, -1, -1):
        total = work[bus] + sum(rest[child] for child in hanging[bus])
        if total > limit:
            for child in sorted(hanging[bus], key=lambda child: (-rest[child], child)):
                heads.append(child)
                largest = max(largest, rest[child])
                total -= rest[child]
                if total <= limit:
                    break
        rest[bus] = total
        if bus:
            hanging[parent[bus - 1]].append(bus)
    return heads, max(largest, rest[0])


def _priced(small: Tree, areas: int, limit: float, fewest: list[int]) -> list[int]:
    """The first buses of at most ``areas`` areas of low cost and unevenness; ``fewest`` when nothing better is found.

    A price on every cut steers their number: a Lagrange multiplier, which spares a dimension that counts them.
    """
    mean = float(small.work.sum()) / areas or 1.0
    found = fewest
    # Halving an even area saves about the mean work in unevenness, so prices near it give about the number wanted.
    low, high, price, step = -np.inf, np.inf, mean, mean / 8
    for _ in range(_PRICES):
        heads = _cheapest(small, limit, mean, price)
        if len(found) < len(heads) <= areas or len(heads) == areas:
            found = heads
        if len(heads) == areas:
            break
        low, high = (price, high) if len(heads) > areas else (low, price)
        if np.isfinite(high - low):
            price = (low + high) / 2
        else:
            price, step = price + (step if len(heads) > areas else -step), 2 * step
    return found


def _cheapest(small: Tree, limit: float, mean: float, price: float) -> list[int]:
    """The first buses of areas of low cost + unevenness + price of each cut, none above the limit.

    From the leaves up, each bus keeps the choices below it that may turn out best. Of those with about the same work
    only one survives, otherwise the least value would be found.
    """
    parent, cost = small.parent.tolist(), small.cut_cost.tolist()
    choices = [[_Choice(work, 0.0, None)] for work in small.work.tolist()]
    for bus in range(len(choices) - 1, 0, -1):
        closed = min(choices[bus], key=lambda choice: choice.value + choice.work**2 / mean)
        value = closed.value + closed.work**2 / mean + cost[bus - 1] + price
        below = [_Choice(0.0, value, (bus, closed.heads)), *(one for one in choices[bus] if one.value < value)]
        choices[bus] = []
        above = choices[parent[bus - 1]]
        pairs = [(a.work + b.work, a.value + b.value, i, j) for i, a in enumerate(above) for j, b in enumerate(below)]
        kept: dict[int, _Choice] = {}
        least = np.inf
        for work, value, i, j in sorted(pairs):
            if work <= limit and value < least:
                least = value
                kept[int(work / (limit or 1.0) * _CHOICES)] = _Choice(work, value, (above[i].heads, below[j].heads))
        choices[parent[bus - 1]] = list(kept.values())
    best = min(choices[0], key=lambda choice: choice.value + choice.work**2 / mean)
    heads, open_ends = [0], [best.heads]
    while open_ends:
        end = open_ends.pop()
        if isinstance(end, tuple):
            open_ends.extend(end)
        elif end is not None:
            heads.append(end)
    return heads


class _Choice(NamedTuple):
    """One way to cut what hangs at a bus."""

    work: float
    """of the bus's own area so far"""
    value: float
    """cost, unevenness and price of the areas cut off below"""
    heads: Any
    """first buses of these: a bus, None, or a pair of such"""


class _Search:
    """A partition under improvement. Areas are labelled by their first bus, below whose branch they were cut."""

    def __init__(self, tree: Tree, areas: int, limit: float, heads: list[int]) -> None:
        self.parent, self.work = tree.parent.tolist(), tree.work
        self.cost = np.concatenate(([np.inf], tree.cut_cost))  # by the bus below the branch; the root has none
        self.limit = limit
        self.mean = float(tree.work.sum()) / areas or 1.0
        self.heads = set(heads)
        self._label()
        while len(self.heads) < areas:
            self.heads.add(int(np.argmin(self._splitting())))
            self._label()

    def run(self) -> float:
        """Change cuts one at a time until no change helps; gives the cost and unevenness reached."""
        for _ in range(_SWEEPS):
            moved = [self._shift(head) for head in sorted(self.heads - {0})]
            if not any(moved) and not self._relocate():
                break
        return float(self.cost[sorted(self.heads - {0})].sum() + self._uneven(self.below[list(self.heads)]).sum())

    def _label(self) -> None:
        """Area of each bus, and the work at and below each bus within its area."""
        area, below = [0] * len(self.work), self.work.tolist()
        for bus in range(1, len(area)):
            area[bus] = bus if bus in self.heads else area[self.parent[bus - 1]]
        for bus in range(len(area) - 1, 0, -1):
            if bus not in self.heads:
                below[self.parent[bus - 1]] += below[bus]
        self.area, self.below = np.array(area, np.int64), np.array(below)

    def _uneven(self, work: Floats | float) -> Floats:
        return np.square(work) / self.mean

    def _splitting(self) -> Floats:
        """(bus,) what the objective gains or loses when the bus becomes the head of a new area; inf: it is one."""
        whole = self.below[self.area]
        change = self.cost + self._uneven(self.below) + self._uneven(whole - self.below) - self._uneven(whole)
        change[list(self.heads)] = np.inf
        return change

    def _shift(self, head: int) -> bool:
        """Join an area with the one above and cut the two again, at the best branch; False when it was the best."""
        upper = int(self.area[self.parent[head - 1]])
        below, own = self.below.copy(), self.below[head]
        bus = head
        while bus != upper:
            bus = self.parent[bus - 1]
            below[bus] += own
        whole = below[upper]
        inside = np.flatnonzero((self.area == head) | (self.area == upper))
        inside = inside[inside != upper]
        part = below[inside]
        value = self.cost[inside] + self._uneven(part) + self._uneven(whole - part)
        value[np.maximum(part, whole - part) > self.limit] = np.inf
        best = int(np.argmin(value))
        if not value[best] < value[np.searchsorted(inside, head)] - _ROUNDING * self.mean:
            return False
        self.heads = self.heads - {head} | {int(inside[best])}
        self._label()
        return True

    def _relocate(self) -> bool:
        """Drop the cut and make the one elsewhere that together help most; False when none do."""
        splitting = self._splitting()
        order = np.argsort(splitting, kind="stable")
        best = (-_ROUNDING * self.mean, 0, 0)
        for head in sorted(self.heads - {0}):
            upper = int(self.area[self.parent[head - 1]])
            one, other = self.below[head], self.below[upper]
            if one + other > self.limit:
                continue
            joining = self._uneven(one + other) - self._uneven(one) - self._uneven(other) - self.cost[head]
            elsewhere = next((int(b) for b in order if self.area[b] not in (head, upper)), None)
            if elsewhere is not None:
                best = min(best, (float(joining + splitting[elsewhere]), head, elsewhere))
        if not best[1]:
            return False
        self.heads = self.heads - {best[1]} | {best[2]}
        self._label()
        return True
