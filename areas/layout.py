"""Where an area's unknowns stand: as rows of its arrays, and as scalars of its Newton system.

Rows of unknowns x, (row, T): real V, real I, imaginary V, imaginary I of the nodes whose voltage is unknown; the
devices' controls; real, then reactive power of the meters; then what the area shares with its neighbours. Rows of
multipliers alike: the voltage drops and current balances in the order of V and I; the meters' definitions; the
equations shared with neighbours; stored energy.

Cut out of a larger problem (``joint``), an area shares the voltage V of its own root and the currents J that its
children draw, each with a multiplier: that of the current that it draws itself, and that of the voltage that it gives
to a child. By itself (not ``joint``) it has the boundary quantities w, p, q and a of ``common.boundary`` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from common.feeder import Ints


@dataclass(frozen=True)
class Layout:
    """Sizes of an area, and all positions that follow from them."""

    nodes: int
    """whose voltage is unknown"""
    pairs: tuple[tuple[int, ...], ...]
    """controls that share a block of the Newton system, one or two each"""
    meters: int
    roots: int
    """conductors of the area's own root; none in the substation's area"""
    ties: int
    """conductors of the ties to the area's children"""
    stores: int
    joint: bool
    given_nodes: int
    """nodes of the feeder's bus 0, which come first and are no rows of the network's"""
    unfed: Ints
    """nodes that no branch feeds, from 0 after those: there the equation of the voltage drop says I = 0"""
    real_first: tuple[bool, ...] = ()
    """(root conductor,) whether the real part of its voltage without loads is the larger one"""

    @property
    def controls(self) -> int:
        return sum(map(len, self.pairs))

    @property
    def ends(self) -> int:
        """conductors whose boundary quantities are unknowns of the area"""
        return 0 if self.joint else self.roots + self.ties

    @cached_property
    def x(self) -> dict[str, slice]:
        """Rows of unknowns, by name."""
        n, m, r, k, e = self.nodes, self.meters, self.roots, self.ties, self.ends
        sizes = {
            "network": 4 * n,
            "control": self.controls,
            "p": m,
            "q": m,
            "root": 2 * r,
            "tie": 2 * k,
            "w": e,
            "a": e,
        }
        return _slices(sizes)

    @cached_property
    def multiplier(self) -> dict[str, slice]:
        """Rows of multipliers, by name."""
        n, m, e = self.nodes, self.meters, self.ends
        r, k = (self.roots, self.ties) if self.joint else (0, 0)
        sizes = {"network": 4 * n, "p": m, "q": m, "draw": 2 * r, "given": 2 * k, "store": self.stores, "w": e, "a": e}
        return _slices(sizes)

    @property
    def rows(self) -> int:
        return int(self.x["a"].stop)

    @property
    def multipliers(self) -> int:
        return int(self.multiplier["a"].stop)

    def voltage(self, node: Ints) -> tuple[Ints, Ints]:
        """Rows of the real and imaginary voltage of nodes of the feeder, the root's first; -1 where it is given."""
        return self._parts(node, 0)

    def current(self, node: Ints) -> tuple[Ints, Ints]:
        """Rows of the real and imaginary current into nodes from their branches."""
        return self._parts(node, self.nodes)

    def _parts(self, node: Ints, first: int) -> tuple[Ints, Ints]:
        own = node - self.given_nodes
        at_root = own < 0
        root = self.x["root"].start
        if not self.roots:
            return np.where(at_root, -1, first + own), np.where(at_root, -1, 2 * self.nodes + first + own)
        re = np.where(at_root, root + node, first + own)
        im = np.where(at_root, root + self.roots + node, 2 * self.nodes + first + own)
        return re, im

    @cached_property
    def blocks(self) -> int:
        return self._positions[3]

    @cached_property
    def border(self) -> Ints:
        """Blocks that are kept."""
        return self._positions[2]

    @cached_property
    def at_x(self) -> Ints:
        """(unknown,) scalar of the Newton system of each row."""
        return self._positions[0]

    @cached_property
    def at_multiplier(self) -> Ints:
        """(multiplier,)"""
        return self._positions[1]

    @cached_property
    def at(self) -> Ints:
        """(row, then multiplier) scalar of both."""
        return np.concatenate([self.at_x, self.at_multiplier])

    @cached_property
    def dummies(self) -> Ints:
        """Scalars that stand for nothing."""
        taken = np.zeros(2 * self.blocks, bool)
        taken[self.at_x] = taken[self.at_multiplier] = True
        return np.flatnonzero(~taken)

    @cached_property
    def shared(self) -> Ints:
        """(border unknown,) what the area shares, rows of unknowns, then of multipliers counted, in the order in which
        it tells them: V of its root, the multipliers of what it draws, J of its ties, the multipliers of the voltages
        given, then stored energy's."""
        x, multiplier, every = self.x, self.multiplier, np.arange(self.rows + self.multipliers)
        of = every[self.rows :]
        ends = [every[x["root"]], of[multiplier["draw"]], every[x["tie"]], of[multiplier["given"]]]
        return np.concatenate([*(ends if self.joint else []), of[multiplier["store"]]])

    @cached_property
    def border_order(self) -> Ints:
        """(border unknown,) place of what is shared among the border's scalars."""
        return self.at[self.shared] - 2 * (self.blocks - len(self.border))

    @cached_property
    def _positions(self) -> tuple[Ints, Ints, Ints, int]:
        x, multiplier, n = self.x, self.multiplier, self.nodes
        at_x, at_multiplier = np.full(self.rows, -1), np.full(self.multipliers, -1)
        network = np.arange(4 * n)
        at_x[x["network"]] = 2 * network
        drop_or_balance = network.copy()
        for part in (0, 2 * n):
            drop, balance = part + self.unfed, part + n + self.unfed
            drop_or_balance[drop], drop_or_balance[balance] = balance, drop
        at_multiplier[multiplier["network"]] = 2 * drop_or_balance + 1
        block = 4 * n
        controls = x["control"].start
        for pair in self.pairs:
            for k, control in enumerate(pair):
                at_x[controls + control] = 2 * block + k
            block += 1
        for name in ("p", "q"):
            block = _beside(at_x, x[name], at_multiplier, multiplier[name], block)
        if not self.joint:
            block = _halves(at_x, x["tie"], block)
            block = self._own_ends(at_x, at_multiplier, block)
        first = block
        if self.joint:
            block = _halves(at_x, x["root"], block)
            block = _halves(at_multiplier, multiplier["draw"], block)
            block = _halves(at_x, x["tie"], block)
            block = _halves(at_multiplier, multiplier["given"], block)
        at_multiplier[multiplier["store"]] = 2 * block + np.arange(self.stores)
        block += (self.stores + 1) // 2
        return at_x, at_multiplier, np.arange(first, block), block

    def _own_ends(self, at_x: Ints, at_multiplier: Ints, block: int) -> int:
        """Blocks of w and a. At the area's own root its voltages stand beside their equations, and w and a, which may
        be held, are a block by themselves; at ties w and a stand beside their equations."""
        x, multiplier, r = self.x, self.multiplier, self.roots
        w, a, of_w, of_a = x["w"].start, x["a"].start, multiplier["w"].start, multiplier["a"].start
        for k in range(r):
            re, im = x["root"].start + k, x["root"].start + r + k
            # The larger part of the voltage is the one that its magnitude moves with.
            first, second = (re, im) if self.real_first[k] else (im, re)
            at_x[first], at_multiplier[of_w + k] = 2 * block, 2 * block + 1
            at_x[second], at_multiplier[of_a + k] = 2 * block + 2, 2 * block + 3
            at_x[w + k], at_x[a + k] = 2 * block + 4, 2 * block + 5
            block += 3
        for k in range(r, self.ends):
            at_x[w + k], at_multiplier[of_w + k] = 2 * block, 2 * block + 1
            at_x[a + k], at_multiplier[of_a + k] = 2 * block + 2, 2 * block + 3
            block += 2
        return block


def _slices(sizes: dict[str, int]) -> dict[str, slice]:
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}


def _beside(at_x: Ints, rows: slice, at_multiplier: Ints, equations: slice, block: int) -> int:
    """Each unknown in a block with its equation; the next free block."""
    found = 2 * (block + np.arange(rows.stop - rows.start))
    at_x[rows], at_multiplier[equations] = found, found + 1
    return block + len(found)


def _halves(at: Ints, rows: slice, block: int) -> int:
    """The first half of the rows (real parts) in blocks with the second; the next free block."""
    count = (rows.stop - rows.start) // 2
    found = 2 * (block + np.arange(count))
    at[rows.start : rows.start + count], at[rows.start + count : rows.stop] = found, found + 1
    return int(block + count)
