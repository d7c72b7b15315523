"""What areas and coordinator tell each other of a Newton step that they take together; arrays (row, T), per unit.

An area's border unknowns are, in this order: the real, then imaginary voltages V of its own root, the multipliers of
the currents that it draws there, the currents J of the ties to its children, the multipliers of the voltages that it
gives them, and the multipliers of its stored energies. An area tells its own part of every border equation; the
coordinator adds them up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

from tieflow.common.arrays import Bools, Floats, Ints

LEFT, RAISED, RESTORED = range(3)
RAISE = 100.0
"""factor on the price of an overstepped limit"""
KEPT = 1e-7
"""overstep, in the limit's unit, below which a limit counts as kept"""
LITTLE = 1e-4
"""overstep up to which a limit could probably be kept at a higher price"""


@dataclass(frozen=True)
class Lengths:
    """Shares of a step to take; below zero: back to where the step begins."""

    primal: float
    """of unknowns, slacks and oversteps"""
    multiplier: float
    """of the equations' multipliers"""
    dual: float
    """of the limits' multipliers"""


@dataclass(frozen=True)
class Reduce:
    """Take shares of the last step, evaluate the problem there, factorize, and eliminate all but the border."""

    lengths: Lengths
    width: float
    """over which the loads' laws are blended"""
    barrier: float
    """near which the limits' multipliers are kept; 0: nowhere"""
    delta: Floats
    """(T,) added to the second derivatives by controls and voltages"""
    convex: Bools
    """(T,) whether those of limits are made positive semidefinite"""
    prices: int
    """what becomes of the prices of limits that are overstepped: LEFT, RAISED, or those RESTORED that were raised"""


@dataclass(frozen=True)
class Measures:
    """A part at a point; sums, least and largest values over its inner equations, unknowns and limits."""

    infeasibility: float
    """sum of all equations' absolute residuals"""
    primal: float
    """largest of them"""
    dual: float
    """largest absolute derivative of the Lagrangian by an unknown"""
    least_product: float
    """of a slack and its multiplier"""
    most_product: float
    products: float
    """their sum"""
    limits: float
    """how many"""
    multipliers: float
    """sum of the absolute values of all multipliers"""
    equations: float
    """how many"""
    objective: float
    """over the scale, with what oversteps cost"""
    logs: float
    """sum of the slacks' logarithms"""
    repriceable: float = 0.0
    """overstepped limits whose prices could be raised"""
    raised: float = 0.0
    """overstepped limits whose prices have been raised"""
    firm: float = 0.0
    """limits overstepped by more than ``LITTLE`` beyond which there is no schedule at any price"""


def together(parts: Sequence[Measures]) -> Measures:
    """Of several parts at one point."""
    values = dict(zip(_NAMES, zip(*map(_values, parts), strict=True), strict=True))
    return Measures(**{name: _COMBINED.get(name, sum)(own) for name, own in values.items()})


_NAMES = [one.name for one in fields(Measures)]
_values = attrgetter(*_NAMES)
_COMBINED: dict[str, Callable[..., float]] = {"primal": max, "dual": max, "least_product": min, "most_product": max}
"""how measures of parts make those of the whole, where they are no sums"""


@dataclass(frozen=True)
class Reduced:
    """What is left of an area."""

    schur: Floats
    """(pair, T) upper triangle of the border's matrix, row by row"""
    residual: Floats
    """(border, T) the area's part of the border's equations"""
    right: Floats
    """(border, T) right-hand side of a step without a barrier"""
    right_barrier: Floats
    """(border, T) what a unit of the barrier adds to it"""
    negatives: Ints
    """(T,) eigenvalues below zero of what was eliminated, beyond as many as there are equations; -1 where unknown"""
    replaced: float
    """periods in which static pivots failed"""
    measures: Measures
    scale: float
    """$ that costs are over"""
    energy_cost: float
    """$, not zero in the substation's area only"""


@dataclass(frozen=True)
class Predict:
    """The border's step without a barrier."""

    border: Floats
    """(border, T)"""
    average: float
    """of all products of slacks and multipliers"""


@dataclass(frozen=True)
class Predicted:
    """How far an area could go with it, and what it corrects of the next."""

    primal: float
    dual: float
    products: Floats
    """(4,) sums of s z, s dz, ds z, ds dz"""
    right: Floats
    """(border, T) what the corrector adds to the right-hand side"""


@dataclass(frozen=True)
class Expand:
    """The border's step."""

    border: Floats
    barrier: float
    corrected: bool
    """whether the corrector of the last prediction is in it"""
    keep: float
    """share of a slack or multiplier that a step may use up"""


@dataclass(frozen=True)
class Expanded:
    primal: float
    """largest share of the step that the area's slacks allow"""
    dual: float
    slope: float
    """derivative of objective and logarithms along the step, but for the shared multipliers' part"""
    change: float
    """largest change of a voltage or control"""
    multiplier: float
    """largest change of a multiplier of an equation"""


@dataclass(frozen=True)
class Trial:
    """Evaluate the problem at a share of the last step."""

    primal: float
    width: float


@dataclass(frozen=True)
class Tried:
    infeasibility: float
    objective: float
    logs: float


@dataclass(frozen=True)
class Opened:
    """What an area tells of itself before the first step: its stored energies, (store,) each."""

    start: Floats
    low: Floats
    high: Floats
    border: Floats
    """(border, T) first values of its border unknowns"""


@dataclass(frozen=True)
class TellStores:
    """Tell what the stores do that cannot gain and lose energy at once, as batteries."""


@dataclass(frozen=True)
class StoresTold:
    """Stores at the last point, (store, T); nothing of those that may gain and lose at once, as flexible loads."""

    both: Bools
    """whether it gains and loses, by more than is told as the one of both"""
    gain_cost: Floats
    """of a unit more that is gained, over the scale: of the power that it takes, not of what is stored"""
    loss_cost: Floats
    """of a unit more that is lost"""
    most_gain: Floats
    """in a period"""
    most_loss: Floats
