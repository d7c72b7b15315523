"""Exchange of values and prices along the area tree (distribution locational marginal prices).

Down the tree go w and the prices of p and q, the derivatives of the parent's cost; up go p and q and the price of w.
The parent holds p and q and adds the price of w; the child holds w and minimizes its cost plus the prices, with the
curvature of the losses upstream around the last p and q: H = 2 h R price of losses, R the Thevenin resistance. At the
fixed point both sides' prices agree, so the point is the optimum. Anderson acceleration on all that is exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from common.boundary import PARENT, Boundary, Proposal, Response
from common.feeder import Floats
from coordinator.anderson import Anderson, accelerate
from coordinator.loop import State
from coordinator.methods.enapp import answered, told

CURVATURE = 2.0
"""h: how much more than the path's own losses a change of power costs upstream"""
MEMORY = 8
PATIENCE = 8
"""rounds without halving the best mismatch after which the method gives up"""


@dataclass(frozen=True)
class Accelerated(State):
    """What the method carries from round to round."""

    history: Anderson = field(default_factory=lambda: Anderson(MEMORY))


def start(boundary: Boundary) -> Accelerated:
    """Begin with the forecast and the substation's energy price."""
    return Accelerated(boundary, _propose(boundary, boundary.forecast, boundary.energy_prices()))


def update(state: Accelerated, response: Response) -> Accelerated:
    """Hand values and prices over, accelerated."""
    boundary = state.boundary
    price = answered(boundary, state.proposal.price)
    # What each quantity is worth to the side that holds it.
    worth = answered(boundary, response.slope[:, ::-1])
    point = np.stack([state.proposal.target[:, PARENT], price / boundary.loss_price])
    image = np.stack([answered(boundary, response.value), worth / boundary.loss_price])
    history, (value, price) = accelerate(state.history, point, image)
    return Accelerated(boundary, _propose(boundary, value, price * boundary.loss_price), history)


def _propose(boundary: Boundary, value: Floats, price: Floats) -> Proposal:
    return replace(told(boundary, value, price), upstream=CURVATURE * boundary.loss_price)
