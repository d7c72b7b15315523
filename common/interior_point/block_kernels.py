"""Block LDL' of 8 periods at a time: the compiled loops of :mod:`common.interior_point.block_ldl`.

Up-looking (Davis, "Direct Methods for Sparse Linear Systems" (2006), section 4.7): row k of L solves a triangular
system with the rows above it. Blocks are four registers (row by row), pivots three (symmetric). Every pivot is inverted
as a 2x2 block, in the order given. Two neighbouring columns of one pattern are applied together: their rows are read
and written once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tieflow.common.arrays import Bools, Floats, Ints
from tieflow.common.compiled import njit
from tieflow.common.interior_point.lanes import LANES, fill, load, store

Block = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""four registers; mypy knows no registers"""


class Structure(NamedTuple):
    """What compiled functions know of a pattern. Blocks are counted in the order of elimination, the border last.

    It stands in this file so that a change of its fields makes Numba compile the functions below again.
    """

    inner: int
    """blocks eliminated"""
    blocks: int
    order: Ints
    """(block,) which of the caller's blocks it is"""
    start: Ints
    """(block + 1,) where the upper triangle's column k begins among its blocks"""
    row: Ints
    """(block of K,)"""
    constant: Floats
    """(block of K * 4,)"""
    varies: Ints
    """(block of K,) which of the varying blocks it is, -1: it is constant"""
    terms: Ints
    """(varying block * 4 + 1,) where a number's terms begin: coefficient times a row of the table"""
    source: Ints
    """(term,) row of the table"""
    coefficient: Floats
    """(term,)"""
    column_start: Ints
    """(inner + 1,) where a column of L begins"""
    column_row: Ints
    """(block of L,) rows of L column by column, ascending"""
    row_start: Ints
    """(block + 1,) where a row of L begins in the two below"""
    row_column: Ints
    """(block of L,) columns of L row by row, ascending"""
    row_place: Ints
    """(block of L,) where that block stands column by column"""
    alike: Bools
    """(inner,) i, where column i of L has row i + 1 and the rows of column i + 1; no column is in two such pairs"""


@njit
def _get(values: Floats, at: int) -> Block:
    return load(values, at), load(values, at + 1), load(values, at + 2), load(values, at + 3)


@njit
def _put(values: Floats, at: int, block: Block) -> None:
    store(values, at, block[0])
    store(values, at + 1, block[1])
    store(values, at + 2, block[2])
    store(values, at + 3, block[3])


@njit
def _less(y: Block, a: Block, x: Block) -> Block:
    """y - a x"""
    return (
        y[0] - a[0] * x[0] - a[1] * x[2],
        y[1] - a[0] * x[1] - a[1] * x[3],
        y[2] - a[2] * x[0] - a[3] * x[2],
        y[3] - a[2] * x[1] - a[3] * x[3],
    )


@njit
def _taken(work: Floats, at: int) -> Block:
    """A block of the row in work, which is zero for the next row."""
    block = _get(work, at)
    zero = fill(0.0)
    _put(work, at, (zero, zero, zero, zero))
    return block


@njit
def _divided(y: Block, pivots: Floats, column: int) -> Block:
    """y' inv(D): a block of L"""
    a, b, c = load(pivots, 3 * column), load(pivots, 3 * column + 1), load(pivots, 3 * column + 2)
    return y[0] * a + y[2] * b, y[0] * b + y[2] * c, y[1] * a + y[3] * b, y[1] * b + y[3] * c


@njit
def _number(
    structure: Structure, groups: int, group: int, table: Floats, constant: int, varying: int
) -> NDArray[np.float64]:
    """One of a block's four numbers from its place among the constant parts and, unless negative, the varying ones."""
    value: NDArray[np.float64] = fill(structure.constant[constant])
    if varying >= 0:
        for term in range(structure.terms[varying], structure.terms[varying + 1]):
            value += fill(structure.coefficient[term]) * load(table, structure.source[term] * groups + group)
    return value


@njit
def _pair(row: int, column: int, size: int) -> int:
    """Where a scalar of the upper triangle stands in the order of np.triu_indices."""
    return row * size - row * (row - 1) // 2 + column - row


@njit
def factor(
    structure: Structure, groups: int, table: Floats, lower: Floats, pivots: Floats, work: Floats, schur: Floats
) -> None:
    """Blocks of L ``lower`` (group, .), inverse pivots ``pivots`` (group, .), the border's Schur complement ``schur``
    (flat, pair after pair); ``work`` (flat, 4 registers a block) is zero before and after."""
    inner = structure.inner
    size = 2 * (structure.blocks - inner)
    one = fill(1.0)
    zero = fill(0.0)
    for group in range(groups):
        ell = lower[group]
        inverse = pivots[group]
        for k in range(structure.blocks):
            d0, d1, d3 = zero, zero, zero
            for p in range(structure.start[k], structure.start[k + 1]):
                r = structure.row[p]
                c, v = 4 * p, 4 * structure.varies[p]
                a0 = _number(structure, groups, group, table, c, v)
                a1 = _number(structure, groups, group, table, c + 1, v + 1)
                a3 = _number(structure, groups, group, table, c + 3, v + 3)
                if r == k:
                    d0, d1, d3 = a0, a1, a3
                else:
                    a2 = _number(structure, groups, group, table, c + 2, v + 2)
                    _put(work, 4 * r, (a0, a1, a2, a3))
            q = structure.row_start[k]
            end = structure.row_start[k + 1]
            while q < end:
                i = structure.row_column[q]
                place = structure.row_place[q]
                first = structure.column_start[i]
                y = _taken(work, 4 * i)
                if structure.alike[i] and i + 1 < k:
                    x = _less(_taken(work, 4 * (i + 1)), _get(ell, 4 * first), y)
                    shift = structure.column_start[i + 1] - first - 1
                    for p in range(first + 1, place):
                        z = 4 * structure.column_row[p]
                        got = _less(_get(work, z), _get(ell, 4 * p), y)
                        _put(work, z, _less(got, _get(ell, 4 * (p + shift)), x))
                    block = _divided(x, inverse, i + 1)
                    d0 = d0 - block[0] * x[0] - block[1] * x[2]
                    d1 = d1 - block[0] * x[1] - block[1] * x[3]
                    d3 = d3 - block[2] * x[1] - block[3] * x[3]
                    _put(ell, 4 * structure.row_place[q + 1], block)
                    q += 1
                else:
                    for p in range(first, place):
                        z = 4 * structure.column_row[p]
                        _put(work, z, _less(_get(work, z), _get(ell, 4 * p), y))
                block = _divided(y, inverse, i)
                d0 = d0 - block[0] * y[0] - block[1] * y[2]
                d1 = d1 - block[0] * y[1] - block[1] * y[3]
                d3 = d3 - block[2] * y[1] - block[3] * y[3]
                _put(ell, 4 * place, block)
                q += 1
            if k < inner:
                scale = one / (d0 * d3 - d1 * d1)
                store(inverse, 3 * k, d3 * scale)
                store(inverse, 3 * k + 1, zero - d1 * scale)
                store(inverse, 3 * k + 2, d0 * scale)
            else:
                column = 2 * (k - inner)
                for r in range(inner, k):
                    row = 2 * (r - inner)
                    y = _taken(work, 4 * r)
                    store(schur, _pair(row, column, size) * groups + group, y[0])
                    store(schur, _pair(row, column + 1, size) * groups + group, y[1])
                    store(schur, _pair(row + 1, column, size) * groups + group, y[2])
                    store(schur, _pair(row + 1, column + 1, size) * groups + group, y[3])
                store(schur, _pair(column, column, size) * groups + group, d0)
                store(schur, _pair(column, column + 1, size) * groups + group, d1)
                store(schur, _pair(column + 1, column + 1, size) * groups + group, d3)


@njit
def check(pivots: Floats, schur: Floats, tiny: float, negatives: Ints, failed: Bools) -> None:
    """Negative eigenvalues (lane,) and failures (lane,) from inverse pivots (group, block, 3, 8) and the Schur
    complement (pair, lane). A symmetric 2x2 block and its inverse have eigenvalues of the same signs, and as many
    digits cancel in the determinant of one as of the other."""
    negatives[:] = 0
    failed[:] = False
    for group in range(pivots.shape[0]):
        for block in range(pivots.shape[1]):
            for lane in range(LANES):
                a, b, c = pivots[group, block, 0, lane], pivots[group, block, 1, lane], pivots[group, block, 2, lane]
                determinant = a * c - b * b
                terms = abs(a * c) + b * b
                good = (terms > 0.0) & (terms < np.inf) & (abs(determinant) >= tiny * terms)
                failed[group * LANES + lane] |= not good
                negatives[group * LANES + lane] += (determinant < 0.0) + 2 * ((determinant > 0.0) & (a + c < 0.0))
    for pair in range(schur.shape[0]):
        for period in range(schur.shape[1]):
            failed[period] |= not np.isfinite(schur[pair, period])


@njit
def forward(
    structure: Structure,
    groups: int,
    lower: Floats,
    pivots: Floats,
    right: Floats,
    work: Floats,
    half: Floats,
    border: Floats,
) -> None:
    """``right`` (flat) through L and D into ``half`` (group, .) and the border's right-hand side ``border`` (flat)."""
    inner = structure.inner
    for group in range(groups):
        ell = lower[group]
        inverse = pivots[group]
        solved = half[group]
        for i in range(structure.blocks):
            r = 2 * structure.order[i]
            store(work, 2 * i, load(right, r * groups + group))
            store(work, 2 * i + 1, load(right, (r + 1) * groups + group))
        for i in range(inner):
            a, b = load(work, 2 * i), load(work, 2 * i + 1)
            for p in range(structure.column_start[i], structure.column_start[i + 1]):
                z = 2 * structure.column_row[p]
                block = _get(ell, 4 * p)
                store(work, z, load(work, z) - block[0] * a - block[1] * b)
                store(work, z + 1, load(work, z + 1) - block[2] * a - block[3] * b)
            across = load(inverse, 3 * i + 1)
            store(solved, 2 * i, load(inverse, 3 * i) * a + across * b)
            store(solved, 2 * i + 1, across * a + load(inverse, 3 * i + 2) * b)
        for row in range(2 * (structure.blocks - inner)):
            store(border, row * groups + group, load(work, 2 * inner + row))


@njit
def backward(
    structure: Structure, groups: int, lower: Floats, half: Floats, border: Floats, work: Floats, solution: Floats
) -> None:
    """The border's unknowns ``border`` (flat) through L' to all of them, ``solution`` (flat)."""
    inner = structure.inner
    for group in range(groups):
        ell = lower[group]
        solved = half[group]
        for i in range(structure.blocks - 1, -1, -1):
            if i >= inner:
                row = 2 * (i - inner)
                a, b = load(border, row * groups + group), load(border, (row + 1) * groups + group)
            else:
                a, b = load(solved, 2 * i), load(solved, 2 * i + 1)
                for p in range(structure.column_start[i + 1] - 1, structure.column_start[i] - 1, -1):
                    z = 2 * structure.column_row[p]
                    block = _get(ell, 4 * p)
                    z0, z1 = load(work, z), load(work, z + 1)
                    a = a - block[0] * z0 - block[2] * z1
                    b = b - block[1] * z0 - block[3] * z1
            store(work, 2 * i, a)
            store(work, 2 * i + 1, b)
            r = 2 * structure.order[i]
            store(solution, r * groups + group, a)
            store(solution, (r + 1) * groups + group, b)


@njit
def subtract_product(
    groups: int,
    i: Ints,
    j: Ints,
    constant: Floats,
    start: Ints,
    source: Ints,
    factor: Floats,
    table: Floats,
    x: Floats,
    left: Floats,
) -> None:
    """``left`` less K x, all flat and in lanes, K by its entries: constants (entry,), and from ``start`` (entry + 1,)
    on the rows ``source`` of the ``table`` times their ``factor``."""
    for group in range(groups):
        for e in range(len(i)):
            value = fill(constant[e])
            for p in range(start[e], start[e + 1]):
                value = value + fill(factor[p]) * load(table, source[p] * groups + group)
            row, column = i[e] * groups + group, j[e] * groups + group
            store(left, row, load(left, row) - value * load(x, column))
            if i[e] != j[e]:
                store(left, column, load(left, column) - value * load(x, row))
