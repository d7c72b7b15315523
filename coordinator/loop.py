"""Rounds until the areas agree: proposals out, responses in, residuals, hand-over, the record of it all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

import numpy as np

from common.boundary import FAILED, INFEASIBLE, SOLVED_AGAIN, STATUSES, Boundary, P, Proposal, Q, Response, join
from common.errors import InfeasibleError, SolverError
from common.feeder import Floats
from common.result import History
from common.transport import Transport
from coordinator.convergence import Residuals, change, middle, mismatch
from coordinator.methods import admm, dlmp, enapp

METHODS: dict[str, ModuleType] = {"admm": admm, "dlmp": dlmp, "enapp": enapp}
HAND_OVER_TO = "admm"
"""the method that takes over when another gives up: it alone converges from anywhere"""
PROOF_EVERY = 10
"""rounds between attempts to prove that there is nothing to converge to"""
PROOF_STRETCH = (1.0, 30.0, 1000.0)
"""how far an attempt follows the way that the prices have gone"""


class State(Protocol):
    """What every method's state has."""

    @property
    def proposal(self) -> Proposal: ...

    @property
    def failing(self) -> str | None: ...


@dataclass(frozen=True)
class Round:
    """One line of the record."""

    number: int
    method: str
    residuals: Residuals
    cost: float
    elapsed_s: float
    coordinator_s: float
    communication_s: float
    solve_s: tuple[float, ...]
    area_s: tuple[float, ...]


@dataclass(frozen=True)
class Outcome:
    """Where the rounds ended."""

    converged: bool
    response: Response
    """of the last round"""
    rounds: tuple[Round, ...]
    notes: tuple[str, ...]

    def history(self) -> History:
        """The record as arrays."""

        def column(get: Callable[[Round], object]) -> Floats:
            return np.array([get(round_) for round_ in self.rounds], float)

        return History(
            method=tuple(round_.method for round_ in self.rounds),
            mismatch_pu=column(lambda r: r.residuals.mismatch),
            change_pu=column(lambda r: r.residuals.change),
            model_error_pu=column(lambda r: r.residuals.model_error),
            cost=column(lambda r: r.cost),
            elapsed_s=column(lambda r: r.elapsed_s),
            coordinator_s=column(lambda r: r.coordinator_s),
            communication_s=column(lambda r: r.communication_s),
            solve_s=column(lambda r: r.solve_s),
            area_s=column(lambda r: r.area_s),
        )


def run(
    boundary: Boundary,
    transport: Transport,
    names: Sequence[str],
    method: str,
    tolerance: float,
    max_rounds: int,
    on_round: Callable[[Round], None] = lambda _: None,
) -> Outcome:
    """Exchange rounds until mismatch and change are within the tolerance, or ``max_rounds`` are spent.

    ``names`` are the areas', for messages. Raises InfeasibleError when an area has no schedule whatever its neighbours
    do, SolverError when a solver leaves no usable numbers.
    """
    started = time.perf_counter()
    state: State = METHODS[method].start(boundary)
    before: Response | None = None
    best: tuple[float, Response] | None = None
    rounds: list[Round] = []
    notes: list[str] = []
    repeated, kept = 0, 0.0
    converged = False
    while not converged and len(rounds) < max_rounds:
        sent = time.perf_counter()
        if isinstance(state, admm.State):
            state = admm.within_reach(state, lambda proposal: transport.reaches(proposal.split(boundary)))
        answers = transport.exchange(state.proposal.split(boundary))
        received = time.perf_counter()
        response = join(boundary, answers)
        _check_numbers(response, names)
        infeasible = [i for i, report in enumerate(response.reports) if report.status == INFEASIBLE]
        if infeasible and method == HAND_OVER_TO:
            raise InfeasibleError(_explain(boundary, transport, names, infeasible))
        kept += sum(report.kept for report in response.reports)
        repeated += sum(report.status == SOLVED_AGAIN for report in response.reports)
        notes += _solver_notes(response, names, len(rounds) + 1)
        found = (
            Residuals(np.inf, np.inf)
            if infeasible
            else Residuals(
                mismatch(boundary, response),
                max(change(state.proposal, response, before), *(report.change for report in response.reports)),
                max(report.model_error for report in response.reports),
            )
        )
        solved = not any(report.status in (INFEASIBLE, FAILED) for report in response.reports)
        if not solved and not boundary.ties:
            raise SolverError(f"area {names[0]}: the conic solver failed, and there is no other round to try.")
        # Softened limits are not the case's.
        converged = solved and found.within(tolerance) and state.proposal.barrier <= boundary.least_barrier
        cost = sum(report.energy_cost for report in response.reports)
        by = method
        # A single area has nothing to agree on: more rounds only correct its model.
        if not converged and boundary.ties:
            state = METHODS[method].update(state, response)
            if not infeasible and (best is None or found.mismatch < best[0]):
                best = (found.mismatch, response)
            if state.failing:
                note = f"{method} gave up in round {len(rounds) + 1}: {state.failing}"
                if method == "enapp":
                    raise InfeasibleError(f"{note}. Use --method {HAND_OVER_TO}.") if infeasible else SolverError(note)
                notes.append(f"{note}; {HAND_OVER_TO} takes over at the powers of its best point")
                method, state = HAND_OVER_TO, _hand_over(boundary, best)
        before = None if infeasible else response
        done = time.perf_counter()
        rounds.append(
            Round(
                number=len(rounds) + 1,
                method=by,
                residuals=found,
                cost=cost,
                elapsed_s=done - started,
                coordinator_s=done - received,
                communication_s=max(received - sent - transport.busy_s(answers), 0.0),
                solve_s=tuple(report.solve_s for report in response.reports),
                area_s=tuple(report.area_s for report in response.reports),
            )
        )
        on_round(rounds[-1])
        # Not after the last round, whose answers the areas must keep: they are what is stored.
        provable = np.isfinite(boundary.cost_ceiling) and not infeasible
        if provable and not converged and len(rounds) % PROOF_EVERY == 0 and len(rounds) < max_rounds:
            _refuse_impossible(boundary, transport, names, response)
    if repeated:
        notes.append(f"{repeated} of {len(rounds) * len(names)} area solves needed a second, more careful attempt")
    if kept:
        notes.append(
            f"in {kept:.0f} of {len(rounds) * len(names)} area solves the model was not corrected: there was no power "
            "flow at the proposed point"
        )
    return Outcome(converged, response, tuple(rounds), tuple(notes))


def lower_bound(boundary: Boundary, transport: Transport, response: Response) -> float:
    """A Lagrangian lower bound on the objective, one more round: each area minimizes alone at the prices it ended with.

    With the boundary free and the two sides' prices opposite, the sum of the areas' smallest costs cannot exceed the
    optimum; the solver's dual values are the safe side of each. Raises SolverError when an area's problem is unbounded
    or fails at these prices.
    """
    proposal = _at_prices(boundary, response.prices())
    reports = [answer.report for answer in transport.exchange(proposal.split(boundary))]
    worst = max(report.status for report in reports)
    if worst >= INFEASIBLE:
        raise SolverError(f"no lower bound: an area's solver says {STATUSES[worst]} at the final prices.")
    return sum(report.dual_objective for report in reports)


def _refuse_impossible(boundary: Boundary, transport: Transport, names: Sequence[str], response: Response) -> None:
    """Raise InfeasibleError when prices prove that no schedule exists: any would cost more than it ever could.

    Where none exists, prices climb without end in a direction in which the lower bound climbs too, so the way that they
    have gone is also followed further.
    """
    start = np.zeros_like(boundary.forecast)
    start[:, P] = boundary.energy_price
    for further in PROOF_STRETCH:
        price = start + further * (response.prices() - start)
        proposal = _at_prices(boundary, price)
        reports = [answer.report for answer in transport.exchange(proposal.split(boundary))]
        bound = sum(report.dual_objective for report in reports)
        if any(report.status >= INFEASIBLE for report in reports) or bound <= boundary.cost_ceiling:
            continue
        diagnoses = transport.diagnoses(proposal.split(boundary))
        lifted = {kind: sum(costs[kind] for costs in diagnoses) for kind in diagnoses[0]}
        # NaN too: a kind without which the proof falls is to blame.
        kinds = [kind for kind, cost in lifted.items() if not cost > max(boundary.cost_ceiling, bound / 2)]
        raised = np.abs(price - start) / boundary.loss_price
        conductor, quantity, period = np.unravel_index(raised.argmax(), raised.shape)
        between = boundary.ties[boundary.conductors[conductor][0]]
        raise InfeasibleError(
            f"the areas' limits contradict each other, because of {_blame(kinds)}: by their prices any schedule would "
            f"cost at least {bound:.3g}, far more than serving all load. The dispute is about the "
            f"{boundary.quantities[quantity]} between areas {names[between.parent]} and {names[between.child]} at bus "
            f"'{between.bus}', hour {boundary.hours[period]}. Widen these limits, or add devices."
        )


def _hand_over(boundary: Boundary, best: tuple[float, Response] | None) -> State:
    if best is None:
        return admm.start(boundary)
    # The powers of its best point, not its voltages and prices: where limits are in the way, those went astray.
    z = boundary.forecast.copy()
    z[:, [P, Q]] = middle(best[1])[:, [P, Q]]
    return admm.start(boundary, z)


def _at_prices(boundary: Boundary, price: Floats) -> Proposal:
    """Every area alone with the prices, nothing held."""
    free = boundary.zeros()
    return Proposal(np.stack([-price, price], axis=1), free, free, np.zeros(free.shape[:3], bool))


def _explain(boundary: Boundary, transport: Transport, names: Sequence[str], infeasible: Sequence[int]) -> str:
    """Which areas are infeasible by themselves, and which kind of limit each could do without."""
    free = _at_prices(boundary, np.zeros_like(boundary.forecast)).split(boundary)
    diagnoses = transport.diagnoses(free)
    reasons = [
        f"area {names[i]} is infeasible by itself because of "
        + _blame([kind for kind, cost in diagnoses[i].items() if np.isfinite(cost)])
        for i in infeasible
    ]
    return "; ".join(reasons) + ". Widen these limits, or add devices."


def _blame(kinds: Sequence[str]) -> str:
    return " or ".join(kinds) if kinds else "more than one kind of limit at once"


def _check_numbers(response: Response, names: Sequence[str]) -> None:
    for name, report in zip(names, response.reports, strict=True):
        if report.status == FAILED and not np.isfinite(report.objective):
            raise SolverError(f"area {name}: the conic solver failed and left no numbers.")


def _solver_notes(response: Response, names: Sequence[str], number: int) -> list[str]:
    return [
        f"round {number}: area {name} {STATUSES[report.status]}"
        for name, report in zip(names, response.reports, strict=True)
        if report.status in (INFEASIBLE, FAILED)
    ]
