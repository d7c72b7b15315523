"""The figures of a study: every variant beside the plain rule and beside the base, as numbers.

``figures`` is what tables, JSON, CSV and pictures of a study start from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tieflow.common.errors import (
    EXIT_CONVERGED,
    EXIT_ERROR,
    EXIT_INFEASIBLE,
    EXIT_NOT_CONFIRMED,
    EXIT_NOT_CONVERGED,
    EXIT_OVERSTEPPED,
    counted,
)
from tieflow.common.results.result import Result, Violation
from tieflow.common.results.study import Placement, StoredStudy, VariantRun
from tieflow.common.results.terms import objective_value
from tieflow.common.results.violations import OVERSTEP_PU, voltage_violations
from tieflow.launch.figures.kpis import KpiReport, kpi_report, lines, shown_state
from tieflow.launch.figures.summary import doubts

WORST_FIRST = (
    EXIT_ERROR,
    EXIT_INFEASIBLE,
    EXIT_NOT_CONVERGED,
    EXIT_NOT_CONFIRMED,
    EXIT_OVERSTEPPED,
    EXIT_CONVERGED,
)
RUNS = ("optimized", "rule")


@dataclass(frozen=True)
class RunFigures:
    """One run of a variant."""

    kpis: KpiReport
    objective: float
    """what the variant minimizes, $, at the state that the indicators are of"""
    minimizes: str
    """the objective's name, or ``weights``"""
    doubts: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class VariantFigures:
    """A variant in numbers."""

    name: str
    exit_code: int
    failure: str
    rule_failure: str
    has_devices: bool
    """False: nothing to decide, so the plain rule would give the same run"""
    placements: tuple[Placement, ...]
    optimized: RunFigures | None
    rule: RunFigures | None
    saving: float | None
    """energy cost by the plain rule less that of the optimized run, $"""
    saving_percent: float | None
    """of the cost by the plain rule"""
    newly_outside: tuple[Violation, ...] | None
    """voltages that leave the limits in a period in which the base keeps that place inside; None: no base to tell by"""

    @property
    def verdict(self) -> str:
        """In a few words, the worst first."""
        if self.optimized is None:
            return f"FAILED: {self.failure}"
        return ", ".join(self.optimized.doubts).lower() if self.optimized.doubts else "confirmed"


def figures(study: StoredStudy) -> list[VariantFigures]:
    """All stored variants, in the order of the study file."""
    base = study.variants.get(study.head.base)
    return [_variant(run, None if base is None else base.optimized) for run in study.variants.values()]


def optimized(study: StoredStudy) -> dict[str, Result]:
    """The optimized results that there are, by the names of their variants."""
    return {name: run.optimized for name, run in study.variants.items() if run.optimized is not None}


def unreliable(study: StoredStudy, told: Sequence[VariantFigures]) -> dict[str, str]:
    """What keeps variants from being relied on, by their names."""
    known = {variant.name: variant for variant in told}
    found = {}
    for name in study.head.order:
        variant = known.get(name)
        if variant is None:
            found[name] = "NOT RUN"
        elif variant.optimized is None:
            found[name] = f"FAILED ({variant.failure.rstrip('.')})"
        elif why := doubts_of(variant):
            found[name] = ", ".join(why)
    return found


def doubts_of(variant: VariantFigures) -> list[str]:
    """What keeps a solved variant from being relied on, its voltages beside the base's among it."""
    found = list(variant.optimized.doubts) if variant.optimized else []
    if variant.newly_outside:
        found.append(f"{counted(len(variant.newly_outside), 'VOLTAGE')} OUTSIDE WHERE THE BASE IS INSIDE".upper())
    return found


def worst_code(codes: Sequence[int]) -> int:
    """What a study ends with: the first of ``WORST_FIRST`` among its variants' codes."""
    return next((code for code in WORST_FIRST if code in codes), EXIT_CONVERGED)


def exit_reason(found: Sequence[VariantFigures]) -> str:
    """Why a study ends with its code: the variants whose code is not 0, each with its verdict."""
    told = [f"{variant.name}: {variant.verdict.rstrip('.')}." for variant in found if variant.exit_code]
    return " ".join(told) or "All variants converged, and are confirmed by OpenDSS."


def newly_outside(result: Result, base: Result) -> tuple[Violation, ...]:
    """Voltages beyond the limits by more than the check's tolerance at places and in periods that the base run has too
    and keeps inside."""
    outside = {(violation.element, violation.hour) for violation in _outside(base)}
    hours = set(base.case.horizon.hour)
    return tuple(v for v in _outside(result) if v.hour in hours and (v.element, v.hour) not in outside)


def as_json(found: VariantFigures) -> dict[str, Any]:
    """A variant's figures by name."""
    return asdict(found) | {"verdict": found.verdict}


def table_lines(found: Sequence[VariantFigures]) -> Iterator[tuple[object, ...]]:
    """A tidy table for a spreadsheet, its header first: a line for every variant, run and indicator; full precision."""
    yield "variant", "run", "name", "value", "unit", "place", "hour", "time", "source"
    for variant in found:
        empty = ("", "", "", "")
        yield variant.name, "", "exit_code", variant.exit_code, *empty, ""
        yield variant.name, "", "verdict", variant.verdict, *empty, ""
        for name, run in (("optimized", variant.optimized), ("rule", variant.rule)):
            if run is None:
                continue
            for item, value, unit, *at, _, source in list(lines(run.kpis))[1:]:
                # Indicators have an objective only where terms have weights.
                told = run.objective if item == "objective" else value
                yield variant.name, name, item, told, unit, *at, source
        if variant.saving is not None:
            yield variant.name, "", "saving", variant.saving, "$", *empty
            yield variant.name, "", "saving_percent", variant.saving_percent, "%", *empty
        if variant.newly_outside is not None:
            yield variant.name, "", "newly_outside", len(variant.newly_outside), *empty, ""


def _variant(run: VariantRun, base: Result | None) -> VariantFigures:
    optimized, rule = (None if result is None else _run(result) for result in (run.optimized, run.rule))
    saving = percent = None
    if optimized is not None and rule is not None:
        before = rule.kpis.kpis.energy_cost
        saving = before - optimized.kpis.kpis.energy_cost
        percent = 100 * saving / abs(before) if before else None
    known = next((result for result in (run.optimized, run.rule) if result is not None), None)
    return VariantFigures(
        name=run.name,
        exit_code=run.exit_code,
        failure=run.failure,
        rule_failure=run.rule_failure,
        has_devices=bool(known.case.devices) if known is not None else bool(run.placements),
        placements=run.placements,
        optimized=optimized,
        rule=rule,
        saving=saving,
        saving_percent=percent,
        newly_outside=None if base is None or run.optimized is None else newly_outside(run.optimized, base),
    )


def _run(result: Result) -> RunFigures:
    state, _ = shown_state(result)
    return RunFigures(
        kpis=kpi_report(result),
        objective=objective_value(result.case, result.schedule, state),
        minimizes=result.case.settings.objective if result.case.settings.weights is None else "weights",
        doubts=tuple(doubts(result)),
        notes=result.notes,
    )


def _outside(result: Result) -> list[Violation]:
    state, _ = shown_state(result)
    slack = OVERSTEP_PU if result.check is None else result.check.tolerances.voltage_pu
    return voltage_violations(result.case, state, slack)
