"""Rounds until the areas agree: proposals out, answers in, residuals, the record of it all.

A method of this kind has a ``State`` and the functions ``start`` and ``update``; see ``coordinator.methods``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.boundary import FAILED, INFEASIBLE, SOLVED_AGAIN, STATUSES, Boundary, P, Proposal, Q, Response, join
from common.errors import InfeasibleError, SolverError
from common.feeder import Floats
from common.messages import Command
from common.transport import Transport
from coordinator.certificates import explain, refuse_impossible
from coordinator.convergence import Residuals, change, mismatch
from coordinator.exchanges import Exchanges
from coordinator.record import Outcome, Round

PROOF_EVERY = 10
"""rounds between attempts to prove that there is nothing to converge to"""


@dataclass(frozen=True)
class State:
    """What every method of this kind carries from round to round; methods add to it."""

    boundary: Boundary
    proposal: Proposal


@dataclass(frozen=True)
class Task:
    """What a method is to bring to agreement."""

    boundary: Boundary
    transport: Transport
    names: Sequence[str]
    """the areas', for messages"""
    tolerance: float
    max_rounds: int
    on_round: Callable[[Round], None] = lambda _: None
    start: int = 0
    """number of the starting point, for methods that have several"""


def agree(
    name: str,
    start: Callable[[Boundary], Any],
    update: Callable[[Any, Response], Any],
    task: Task,
    patience: float = np.inf,
    refuses: bool = False,
) -> Outcome:
    """Exchange rounds until mismatch and change are within the tolerance, ``max_rounds`` are spent, or the method gives
    up: in the first round in which an area is infeasible, or after ``patience`` rounds in which the smallest mismatch
    has not halved.

    ``refuses`` tells whether such an area ends the run instead, as one that has no schedule whatever its neighbours do.
    Raises InfeasibleError when it does, SolverError when a solver leaves no usable numbers.
    """
    boundary, transport, names = task.boundary, task.transport, task.names
    exchanges = Exchanges(transport)
    state: State = start(boundary)
    before: Response | None = None
    best: tuple[float, Response] | None = None
    rounds: list[Round] = []
    notes: list[str] = []
    halved, stalled = np.inf, 0
    repeated, converged, gave_up = 0, False, ""
    while not converged and not gave_up and len(rounds) < task.max_rounds:
        exchanges.clear()
        response = join(boundary, exchanges.ask(Command.OPTIMUM, state.proposal.split(boundary)))
        notes += _solver_notes(response, names, len(rounds) + 1)
        infeasible = [i for i, report in enumerate(response.reports) if report.status == INFEASIBLE]
        if infeasible and refuses:
            raise InfeasibleError(explain(boundary, transport, names, infeasible))
        repeated += sum(report.status == SOLVED_AGAIN for report in response.reports)
        found = Residuals(np.inf, np.inf)
        if not infeasible:
            found = Residuals(mismatch(boundary, response), change(state.proposal, response, before))
        solved = not any(report.status in (INFEASIBLE, FAILED) for report in response.reports)
        if not solved and not boundary.ties:
            raise SolverError(f"area {names[0]}: its solver failed, and there is no other round to try.")
        converged = solved and found.within(task.tolerance)
        halved, stalled = (found.mismatch, 0) if found.mismatch <= halved / 2 else (halved, stalled + 1)
        if infeasible:
            gave_up = "an area cannot live with the voltage that its parent offers"
        elif not converged:
            state = update(state, response)
            if best is None or found.mismatch < best[0]:
                best = (found.mismatch, response)
            if stalled >= patience:
                gave_up = f"the mismatch has not halved in {patience} rounds"
        before = None if infeasible else response
        cost = sum(report.energy_cost for report in response.reports)
        solve_s = [report.solve_s for report in response.reports]
        rounds.append(exchanges.round(len(rounds) + 1, name, found, cost, solve_s))
        task.on_round(rounds[-1])
        # Not after the last round, whose answers the areas must keep: they are what is stored.
        provable = np.isfinite(boundary.cost_ceiling) and not infeasible
        if provable and not converged and len(rounds) % PROOF_EVERY == 0 and len(rounds) < task.max_rounds:
            refuse_impossible(boundary, transport, names, response.prices())
    if repeated:
        notes.append(f"{repeated} of {len(rounds) * len(names)} area solves needed a second, more careful attempt")
    return Outcome(
        converged=converged,
        objective=sum(report.objective for report in response.reports),
        rounds=tuple(rounds),
        notes=tuple(notes),
        gave_up=gave_up and f"{name} gave up in round {len(rounds)}: {gave_up}",
        infeasible=bool(infeasible),
        reached=None if best is None else _onward(boundary, best[1]),
        prices=response.prices(),
        gap=max(report.relaxation_gap for report in response.reports),
    )


def _onward(boundary: Boundary, best: Response) -> Floats:
    """The powers of a method's best point, not its voltages: where limits are in the way, those went astray."""
    z = boundary.forecast.copy()
    z[:, [P, Q]] = best.value.mean(axis=1)[:, [P, Q]]
    return z


def _solver_notes(response: Response, names: Sequence[str], number: int) -> list[str]:
    """Of areas without an answer. Raises SolverError where a solver left no numbers."""
    notes = []
    for name, report in zip(names, response.reports, strict=True):
        if report.status == FAILED and not np.isfinite(report.objective):
            raise SolverError(f"area {name}: its solver failed and left no numbers.")
        if report.status in (INFEASIBLE, FAILED):
            notes.append(f"round {number}: area {name} {STATUSES[report.status]}")
    return notes
