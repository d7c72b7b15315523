"""When areas agree: small mismatch between the two copies of every boundary variable, and small change of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.boundary import CHILD, PARENT, Boundary, Proposal, Response


@dataclass(frozen=True)
class Residuals:
    """Largest values over ties, quantities and periods, per unit."""

    mismatch: float
    change: float
    optimality: float | None = None
    """scaled first-order residual of the whole feeder's problem, where the method knows it"""

    def within(self, tolerance: float) -> bool:
        return max(self.mismatch, self.change) <= tolerance


def mismatch(boundary: Boundary, response: Response) -> float:
    """Largest difference between the two copies of a voltage or power; 0 without ties."""
    value = boundary.physical(response.value)
    return float(np.abs(value[:, PARENT] - value[:, CHILD]).max(initial=0.0))


def change(proposal: Proposal, response: Response, before: Response | None) -> float:
    """Largest change of an answered quantity since the round before: inf in the first round, 0 without ties.

    What a side holds at the proposed value is not its answer, and does not count.
    """
    if not response.value.size:
        return 0.0
    if before is None:
        return np.inf
    answered = ~proposal.fixed[..., None]
    return float((np.abs(response.value - before.value) * answered).max())
