"""The record of a run, round by round, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.results.result import History
from tieflow.coordinator.convergence import Residuals


@dataclass(frozen=True)
class Round:
    """One line of the record: an exchange of proposals and answers, or an iteration of the interior point."""

    number: int
    method: str
    residuals: Residuals
    cost: float
    elapsed_s: float
    coordinator_s: float
    communication_s: float
    solve_s: tuple[float, ...]
    area_s: tuple[float, ...]
    """of each area, wall time"""
    cpu_s: tuple[float, float] = (0.0, 0.0)
    """thread CPU time of the busiest rank of each exchange, added up, and of the coordinator"""


@dataclass(frozen=True)
class Outcome:
    """Where the rounds ended."""

    converged: bool
    objective: float
    """$, as the areas count it"""
    rounds: tuple[Round, ...]
    notes: tuple[str, ...]
    gave_up: str = ""
    """why the method gave up; another may take over"""
    infeasible: bool = False
    """whether it did because an area has no schedule at what its neighbours offer"""
    reached: Floats | None = None
    """(conductor, quantity, T) boundary from which another method may go on"""
    prices: Floats | None = None
    """(conductor, quantity, T) what a unit into the child is worth to the parent"""
    gap: float = 0.0
    """largest of the relaxation"""
    optimality: float | None = None
    """scaled first-order residual, where the method has one for the whole feeder"""
    relaxed: float | None = None
    """$, objective of the optimum in which batteries charge and discharge at once, where that is another one"""


def history(rounds: tuple[Round, ...]) -> History:
    """The record as arrays."""

    def column(get: Callable[[Round], object]) -> Floats:
        return np.array([get(round_) for round_ in rounds], float)

    # An area that is cut in time counts with its slowest part; methods that follow each other may cut differently.
    areas = max((len(round_.area_s) for round_ in rounds), default=0)

    def wide(times: tuple[float, ...]) -> list[float]:
        return [*times, *[0.0] * (areas - len(times))]

    return History(
        method=tuple(round_.method for round_ in rounds),
        mismatch_pu=column(lambda r: r.residuals.mismatch),
        change_pu=column(lambda r: r.residuals.change),
        optimality=column(lambda r: np.nan if r.residuals.optimality is None else r.residuals.optimality),
        cost=column(lambda r: r.cost),
        elapsed_s=column(lambda r: r.elapsed_s),
        coordinator_s=column(lambda r: r.coordinator_s),
        communication_s=column(lambda r: r.communication_s),
        solve_s=np.array([wide(r.solve_s) for r in rounds]).reshape(len(rounds), areas),
        area_s=np.array([wide(r.area_s) for r in rounds]).reshape(len(rounds), areas),
        cpu_s=np.array([r.cpu_s for r in rounds]).reshape(len(rounds), 2),
    )
