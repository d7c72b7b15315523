"""The distributed interior point: areas and coordinator together take the Newton steps of one interior point method on
the whole feeder, the same as one area would.

Three exchanges an iteration: take the step, evaluate and eliminate; predict; expand. Where the optimum has batteries
charge and discharge at once, they are given directions (``coordinator.directions``), and it is sought again. See
``common.interior_point`` for the algorithm and the system, ``common.wire.joint_step`` for what is told.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.interior_point.algorithm import Iteration, Result, Settings, minimize
from tieflow.common.interior_point.joint_system import JointSystem
from tieflow.common.wire.joint_step import LEFT, RAISED, RESTORED, Opened, TellStores
from tieflow.common.wire.messages import Command, Open
from tieflow.coordinator.convergence import Residuals
from tieflow.coordinator.directions import directions, first_parts, in_whole
from tieflow.coordinator.exchanges import Exchanges
from tieflow.coordinator.loop import Task
from tieflow.coordinator.record import Outcome, Round


def solve(task: Task, settings: Settings | None = None) -> Outcome:
    """Take joint Newton steps until the scaled first-order residual of the whole feeder is within the tolerance of
    ``settings``, or its iterations are spent: by default those of the task's rounds after the first."""
    run = _Run(task, Settings(iterations=task.max_rounds - 1) if settings is None else settings)
    result = run.optimum()
    relaxed: float | None = None
    wasting = 0
    # What no schedule keeps even if batteries waste energy, none keeps. A direction is never taken back, so this ends.
    while result.converged and not result.state.at.firm and (at_once := run.direct()):
        if relaxed is None:
            relaxed, wasting = run.system.objective(), at_once
        result = run.optimum()
    objective = run.system.objective()
    unkept = relaxed is not None and bool(result.state.at.firm)
    return Outcome(
        converged=result.converged and not unkept,
        objective=objective,
        rounds=tuple(run.rounds),
        notes=tuple(_notes(result, relaxed, wasting, objective, run.replaced)),
        optimality=result.error,
        relaxed=relaxed,
    )


class _Run:
    """Joint steps of a task, problem after problem."""

    def __init__(self, task: Task, settings: Settings) -> None:
        self._task, self._settings, self._boundary = task, settings, task.boundary
        self._exchanges = Exchanges(task.transport)
        self._spans = [(part.area, part.span) for part in task.transport.parts]
        self.rounds: list[Round] = []
        self.replaced = 0.0
        """factorizations whose static pivots failed"""
        self._directions: list[Floats] = [np.zeros(0)] * len(self._boundary.ends)
        """by area"""
        self.system: JointSystem

    def optimum(self) -> Result:
        """Of the feeder's problem with the present directions."""
        boundary, spans, ask = self._boundary, self._spans, self._exchanges.ask
        forecasts, barrier = [boundary.forecast[end[0]] for end in boundary.ends], self._settings.first_barrier
        asks = [Open(forecasts[area], barrier, self._task.start, self._directions[area]) for area, _ in spans]
        self._opened: list[Opened] = ask(Command.OPEN, asks)
        self.system = JointSystem(boundary.ends, boundary.periods, ask, spans, self._opened, barrier)
        result = self._minimized(LEFT)
        # A price may be too low for a limit that could be kept.
        if result.converged and result.state.at.repriceable:
            result = self._minimized(RAISED)
            if result.converged and result.state.at.raised:
                result = self._minimized(RESTORED)
        self.replaced += self.system.replaced
        return result

    def direct(self) -> int:
        """Give directions to stores that gain and lose at once, in how many periods of them."""
        told = in_whole(self._exchanges.ask(Command.STORES, [TellStores()] * len(self._spans)), self._spans)
        at_once = sum(int(one.both.sum()) for one in told)
        if not at_once:
            return 0
        opened = first_parts(self._opened, self._spans)
        chosen = [
            way if way.size else np.zeros(one.both.shape) for way, one in zip(self._directions, told, strict=True)
        ]
        self._directions = [directions(*known) for known in zip(opened, told, chosen, strict=True)]
        return at_once

    def _minimized(self, prices: int) -> Result:
        # Its first record is a point, no iteration.
        left = replace(self._settings, iterations=max(self._settings.iterations - max(len(self.rounds) - 1, 0), 0))
        return minimize(self.system, self._boundary.periods, left, self._record, prices)

    def _record(self, iteration: Iteration) -> None:
        change = np.inf if iteration.step is None else iteration.step.change
        residuals = Residuals(self.system.mismatch(), change, iteration.error)
        energy_cost = self.system.energy_cost()
        self.rounds.append(self._exchanges.round(len(self.rounds) + 1, "newton", residuals, energy_cost))
        self._task.on_round(self.rounds[-1])
        self._exchanges.clear()


def _notes(result: Result, relaxed: float | None, wasting: int, objective: float, replaced: float) -> list[str]:
    notes: list[str] = []
    if relaxed is not None:
        notes.append(
            f"at an optimum of {relaxed:.6f} batteries charge and discharge at once in {wasting} of their periods, "
            f"which none can; given one direction there, they cost {objective - relaxed:.6f} more. If that "
            "optimum is the global one, no schedule that can be followed is cheaper by more than this"
        )
        if result.state.at.firm:
            notes.append(
                f"in one direction {result.state.at.firm:.0f} limits are overstepped that batteries kept by wasting "
                "energy; whether other directions keep them is not known"
            )
    if not result.converged:
        notes.append(f"newton stopped: {result.reason}")
    if replaced:
        notes.append(f"{replaced:.0f} factorizations of a period's equations were SuperLU's: static pivots failed")
    return notes
