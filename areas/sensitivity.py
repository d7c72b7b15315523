"""How a conic problem's answer moves with its linear cost: the derivative of the solution, from its KKT system.

At an interior-point answer (x, s, z) a small change dc of the linear cost moves x by the solution of

    [P + G' H^-1 G   E'] [dx]   [-dc]
    [E               0 ] [dy] = [ 0 ]

with E the equality rows, G the rows of all other cones and H their Nesterov-Todd scaling at (s, z): Vandenberghe, "The
CVXOPT linear and quadratic cone program solvers" (2010), sections 4 and 7; Agrawal et al., "Differentiating through a
cone program" (2019).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from tieflow.common.arrays import Floats, Ints
from tieflow.common.errors import SolverError

CONE = 4
"""rows of every second-order cone in the branch flow model"""
STIFFNESS = (1e-8, 1e8)
"""range of the scaling: above, a constraint is as good as an equality; below, it is as good as absent"""
REGULARIZATIONS = (1e-9, 1e-7, 1e-5)
"""added to the diagonal, with the sign of its block, for costs may be flat and equality rows may depend on each other;
the next where one does not factorize"""


def sensitivity(
    p: sp.csc_matrix, a: sp.csc_matrix, s: Floats, z: Floats, counts: tuple[int, int], columns: Ints
) -> Floats:
    """Derivative of ``x[columns]`` with respect to the linear cost of ``columns``, (n, n) symmetric.

    ``p`` holds the upper triangle; ``counts`` are the equality and the inequality rows of ``a``, second-order cones of
    four rows each follow. Raises SolverError when the system cannot be factorized.
    """
    equalities, inequalities = counts
    first = equalities + inequalities
    g, e = a[equalities:], a[:equalities]
    linear = np.clip(np.maximum(z, 1e-14) / np.maximum(s, 1e-14), *STIFFNESS)[equalities:first]
    blocks = _inverse_scaling(s[first:].reshape(-1, CONE), z[first:].reshape(-1, CONE))
    cones = sp.bsr_array(
        (blocks, np.arange(len(blocks)), np.arange(len(blocks) + 1)), shape=(CONE * len(blocks), CONE * len(blocks))
    )
    weights = sp.block_diag([sp.diags_array(linear), cones], format="csr")
    hessian = p + sp.triu(p, 1).T + g.T @ weights @ g
    right = np.zeros((hessian.shape[0] + equalities, len(columns)))
    right[columns, np.arange(len(columns))] = -1.0
    moved = _solution(hessian, e, right)[columns]
    symmetric: Floats = (moved + moved.T) / 2
    return symmetric


def _solution(hessian: sp.csr_array, e: sp.csc_matrix, right: Floats) -> Floats:
    """Of the system [[hessian, e'], [e, 0]], its diagonal regularized by the first value with which that succeeds."""
    for regularization in REGULARIZATIONS:
        first = hessian + regularization * sp.eye_array(hessian.shape[0])
        system = sp.block_array([[first, e.T], [e, -regularization * sp.eye_array(e.shape[0])]], format="csc")
        balance = 1 / np.sqrt(np.maximum(abs(system).max(axis=0).toarray().ravel(), 1e-12))
        scaled = sp.diags_array(balance) @ system @ sp.diags_array(balance)
        try:
            found: Floats = balance[:, None] * spla.splu(sp.csc_matrix(scaled)).solve(balance[:, None] * right)
        except RuntimeError as error:
            reason = error
        else:
            return found
    raise SolverError(f"the sensitivities of an area's answer cannot be computed: {reason}")


def _inverse_scaling(s: Floats, z: Floats) -> Floats:
    """(cone, 4, 4) inverse of eta^2 (2 w w' - J), the scaling of each pair of points in the second-order cone."""
    signs = np.array([1.0] + [-1.0] * (CONE - 1))
    s_norm, z_norm = _cone_norm(s), _cone_norm(z)
    s_unit, z_unit = s / np.sqrt(s_norm)[:, None], z / np.sqrt(z_norm)[:, None]
    gamma = np.sqrt((1 + np.einsum("ki,ki->k", s_unit, z_unit)) / 2)
    w = (z_unit + signs * s_unit) / (2 * gamma)[:, None]
    # Equal to the root of the norms' ratio where the pair is well centered, and accurate where it is not.
    eta2 = np.clip(z[:, 0] / np.maximum(s[:, 0], 1e-14), *STIFFNESS)
    inverse: Floats = eta2[:, None, None] * (2 * w[:, :, None] * w[:, None, :] - np.diag(signs))
    return inverse


def _cone_norm(point: Floats) -> Floats:
    """s0^2 - |s1|^2 of each point, kept away from the cone's boundary by the solver's own accuracy."""
    head, tail = point[:, 0], np.linalg.norm(point[:, 1:], axis=1)
    norm: Floats = np.maximum(head - tail, 1e-12 * head + 1e-16) * (head + tail)
    return norm
