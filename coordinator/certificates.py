"""What can be proved of a run of the relaxation: a lower bound on any schedule's cost, and that there is none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.errors import InfeasibleError, SolverError
from tieflow.common.ties.boundary import INFEASIBLE, STATUSES, AreaReport, Boundary, Proposal
from tieflow.common.wire.messages import Command
from tieflow.common.wire.transport import Transport

PROOF_STRETCH = (1.0, 30.0, 1000.0)
"""how far an attempt follows the way that the prices have gone"""


def lower_bound(boundary: Boundary, transport: Transport, prices: Floats) -> float:
    """A Lagrangian lower bound on the objective, one more round: each area minimizes alone at the prices (conductor,
    quantity, T) that a unit into the child is worth.

    With the boundary free and the two sides' prices opposite, the sum of the areas' smallest costs cannot exceed the
    optimum; the solver's dual values are the safe side of each. Raises SolverError when an area's problem is unbounded
    or fails at these prices.
    """
    reports = _at_prices(boundary, transport, prices)
    worst = max(report.status for report in reports)
    if worst >= INFEASIBLE:
        raise SolverError(f"no lower bound: an area's solver says {STATUSES[worst]} at the final prices.")
    return sum(report.dual_objective for report in reports)


def refuse_impossible(boundary: Boundary, transport: Transport, names: Sequence[str], prices: Floats) -> None:
    """Raise InfeasibleError when prices prove that no schedule exists: any would cost more than it ever could.

    Where none exists, prices climb without end in a direction in which the lower bound climbs too, so the way that they
    have gone is also followed further.
    """
    start = boundary.energy_prices()
    for further in PROOF_STRETCH:
        price = start + further * (prices - start)
        reports = _at_prices(boundary, transport, price)
        bound = sum(report.dual_objective for report in reports)
        if any(report.status >= INFEASIBLE for report in reports) or bound <= boundary.cost_ceiling:
            continue
        diagnoses = transport.diagnoses(Proposal.alone(boundary, price).split(boundary))
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
            f"'{between.bus}', {boundary.times[period]}. Widen these limits, or add devices."
        )


def explain(boundary: Boundary, transport: Transport, names: Sequence[str], infeasible: Sequence[int]) -> str:
    """Which areas are infeasible by themselves, and which kind of limit each could do without."""
    diagnoses = transport.diagnoses(Proposal.alone(boundary, np.zeros_like(boundary.forecast)).split(boundary))
    reasons = [
        f"area {names[i]} is infeasible by itself because of "
        + _blame([kind for kind, cost in diagnoses[i].items() if np.isfinite(cost)])
        for i in infeasible
    ]
    return "; ".join(reasons) + ". Widen these limits, or add devices."


def _at_prices(boundary: Boundary, transport: Transport, price: Floats) -> list[AreaReport]:
    answers = transport.exchange(Command.OPTIMUM, Proposal.alone(boundary, price).split(boundary))
    return [answer.report for answer in answers]


def _blame(kinds: Sequence[str]) -> str:
    return " or ".join(kinds) if kinds else "more than one kind of limit at once"
