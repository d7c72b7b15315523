"""A run as one HTML file that needs nothing else: no network, no script, readable on a phone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tieflow.common.errors import counted
from tieflow.common.results.result import Result, Violation
from tieflow.launch.figures.kpis import KpiReport, kpi_report, rows
from tieflow.launch.figures.summary import SOFT_LIMITS, disagreements, doubts, in_words, unsettled
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
    wrong = doubts(result)
    parts = [
        section("Verdict", verdict(result)),
        section("Key figures", kpi_table(report)),
        section("Pictures", "\n".join(_figure(picture, result) for picture in shown)),
        section("Replay in OpenDSS", _replay(result)),
        section("Notes", bullets(result.notes) if result.notes else "<p>None.</p>"),
        section("Versions", table(("library", "version"), sorted(_versions(result).items()))),
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
    if not result.converged:
        short = f"NOT CONVERGED after {rounds}: {unsettled(result)}."
        told.append((False, f"{short} This is not a schedule to use."))
    elif len(result.history.cost):
        told.append((True, f"Converged in {rounds}{agree}."))
    else:
        told.append((True, "Run by the plain rule: nothing is optimized."))
    if check is None:
        told.append((False, "NOT CHECKED: no replay in OpenDSS; all figures are the optimizer's own."))
    elif check.passed:
        told.append((True, "Confirmed by OpenDSS."))
    else:
        told.append((False, "NOT CONFIRMED BY OPENDSS."))
    if check is not None and check.failed_hours:
        times = ", ".join(map(result.case.horizon.time, check.failed_hours))
        told.append((False, f"OpenDSS found no power flow solution at {times}."))
    if check is not None:
        number = len(check.violations)
        told.append((not number, f"{counted(number, 'limit')} violated in the replay." if number else _KEPT))
    if result.oversteps:
        numbers = Counter(overstep.kind for overstep in result.oversteps)
        limits = " and ".join(counted(numbers[kind], words) for kind, words, *_ in SOFT_LIMITS if numbers[kind])
        told.append((False, f"{limits} OVERSTEPPED as the optimizer expects: they cannot be kept, or cost too much."))
    if "CONE RELAXATION LOOSE" in doubts(result):
        told.append((False, "CONE RELAXATION LOOSE: flows and losses are not physical; see the notes."))
    return verdicts(told) + _violations(result)


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


def _figure(picture: Picture, result: Result) -> str:
    kind, content = "svg", image(picture, result, "svg")
    if len(content) > LARGEST_SVG:
        kind, content = "png", image(picture, result, "png")
    return figure(picture.name, picture.title, picture.read(result), kind, content)


def _replay(result: Result) -> str:
    if result.check is None:
        return "<p>The schedule was not replayed.</p>"
    return table(("compared", "largest disagreement", "allowed"), disagreements(result.check))


def _versions(result: Result) -> dict[str, str]:
    """Of the libraries that made the result, and of the one that drew the pictures."""
    return {**result.versions, "matplotlib (pictures)": library("matplotlib", "'tieflow[plot]'").__version__}
