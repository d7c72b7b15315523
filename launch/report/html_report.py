"""A run as one HTML file that needs nothing else: no network, no script, readable on a phone."""

from __future__ import annotations

from collections.abc import Sequence

from tieflow.common.errors import counted
from tieflow.common.results.result import Result, Violation
from tieflow.launch.figures.kpis import KpiReport, kpi_report, rows
from tieflow.launch.figures.solved import UNKNOWN, Setting, date_and_command, device_words, listed, what_was_solved
from tieflow.launch.figures.summary import (
    AGREES,
    disagreements,
    doubtful,
    doubts,
    exit_code,
    in_words,
    is_confirmed,
)
from tieflow.launch.plots.figures import Picture, image, pictures
from tieflow.launch.plots.style import library
from tieflow.launch.report.console import SHOWN_VIOLATIONS
from tieflow.launch.report.html_page import bullets, figure, page, section, table, verdicts

LARGEST_SVG = 400_000
"""bytes beyond which a picture of lines, as of a feeder of thousands of buses, is stored as one of dots"""


def html_report(result: Result) -> str:
    """The page. Raises TieflowError without matplotlib."""
    case = result.case
    report, shown = kpi_report(result), pictures(result)
    words = [
        f"Method {result.method}",
        counted(len(result.areas), "area"),
        f"{counted(len(case.horizon), 'period')} of {case.horizon.dt:g} h, {case.horizon.extent}",
    ]
    if case.is_balanced:
        words.append("balanced, powers and energies per phase")
    wrong, versions = doubts(result), sorted(_versions(result).items())
    parts = [
        section("Verdict", verdict(result)),
        section("Key figures", kpi_table(report)),
        section("Pictures", "\n".join(_figure(picture, result) for picture in shown)),
        section("Replay in OpenDSS", _replay(result)),
        section("What was solved", origin(result) + table(("library", "version"), versions, "Versions.")),
        section("Notes", bullets(result.notes) if result.notes else "<p>None.</p>"),
    ]
    return page(
        title=" - ".join([f"{case.name}, {result.method}", *wrong]),
        heading=f"{case.name}: {case.settings.title}" if case.settings.title else case.name,
        what="; ".join(words) + ".",
        sections=parts,
    )


def verdict(result: Result) -> str:
    """What speaks for a schedule and what against it, with the worst violations of limits."""
    rounds, check = counted(len(result.history.cost), "round"), result.check
    agree = f": areas agree to {result.max_mismatch_pu:.1e} pu" if len(result.areas) > 1 else ""
    told = []
    if result.converged:
        is_optimized = len(result.history.cost) > 0
        told.append((True, f"Converged in {rounds}{agree}." if is_optimized else _BY_RULE))
    told += [(False, doubt.reason) for doubt in doubtful(result)]
    if check is not None and check.passed:
        told.append((True, "Confirmed by OpenDSS.") if is_confirmed(result) else (False, f"OpenDSS {AGREES}."))
    if check is not None:
        number = len(check.violations)
        told.append((not number, f"{counted(number, 'limit')} violated in the replay." if number else _KEPT))
    if code := exit_code(result):
        told.append((False, f"Exit code {code}."))
    return verdicts(told) + _violations(result)


_BY_RULE = "Run by the plain rule: nothing is optimized."
_KEPT = "No limit violated in the replay."


def _violations(result: Result) -> str:
    """The worst of the limits that are overstepped: in the replay, else as the optimizer expects."""
    found: Sequence[Violation] = result.oversteps
    if result.check is not None and result.check.violations:
        found = result.check.violations
    # Of many kinds and units, so compared per limit.
    worst = sorted(found, key=lambda v: -abs(v.value - v.limit) / max(abs(v.limit), 1e-9))
    texts = [in_words(violation) for violation in worst[:SHOWN_VIOLATIONS]]
    more = len(found) - len(texts)
    return bullets([*texts, f"and {more} more"] if more else texts) if texts else ""


def kpi_table(report: KpiReport) -> str:
    """The indicators of a run, with the optimizer's own where they differ."""
    found = list(rows(report))
    others = any(row.optimizer for row in found)
    head = ("figure", "value", "optimizer") if others else ("figure", "value")
    caption = f"Source: {report.source}" + ("; powers and energies per phase." if report.per_phase else ".")
    if others:
        caption += " The optimizer's own where it differs."
    return table(head, [(row.label, row.value, row.optimizer)[: len(head)] for row in found], caption)


def origin(result: Result) -> str:
    """Date and command, settings, devices and frozen controls of a run."""
    solved = what_was_solved(result)
    parts = [bullets(f"{name}: {text}" for name, text in (*date_and_command(solved), ("ranks", str(result.ranks))))]
    parts.append(
        table(("setting", "value"), map(_setting, solved.settings), "Settings that are not at their defaults.")
    )
    if not solved.date:
        parts.append(f"<p>Which of them replace those of case.toml is {UNKNOWN}.</p>")
    devices = [(device_words(kind), listed(kind.places)) for kind in solved.devices]
    parts.append(table(("devices", "at"), devices, "Devices.") if devices else "<p>Devices: none.</p>")
    if solved.frozen:
        lines = [(f"{it.element}{f' ({it.control})' if it.control else ''}", it.state) for it in solved.frozen]
        parts.append(table(("element", "state"), lines, "Taps and capacitors are frozen: no control acts."))
    elif not result.case.is_balanced:
        parts.append("<p>Frozen controls: none.</p>")
    return "\n".join(parts)


def _setting(setting: Setting) -> tuple[str, str]:
    default = f"default {setting.default}" if setting.default else "no default"
    return setting.name, f"{setting.value} ({default}{'; in place of case.toml' if setting.is_override else ''})"


def _figure(picture: Picture, result: Result) -> str:
    kind, content = "svg", image(picture, result, "svg")
    if len(content) > LARGEST_SVG:
        kind, content = "png", image(picture, result, "png")
    return figure(picture.name, picture.title, picture.read(result), kind, content)


def _replay(result: Result) -> str:
    if result.check is None:
        return "<p>The schedule was not replayed.</p>"
    rows = disagreements(result.check)
    lines = [(row.name, row.value, f"{row.allowed}{', TOO MUCH' if row.is_bad else ''}") for row in rows]
    return table(("compared", "largest disagreement", "allowed"), lines)


def _versions(result: Result) -> dict[str, str]:
    """Of the libraries that made the result, and of the one that drew the pictures."""
    return {**result.versions, "matplotlib (pictures)": library("matplotlib", "'tieflow[plot]'").__version__}
