"""ENApp, equivalent network approximation: each area sees its neighbours as a fixed load or a fixed voltage source.

The parent holds p and q of the child, the child holds v of the parent and minimizes the energy it draws at the
substation's price; both answers are swapped every round. Close to the optimum, not at it: no price tells a child what
its reactive power costs upstream. The algorithm of the multi-period case study that the case ieee123 comes from.
"""

from __future__ import annotations

import numpy as np

from common.boundary import CHILD, PARENT, Boundary, P, Proposal, Q, Response
from common.feeder import Floats
from coordinator.loop import State


def start(boundary: Boundary) -> State:
    """Begin with the forecast of all boundary values. The boundary's impedances must be zero, so that w is v."""
    return State(boundary, told(boundary, boundary.forecast, boundary.energy_prices()))


def update(state: State, response: Response) -> State:
    """Hand each side's answer to the other."""
    boundary = state.boundary
    return State(boundary, told(boundary, answered(boundary, response.value), boundary.energy_prices()))


def answered(boundary: Boundary, two_sided: Floats) -> Floats:
    """(conductor, quantity, T) of (conductor, side, quantity, T) what each side answers: voltages the parent, powers
    the child."""
    found = two_sided[:, CHILD].copy()
    found[:, boundary.voltages] = two_sided[:, PARENT][:, boundary.voltages]
    return found


def told(boundary: Boundary, value: Floats, price: Floats) -> Proposal:
    """Values and prices of a round, (conductor, quantity, T) each, to both sides: each holds what the other answers,
    and is told the prices of what it answers itself."""
    fixed = np.zeros(boundary.zeros().shape[:3], bool)
    fixed[:, PARENT, [P, Q]] = True
    fixed[:, CHILD, boundary.voltages] = True
    prices = np.where(fixed[..., None], 0.0, price[:, None])
    return Proposal(prices, np.stack([value, value], axis=1), boundary.zeros(), fixed)
