"""The distributed interior point: areas and coordinator together take the Newton steps of one interior point method on
the whole feeder, the same as one area would.

Three exchanges an iteration: take the step, evaluate and eliminate; predict; expand. Where the optimum has batteries
charge and discharge at once, they are given directions (``coordinator.directions``), and it is sought again. See
``common.interior_point`` for the algorithm and the system, ``common.wire.joint_step`` for what is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

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
    boundary, transport = task.boundary, task.transport
    settings = Settings(iterations=task.max_rounds - 1) if settings is None else settings
    exchanges = Exchanges(transport)
    forecasts = [boundary.forecast[end[0]] for end in boundary.ends]
    spans = [(part.area, part.span) for part in transport.parts]
    rounds: list[Round] = []

    def begun(chosen: Sequence[Floats] | None) -> tuple[JointSystem, list[Opened]]:
        barrier, ways = settings.first_barrier, [np.zeros(0)] * len(forecasts) if chosen is None else chosen
        opened = exchanges.ask(
            Command.OPEN, [Open(forecasts[area], barrier, task.start, ways[area]) for area, _ in spans]
        )
        return JointSystem(boundary.ends, boundary.periods, exchanges.ask, spans, opened, barrier), opened

    def record(system: JointSystem, iteration: Iteration) -> None:
        change = np.inf if iteration.step is None else iteration.step.change
        residuals = Residuals(system.mismatch(), change, iteration.error)
        rounds.append(exchanges.round(len(rounds) + 1, "newton", residuals, system.energy_cost()))
        exchanges.clear()
        task.on_round(rounds[-1])

    def minimized(system: JointSystem, prices: int) -> Result:
        # Its first record is a point, no iteration.
        left = replace(settings, iterations=max(settings.iterations - max(len(rounds) - 1, 0), 0))
        return minimize(system, boundary.periods, left, partial(record, system), prices)

    def solved(system: JointSystem) -> Result:
        result = minimized(system, LEFT)
        # A price may be too low for a limit that could be kept.
        if result.converged and result.state.at.repriceable:
            result = minimized(system, RAISED)
            if result.converged and result.state.at.raised:
                result = minimized(system, RESTORED)
        return result

    system, opened = begun(None)
    result, replaced = solved(system), system.replaced
    notes: list[str] = []
    chosen = [np.zeros((one.start.size, boundary.periods)) for one in first_parts(opened, spans)]
    relaxed: float | None = None
    wasting = 0
    # What no schedule keeps even if batteries waste energy, none keeps.
    while result.converged and not result.state.at.firm:
        told = in_whole(exchanges.ask(Command.STORES, [TellStores()] * len(spans)), spans)
        at_once = sum(int(one.both.sum()) for one in told)
        if not at_once:
            break
        if relaxed is None:
            relaxed, wasting = system.objective(), at_once
        # A direction is never taken back, so this ends.
        chosen = [directions(*known) for known in zip(first_parts(opened, spans), told, chosen, strict=True)]
        system, opened = begun(chosen)
        result, replaced = solved(system), replaced + system.replaced
    if relaxed is not None:
        notes.append(
            f"at an optimum of {relaxed:.6f} batteries charge and discharge at once in {wasting} of their periods, "
            f"which none can; given one direction there, they cost {system.objective() - relaxed:.6f} more. If that "
            "optimum is the global one, no schedule that can be followed is cheaper by more than this"
        )
    unkept = relaxed is not None and bool(result.state.at.firm)
    if unkept:
        notes.append(
            f"in one direction {result.state.at.firm:.0f} limits are overstepped that batteries kept by wasting "
            "energy; whether other directions keep them is not known"
        )
    if not result.converged:
        notes.append(f"newton stopped: {result.reason}")
    if replaced:
        notes.append(f"{replaced:.0f} factorizations of a period's equations were SuperLU's: static pivots failed")
    return Outcome(
        converged=result.converged and not unkept,
        objective=system.objective(),
        rounds=tuple(rounds),
        notes=tuple(notes),
        optimality=result.error,
        relaxed=relaxed,
    )
