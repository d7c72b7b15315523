"""A result in figures, and whether it may be used: what every report says in its own way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tieflow.common.errors import (
    EXIT_CONVERGED,
    EXIT_NOT_CONFIRMED,
    EXIT_NOT_CONVERGED,
    EXIT_OVERSTEPPED,
    counted,
)
from tieflow.common.inputs.horizon import Horizon
from tieflow.common.inputs.weights import Terms
from tieflow.common.results.result import LOOSE_PU, Check, Result, Violation
from tieflow.launch.figures.solved import as_json
from tieflow.launch.runs.solve import BELOW_BOUND

SOFT_LIMITS = (
    ("voltage", "voltage limit", "node", "voltage_slack_price"),
    ("branch load", "branch limit", "element", "overload_price_per_kvah"),
)
"""that may be overstepped at a price: kind of violation, its limit in words, where it holds, and the price's setting"""

AGREES = "finds the same power flow, which does not make this a schedule to use"
"""where OpenDSS has no objection, but the run itself is none to rely on"""


@dataclass(frozen=True)
class Doubt:
    """What keeps a schedule from being used as it is."""

    name: str
    """in words that nobody overlooks"""
    reason: str
    """sentences that begin with the name or have it in them: why, and the way out"""
    code: int
    """that the command ends with, if nothing is worse"""


def doubtful(result: Result) -> list[Doubt]:
    """All doubts about a run, the worst first. Exit codes and every report start from them."""
    found = []
    if not result.converged:
        rounds = counted(len(result.history.cost), "round")
        advice = "Allow more --max-rounds, or try another --method."
        if is_below_bound(result):
            advice = "Lower --tolerance, or use --method newton."
        reason = f"NOT CONVERGED after {rounds}: {unsettled(result)}. This is not a schedule to use. {advice}"
        found.append(Doubt("NOT CONVERGED", reason, EXIT_NOT_CONVERGED))
    if result.check is None:
        reason = "NOT CHECKED IN OPENDSS: no replay; all figures are the optimizer's own. See 'tieflow check'."
        found.append(Doubt("NOT CHECKED IN OPENDSS", reason, EXIT_CONVERGED))
    elif not result.check.passed:
        reason = f"NOT CONFIRMED BY OPENDSS: {'; '.join(refuted_by(result.check, result.case.horizon))}."
        found.append(Doubt("NOT CONFIRMED BY OPENDSS", reason, EXIT_NOT_CONFIRMED))
    if result.relaxation_gap_pu > LOOSE_PU:
        because = result.loose_because or "see the notes"
        reason = (
            f"CONE RELAXATION LOOSE by {result.relaxation_gap_pu:.1e} pu, {LOOSE_PU:.0e} allowed, so flows and losses "
            f"are not physical: {because}. Use --method newton, whose equations are exact, or change that."
        )
        found.append(Doubt("CONE RELAXATION LOOSE", reason, EXIT_NOT_CONFIRMED))
    known = {kind: (words, f"more than {price}") for kind, words, _, price in SOFT_LIMITS}
    for kind, number in sorted(Counter(overstep.kind for overstep in result.oversteps).items(), reverse=True):
        words, price = known.get(kind, (f"{kind} limit", "too much"))
        reason = f"{counted(number, words)} OVERSTEPPED as the optimizer expects: they cannot be kept, or cost {price}."
        found.append(Doubt(f"{words.upper()}S OVERSTEPPED", reason, EXIT_OVERSTEPPED))
    return found


def exit_code(result: Result) -> int:
    """What the command ends with: an unconverged run before an unconfirmed schedule before overstepped limits."""
    return next((doubt.code for doubt in doubtful(result) if doubt.code), EXIT_CONVERGED)


def exit_reason(result: Result) -> str:
    """Why the command ends with that code: all doubts in full."""
    told = " ".join(doubt.reason for doubt in doubtful(result))
    return told or "Converged, and confirmed by OpenDSS."


def doubts(result: Result) -> list[str]:
    """What keeps a schedule from being used as it is, in words that nobody overlooks; empty for a good one."""
    return [doubt.name for doubt in doubtful(result)]


def is_confirmed(result: Result) -> bool:
    """Whether OpenDSS's agreement means that the schedule does what the result says: not where that is no solution."""
    agrees = result.check is not None and result.check.passed
    return agrees and exit_code(result) in (EXIT_CONVERGED, EXIT_OVERSTEPPED)


def refuted_by(check: Check, horizon: Horizon) -> list[str]:
    """Why a check has not passed."""
    found = [f"{row.name} {row.value} apart, {row.allowed} allowed" for row in disagreements(check) if row.is_bad]
    if check.violations:
        found.append(f"{counted(len(check.violations), 'limit')} violated in the replay")
    if check.failed_hours:
        found.append(f"no power flow solution at {', '.join(map(horizon.time, check.failed_hours))}")
    return found or ["the stored check says so"]


def summary(result: Result) -> dict[str, Any]:
    """The figures of a run, by name; energies over the horizon, of a balanced case per phase."""
    dt, state, history = result.case.horizon.dt, result.state, result.history
    return {
        "case": result.case.name,
        "method": result.method,
        "methods_used": list(dict.fromkeys(history.method)),
        "periods": len(result.case.horizon),
        "areas": len(result.areas),
        "ranks": result.ranks,
        "converged": result.converged,
        "rounds": len(history.cost),
        "tolerance_pu": result.tolerance_pu,
        "cost": result.cost,
        "objective": result.objective,
        "weights": given_terms(result.case.settings.weights),
        "weights_bases": given_terms(result.case.settings.weights_bases),
        "lower_bound": result.lower_bound,
        "gap_to_bound": gap_to_bound(result),
        "substation_energy_kwh": float(state.substation_p_kw.sum() * dt),
        "substation_reactive_kvarh": float(state.substation_q_kvar.sum() * dt),
        "losses_kwh": float(state.losses_kw.sum() * dt),
        "max_mismatch_pu": result.max_mismatch_pu,
        "max_change_pu": result.max_change_pu,
        "relaxation_gap_pu": result.relaxation_gap_pu,
        "model_error_pu": result.model_error_pu,
        "optimality": result.optimality,
        "relaxed_objective": result.relaxed_objective,
        "oversteps": [asdict(overstep) for overstep in result.oversteps],
        "checker": None if result.check is None else check_summary(result.check, result.case.horizon),
        "time": {
            "total_s": result.total_s,
            "critical_path_s": history.critical_path_s(),
            "solve_s": float(history.solve_s.sum()),
            "communication_s": float(history.communication_s.sum()),
            "critical_path_cpu_s": float(history.cpu_s.sum()),
        },
        "solved": as_json(result),
        "notes": list(result.notes),
        "doubts": doubts(result),
        "exit_code": exit_code(result),
        "exit_reason": exit_reason(result),
    }


def check_summary(check: Check, horizon: Horizon) -> dict[str, Any]:
    """The verdict of OpenDSS, by name."""
    return {
        "passed": check.passed,
        "cost": check.cost,
        "max_voltage_error_pu": check.max_voltage_error_pu,
        "max_substation_error_kw": check.max_substation_error_kw,
        "max_substation_error_kvar": check.max_substation_error_kvar,
        "max_loss_error_kw": check.max_loss_error_kw,
        "max_soc_error": check.max_soc_error,
        "violations": [asdict(violation) for violation in check.violations],
        "failed_hours": list(check.failed_hours),
        "failed_times": [horizon.time(row) for row in check.failed_hours],
        "tolerances": asdict(check.tolerances),
    }


def gap_to_bound(result: Result) -> float | None:
    """How far the objective can be from the optimum, relative; None without a bound."""
    if result.lower_bound is None:
        return None
    return (result.objective - result.lower_bound) / max(abs(result.objective), 1e-12)


def unsettled(result: Result) -> str:
    """What a run that has not converged still lacks."""
    if is_below_bound(result):
        return f"the objective {result.objective:.6f} is below the lower bound {result.lower_bound:.6f}"
    if by_residual(result) and result.optimality is not None:
        return f"the first-order residual is still {result.optimality:.1e}"
    return f"areas still differ by {result.max_mismatch_pu:.1e} pu"


def is_below_bound(result: Result) -> bool:
    """Whether the objective is lower than that of any schedule, as where areas still differ by too much."""
    bound = result.lower_bound
    return bound is not None and result.objective < bound - BELOW_BOUND * abs(bound)


def by_residual(result: Result) -> bool:
    """Whether its last method, newton, ends by the first-order residual of the whole feeder."""
    return result.history.method[-1:] == ("newton",)


def is_exact(result: Result) -> bool:
    """Whether the schedule is one of the exact equations, not of a relaxation."""
    return not result.case.is_balanced or result.optimality is not None


def voltage_range(result: Result) -> tuple[float, float]:
    """Least and greatest voltage where limits hold, pu."""
    case, v = result.case, result.state.v_pu
    if not case.is_balanced:
        v = v[case.multiphase_feeder.limited[case.multiphase_feeder.roots :]]
    return float(v.min()), float(v.max())


def in_words(violation: Violation) -> str:
    """What is overstepped, where, when and by how much."""
    v = violation
    # Enough of them to tell one number from the other.
    digits = next((n for n in range(5, 12) if f"{v.value:.{n}f}" != f"{v.limit:.{n}f}"), 5)
    return f"{v.kind} at {v.element}, {v.time}: {v.value:.{digits}f} {v.unit}, limit {v.limit:.{digits}f} {v.unit}"


@dataclass(frozen=True)
class Disagreement:
    """A quantity that was compared with OpenDSS."""

    name: str
    value: str
    allowed: str
    is_bad: bool
    """beyond what is allowed, or no number"""


def disagreements(check: Check) -> Iterator[Disagreement]:
    """What was compared with OpenDSS, by how much it differed, and what is allowed."""
    allowed = check.tolerances
    for name, value, limit, unit in (
        ("voltage", check.max_voltage_error_pu, allowed.voltage_pu, "pu"),
        ("substation real power", check.max_substation_error_kw, allowed.power_kw, "kW"),
        ("substation reactive power", check.max_substation_error_kvar, allowed.power_kw, "kvar"),
        ("losses", check.max_loss_error_kw, allowed.power_kw, "kW"),
        ("stored energy", 100 * check.max_soc_error, 100 * allowed.soc, "%"),
    ):
        yield Disagreement(name, f"{value:.1e} {unit}", f"{limit:.1e} {unit}", is_bad=not value <= limit)


def given_terms(terms: Terms | None) -> dict[str, float] | None:
    return None if terms is None else terms.given()


def json_ready(value: Any) -> Any:
    """The same with NaN and infinities, which JSON has no word for, as None."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
