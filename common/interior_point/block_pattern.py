"""Which numbers a block LDL' factorization has, before any of them is known: order, columns of L, where entries go.

The order is SuperLU's minimum degree (MMD_AT_PLUS_A), then a postorder of the elimination tree in which a column comes
right before the one whose pattern it shares. The columns of L are found as in Davis, "Direct Methods for Sparse Linear
Systems" (2006), chapter 4, and in his LDL package: row k of L is what the entries of row k reach up the tree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from common.compiled import njit
from common.interior_point.block_kernels import Structure
from common.interior_point.lanes import Bools, Floats, Ints

WEAK = 1e-9
"""off the diagonal of the matrix that SuperLU orders: ones on its diagonal stay its pivots"""


@dataclass(frozen=True)
class Entries:
    """Entries of a symmetric matrix: entry e adds its value to K[i, j] and to K[j, i] (once where i == j).

    Scalars 2b and 2b + 1 are the two unknowns of block b. An entry's value in a period is ``constant[e]`` plus
    ``rows[e] @ table[:, period]``; several entries may fall on one place and add up.
    """

    i: Ints
    """(entry,)"""
    j: Ints
    """(entry,)"""
    constant: Floats
    """(entry,)"""
    rows: sp.csr_array
    """(entry, table row)"""

    def matrix(self, size: int, column: Floats) -> sp.csc_array:
        """(size, size) of one period from its column of the table."""
        values = self.constant + self.rows @ column
        twice = self.i != self.j
        i, j = np.concatenate([self.i, self.j[twice]]), np.concatenate([self.j, self.i[twice]])
        return sp.coo_array((np.concatenate([values, values[twice]]), (i, j)), shape=(size, size)).tocsc()


@njit
def _reach(inner: int, start: Ints, row: Ints, first: Ints, column_row: Ints, parent: Ints, count: Ints) -> None:
    """Elimination tree ``parent``, blocks below the diagonal of L per column ``count``, and, where there is room, their
    rows ``column_row`` from ``first`` on. ``parent`` begins as -1, ``count`` as 0."""
    mark = np.full(len(parent), -1)
    for k in range(len(parent)):
        mark[k] = k
        for p in range(start[k], start[k + 1]):
            i = row[p]
            while i < inner and mark[i] != k:
                mark[i] = k
                if parent[i] < 0:
                    parent[i] = k
                if len(column_row) > 0:
                    column_row[first[i] + count[i]] = k
                count[i] += 1
                i = parent[i]


@njit
def _postorder(inner: int, parent: Ints, count: Ints) -> Ints:
    """The inner blocks, children before parents, a child whose column is alike last among its brothers."""
    child = np.full(inner + 1, -1)
    brother = np.full(inner, -1)
    for alike in (True, False):
        for i in range(inner - 1, -1, -1):
            above = min(parent[i], inner) if parent[i] >= 0 else inner
            if (above < inner and count[i] == count[above] + 1) == alike:
                brother[i] = child[above]
                child[above] = i
    order = np.empty(inner, np.int64)
    path = np.empty(inner + 1, np.int64)
    path[0], depth, found = inner, 0, 0
    while depth >= 0:
        below = child[path[depth]]
        if below >= 0:
            child[path[depth]] = brother[below]
            depth += 1
            path[depth] = below
        else:
            if depth > 0:
                order[found] = path[depth]
                found += 1
            depth -= 1
    return order


def _pairs(parent: Ints, count: Ints) -> Bools:
    """``alike`` of :class:`Structure`: of a chain of columns that are like their next, every second one."""
    column = np.arange(len(parent))
    like = np.zeros(len(parent), bool)
    like[:-1] = (parent[:-1] == column[1:]) & (count[:-1] == count[1:] + 1)
    unlike_before = np.maximum.accumulate(np.where(like, -1, column))
    second: Bools = (column - unlike_before) % 2 == 1
    return like & second


def _starts(count: Ints) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(count, dtype=np.int64)])


def _minimum_degree(size: int, a: Ints, b: Ints) -> Ints:
    """(size,) the order of elimination for pairs of blocks a, b that are coupled."""
    if not size:
        return np.zeros(0, np.int64)
    each, weak = np.arange(size), np.full(2 * len(a), WEAK)
    places = np.concatenate([a, b, each]), np.concatenate([b, a, each])
    graph = sp.csc_matrix((np.concatenate([weak, np.ones(size)]), places), shape=(size, size))
    factors = spla.splu(graph, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return np.argsort(factors.perm_c).astype(np.int64)


class Pattern:
    """The symbolic part of a factorization; any number of :class:`~common.interior_point.block_ldl.Factors` share it.

    ``blocks`` of the matrix, of which the blocks ``border`` (distinct) are kept: their Schur complement is the result.
    Raises ValueError where entries or border name no block.
    """

    def __init__(self, blocks: int, border: Ints, entries: Entries) -> None:
        self.blocks, self.border, self.entries = blocks, np.asarray(border, np.int64), entries
        self._check()
        self._low, self._high, self._which = self._distinct()
        order, parent, count = self._order()
        inner = blocks - len(self.border)
        start, row, place = self._upper(order)
        column_start = _starts(count)
        column_row = np.zeros(int(column_start[-1]), np.int64)
        if len(column_row):
            _reach(inner, start, row, column_start, column_row, np.full(blocks, -1), np.zeros(blocks, np.int64))
        row_place = np.argsort(column_row, kind="stable")
        number = 4 * place[self._which] + self._side(order)
        varies, terms = self._terms(number, len(row))
        self.structure = Structure(
            inner=inner,
            blocks=blocks,
            order=order,
            start=start,
            row=row,
            constant=np.asarray(np.bincount(number, entries.constant, minlength=4 * len(row)), float),
            varies=varies,
            terms=terms.indptr.astype(np.int64),
            source=terms.indices.astype(np.int64),
            coefficient=terms.data.astype(float),
            column_start=column_start,
            column_row=column_row,
            row_start=_starts(np.bincount(column_row, minlength=blocks)),
            row_column=np.repeat(np.arange(inner), count)[row_place],
            row_place=row_place,
            alike=_pairs(parent, count),
        )

    def _check(self) -> None:
        e, size = self.entries, 2 * self.blocks
        for name, found, end in (("entry", e.i, size), ("entry", e.j, size), ("border", self.border, self.blocks)):
            if len(found) and not 0 <= found.min() <= found.max() < end:
                raise ValueError(f"{name}: indices {found.min()} to {found.max()} of only {end}")
        if len(np.unique(self.border)) < len(self.border):
            raise ValueError("border: a block stands in it twice")

    def _distinct(self) -> tuple[Ints, Ints, Ints]:
        """Pairs of blocks, the lower one first, that have entries, and every block with itself; of every entry which
        of them it belongs to."""
        a, b, each = self.entries.i // 2, self.entries.j // 2, np.arange(self.blocks)
        low, high = np.concatenate([np.minimum(a, b), each]), np.concatenate([np.maximum(a, b), each])
        found, which = np.unique(low * self.blocks + high, return_inverse=True)
        return *np.divmod(found, max(self.blocks, 1)), which[: len(a)]

    def _order(self) -> tuple[Ints, Ints, Ints]:
        """(block,) the order of elimination; (inner,) the elimination tree and the columns' numbers of blocks in it."""
        a, b = self._low, self._high
        kept = np.zeros(self.blocks, bool)
        kept[self.border] = True
        inner = np.flatnonzero(~kept)
        size = len(inner)
        number = np.full(self.blocks, -1)
        number[inner] = np.arange(size)
        coupled = (a != b) & ~kept[a] & ~kept[b]
        order = np.concatenate([inner[_minimum_degree(size, number[a[coupled]], number[b[coupled]])], self.border])
        start, row, _ = self._upper(order)
        parent, count, none = np.full(self.blocks, -1), np.zeros(self.blocks, np.int64), np.zeros(0, np.int64)
        _reach(size, start, row, none, none, parent, count)
        later = _postorder(size, parent, count)
        order[:size] = order[later]
        moved = np.arange(self.blocks + 1)
        moved[later] = np.arange(size)
        moved[-1] = -1
        return order, moved[parent[later]], count[later]

    def _upper(self, order: Ints) -> tuple[Ints, Ints, Ints]:
        """Blocks of the upper triangle, the whole diagonal included: columns' starts, rows; and where each of the
        distinct pairs stands among them."""
        rank = self._rank(order)
        one, other = rank[self._low], rank[self._high]
        column, row = np.maximum(one, other), np.minimum(one, other)
        sort = np.argsort(column * self.blocks + row)
        place = np.empty_like(sort)
        place[sort] = np.arange(len(sort))
        return _starts(np.bincount(column, minlength=self.blocks)), row[sort], place

    def _rank(self, order: Ints) -> Ints:
        rank = np.empty(self.blocks, np.int64)
        rank[order] = np.arange(self.blocks)
        return rank

    def _side(self, order: Ints) -> Ints:
        """(entry,) which of its block's four numbers it is; on the diagonal those of the upper triangle."""
        i, j, rank = self.entries.i, self.entries.j, self._rank(order)
        swapped = np.where(i // 2 == j // 2, i > j, rank[i // 2] > rank[j // 2])
        side: Ints = np.where(swapped, 2 * (j % 2) + i % 2, 2 * (i % 2) + j % 2)
        return side

    def _terms(self, number: Ints, blocks: int) -> tuple[Ints, sp.csr_array]:
        """Of the blocks of K which of the varying ones they are, and the terms of the varying blocks' numbers."""
        rows = self.entries.rows
        place = np.repeat(number, np.diff(rows.indptr))
        some = np.zeros(blocks, bool)
        some[place // 4] = True
        varies = np.where(some, np.cumsum(some) - 1, -1)
        places = 4 * varies[place // 4] + place % 4, rows.indices
        return varies, sp.csr_array((rows.data, places), shape=(4 * int(some.sum()), rows.shape[1]))
