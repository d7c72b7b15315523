"""The base run: the feeder with its devices idle, by tieflow's own power flow, and what it gives weights to be over."""

from __future__ import annotations

from dataclasses import replace

from tieflow.common.case import Case
from tieflow.common.errors import CaseError
from tieflow.common.results.distflow import balanced_flow
from tieflow.common.results.schedule import NetworkState, Schedule, idle_schedule, injected
from tieflow.common.results.state import flow_state
from tieflow.common.results.terms import idle_bases


def power_flow(case: Case, schedule: Schedule) -> NetworkState:
    """The network's state at a schedule, by an AC power flow of the whole feeder. Raises SolverError where there is
    none."""
    if case.is_balanced:
        return balanced_flow(case, injected(case, schedule))
    return flow_state(case, schedule)


def with_bases(case: Case) -> Case:
    """The case with a number for every base that its weights need: given, or of the base run.

    Raises CaseError for a base that is not above zero, SolverError where the base run has no power flow.
    """
    weights, bases = case.settings.weights, case.settings.weights_bases
    if weights is None or bases is None:
        return case
    # The base of energy is the scale of the whole objective.
    needed = {"energy", *weights.given()} - ({"battery_use"} if not case.batteries else set())
    needed -= {"flexibility"} if not case.flexible_loads else set()
    missing = needed - bases.given().keys()
    if not missing:
        return case
    computed = idle_bases(case, power_flow(case, idle_schedule(case))).given()
    for name in sorted(missing):
        if name not in computed:
            raise CaseError(
                f"weights_bases: {name} is not above zero with idle devices, so nothing can be told as a share of it. "
                f"Give its base, as in weights_bases = {{ {name} = 100 }}."
            )
    changes = {name: computed[name] for name in missing}
    settings = case.settings.model_copy(update={"weights_bases": bases.model_copy(update=changes)})
    return replace(case, settings=settings)
