"""Exchange of values and prices along the area tree (distribution locational marginal prices).

Down the tree go w and the prices of p and q, the derivatives of the parent's cost; up go p and q and the price of w.
The parent holds p and q and adds the price of w; the child holds w and minimizes its cost plus the prices, with the
curvature of the losses upstream around the last p and q: H = 2 h R price of losses, R the Thevenin resistance. At the
fixed point both sides' prices agree, so the point is the optimum. Anderson acceleration on all that is exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.ties.boundary import INFEASIBLE, PARENT, Boundary, P, Proposal, Response
from tieflow.coordinator.anderson import Anderson, accelerate
from tieflow.coordinator.convergence import mismatch, progress
from tieflow.coordinator.loop import State
from tieflow.coordinator.methods.enapp import CANNOT_LIVE, answered, held

CURVATURE = 2.0
"""h: how much more than the path's own losses a change of power costs upstream"""
MEMORY = 8
PATIENCE = 8
"""rounds without halving the best mismatch after which the method gives up"""


@dataclass(frozen=True)
class Accelerated(State):
    """What the method carries from round to round."""

    history: Anderson = field(default_factory=lambda: Anderson(MEMORY))
    best: tuple[float, int] = (np.inf, 0)
    """smallest mismatch that counted as progress, and rounds since"""


def start(boundary: Boundary) -> Accelerated:
    """Begin with the forecast and the substation's energy price."""
    prices = np.zeros_like(boundary.forecast)
    prices[:, P] = boundary.energy_price
    return Accelerated(boundary, propose(boundary, boundary.forecast, prices))


def update(state: Accelerated, response: Response) -> Accelerated:
    """Hand values and prices over, accelerated; give up on an infeasible area or when the mismatch stops falling."""
    boundary = state.boundary
    if any(report.status == INFEASIBLE for report in response.reports):
        return replace(state, failing=CANNOT_LIVE)
    best = progress(state.best, mismatch(boundary, response))
    if best[1] >= PATIENCE:
        return replace(state, failing=f"the mismatch has not halved in {PATIENCE} rounds")
    value = answered(boundary, response.value)
    prices = prices_told(boundary, response)
    price = answered(boundary, state.proposal.price)
    point = np.concatenate([state.proposal.target[:, PARENT].ravel(), (price / boundary.loss_price).ravel()])
    image = np.concatenate([value.ravel(), (prices / boundary.loss_price).ravel()])
    history, following = accelerate(state.history, point, image)
    value, prices = following.reshape(2, *value.shape)
    proposal = propose(boundary, value, prices * boundary.loss_price)
    return Accelerated(boundary, proposal, history=history, best=best)


def prices_told(boundary: Boundary, response: Response) -> Floats:
    """(conductor, quantity, T) what each quantity is worth to the side that holds it."""
    return answered(boundary, response.slope[:, ::-1])


def propose(boundary: Boundary, value: Floats, prices: Floats) -> Proposal:
    """Values and prices of a round, (conductor, quantity, T) each, to both sides."""
    fixed = held(boundary)
    price = np.where(fixed[..., None], 0.0, np.stack([prices, prices], axis=1))
    target = np.stack([value, value], axis=1)
    return Proposal(price, target, boundary.zeros(), fixed, upstream=CURVATURE * boundary.loss_price)
