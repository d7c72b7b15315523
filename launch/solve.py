"""One solve from the case to the checked, stored result: who does what, on which rank."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from common.boundary import Boundary, make_boundary
from common.case import Case
from common.errors import InfeasibleError, SolverError
from common.feeder import Feeder, Floats
from common.partition import AreaCase, one_area, partition, without_thevenin
from common.result import Result, Violation
from common.schedule import NetworkState, Schedule, join_gap, join_schedule, join_state
from common.transport import Solver, Transport, areas_at_work
from common.violations import load_violations, voltage_violations
from coordinator.loop import Outcome, Round, lower_bound, run
from launch.base_run import power_flow, with_bases

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

CENTRALIZED = "centralized"
METHODS = ("admm", "dlmp", "enapp", CENTRALIZED)
LOOSE_PU = 1e-6
"""l v - p^2 - q^2 above which a branch's relaxation counts as loose"""
AT_ONCE_KW = 0.1
"""charging and discharging power of a battery in the same period that is worth a note"""
OVERSTEP_PU = 1e-6
"""voltage beyond a limit that counts as overstepped"""
OVERSTEP_SHARE = 2e-5
"""the same of a branch's power, per limit"""
LIBRARIES = ("tieflow", "numpy", "scipy", "cvxpy", "clarabel", "mpi4py", "opendssdirect.py", "h5py")


@dataclass(frozen=True)
class Options:
    """How to solve a case."""

    method: str = "admm"
    tolerance_pu: float = 1e-5
    max_rounds: int = 200
    certify: bool = False
    """spend one more round on a lower bound"""
    check: bool = True
    """replay in OpenDSS"""


def solve(
    case: Case, options: Options, comm: Comm | None = None, on_round: Callable[[Round], None] = lambda _: None
) -> Result:
    """Solve a case in its areas, or as one area, and check the schedule in OpenDSS. The result's case has a number for
    every base of its weights.

    Rank 0 of ``comm`` calls this while the other ranks ``work``; without ``comm`` all areas are solved in this process.
    Raises InfeasibleError when no schedule satisfies an area's limits, SolverError when a solver gives up, TieflowError
    for ranks that do not fit the areas. A run that does not converge is a result, not an error.
    """
    started = time.perf_counter()
    case = with_bases(case)
    parts = one_area(case) if options.method == CENTRALIZED else partition(case)
    if options.method == "enapp":
        parts = without_thevenin(parts)
    boundary = make_boundary(parts)
    names = [area.name for area in parts.areas]
    ranks = None if options.method == CENTRALIZED else comm
    # A single area has nothing to agree on: any method is done in its first round.
    method = "admm" if options.method == CENTRALIZED else options.method

    def shown(round_: Round) -> None:
        on_round(replace(round_, method=CENTRALIZED) if options.method == CENTRALIZED else round_)

    with areas_at_work(ranks, parts.areas, make_solver) as transport:
        outcome = run(boundary, transport, names, method, options.tolerance_pu, options.max_rounds, on_round=shown)
        solutions = transport.solutions()
        bound, doubt = _bound(boundary, transport, outcome) if options.certify else (None, [])
    history = outcome.history()
    if options.method == CENTRALIZED:
        history = replace(history, method=(CENTRALIZED,) * len(outcome.rounds))
    gap, state = join_gap(case, parts, solutions), join_state(case, parts, solutions)
    if outcome.converged and not case.is_balanced:
        _refuse_overload(case, state, options.tolerance_pu)
    # ENApp's areas do not know what their power loses upstream; a loose relaxation's prices are those of no feeder.
    is_unpriced = (options.method == "enapp" and bool(parts.ties)) or gap.max(initial=0.0) > LOOSE_PU
    if is_unpriced or not outcome.converged:
        state = replace(state, nodal_price=None)
    last = outcome.rounds[-1]
    schedule, doubt = join_schedule(case, parts, solutions), list(doubt)
    cost, model_error = last.cost, last.residuals.model_error
    if case.settings.model == "lindist3":
        told, state = state, power_flow(case, schedule)
        cost, model_error = energy_cost(case, state), float(np.abs(told.v_pu - state.v_pu).max())
        doubt.append(_flat_error(case, told, state))
    doubt += _at_once(case, schedule) if outcome.converged else []
    result = Result(
        case=case,
        method=options.method,
        areas=tuple(names),
        tolerance_pu=options.tolerance_pu,
        converged=outcome.converged,
        schedule=schedule,
        state=state,
        history=history,
        cost=cost,
        objective=sum(report.objective for report in outcome.response.reports),
        relaxation_gap_pu=float(gap.max(initial=0.0)),
        lower_bound=bound,
        max_mismatch_pu=last.residuals.mismatch,
        max_change_pu=last.residuals.change,
        total_s=time.perf_counter() - started,
        ranks=1 if ranks is None else ranks.size,
        check=None,
        versions=library_versions(),
        model_error_pu=model_error,
        oversteps=() if case.is_balanced else tuple(overstepped(case, state)),
        notes=(*outcome.notes, *doubt, *(_loose_branches(case, gap) if outcome.converged else ())),
    )
    return checked(result) if options.check else replace(result, notes=(*result.notes, "the OpenDSS check was skipped"))


def overstepped(case: Case, state: NetworkState) -> list[Violation]:
    """Limits of voltages and branches beyond which the optimizer's own state is."""
    return voltage_violations(case, state, OVERSTEP_PU) + load_violations(case, state, OVERSTEP_SHARE)


def _refuse_overload(case: Case, state: NetworkState, tolerance_pu: float) -> None:
    """Raise InfeasibleError where power beyond the substation's cap was bought at its price."""
    cap = case.settings.substation_peak_kw
    if cap is None:
        return
    beyond = state.substation_p_kw - cap
    above = beyond > tolerance_pu * case.settings.base_kva
    if above.any():
        raise InfeasibleError(
            f"substation_peak_kw = {cap:g} cannot be kept: the schedule that oversteps it least still needs "
            f"{state.substation_p_kw.max():.6g} kW in hour {case.horizon.hour[beyond.argmax()]}, and "
            f"{above.sum()} of {len(case.horizon)} hours are above the cap. Raise it, or add devices."
        )


def energy_cost(case: Case, state: NetworkState) -> float:
    return float(case.horizon.price @ state.substation_p_kw) * case.horizon.dt


def _flat_error(case: Case, told: NetworkState, state: NetworkState) -> str:
    """What the linear model is off by."""
    limited = case.network.limited[case.network.roots :]
    v = float(np.abs(told.v_pu - state.v_pu)[limited].max(initial=0.0))
    p = float(np.abs(told.substation_p_kw - state.substation_p_kw).max())
    return (
        f"lindist3, the linear model, decided: its voltages were off by up to {v:.1e} pu, its substation power by up "
        f"to {p:.3g} kW; what is told here is the AC power flow of its schedule"
    )


def _at_once(case: Case, schedule: Schedule) -> list[str]:
    """Says which batteries do what none can do."""
    both = np.minimum(schedule.batteries["charge_kw"], schedule.batteries["discharge_kw"]).max(axis=1, initial=0.0)
    found = np.flatnonzero(both > AT_ONCE_KW)
    if not len(found):
        return []
    shown = ", ".join(f"{case.batteries[i].place} ({both[i]:.3g} kW)" for i in found[:5])
    return [
        f"{len(found)} battery(ies) charge and discharge at once, which none can: {shown}. Wasting energy pays where "
        "a limit is overstepped at its price, or energy is worth less than a lower voltage: widen that limit, or raise "
        "scd_weight."
    ]


def _bound(boundary: Boundary, transport: Transport, outcome: Outcome) -> tuple[float | None, list[str]]:
    try:
        bound = lower_bound(boundary, transport, outcome.response)
        if boundary.can_soften:
            return bound, ["the lower bound is one of the model as last linearized, not of the exact power flow"]
        return bound, []
    except SolverError as error:
        return None, [str(error)]


def checked(result: Result) -> Result:
    """The result with OpenDSS's verdict on its schedule."""
    # Loads OpenDSS, which no area rank needs.
    from coordinator.checker import check

    return replace(result, check=check(result.case, result.schedule, result.state))


def make_solver(area: AreaCase[Any]) -> Solver:
    """An area's worker. cvxpy is loaded here, on the ranks that have an area."""
    if isinstance(area.feeder, Feeder):
        from areas.worker import AreaWorker

        return AreaWorker(area)
    from areas.multiphase_worker import MultiphaseWorker

    return MultiphaseWorker(area)


def library_versions() -> dict[str, str]:
    """Installed versions of what a result depends on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _loose_branches(case: Case, gap: Floats) -> list[str]:
    loose = np.flatnonzero(gap.max(axis=1, initial=0.0) > LOOSE_PU)
    if not len(loose):
        return []
    shown = ", ".join(f"{case.feeder.branch_name(k)} ({gap[k].max():.1e})" for k in loose[:10])
    return [
        f"the cone relaxation is loose on {len(loose)} branch(es), so flows and losses there are not physical: "
        f"{shown}. Losses must cost something in every hour: check prices, voltage limits and the objective."
    ]
