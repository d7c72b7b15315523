"""Consensus ADMM, accelerated.

Both sides of a tie minimize their cost plus the price of the boundary quantities plus 1/2 S (b - z)^2; z becomes the
mean of the two copies, the price moves by S times half their difference (Boyd et al., "Distributed optimization and
statistical learning via ADMM" (2011), section 7). It converges from anywhere on convex problems, slowly, so its steps
are accelerated. Where the areas tell how their answers move with the prices, the residual of one ADMM step has a known
derivative: a Newton step on it is tried at every point, and kept if the residual falls (in the manner of Themelis and
Patrinos, "SuperMann" (2019)). Otherwise an ADMM step is taken from the last good point, with larger penalties S in the
hours that got worse: there the areas' answers jump between limits, and a larger S holds them. Good steps bring the
penalties down again. Where they do not tell, ADMM's own steps are combined (``coordinator.anderson``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from common.boundary import CHILD, PARENT, Boundary, Proposal, Response
from common.feeder import Floats, Ints
from coordinator.anderson import Anderson, accelerate
from coordinator.loop import State

PENALTY = {3: (4.0, 0.1, 0.1), 4: (16.0, 0.1, 0.1, 16.0)}
"""S of w, p, q and the angle over the price of losses, by their number; a logarithm moves half as much as a square"""
RELAXATION = 1.6
"""over-relaxation of the ADMM steps"""
FIRST_NEWTON = 2
"""round after which Newton steps are tried; the forecast is too far off for a derivative to mean much"""
DECREASE = 0.95
"""a Newton step must bring the residual below this share of the last good one"""
DAMPING = 0.005
"""added to the derivative, which is singular where limits hold the boundary fast"""
RAISE = 10.0
"""factor on the penalty of an hour that got worse, and its inverse for an hour that did well"""
GOOD_STEPS = 2
"""Newton steps kept in a row before an hour's raised penalty comes down"""
LOWERINGS = 20
"""times that an hour's penalty may come down: in the end the penalties stay, and ADMM converges, if slowly"""
WORSE_SHARE = 0.1
"""hours with less than this share of the worst hour's squared residual keep their penalty"""
MAX_RAISE = 1e5
MEMORY = 8
"""steps that are combined where areas do not tell how they move"""
PATIENCE = 40
"""rounds without halving the best residual after which the method gives up"""


@dataclass(frozen=True, kw_only=True)
class Consensus(State):
    """What the method carries from round to round."""

    z: Floats
    """(conductor, quantity, T) agreed values"""
    price: Floats
    """(conductor, quantity, T) price of power into the child, and of w"""
    raised: Floats
    """(T,) factor on the penalties"""
    good: Ints
    """(T,) Newton steps kept since the penalty last changed"""
    lowered: Ints
    """(T,) times that the penalty came down"""
    round: int = 1
    trial: bool = False
    """whether the proposal is a Newton step that has yet to prove itself"""
    reference: tuple[Floats, Floats, Floats] | None = None
    """of the last good point: (T,) squared norm of the ADMM step in each hour, and z and price where ADMM itself would
    go from it"""
    history: Anderson = field(default_factory=lambda: Anderson(MEMORY))


def start(boundary: Boundary) -> Consensus:
    """Begin with the substation's energy price and the forecast."""
    price = boundary.energy_prices()
    z, never, raised = boundary.forecast, np.zeros(boundary.periods, np.int64), np.ones(boundary.periods)
    nothing = Proposal.alone(boundary, price)
    return _at(Consensus(boundary, nothing, z=z, price=price, raised=raised, good=never, lowered=never), z, price)


def update(state: Consensus, response: Response) -> Consensus:
    """Judge the point that was tried and choose the next."""
    penalty = _penalty(state)
    gap = response.value[:, PARENT] - response.value[:, CHILD]
    step_z, step_price = response.value.mean(axis=1) - state.z, -penalty * gap / 2
    residual = (penalty * step_z**2 + step_price**2 / penalty).sum(axis=(0, 1))
    state = replace(state, round=state.round + 1)
    if not state.proposal.sensitivities:
        return _combined(state, penalty, step_z, step_price)
    if state.reference is not None and state.trial:
        before, *back = state.reference
        if residual.sum() > DECREASE**2 * before.sum():
            worse = (residual > DECREASE**2 * before) & (residual >= WORSE_SHARE * residual.max())
            raised = np.where(worse, np.minimum(state.raised * RAISE, MAX_RAISE), state.raised)
            state = replace(state, raised=raised, good=np.where(worse, 0, state.good), trial=False)
            return _at(state, *back)
        state = replace(state, good=state.good + 1)
    onward = state.z + RELAXATION * step_z, state.price + RELAXATION * step_price
    state = replace(state, reference=(residual, *onward))
    if state.round <= FIRST_NEWTON:
        return _at(state, *onward)
    newton_z, newton_price = _newton(state, response, penalty, step_z, step_price)
    ready = (state.raised > 1) & (state.good >= GOOD_STEPS) & (state.lowered < LOWERINGS)
    raised = np.where(ready, np.maximum(state.raised / RAISE, 1.0), state.raised)
    # The residual of a point under other penalties cannot be compared: it is a new reference, not a trial.
    state = replace(
        state,
        raised=raised,
        good=np.where(ready, 0, state.good),
        lowered=state.lowered + ready,
        trial=not ready.any(),
    )
    return _at(state, state.z + newton_z, state.price + newton_price)


def _combined(state: Consensus, penalty: Floats, step_z: Floats, step_price: Floats) -> Consensus:
    """The next point by Anderson's combination of ADMM steps, all quantities scaled by the penalty's root."""
    root = np.sqrt(penalty)
    point, moved = np.stack([root * state.z, state.price / root]), np.stack([root * step_z, step_price / root])
    history, (z, price) = accelerate(state.history, point, point + moved)
    return _at(replace(state, history=history), z / root, price * root)


def _newton(
    state: Consensus, response: Response, penalty: Floats, step_z: Floats, step_price: Floats
) -> tuple[Floats, Floats]:
    """The step in (z, price) that zeroes the linearized ADMM step.

    In units scaled by the square root of the penalty S, an area's answer moves by -J~ x, J~ = S^1/2 J S^1/2, where x is
    dz - dprice at its own root and dz + dprice at its children's. With these two as unknowns, an area's equations are
    (1/2 + J~) x + (1/2 + damping) x' = right, x' the other side's unknowns at the same ties. The areas are a tree, so
    the equations are solved from its leaves to its root and back.
    """
    root, boundary = np.sqrt(penalty), state.boundary
    coupling = 0.5 + DAMPING
    right_z, right_price = root * step_z, step_price / root
    found = np.zeros((2, *root.shape))
    reduced: dict[int, tuple[Floats, Ints]] = {}
    # Every area comes after its parent.
    for area, (conductors, sides) in reversed(list(enumerate(boundary.ends))):
        roots = sides == CHILD
        sign = np.where(roots, 1.0, -1.0)[:, None, None]
        scale = root[conductors].ravel()
        matrix = scale[:, None] * response.sensitivities[area] * scale + 0.5 * np.eye(len(scale))
        right = (right_z[conductors] + sign * right_price[conductors]).ravel()
        first = int(roots.sum()) * root[0].size
        # What is left of the equations of its children once they are eliminated.
        for child in (tie.child for tie in boundary.ties if tie.parent == area):
            solved, own = reduced[child]
            size = solved.shape[1] - 1
            start = int(np.flatnonzero(conductors == own[0])[0]) * root[0].size
            block = slice(start, start + size)
            matrix[block, block] -= coupling**2 * solved[:size, :-1]
            right[block] -= coupling * solved[:size, -1]
        columns = np.concatenate([np.eye(len(scale))[:, :first], right[:, None]], axis=1)
        reduced[area] = np.linalg.solve(matrix, columns), conductors[roots]
    for area, (conductors, sides) in enumerate(boundary.ends):
        solved, roots = reduced[area][0], sides == CHILD
        above = found[PARENT][conductors[roots]].ravel()
        x = (solved[:, -1] - coupling * solved[:, :-1] @ above).reshape(len(conductors), *root.shape[1:])
        found[CHILD][conductors[roots]], found[PARENT][conductors[~roots]] = x[roots], x[~roots]
    dz, dprice = (found[PARENT] + found[CHILD]) / 2, (found[PARENT] - found[CHILD]) / 2
    return dz / root, dprice * root


def _penalty(state: Consensus) -> Floats:
    """(conductor, quantity, T)"""
    boundary = state.boundary
    by_hour: Floats = np.array(PENALTY[len(boundary.quantities)])[:, None] * boundary.loss_price * state.raised
    return np.broadcast_to(by_hour, state.z.shape)


def _at(state: Consensus, z: Floats, price: Floats) -> Consensus:
    """The state that proposes the point (z, price)."""
    proposal = replace(
        Proposal.alone(state.boundary, price),
        target=np.stack([z, z], axis=1),
        curvature=np.stack([_penalty(state)] * 2, axis=1),
        sensitivities=bool(state.boundary.ties) and state.boundary.tells_sensitivities,
    )
    return replace(state, z=z, price=price, proposal=proposal)
