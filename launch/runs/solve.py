"""One solve from the case to the checked, stored result: who does what, on which rank."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.case import Case
from tieflow.common.errors import CaseError, InfeasibleError, SolverError
from tieflow.common.inputs.objective import energy
from tieflow.common.results.joining import (
    join_gap,
    join_prices,
    join_relaxed_state,
    join_schedule,
    join_voltages,
    joined_in_time,
)
from tieflow.common.results.result import LOOSE_PU, Result, Tolerances, Violation
from tieflow.common.results.schedule import NetworkState, Schedule
from tieflow.common.results.state import flow_state
from tieflow.common.results.violations import branch_loads, overstepped
from tieflow.common.ties.area_case import AreaCase, AreaSolution, Partition
from tieflow.common.ties.boundary import make_boundary
from tieflow.common.ties.cutting import one_area, partition, without_thevenin
from tieflow.common.wire.transport import Solver, areas_at_work
from tieflow.coordinator.certificates import lower_bound
from tieflow.coordinator.loop import Task
from tieflow.coordinator.methods import CENTRALIZED as CENTRALIZED
from tieflow.coordinator.methods import Method, find_method
from tieflow.coordinator.record import Outcome, Round, history
from tieflow.launch.runs.base_run import with_bases
from tieflow.launch.runs.kernels import compile_kernels

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

BINDING = 1e-4
"""pu of a voltage, or share of another limit, within which that limit counts as reached"""
AT_ONCE_KW = 0.1
"""charging and discharging power of a battery in the same period that is worth a note"""
BELOW_BOUND = 1e-6
"""relative, below its lower bound an objective is none: solvers leave 1e-7"""
LIMITS = {"voltage": "v_min_pu, v_max_pu", "current": "i_max_a", "branch load": "s_max_kva"}
"""kinds of hard limits of a balanced feeder that may be overstepped, and where they are given"""
LIBRARIES = ("tieflow", "numpy", "scipy", "numba", "cvxpy", "clarabel", "mpi4py", "opendssdirect.py", "h5py")


@dataclass(frozen=True)
class Options:
    """How to solve a case."""

    method: str | None = None
    """None: the case's own"""
    tolerance_pu: float = 1e-5
    max_rounds: int = 200
    certify: bool = False
    """spend one more round on a lower bound"""
    check: bool = True
    """replay in OpenDSS"""
    starts: int = 1
    """starting points of a method whose problem is not convex; the best schedule found is kept"""


@dataclass(frozen=True)
class _Solved:
    """What one method left."""

    parts: Partition
    outcome: Outcome
    solutions: list[AreaSolution]
    bound: float | None
    doubt: list[str]
    """why there is no bound"""


def solve(
    case: Case, options: Options, comm: Comm | None = None, on_round: Callable[[Round], None] = lambda _: None
) -> Result:
    """Solve a case in its areas, or as one area, and check the schedule in OpenDSS. The result's case has a number for
    every base of its weights.

    Rank 0 of ``comm`` calls this while the other ranks ``work``; without ``comm`` all areas are solved in this process.
    Raises CaseError for an unknown method, InfeasibleError when no schedule satisfies an area's limits, SolverError
    when a solver gives up, TieflowError for ranks that do not fit the areas. A run that does not converge is a result,
    not an error.
    """
    started, date = time.perf_counter(), now()
    asked = options.method or case.settings.default_method
    if options.starts > 1 and not find_method(asked).starts:
        raise CaseError(f"{asked} has one starting point. Use --method newton with --starts.")
    case = with_bases(case)
    rounds: list[Round] = []
    notes: list[str] = []
    used: list[str] = []
    name: str | None = asked
    reached: Floats | None = None
    while name is not None:
        method, before = find_method(name), len(rounds)
        used.append(name)
        ranks = None if method.whole else comm
        named = partial(_named, name, before)

        def shown(round_: Round, named: Callable[[Round], Round] = named) -> None:
            on_round(named(round_))

        notes += compile_kernels() if ranks is not None and (method.exact or not case.is_balanced) else []
        solved = _by_method(case, method, options, ranks, shown, reached)
        outcome = solved.outcome
        rounds += [named(round_) for round_ in outcome.rounds]
        notes += [*outcome.notes, *solved.doubt]
        gap = join_gap(case, solved.parts, solved.solutions)
        loose = outcome.converged and gap.max(initial=0.0) > LOOSE_PU
        if not outcome.gave_up and not (loose and method.optimal):
            break
        reason = outcome.gave_up or f"the cone relaxation that {name} solves is loose, so its answer is none"
        following = "newton" if loose else method.successor
        if following is None or following in used:
            if outcome.infeasible:
                raise InfeasibleError(f"{reason}. Use --method newton.")
            raise SolverError(f"{reason}. Use --method newton.")
        notes.append(f"{reason}; {following} takes over")
        name, reached = following, outcome.reached
    parts, solutions = solved.parts, solved.solutions
    schedule = join_schedule(case, parts, solutions)
    state = _state(case, parts, solutions, schedule)
    if outcome.converged:
        _refuse_overload(case, state, options.tolerance_pu)
    # ENApp's areas do not know what their power loses upstream; a loose relaxation's prices are those of no feeder.
    is_priced = outcome.converged and gap.max(initial=0.0) <= LOOSE_PU and (method.optimal or not parts.ties)
    state = replace(state, nodal_price=join_prices(case, parts, solutions) if is_priced else None)
    told = join_voltages(case, parts, solutions)
    last = outcome.rounds[-1]
    notes += _at_once(case, schedule) if outcome.converged else []
    impossible = _below_bound(outcome, solved.bound)
    found = _loose_branches(case, gap) if outcome.converged else []
    result = Result(
        case=case,
        method=asked,
        areas=tuple(area.name for area in parts.areas),
        tolerance_pu=options.tolerance_pu,
        converged=outcome.converged and not impossible,
        schedule=schedule,
        state=state,
        history=history(tuple(rounds)),
        cost=energy_cost(case, state),
        objective=outcome.objective,
        relaxation_gap_pu=float(gap.max(initial=0.0)),
        lower_bound=solved.bound,
        max_mismatch_pu=last.residuals.mismatch,
        max_change_pu=last.residuals.change,
        total_s=time.perf_counter() - started,
        ranks=1 if ranks is None else ranks.size,
        check=None,
        versions=library_versions(),
        model_error_pu=float(np.abs(told - state.v_pu)[case.feeder.places.limited].max(initial=0.0)),
        optimality=outcome.optimality,
        relaxed_objective=outcome.relaxed,
        oversteps=tuple(overstepped(case, state)) if parts.is_exact else (),
        notes=(*notes, *impossible, *found),
        date=date,
        loose_because=_loosened_by(case, gap, state),
    )
    if case.settings.hard_limits and result.oversteps and outcome.converged:
        _refuse_overstep(result.oversteps)
    return checked(result) if options.check else replace(result, notes=(*result.notes, "the OpenDSS check was skipped"))


def _named(method: str, before: int, round_: Round) -> Round:
    """A method's round under the name it was asked for by, numbered on from those ``before``."""
    return replace(round_, number=before + round_.number, method=method)


def _by_method(
    case: Case,
    method: Method,
    options: Options,
    comm: Comm | None,
    on_round: Callable[[Round], None],
    reached: Floats | None,
) -> _Solved:
    """One method's run; it may begin at the boundary that another one ``reached``."""
    parts = one_area(case, method.exact) if method.whole else partition(case, method.exact)
    if not method.thevenin:
        parts = without_thevenin(parts)
    boundary = make_boundary(parts)
    if reached is not None and reached.shape == boundary.forecast.shape:
        boundary = replace(boundary, forecast=reached)
    names = [area.name for area in parts.areas]
    with areas_at_work(comm, parts.areas, make_solver, method.sliced) as transport:
        task = Task(boundary, transport, names, options.tolerance_pu, options.max_rounds, on_round)
        cut = [(part.area, part.span) for part in transport.parts]
        outcome = method.solve(task)
        solutions = joined_in_time(cut, transport.solutions())
        if options.starts > 1:
            runs = [(outcome, solutions)]
            for start in range(1, options.starts):
                other = method.solve(replace(task, start=start))
                runs.append((other, joined_in_time(cut, transport.solutions())))
            outcome, solutions = _best(runs)
        bound, doubt = None, []
        if options.certify and not parts.is_exact and outcome.prices is not None:
            try:
                bound = lower_bound(boundary, transport, outcome.prices)
            except SolverError as error:
                doubt = [str(error)]
    if options.certify and parts.is_exact:
        bound, doubt = _bound(case)
    return _Solved(parts, outcome, solutions, bound, doubt)


def _best(runs: list[tuple[Outcome, list[AreaSolution]]]) -> tuple[Outcome, list[AreaSolution]]:
    """The run of the lowest objective among those that converged, with a note of how far apart they ended."""
    best = min(runs, key=lambda run: (not run[0].converged, run[0].objective))
    found = [outcome.objective for outcome, _ in runs if outcome.converged]
    note = f"{len(found)} of {len(runs)} starting points converged"
    if found:
        spread = (max(found) - min(found)) / max(abs(min(found)), 1e-12)
        note += f"; objectives {min(found):.6f} to {max(found):.6f}, relative spread {spread:.1e}"
    return replace(best[0], notes=(*best[0].notes, note)), best[1]


def _below_bound(outcome: Outcome, bound: float | None) -> list[str]:
    """Says that an objective is lower than that of any schedule."""
    if bound is None or outcome.objective >= bound - BELOW_BOUND * abs(bound):
        return []
    return [
        f"the objective {outcome.objective:.6f} is below the lower bound {bound:.6f}: what areas still differ by saves "
        "what no schedule can, so the run does not count as converged. Lower --tolerance, or use --method newton."
    ]


def _bound(case: Case) -> tuple[float | None, list[str]]:
    """A lower bound on any schedule's objective: of a balanced feeder by its cone relaxation, as one area."""
    if not case.is_balanced:
        return None, ["no lower bound: none is known for the exact equations of a multi-phase feeder"]
    parts = one_area(case)
    boundary = make_boundary(parts)
    try:
        with areas_at_work(None, parts.areas, make_solver) as transport:
            return lower_bound(boundary, transport, boundary.forecast[:, :3]), []
    except SolverError as error:
        return None, [str(error)]


def _state(case: Case, parts: Partition, solutions: list[AreaSolution], schedule: Schedule) -> NetworkState:
    """The network as its relaxation tells it, or where equations are exact, the AC power flow of the schedule."""
    if parts.is_exact:
        return flow_state(case, schedule)
    return join_relaxed_state(case, parts, solutions)


def _refuse_overstep(oversteps: tuple[Violation, ...]) -> None:
    """Raise InfeasibleError: the limits of a balanced feeder are hard, and a price has found the least overstep."""
    worst = max(oversteps, key=lambda overstep: abs(overstep.value / overstep.limit - 1))
    settings = [LIMITS[kind] for kind in LIMITS if kind in {overstep.kind for overstep in oversteps}]
    raise InfeasibleError(
        f"{len(oversteps)} limit(s) cannot be kept: the schedule that oversteps them least still has {worst.kind} "
        f"{worst.value:.5f} {worst.unit} at {worst.element} at {worst.time}, limit "
        f"{worst.limit:.5f} {worst.unit}. Widen these limits ({', '.join(settings)}), or add devices."
    )


def _refuse_overload(case: Case, state: NetworkState, tolerance_pu: float) -> None:
    """Raise InfeasibleError where power beyond the substation's limits was bought at its price."""
    settings, power = case.settings, state.substation_p_kw
    for name, cap, beyond, needed, verb in (
        ("substation_peak_kw", settings.substation_peak_kw, power, power.max(), "needs"),
        ("substation_export_kw", settings.substation_export_kw, -power, -power.min(), "exports"),
    ):
        if cap is None:
            continue
        # The exact laws of loads may ask for a little more than the blended ones that were scheduled.
        above = beyond - cap > max(tolerance_pu * settings.base_kva, Tolerances().power_kw)
        if above.any():
            raise InfeasibleError(
                f"{name} = {cap:g} cannot be kept: the schedule that oversteps it least still {verb} {needed:.6g} kW "
                f"at {case.horizon.times[beyond.argmax()]}, and {above.sum()} of {len(case.horizon)} periods are "
                "beyond it. Raise it, or add devices."
            )


def energy_cost(case: Case, state: NetworkState) -> float:
    """$, as the user pays it."""
    return float(energy(case.horizon, state.substation_p_kw, case.settings.export_price_per_kwh))


def _at_once(case: Case, schedule: Schedule) -> list[str]:
    """Says which batteries do what none can do."""
    both = np.minimum(schedule.batteries["charge_kw"], schedule.batteries["discharge_kw"]).max(axis=1, initial=0.0)
    found = np.flatnonzero(both > AT_ONCE_KW)
    if not len(found):
        return []
    shown = ", ".join(f"{case.batteries[i].label} ({both[i]:.3g} kW)" for i in found[:5])
    return [
        f"{len(found)} battery(ies) charge and discharge at once, which none can: {shown}. Wasting energy pays where "
        "its price is negative, a limit is overstepped at its price, or a lower voltage is worth more. --method newton "
        "gives each one direction; or widen that limit, or raise scd_weight."
    ]


def checked(result: Result) -> Result:
    """The result with OpenDSS's verdict on its schedule."""
    # Loads OpenDSS, which no area rank needs.
    from tieflow.coordinator.checker import check

    return replace(result, check=check(result.case, result.schedule, result.state))


def make_solver(area: AreaCase[Any], span: slice) -> Solver:
    """An area's worker. cvxpy or Numba is loaded here, on the ranks that have an area."""
    if not area.is_exact:
        from tieflow.areas.relaxed_area import RelaxedArea

        return RelaxedArea(area)
    from tieflow.areas.exact_area import ExactArea

    return ExactArea(area, span)


def now() -> str:
    """The date as results have it: ISO 8601, to the second, with its zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


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
    shown = ", ".join(f"{case.balanced_feeder.branch_name(k)} ({gap[k].max():.1e})" for k in loose[:10])
    return [
        f"the cone relaxation is loose on {len(loose)} branch(es), so flows and losses there are not physical: {shown}"
    ]


def _loosened_by(case: Case, gap: Floats, state: NetworkState) -> str:
    """What makes it pay to lose energy in the hours in which the relaxation is loose; empty where it is tight."""
    hours = np.flatnonzero(gap.max(axis=0, initial=0.0) > LOOSE_PU)
    if not len(hours):
        return ""
    settings, feeder, found = case.settings, case.balanced_feeder, []
    v = state.v_pu[1:, hours].max(axis=1)
    if v.max() > settings.v_max_pu - BINDING:
        found.append(f"v_max_pu = {settings.v_max_pu:g} binds at bus {feeder.buses[v.argmax() + 1]}")
    cap, exported = settings.substation_export_kw, -state.substation_p_kw[hours].min()
    if cap is not None and exported > cap - BINDING * settings.base_kva:
        found.append(f"substation_export_kw = {cap:g} binds")
    names, load, s_max = branch_loads(case, state)
    currents = np.sqrt(feeder.l_max)[:, None] * settings.base_kva / (settings.voltage_kv / np.sqrt(3))
    for name, limits in (
        ("s_max_kva", zip(names, (load / s_max)[:, hours] if names else (), strict=True)),
        ("i_max_a", zip(map(feeder.branch_name, range(len(currents))), (state.i_a / currents)[:, hours], strict=True)),
    ):
        found += [f"{name} binds on branch {branch}" for branch, used in limits if used.max() > 1 - BINDING][:3]
    if case.horizon.price[hours].min() <= 0 or (settings.export_price_per_kwh or 0) < 0:
        found.append("energy has a price of zero or less")
    weights = {} if settings.weights is None else settings.weights.given()
    if settings.objective == "voltage_deviation" or "voltage_deviation" in weights:
        found.append("the objective pays for other voltages")
    return ", ".join(found) or "no limit binds there, so the solver is not accurate enough for these prices"
