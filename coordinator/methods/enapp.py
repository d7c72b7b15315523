"""ENApp, equivalent network approximation: each area sees its neighbours as a fixed load or a fixed voltage source.

The parent holds p and q of the child, the child holds v of the parent and minimizes the energy it draws at the
substation's price; both answers are swapped every round. Close to the optimum, not at it: no price tells a child what
its reactive power costs upstream. The algorithm of the multi-period case study that the case ieee123 comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from common.boundary import CHILD, INFEASIBLE, PARENT, Boundary, P, Proposal, Q, Response, W
from common.feeder import Floats

CANNOT_LIVE = "an area cannot live with the voltage that its parent offers"


@dataclass(frozen=True)
class State:
    """What the method carries from round to round."""

    boundary: Boundary
    proposal: Proposal
    failing: str | None = None
    """why the method gives up, if it does"""


def start(boundary: Boundary) -> State:
    """Begin with the forecast of all boundary values. The boundary's impedances must be zero, so that w is v."""
    v, p, q = np.moveaxis(boundary.forecast, 1, 0)
    return State(boundary, _propose(boundary, v, p, q))


def update(state: State, response: Response) -> State:
    """Hand each side's answer to the other; give up on an infeasible area."""
    if any(report.status == INFEASIBLE for report in response.reports):
        return replace(state, failing=CANNOT_LIVE)
    v = response.value[:, PARENT, W]
    p, q = response.value[:, CHILD, P], response.value[:, CHILD, Q]
    return State(state.boundary, _propose(state.boundary, v, p, q))


def _propose(boundary: Boundary, v: Floats, p: Floats, q: Floats) -> Proposal:
    price, target, curvature = boundary.zeros(), boundary.zeros(), boundary.zeros()
    target[:, CHILD, W], target[:, PARENT, P], target[:, PARENT, Q] = v, p, q
    price[:, CHILD, P] = boundary.energy_price
    return Proposal(price, target, curvature, held(boundary))


def held(boundary: Boundary) -> np.ndarray:
    """(tie, side, quantity): the parent holds p and q, the child holds w."""
    fixed = np.zeros((len(boundary.ties), 2, 3), bool)
    fixed[:, PARENT, P] = fixed[:, PARENT, Q] = fixed[:, CHILD, W] = True
    return fixed
