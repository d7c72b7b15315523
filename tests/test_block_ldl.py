"""The block factorization against dense algebra and SuperLU: solutions, Schur complements, inertia, and what it does
when its pivots fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.errors import TypingError

from tieflow.common.arrays import Floats, Ints
from tieflow.common.compiled import njit, uncached
from tieflow.common.interior_point.block_ldl import DENSE, UNKNOWN, Entries, Factors, Pattern
from tieflow.common.interior_point.lanes import LANES, LINE, aligned, load, padded

ROOT = Path(__file__).parents[1]
NO_BORDER = np.zeros(0, np.int64)
LEAF = 1
"""a block of the feeders below that hangs on block 0 alone"""


@dataclass(frozen=True)
class Matrices:
    """T symmetric matrices of one pattern."""

    blocks: int
    border: Ints
    entries: Entries
    table: Floats
    """(table row, T)"""

    @property
    def periods(self) -> int:
        return self.table.shape[1]

    def dense(self, period: int) -> Floats:
        return np.asarray(self.entries.matrix(2 * self.blocks, self.table[:, period]).toarray())

    def scalars(self) -> tuple[Ints, Ints]:
        """Inner ones, and the border's."""
        border = (2 * self.border[:, None] + np.arange(2)).ravel()
        return np.setdiff1d(np.arange(2 * self.blocks), border), border

    def factors(self) -> Factors:
        factors = Factors(Pattern(self.blocks, self.border, self.entries), self.periods)
        factors.factor(padded(self.table))
        return factors


def feeder(seed: int, blocks: int, periods: int, kept: int = 0, chords: int = 0, meshed: bool = False) -> Matrices:
    """Blocks of a variable and its equation or of two definite ones, on a random tree with some chords. What couples
    them is weaker than they are, in every order. A third of the entries changes with the periods; some are in parts."""
    rng = np.random.default_rng(seed)
    b = np.arange(blocks)
    near = np.maximum(b - (blocks if meshed else 4), 0)
    above = np.array([rng.integers(low, max(k, low + 1)) for k, low in zip(b, near, strict=True)])
    above[LEAF + 1 :] += above[LEAF + 1 :] == LEAF
    own = rng.integers(0, blocks, (2, chords))
    own = own[:, (own[0] != own[1]) & (own != LEAF).all(axis=0)]
    first, second = np.concatenate([b[1:], own[0]]), np.concatenate([above[1:], own[1]])
    neighbours = np.bincount(np.concatenate([first, second]), minlength=blocks)

    kind = rng.integers(0, 3, blocks)
    h = np.choose(kind, [rng.uniform(0, 2, blocks), rng.uniform(2, 3, blocks), rng.uniform(-3, -2, blocks)])
    d = np.choose(kind, [-rng.uniform(0, 2, blocks), rng.uniform(2, 3, blocks), rng.uniform(-3, -2, blocks)])
    a = np.choose(kind, [rng.uniform(1, 2, blocks), np.zeros(blocks), np.zeros(blocks)])
    i, j, value = [2 * b, 2 * b, 2 * b + 1], [2 * b, 2 * b + 1, 2 * b + 1], [h, a, d]
    weak = 0.1 / np.maximum(neighbours[first], neighbours[second])
    for side in range(4):
        i.append(2 * first + side // 2)
        j.append(2 * second + side % 2)
        value.append(weak * rng.uniform(-1, 1, len(first)))
    rows, columns, values = np.concatenate(i), np.concatenate(j), np.concatenate(value)

    parts = rng.integers(0, len(rows), len(rows) // 4)
    shift = rng.normal(size=len(parts))
    np.subtract.at(values, parts, shift)
    rows, columns = np.concatenate([rows, columns[parts]]), np.concatenate([columns, rows[parts]])
    values = np.concatenate([values, shift])
    table = rng.uniform(0.99, 1.01, (7, periods))
    term = sp.csr_array(
        (values, (np.arange(len(values)), rng.integers(0, 7, len(values)))), shape=(len(values), len(table))
    )
    changes = rng.random(len(values)) < 1 / 3
    changes[parts] = changes[-len(parts) :] = False
    entries = Entries(rows, columns, np.where(changes, 0.0, values), sp.csr_array(sp.diags_array(changes * 1.0) @ term))
    border = rng.permutation(np.setdiff1d(b, [LEAF]) if kept < blocks else b)[:kept]
    return Matrices(blocks, border, entries, table)


def with_leaf(matrices: Matrices, leaf: Floats, period: int) -> Matrices:
    """In one period the block LEAF is (3,) [h, a, d] and coupled to block 0 by a unit matrix: where its determinant is
    zero it cannot be a pivot, though the matrix is regular."""
    e, at = matrices.entries, np.array([2 * LEAF, 2 * LEAF, 2 * LEAF + 1, 2 * LEAF, 2 * LEAF + 1])
    other = np.array([2 * LEAF, 2 * LEAF + 1, 2 * LEAF + 1, 0, 1])
    now = matrices.dense(period)[at, other]
    row = np.zeros((1, matrices.periods))
    row[0, period] = 1.0
    change = sp.csr_array((np.concatenate([leaf, [1.0, 1.0]]) - now)[:, None])
    entries = Entries(
        np.concatenate([e.i, at]),
        np.concatenate([e.j, other]),
        np.concatenate([e.constant, np.zeros(5)]),
        sp.csr_array(sp.block_diag([e.rows, change])),
    )
    return replace(matrices, entries=entries, table=np.vstack([matrices.table, row]))


def full(pairs: Floats, size: int) -> Floats:
    """(pair,) -> (size, size)"""
    square = np.zeros((size, size))
    square[np.triu_indices(size)] = pairs
    return square + np.triu(square, 1).T


def solved(factors: Factors, right: Floats) -> Floats:
    """(2 * blocks, T), the border by dense algebra"""
    half, reduced = factors.forward(padded(right))
    unknowns = np.zeros_like(reduced)
    for lane in range(reduced.shape[1]):
        unknowns[:, lane] = np.linalg.solve(full(factors.schur()[:, lane], len(reduced)), reduced[:, lane])
    return factors.backward(half, unknowns)[:, : right.shape[1]]


def random_right(matrices: Matrices) -> Floats:
    return np.random.default_rng(5).normal(size=(2 * matrices.blocks, matrices.periods))


def assert_as_dense_algebra(matrices: Matrices, factors: Factors) -> None:
    right = random_right(matrices)
    found, (inner, border) = solved(factors, right), matrices.scalars()
    for t in range(matrices.periods):
        k = matrices.dense(t)
        assert np.allclose(found[:, t], np.linalg.solve(k, right[:, t]), rtol=1e-9, atol=1e-9)
        own = k[np.ix_(inner, inner)]
        expected = k[np.ix_(border, border)]
        if len(inner):
            expected = expected - k[np.ix_(border, inner)] @ np.linalg.solve(own, k[np.ix_(inner, border)])
        assert np.allclose(full(factors.schur()[:, t], len(border)), expected, rtol=1e-9, atol=1e-9)
        assert factors.negatives[t] == (np.linalg.eigvalsh(own) < 0).sum()


@given(
    seed=st.integers(0, 10**6),
    blocks=st.integers(2, 40),
    periods=st.integers(1, 20),
    share=st.floats(0, 1),
    chords=st.integers(0, 5),
    meshed=st.booleans(),
)
@settings(max_examples=60)
def test_solutions_schur_complements_and_inertia_are_those_of_dense_algebra(
    seed: int, blocks: int, periods: int, share: float, chords: int, meshed: bool
) -> None:
    matrices = feeder(seed, blocks, periods, round(share**3 * blocks), chords, meshed)
    factors = matrices.factors()
    assert not factors.failed.any()
    assert_as_dense_algebra(matrices, factors)


@pytest.mark.parametrize(("blocks", "kept"), [(1, 0), (1, 1), (2, 1), (12, 0), (12, 12)])
@pytest.mark.parametrize("periods", [1, 8, 9])
def test_no_border_and_nothing_but_the_border_are_right_as_well(blocks: int, kept: int, periods: int) -> None:
    matrices = feeder(1, blocks, periods, kept) if blocks > 1 else replace(feeder(1, 2, periods), blocks=1)
    if blocks == 1:
        e = matrices.entries
        first = np.flatnonzero(np.maximum(e.i, e.j) < 2)
        matrices = replace(
            matrices,
            border=np.arange(kept),
            entries=Entries(e.i[first], e.j[first], e.constant[first], sp.csr_array(e.rows[first])),
        )
    assert_as_dense_algebra(matrices, matrices.factors())


def test_constant_matrices_need_no_table() -> None:
    matrices = feeder(2, 9, 3, 2)
    empty = sp.csr_array((len(matrices.entries.i), 0))
    constant = matrices.entries.constant + matrices.entries.rows @ matrices.table[:, 0]
    entries = replace(matrices.entries, constant=constant, rows=empty)
    matrices = replace(matrices, entries=entries, table=np.zeros((0, 3)))
    assert_as_dense_algebra(matrices, matrices.factors())


def test_a_large_feeder_is_solved_as_superlu_solves_it() -> None:
    matrices = feeder(3, 3000, 11, chords=40)
    right = random_right(matrices)
    factors = matrices.factors()
    assert factors.pattern.structure.alike.any()
    found = solved(factors, right)
    for t in range(matrices.periods):
        oracle = spla.splu(matrices.entries.matrix(6000, matrices.table[:, t])).solve(right[:, t])
        assert np.allclose(found[:, t], oracle, rtol=1e-10, atol=1e-10)


def test_a_second_factorization_and_any_order_of_solves_leave_nothing_behind() -> None:
    matrices = feeder(4, 30, 10, 3)
    right = random_right(matrices)
    once = solved(matrices.factors(), right)
    factors = matrices.factors()
    solved(factors, 3 * right)
    factors.factor(padded(2 * matrices.table))
    solved(factors, right)
    factors.factor(padded(matrices.table))
    assert np.array_equal(solved(factors, right), once)


@pytest.mark.parametrize("broken", [False, True])
def test_halves_of_solutions_are_linear_in_their_right_hand_sides(broken: bool) -> None:
    matrices = feeder(5, 25, 11, 3)
    factors = (with_leaf(matrices, np.zeros(3), 10) if broken else matrices).factors()
    assert factors.failed.tolist() == [False] * 10 + [broken]
    a, b = padded(random_right(matrices)), padded(random_right(matrices)[::-1])
    half_a, border_a = factors.forward(a)
    half_b, border_b = factors.forward(b)
    half, border = factors.forward(2 * a - b)
    assert np.allclose(2 * border_a - border_b, border, rtol=1e-12, atol=1e-12)
    mixed = factors.backward(2 * half_a - half_b, 2 * border_a - border_b)
    assert np.allclose(mixed, factors.backward(half, border), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("leaf", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 1e-9, 1e-17)])
@pytest.mark.parametrize("period", [0, 2, 9])
def test_periods_whose_pivots_fail_say_so_and_are_right_all_the_same(
    leaf: tuple[float, float, float], period: int
) -> None:
    sound = feeder(6, 20, 10, 2)
    matrices = with_leaf(sound, np.array(leaf), period)
    factors = matrices.factors()
    assert np.flatnonzero(factors.failed).tolist() == [period]
    assert_as_dense_algebra(matrices, factors)
    others = np.arange(10) != period
    right = random_right(sound)
    assert np.array_equal(solved(factors, right)[:, others], solved(sound.factors(), right)[:, others])


def test_the_padding_of_a_failed_last_period_repeats_it() -> None:
    factors = with_leaf(feeder(6, 20, 10, 2), np.zeros(3), 9).factors()
    half, border = factors.forward(padded(np.ones((40, 10))))
    for lanes in (factors.schur(), border, factors.backward(half, border)):
        assert np.array_equal(lanes[:, 9:], np.repeat(lanes[:, 9:10], 7, axis=1))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_singular_or_not_finite_period_has_no_inertia_and_no_numbers_and_spoils_no_other(value: float) -> None:
    sound = feeder(7, 12, 6, 2)
    e = sound.entries
    now = np.flatnonzero((e.i // 2 == LEAF) | (e.j // 2 == LEAF))
    row = np.ones((1, 6))
    row[0, 3] = value
    values = e.constant[now] + e.rows[now] @ sound.table[:, 0]
    constant, rows = e.constant.copy(), sp.lil_array((len(e.i), 8))
    rows[:, :7] = e.rows
    constant[now], rows[now] = 0.0, 0.0
    rows[now, 7] = values
    matrices = replace(
        sound, entries=replace(e, constant=constant, rows=rows.tocsr()), table=np.vstack([sound.table, row])
    )
    factors = matrices.factors()
    assert factors.failed.tolist() == [False, False, False, True, False, False]
    assert factors.negatives[3] == UNKNOWN
    half, border = factors.forward(padded(random_right(matrices)))
    found = factors.backward(half, border)
    for lanes in (factors.schur(), border, found[matrices.scalars()[0]]):
        assert np.isnan(lanes[:, 3]).all()
        assert np.isfinite(np.delete(lanes, 3, axis=1)).all()


def test_numbers_that_are_not_finite_in_the_border_alone_say_so_as_well() -> None:
    matrices = feeder(7, 5, 3, 5)
    factors = replace(matrices, table=matrices.table * np.array([1.0, np.nan, 1.0])).factors()
    assert factors.failed.tolist() == [False, True, False]
    half, border = factors.forward(padded(random_right(matrices)))
    assert np.isnan(factors.schur()[:, 1]).all()
    assert np.isnan(border[:, 1]).all()
    assert np.isfinite(factors.backward(half, np.zeros_like(border))).all()


def test_the_inertia_of_a_large_period_that_failed_is_not_counted() -> None:
    factors = with_leaf(feeder(8, DENSE // 2 + 1, 2), np.zeros(3), 1).factors()
    assert factors.failed.tolist() == [False, True]
    assert factors.negatives[0] > 0
    assert factors.negatives[1] == UNKNOWN


@pytest.mark.parametrize("periods", [1, 5, 13])
def test_results_are_the_same_bits_with_and_without_padding(periods: int) -> None:
    more = feeder(9, 30, 16, 3)
    fewer = replace(more, table=more.table[:, :periods])
    right = random_right(more)
    a, b = more.factors(), fewer.factors()
    assert np.array_equal(solved(a, right)[:, :periods], solved(b, right[:, :periods]))
    assert np.array_equal(a.schur()[:, :periods], b.schur()[:, :periods])
    assert np.array_equal(a.negatives[:periods], b.negatives)


def test_arrays_in_any_layout_give_the_same_results() -> None:
    matrices = feeder(10, 15, 9, 2)
    factors, right = matrices.factors(), padded(random_right(matrices))
    half, border = factors.forward(right)
    expected = factors.backward(half, border)
    factors.factor(np.asfortranarray(padded(matrices.table)))
    half, border = factors.forward(np.asfortranarray(right))
    assert np.array_equal(factors.backward(np.asfortranarray(half), np.asfortranarray(border)), expected)


def test_arrays_of_a_wrong_shape_and_blocks_that_do_not_exist_are_refused() -> None:
    matrices = feeder(11, 10, 9, 2)
    factors, e = matrices.factors(), matrices.entries
    with pytest.raises(ValueError, match="table"):
        factors.factor(matrices.table)
    with pytest.raises(ValueError, match="right"):
        factors.forward(np.zeros((20, 9)))
    with pytest.raises(ValueError, match="border"):
        factors.backward(factors.forward(np.zeros((20, 16)))[0], np.zeros((3, 16)))
    with pytest.raises(ValueError, match="entry"):
        Pattern(9, NO_BORDER, e)
    with pytest.raises(ValueError, match="border"):
        Pattern(10, np.array([10]), e)
    with pytest.raises(ValueError, match="twice"):
        Pattern(10, np.array([3, 3]), e)


@pytest.mark.parametrize("periods", [1, 7, 8, 9])
def test_padded_arrays_repeat_the_last_period_and_begin_at_a_cache_line(periods: int) -> None:
    x = np.random.default_rng(0).normal(size=(3, periods))
    wide = padded(x)
    assert wide.shape == (3, -(-periods // LANES) * LANES)
    assert np.array_equal(wide[:, :periods], x)
    assert (wide[:, periods:] == x[:, -1:]).all()
    for array in (wide, aligned(3, 5)):
        assert array.ctypes.data % LINE == 0
        assert array.flags.c_contiguous


def test_registers_are_not_loaded_from_strided_arrays() -> None:
    @njit
    def first(x: Floats) -> None:
        load(x, 0)

    first(np.zeros(8))
    with pytest.raises(TypingError, match="flat contiguous"):
        first(np.zeros(16)[::2])


SOLVE = """
import numpy as np
from tieflow.common.compiled import uncached
from test_block_ldl import feeder, random_right, solved

matrices = feeder(12, 60, 11, 4, 5)
factors = matrices.factors()
np.savez({path!r}, solved(factors, random_right(matrices)), factors.schur(), factors.negatives, uncached())
"""


def elsewhere(path: Path, root: Path, **environment: str) -> list[Floats]:
    """Solutions, Schur complement, negatives and ``uncached()`` of another process, with the modules of ``root``."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    paths = os.pathsep.join([str(root), str(ROOT / "tests")])
    subprocess.run(
        [sys.executable, "-c", SOLVE.format(path=str(path))],
        env=known | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | environment,
        cwd=root,
        check=True,
        timeout=300,
    )
    with np.load(path) as found:
        return [found[name] for name in found.files]


def assert_as_here(found: list[Floats]) -> None:
    matrices = feeder(12, 60, 11, 4, 5)
    factors = matrices.factors()
    assert np.allclose(found[0], solved(factors, random_right(matrices)), rtol=1e-12, atol=1e-12)
    assert np.allclose(found[1], factors.schur(), rtol=1e-12, atol=1e-12)
    assert np.array_equal(found[2], factors.negatives)


def test_a_processor_without_wide_registers_gives_the_same_results(tmp_path: Path) -> None:
    found = elsewhere(tmp_path / "found.npz", ROOT, NUMBA_CPU_NAME="generic", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert_as_here(found)


def test_without_a_folder_for_the_cache_functions_are_compiled_all_the_same_and_say_so(tmp_path: Path) -> None:
    for package in ("tieflow", "tieflow/common", "tieflow/common/interior_point"):
        (tmp_path / package).mkdir()
        for module in (ROOT / package).glob("*.py"):
            shutil.copy(module, tmp_path / package)
        (tmp_path / package / "__pycache__").write_text("a file, so that no folder can be made here")
    nowhere = str(tmp_path / "tieflow" / "common" / "__pycache__" / "below")
    found = elsewhere(tmp_path / "found.npz", tmp_path, NUMBA_CACHE_DIR=nowhere, HOME=nowhere, XDG_CACHE_HOME=nowhere)
    assert found[3]
    assert_as_here(found)


def test_with_a_folder_for_the_cache_nothing_is_said() -> None:
    assert not uncached()
