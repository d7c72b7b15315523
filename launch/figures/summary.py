"""A result in figures, and whether it may be used: what every report says in its own way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tieflow.common.errors import EXIT_CONVERGED, EXIT_NOT_CONFIRMED, EXIT_NOT_CONVERGED, EXIT_OVERSTEPPED
from tieflow.common.inputs.horizon import Horizon
from tieflow.common.inputs.weights import Terms
from tieflow.common.results.result import Check, Result, Violation
from tieflow.launch.runs.solve import LOOSE_PU

SOFT_LIMITS = (
    ("voltage", "voltage limit", "node", "voltage_slack_price"),
    ("branch load", "branch limit", "element", "overload_price_per_kvah"),
)
"""that may be overstepped at a price: kind of violation, its limit in words, where it holds, and the price's setting"""


def exit_code(result: Result) -> int:
    """What the command ends with: an unconverged run before an unconfirmed schedule before overstepped limits."""
    if not result.converged:
        return EXIT_NOT_CONVERGED
    refuted = result.check is not None and not result.check.passed
    if refuted or result.relaxation_gap_pu > LOOSE_PU:
        return EXIT_NOT_CONFIRMED
    return EXIT_OVERSTEPPED if result.oversteps else EXIT_CONVERGED


def doubts(result: Result) -> list[str]:
    """What keeps a schedule from being used as it is, in words that nobody overlooks; empty for a good one."""
    found = [] if result.converged else ["NOT CONVERGED"]
    if result.check is None:
        found.append("NOT CHECKED IN OPENDSS")
    elif not result.check.passed:
        found.append("NOT CONFIRMED BY OPENDSS")
    if result.relaxation_gap_pu > LOOSE_PU:
        found.append("CONE RELAXATION LOOSE")
    kinds = {overstep.kind for overstep in result.oversteps}
    return found + [f"{words.upper()}S OVERSTEPPED" for kind, words, *_ in SOFT_LIMITS if kind in kinds]


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
        "notes": list(result.notes),
        "exit_code": exit_code(result),
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
    if by_residual(result) and result.optimality is not None:
        return f"the first-order residual is still {result.optimality:.1e}"
    return f"areas still differ by {result.max_mismatch_pu:.1e} pu"


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
        v = v[case.network.limited[case.network.roots :]]
    return float(v.min()), float(v.max())


def in_words(violation: Violation) -> str:
    """What is overstepped, where, when and by how much."""
    v = violation
    return f"{v.kind} at {v.element}, {v.time}: {v.value:.5f} {v.unit}, limit {v.limit:.5f} {v.unit}"


def disagreements(check: Check) -> Iterator[tuple[str, str, str]]:
    """What was compared with OpenDSS, by how much it differed, and what is allowed."""
    allowed = check.tolerances
    for name, value, limit, unit in (
        ("voltage", check.max_voltage_error_pu, allowed.voltage_pu, "pu"),
        ("substation real power", check.max_substation_error_kw, allowed.power_kw, "kW"),
        ("substation reactive power", check.max_substation_error_kvar, allowed.power_kw, "kvar"),
        ("losses", check.max_loss_error_kw, allowed.power_kw, "kW"),
        ("stored energy", 100 * check.max_soc_error, 100 * allowed.soc, "%"),
    ):
        yield name, f"{value:.1e} {unit}", f"{limit:.1e} {unit}"


def given_terms(terms: Terms | None) -> dict[str, float] | None:
    return None if terms is None else terms.given()


def json_ready(value: Any) -> Any:
    """The same with NaN and infinities, which JSON has no word for, as None."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
