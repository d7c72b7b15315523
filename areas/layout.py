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
        m, e = self.meters, self.ends
        shared = {"root": 2 * self.roots, "tie": 2 * self.ties, "w": e, "a": e}
        return slices({"network": 4 * self.nodes, "control": self.controls, "p": m, "q": m, **shared})

    @cached_property
    def multiplier(self) -> dict[str, slice]:
        """Rows of multipliers, by name."""
        m, e = self.meters, self.ends
        r, k = (self.roots, self.ties) if self.joint else (0, 0)
        shared = {"draw": 2 * r, "given": 2 * k, "store": self.stores, "w": e, "a": e}
        return slices({"network": 4 * self.nodes, "p": m, "q": m, **shared})

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
        re, root = first + node - self.given_nodes, self.x["root"].start
        of_root = (root + node, root + self.roots + node) if self.roots else (-1, -1)
        at_root = node < self.given_nodes
        return np.where(at_root, of_root[0], re), np.where(at_root, of_root[1], 2 * self.nodes + re)

    @property
    def blocks(self) -> int:
        return len(self._scalars[0]) // 2

    @property
    def border(self) -> Ints:
        """Blocks that are kept."""
        return np.arange(self._scalars[1], self.blocks)

    @cached_property
    def at(self) -> Ints:
        """(row, then multiplier) scalar of the Newton system of each."""
        found = np.zeros(self.rows + self.multipliers, np.int64)
        used = np.flatnonzero(self._scalars[0] >= 0)
        found[self._scalars[0][used]] = used
        return found

    @property
    def at_x(self) -> Ints:
        """(unknown,)"""
        return self.at[: self.rows]

    @property
    def at_multiplier(self) -> Ints:
        """(multiplier,)"""
        return self.at[self.rows :]

    @property
    def dummies(self) -> Ints:
        """Scalars that stand for nothing."""
        return np.flatnonzero(self._scalars[0] < 0)

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
    def _scalars(self) -> tuple[Ints, int]:
        """(scalar,) what each stands for, two a block: rows, then multipliers counted, -1: nothing. And the first block
        of the border."""
        n, r, every = self.nodes, self.roots, np.arange(self.rows + self.multipliers)
        x = {name: every[rows] for name, rows in self.x.items()}
        of = {name: every[self.rows :][rows] for name, rows in self.multiplier.items()}
        network = of["network"].copy()
        for part in (0, 2 * n):
            drop, balance = part + self.unfed, part + n + self.unfed
            network[drop], network[balance] = of["network"][balance], of["network"][drop]
        control = np.append(x["control"], -1)
        pairs = control[np.array([(*pair, -1)[:2] for pair in self.pairs], np.int64).reshape(-1, 2)]
        meters = [np.column_stack([x[name], of[name]]) for name in "pq"]
        inner = [np.column_stack([x["network"], network]), pairs, *meters]
        border = []
        if self.joint:
            border += [_halves(x["root"]), _halves(of["draw"]), _halves(x["tie"]), _halves(of["given"])]
        else:
            # At the area's own root its voltages stand beside the equations, the part first that its magnitude moves
            # with, and w and a, which may be held, are a block by themselves. At ties w and a stand beside theirs.
            voltage = x["root"].reshape(2, -1).T
            voltage = np.where(np.array(self.real_first, bool)[:r, None], voltage, voltage[:, ::-1])
            own, equations = (np.column_stack([part["w"], part["a"]]) for part in (x, of))
            at_root = np.concatenate([np.stack([voltage, equations[:r]], axis=2), own[:r, None]], axis=1)
            inner += [_halves(x["tie"]), at_root.reshape(-1, 2), np.stack([own[r:], equations[r:]], 2).reshape(-1, 2)]
        border.append(np.append(of["store"], [-1] * (self.stores % 2)).reshape(-1, 2))
        return np.concatenate([*inner, *border]).astype(np.int64).ravel(), sum(map(len, inner))


def slices(sizes: dict[str, int]) -> dict[str, slice]:
    """Rows by name, so many of each, one after the other."""
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}


def _halves(rows: Ints) -> Ints:
    """(block, 2) the first half of the rows (real parts) with the second."""
    return rows.reshape(2, -1).T
