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
    return State(boundary, _propose(boundary, boundary.forecast))


def update(state: State, response: Response) -> State:
    """Hand each side's answer to the other."""
    return State(state.boundary, _propose(state.boundary, answered(state.boundary, response.value)))


def _propose(boundary: Boundary, value: Floats) -> Proposal:
    price = boundary.zeros()
    price[:, CHILD, P] = boundary.energy_price
    target = np.stack([value, value], axis=1)
    return Proposal(price, target, boundary.zeros(), held(boundary))


def answered(boundary: Boundary, two_sided: Floats) -> Floats:
    """(conductor, quantity, T) of (conductor, side, quantity, T) what each side answers: voltages the parent, powers
    the child."""
    found = two_sided[:, CHILD].copy()
    found[:, boundary.voltages] = two_sided[:, PARENT][:, boundary.voltages]
    return found


def held(boundary: Boundary) -> np.ndarray:
    """(conductor, side, quantity): each side holds what the other answers."""
    fixed = np.zeros(boundary.zeros().shape[:3], bool)
    fixed[:, PARENT, [P, Q]] = True
    fixed[:, CHILD, boundary.voltages] = True
    return fixed
