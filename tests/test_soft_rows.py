"""Slack columns eliminated by hand: the same step as the whole system's."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from areas.sensitivity import factorize
from areas.soft_rows import Condensed, soft_rows


def two_blocks(random: np.random.Generator) -> sp.csr_array:
    return sp.csr_array(sp.block_diag([random.normal(size=(6, 3)), random.normal(size=(4, 2))]))


def test_the_hessian_in_blocks_is_that_of_the_whole_matrix() -> None:
    random = np.random.default_rng(0)
    matrix, weight = two_blocks(random), random.uniform(1, 2, 10)
    rows = soft_rows(matrix)
    assert len(rows.blocks) == 2
    np.testing.assert_allclose(
        rows.hessian(weight).toarray(), (matrix.T @ sp.diags_array(weight) @ matrix).toarray(), atol=1e-12
    )


def test_no_rows_have_no_hessian() -> None:
    assert soft_rows(sp.csr_array((0, 5))).hessian(np.zeros(0)).shape == (5, 5)


def test_a_condensed_system_has_the_solution_of_the_whole() -> None:
    random = np.random.default_rng(1)
    matrix, e = two_blocks(random), sp.csc_matrix(random.normal(size=(2, 5)))
    row, bound, hessian = random.uniform(1, 9, 10), random.uniform(1, 9, 10), np.diag(random.uniform(1, 2, 5))
    own = sp.csc_array(hessian + matrix.T @ sp.diags_array(row * bound / (row + bound)) @ matrix)
    condensed = Condensed(factorize(own, e, (0.0,)), matrix, row / (row + bound), 1 / (row + bound))
    whole = np.zeros((17, 17))
    dense = matrix.toarray()
    whole[:5, :5] = hessian + dense.T @ np.diag(row) @ dense
    whole[:5, 5:15], whole[5:15, :5] = -dense.T * row, -row[:, None] * dense
    whole[5:15, 5:15] = np.diag(row + bound)
    whole[15:, :5], whole[:5, 15:] = e.toarray(), e.toarray().T
    right = random.normal(size=17)
    np.testing.assert_allclose(condensed.solve(right), np.linalg.solve(whole, right), rtol=1e-8, atol=1e-10)
