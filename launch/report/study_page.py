"""A study as one HTML file that needs nothing else: its variants side by side, and each in a section of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from html import escape

from tieflow.common.errors import counted
from tieflow.common.results.study import Placement, StoredStudy, VariantRun
from tieflow.launch.figures.kpis import OPENDSS, KpiReport, Kpis, kpi_report, rows
from tieflow.launch.figures.study import VariantFigures, doubts_of, figures, unreliable
from tieflow.launch.figures.summary import doubts
from tieflow.launch.plots.figures import image, pictures
from tieflow.launch.plots.study import StudyPicture, study_image, study_pictures
from tieflow.launch.plots.study_bars import missing, money
from tieflow.launch.report.html_page import bullets, figure, folded, page, section, table
from tieflow.launch.report.html_report import kpi_table, origin, verdict

LARGEST_SVG = 150_000
"""bytes beyond which a picture over variants is stored as one of dots"""
DPI = 150
"""of pictures of dots: twice as many as a phone's page is wide"""
DAY_PICTURES = ("substation", "batteries", "pv", "wind", "flexible_loads", "voltage_profile")
"""those of a run that stand in its variant's section; 'tieflow report' shows them all"""
NOTHING = "-"
NONE_SOLVED = "None: no variant was solved."


def study_page(study: StoredStudy) -> str:
    """The page. Raises TieflowError without matplotlib, or for a monitored bus that a variant does not have."""
    head, runs, told = study.head, list(study.variants.values()), figures(study)
    words = [f"Case {head.case}", f"{counted(len(head.order), 'variant')}, compared with {head.base}"]
    if any(variant.optimized and variant.optimized.kpis.per_phase for variant in told):
        words.append("balanced, powers, energies and costs per phase")
    shown = "\n".join(map(_figure, study_pictures(study, told)))
    parts = [
        section("Verdict", f"<p>{escape(verdict_of_study(study, told))}</p>"),
        section("Variants", _variant_table(told)),
        section("Key figures", _kpi_table(told)),
        section("Where the devices are", _placement_table(told)),
        section("Pictures", shown or f"<p>{NONE_SOLVED}</p>"),
        section("Each variant", "\n".join(_variant(number, run) for number, run in enumerate(runs, 1))),
    ]
    wrong, title = len(unreliable(study, told)), head.title or head.case
    doubt = [f"{wrong} OF {counted(len(head.order), 'VARIANT').upper()} NOT TO BE RELIED ON"] if wrong else []
    return page(title=" - ".join([title, *doubt]), heading=title, what="; ".join(words) + ".", sections=parts)


def verdict_of_study(study: StoredStudy, told: Sequence[VariantFigures]) -> str:
    """One paragraph: which variants can be relied on, which not and why, and what optimizing saves."""
    wrong = unreliable(study, told)
    good = [name for name in study.head.order if name not in wrong]
    total, which = counted(len(study.head.order), "variant"), f": {', '.join(good)}" if good else ""
    said = [f"{len(good)} of {total} converged, keep all limits and are confirmed by OpenDSS{which}."]
    said += [f"{name}: {why}." for name, why in wrong.items()]
    known = {variant: variant.saving for variant in told if variant.saving is not None}
    if known:
        most, least = (pick(known, key=lambda variant: known[variant]) for pick in (max, min))
        said.append(
            f"Against the plain rule for the same devices, optimizing saves {money(most)} in {most.name}"
            + (f" and {money(least)} in {least.name}, the least." if most != least else ".")
        )
        dearer = [variant.name for variant, dollars in known.items() if dollars < 0]
        if dearer:
            said.append(f"It costs more than the plain rule in {', '.join(dearer)}.")
    doubted = [variant.name for variant in told if variant.rule is not None and variant.rule.doubts]
    if doubted:
        said.append(f"The plain rule itself does not hold up, see below, in {', '.join(doubted)}.")
    return " ".join(said)


def _figure(picture: StudyPicture) -> str:
    kind, content = "svg", study_image(picture, "svg")
    if len(content) > LARGEST_SVG:
        kind, content = "png", study_image(picture, "png", DPI)
    return figure(picture.name, picture.title, picture.read(), kind, content)


def _variant_table(told: Iterable[VariantFigures]) -> str:
    columns = (
        *("saving $", "saving %", "cost $", "rule's $", "objective", "rule's objective", "losses kWh", "rule's kWh"),
        *("verdict", "plain rule"),
    )
    lines = [_variant_row(variant) for variant in told]
    return table(("variant", *columns), lines, "Optimized against the plain rule.", "many")


def _variant_row(variant: VariantFigures) -> tuple[str, ...]:
    ours, rule = variant.optimized, variant.rule
    reliable = ", ".join(doubts_of(variant)) or "confirmed"
    return (
        variant.name,
        _number(variant.saving, 2),
        _number(variant.saving_percent, 1),
        *(_number(None if run is None else run.kpis.kpis.energy_cost, 2) for run in (ours, rule)),
        *(_number(None if run is None else run.objective, 2) for run in (ours, rule)),
        *(_number(None if run is None else run.kpis.kpis.losses_kwh, 1) for run in (ours, rule)),
        "failed" if ours is None else reliable,
        missing(variant) if rule is None else ", ".join(rule.doubts) or "confirmed",
    )


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{round(value, digits) + 0.0:,.{digits}f}"


def _kpi_table(told: Iterable[VariantFigures]) -> str:
    """A line for each indicator that any run has, a column for each run."""
    reports: dict[str, KpiReport] = {}
    for variant in told:
        both = (("optimized", variant.optimized), ("plain rule", variant.rule))
        reports |= {f"{variant.name}, {how}": run.kpis for how, run in both if run is not None}
    if not reports:
        return f"<p>{NONE_SOLVED}</p>"
    cells = [{row.name: row.value for row in rows(report)} for report in reports.values()]
    lines = [
        (item.metadata["label"], *(own.get(item.name, NOTHING) for own in cells))
        for item in fields(Kpis)
        if any(item.name in own for own in cells)
    ]
    elsewhere = [name for name, report in reports.items() if report.source != OPENDSS]
    caption = f"Source: {OPENDSS}" + (f", but the optimizer for {'; '.join(elsewhere)}." if elsewhere else ".")
    if any(report.per_phase for report in reports.values()):
        caption += " Powers, energies and costs per phase."
    return table(("figure", *reports), lines, caption, "many wordy")


def _placement_table(told: Iterable[VariantFigures]) -> str:
    """A line for each device as it is placed, with the variants that have it so."""
    found: dict[Placement, list[str]] = {}
    for variant in told:
        for placement in variant.placements:
            found.setdefault(placement, []).append(variant.name)
    if not found:
        return "<p>There are none.</p>"
    lines = [
        (
            placement.device,
            placement.kind.replace("_", " "),
            f"{placement.rated_kw:,.6g}",
            placement.named or NOTHING,
            ".".join(filter(None, (placement.bus, placement.phases))),
            ", ".join(names),
            placement.note or NOTHING,
        )
        for placement, names in found.items()
    ]
    head = ("device", "kind", "kW", "source's bus", "our bus", "variants", "note")
    return table(head, lines, "Devices and buses.", "many noted")


def _variant(number: int, run: VariantRun) -> str:
    result = run.optimized
    if result is None:
        return folded(f"{run.name}: failed", f"<p>{escape(run.failure)}</p>")
    parts = [verdict(result), kpi_table(kpi_report(result))]
    for picture in pictures(result):
        if picture.name in DAY_PICTURES:
            content = image(picture, result, "png", DPI)
            parts.append(figure(f"variant{number}_{picture.name}", picture.title, picture.read(result), "png", content))
    parts.append(f"<h3>What was solved</h3>\n{origin(result)}")
    parts += [f"<h3>Notes</h3>\n{bullets(result.notes)}"] if result.notes else []
    if run.rule is not None:
        parts.append(f"<h3>The same devices by the plain rule</h3>\n{verdict(run.rule)}")
        parts += [bullets(run.rule.notes)] if run.rule.notes else []
    elif run.rule_failure:
        parts.append(f"<h3>The same devices by the plain rule</h3>\n<p>It failed: {escape(run.rule_failure)}</p>")
    return folded(f"{run.name}: {', '.join(doubts(result)) or 'confirmed'}", "\n".join(parts))
