"""A compiled area problem solved at a proposal: what the proposal adds to its cost, and the answer that it gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from areas.conic import SOLVED as ACCEPTED
from areas.conic import ConicProblem, ConicSolution, solve_conic
from common.boundary import FAILED, INFEASIBLE, SOLVED, SOLVED_AGAIN, AreaProposal, P, Q
from common.feeder import Floats, Ints
from common.partition import AreaCase


def solve_at(area: AreaCase[Any], conic: ConicProblem, proposal: AreaProposal) -> tuple[ConicSolution, int]:
    """The answer to a proposal and its status (see ``common.boundary.STATUSES``), at the second attempt if need be."""
    answer = attempt(area, conic, proposal)
    if answer.status in ACCEPTED:
        return answer, SOLVED
    # Of infeasibility too the solver is to be sure before it is believed.
    again = attempt(area, conic, proposal, careful=True)
    answer = replace(again, seconds=again.seconds + answer.seconds)
    if answer.status in ACCEPTED:
        return answer, SOLVED_AGAIN
    return answer, INFEASIBLE if answer.status == "PrimalInfeasible" else FAILED


def attempt(area: AreaCase[Any], conic: ConicProblem, proposal: AreaProposal, careful: bool = False) -> ConicSolution:
    columns = boundary_columns(conic, proposal)
    linear, quadratic = terms(area, conic, proposal)
    fixed = np.broadcast_to(proposal.fixed[..., None], columns.shape)
    wanted = columns.ravel() if proposal.sensitivities else None
    return solve_conic(conic, linear, quadratic, columns[fixed], proposal.target[fixed], wanted, careful)


def terms(area: AreaCase[Any], conic: ConicProblem, proposal: AreaProposal) -> tuple[Floats, sp.csc_matrix]:
    """What the proposal adds to the problem's cost: linear, and the upper triangle of the quadratic."""
    columns = boundary_columns(conic, proposal)
    curvature = _curvature(area, proposal)
    linear = np.zeros(len(conic.c))
    linear[columns.ravel()] = proposal.price.ravel() - curvature @ proposal.target.ravel()
    place = sp.csc_array(
        (np.ones(columns.size), (columns.ravel(), np.arange(columns.size))), shape=(len(conic.c), columns.size)
    )
    return linear, sp.csc_matrix(sp.triu(place @ curvature @ place.T))


def boundary_columns(conic: ConicProblem, proposal: AreaProposal) -> Ints:
    """(end, quantity, T)"""
    return conic.columns.get("boundary", np.zeros(0, np.int64)).reshape(proposal.price.shape)


def slope_at(area: AreaCase[Any], proposal: AreaProposal, answer: ConicSolution, value: Floats) -> Floats:
    """(end, quantity, T) derivative of the area's own optimal cost with respect to each boundary quantity."""
    moved = _curvature(area, proposal) @ (value - proposal.target).ravel()
    slope: Floats = -(proposal.price + moved.reshape(value.shape))
    fixed = np.broadcast_to(proposal.fixed[..., None], value.shape)
    slope[fixed] = answer.fixed_dual - proposal.price[fixed]
    return slope


def _curvature(area: AreaCase[Any], proposal: AreaProposal) -> sp.csr_array:
    """Second derivative of what the proposal adds to the cost, over the ravelled (end, quantity, T).

    The losses upstream of a power s drawn through the Thevenin impedance Z are s' Z conj(s), Z's Hermitian part only.
    """
    shape = proposal.price.shape
    diagonal = sp.diags_array(proposal.curvature.ravel(), format="csr")
    root = next((end for end in area.tie_ends if end.side == "child"), None)
    if root is None or not proposal.upstream.any():
        return diagonal
    hermitian = (root.z + root.z.conj().T) / 2
    losses = np.block([[hermitian.real, hermitian.imag], [-hermitian.imag, hermitian.real]])
    flat = np.arange(proposal.price.size).reshape(shape)[: len(root.nodes)]
    at = np.concatenate([flat[:, P], flat[:, Q]])
    blocks = 2 * losses[:, :, None] * proposal.upstream
    rows, columns = np.broadcast_to(at[:, None], blocks.shape), np.broadcast_to(at[None], blocks.shape)
    size = proposal.price.size
    return diagonal + sp.csr_array((blocks.ravel(), (rows.ravel(), columns.ravel())), shape=(size, size))
