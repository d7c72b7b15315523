"""A result in words: the summary that ``--json`` prints, the tables, and the exit code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from tieflow.common.errors import counted
from tieflow.common.inputs.objective import UNITS, factors
from tieflow.common.results.result import Result, Violation
from tieflow.common.results.terms import objective_terms
from tieflow.coordinator.record import Round
from tieflow.launch.figures.solved import in_short
from tieflow.launch.figures.summary import (
    AGREES,
    SOFT_LIMITS,
    by_residual,
    disagreements,
    exit_code,
    exit_reason,
    gap_to_bound,
    given_terms,
    in_words,
    is_confirmed,
    is_exact,
    summary,
    voltage_range,
)

SHOWN_VIOLATIONS = 10


def print_result(console: Console, result: Result) -> None:
    """The table of a run, OpenDSS's verdict and everything that the user should know."""
    console.print(_overview(result))
    console.print(_verdict(result), soft_wrap=True)
    if result.oversteps:
        for line in _overstepped(result.oversteps):
            console.print(line, soft_wrap=True)
    for note in result.notes:
        console.print(Text(f"Note: {note}", style="yellow"), soft_wrap=True)
    if code := exit_code(result):
        console.print(Text(f"Exit code {code}: {exit_reason(result)}", style="bold red"), soft_wrap=True)


def print_origin(console: Console, result: Result) -> None:
    """What was solved, when, by which command: for a run that may be old."""
    for name, text in in_short(result):
        console.print(Text(f"{name + ':':<18}{text}"), soft_wrap=True)


def _overstepped(oversteps: Sequence[Violation]) -> Iterator[Text]:
    """What cannot be kept, kind by kind, and the worst of each."""
    for kind, words, place, price in SOFT_LIMITS:
        found = [overstep for overstep in oversteps if overstep.kind == kind]
        if not found:
            continue
        places = counted(len({overstep.element for overstep in found}), place)
        yield Text(
            f"LIMITS OVERSTEPPED: {counted(len(found), words)}, at {places}, cannot be kept or would cost more than "
            f"{price} (all are stored, with their times). The worst:",
            style="bold red",
        )
        worst = sorted(found, key=lambda overstep: -abs(overstep.value - overstep.limit))
        for overstep in worst[:SHOWN_VIOLATIONS]:
            yield _violation("expected", overstep)


def print_round(console: Console, round_: Round) -> None:
    """One line of a run's progress."""
    if round_.number == 1:
        console.print("round  method       mismatch    change  residual        cost   elapsed", highlight=False)
    optimality = round_.residuals.optimality
    console.print(
        f"{round_.number:5d}  {round_.method:<11} {round_.residuals.mismatch:9.2e} {round_.residuals.change:9.2e} "
        f"{'-' if optimality is None else f'{optimality:.2e}':>9} "
        f"{round_.cost:11.4f} {round_.elapsed_s:7.2f} s",
        highlight=False,
    )


def benchmark_table(rows: list[dict[str, Any]], cpu: bool = False) -> Table:
    """Several runs side by side; see ``launch.studies.benchmark.benchmark``."""
    table = Table(title=None, box=None, pad_edge=False)
    path, clock = ("critical path CPU s", "critical_path_cpu_s") if cpu else ("critical path s", "critical_path_s")
    for name in ("method", "cost $", "gap to optimum", "rounds", "mismatch pu", path, "/ centralized"):
        table.add_column(name, justify="left" if name == "method" else "right")
    table.add_column("OpenDSS", justify="left")
    for row in rows:
        checker = row["checker"]
        agreed = "LOOSE" if "CONE RELAXATION LOOSE" in row["doubts"] else "confirmed"
        table.add_row(
            " then ".join(row["methods_used"]) + ("" if row["converged"] else " (NOT CONVERGED)"),
            f"{row['cost']:.5f}",
            f"{row['gap_to_optimum']:+.1e}",
            str(row["rounds"]),
            f"{row['max_mismatch_pu']:.1e}",
            f"{row['time'][clock]:.3f}",
            f"{row['critical_path_ratio']:.2f}",
            "not asked" if checker is None else "NOT CONFIRMED" if not checker["passed"] else agreed,
        )
    return table


def _overview(result: Result) -> Table:
    figures = summary(result)
    horizon = result.case.horizon
    # A run by a rule has no rounds.
    used = " then ".join(figures["methods_used"]) or result.method
    rows = [
        ("case", f"{figures['case']}: {result.case.settings.title}" if result.case.settings.title else figures["case"]),
        ("horizon", f"{len(horizon)} periods of {horizon.dt:g} h, {horizon.extent}"),
        ("method", f"{used}, {figures['areas']} area(s) on {figures['ranks']} rank(s)"),
        *_rounds(result),
        ("energy cost", f"{result.cost:.4f} $"),
    ]
    if result.case.settings.weights is not None:
        rows += [("objective", f"{result.objective:.4f} $"), *_weighted(result)]
    elif result.case.settings.objective != "cost":
        rows.append((f"objective ({result.case.settings.objective})", f"{result.objective:.6f}"))
    if result.lower_bound is not None:
        away = abs(gap_to_bound(result) or 0.0)
        rows.append(("lower bound", f"{result.lower_bound:.4f} $, {away:.1e} away (relative)"))
    if result.relaxed_objective is not None:
        more = result.objective - result.relaxed_objective
        rows.append(
            ("one direction", f"{more:.6f} $ above the optimum in which batteries charge and discharge at once")
        )
    rows += [
        ("substation energy", f"{figures['substation_energy_kwh']:.2f} kWh"),
        ("substation reactive", f"{figures['substation_reactive_kvarh']:.2f} kvarh"),
        ("losses", f"{figures['losses_kwh']:.2f} kWh"),
        ("voltage", "{:.4f} to {:.4f} pu".format(*voltage_range(result))),
        *_errors(result),
        (
            "time",
            f"{result.total_s:.2f} s, critical path {figures['time']['critical_path_s']:.2f} s",
        ),
    ]
    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*row)
    return table


def _weighted(result: Result) -> Iterator[tuple[str, str]]:
    """Each term of the objective that has a weight, and what it comes to."""
    settings = result.case.settings
    assert settings.weights is not None
    values, counts = objective_terms(result.case, result.schedule, result.state), factors(settings)
    bases = given_terms(settings.weights_bases) or {}
    for name, weight in settings.weights.given().items():
        base = f" / {bases[name]:.6g}" if name in bases else ""
        value = f"{values[name]:.6g}{base} {UNITS[name]}".rstrip()
        yield f"  {name}", f"{weight:g} x {value} counts {getattr(counts, name) * values[name]:.4f} $"


def _rounds(result: Result) -> list[tuple[str, str]]:
    rounds = len(result.history.cost)
    if not rounds:
        return []
    if not result.converged:
        return [("rounds", "not converged")]
    # The residual has a line of its own.
    return [("rounds", str(rounds) if by_residual(result) else f"{rounds} to {result.tolerance_pu:.0e} pu")]


def _errors(result: Result) -> list[tuple[str, str]]:
    """What the model and the agreement of its areas are off by; nothing where there is none of either."""
    if not len(result.history.cost):
        return []
    gap, error = f"{result.relaxation_gap_pu:.1e} pu", f"{result.model_error_pu:.1e} pu"
    return [
        ("mismatch of areas", f"{result.max_mismatch_pu:.1e} pu"),
        *([] if result.optimality is None else [("first-order residual", f"{result.optimality:.1e}")]),
        ("model error", error) if is_exact(result) else ("relaxation gap", gap),
    ]


def _violation(word: str, violation: Violation) -> Text:
    return Text(f"{word}: {in_words(violation)}", style="red")


def _verdict(result: Result) -> Group | Text:
    check = result.check
    horizon = result.case.horizon
    if check is None:
        return Text("OpenDSS: NOT CHECKED", style="bold yellow")
    if is_confirmed(result):
        heading = Text("OpenDSS confirms the schedule", style="bold green")
    elif check.passed:
        heading = Text(f"OpenDSS {AGREES}", style="bold yellow")
    else:
        heading = Text("OpenDSS DOES NOT CONFIRM the schedule", style="bold red")
    table = Table.grid(padding=(0, 2))
    table.add_row("", "largest disagreement", "allowed")
    for row in disagreements(check):
        table.add_row(row.name, row.value, row.allowed, "TOO MUCH" if row.is_bad else "")
    violations = [_violation("violated", violation) for violation in check.violations[:SHOWN_VIOLATIONS]]
    if len(check.violations) > SHOWN_VIOLATIONS:
        violations.append(
            Text(f"... and {counted(len(check.violations) - SHOWN_VIOLATIONS, 'more violation')}", style="red")
        )
    if check.failed_hours:
        times = ", ".join(map(horizon.time, check.failed_hours))
        violations.append(Text(f"no power flow solution at {times}", style="red"))
    if not check.violations and not check.failed_hours:
        violations.append(Text("no limit violated"))
    return Group(heading, table, *violations)
