"""A study as one HTML file that needs nothing else: its variants side by side, and each in a section of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from html import escape

import numpy as np

from common.errors import counted
from common.result import Result
from common.study import StoredStudy, VariantRun
from launch.html_page import bullets, figure, folded, page, section, table
from launch.html_report import kpi_table, verdict
from launch.kpis import OPENDSS, Kpis, kpi_report, rows, shown_state
from launch.plots import image, pictures
from launch.report import doubts
from launch.study_bars import missing, saving
from launch.study_plots import StudyPicture, study_image, study_pictures

LARGEST_SVG = 150_000
"""bytes beyond which a picture over variants is stored as one of dots"""
DPI = 150
"""of pictures of dots: twice as many as a phone's page is wide"""
DAY_PICTURES = ("substation", "batteries", "pv", "wind", "flexible_loads", "voltage_profile")
"""those of a run that stand in its variant's section; 'tieflow report' shows them all"""
NOTHING = "-"


def study_page(study: StoredStudy) -> str:
    """The page. Raises TieflowError without matplotlib, or for a monitored bus that a variant does not have."""
    head, runs = study.head, list(study.variants.values())
    words = [f"Case {head.case}", f"{counted(len(head.order), 'variant')}, compared with {head.base}"]
    if any(run.optimized is not None and run.optimized.case.is_balanced for run in runs):
        words.append("balanced, powers, energies and costs per phase")
    over_variants = "\n".join(map(_figure, study_pictures(study)))
    parts = [
        section("Verdict", f"<p>{escape(verdict_of_study(study))}</p>"),
        section("Variants", _variant_table(runs)),
        section("Key figures", _kpi_table(runs)),
        section("Where the devices are", _placement_table(runs)),
        section("Pictures", over_variants or "<p>None: no variant was solved.</p>"),
        section("Each variant", "\n".join(_variant(number, run) for number, run in enumerate(runs, 1))),
    ]
    wrong = len(_wrong(study))
    doubt = [f"{wrong} OF {counted(len(head.order), 'VARIANT').upper()} NOT TO BE RELIED ON"] if wrong else []
    return page(
        title=" - ".join([head.title or head.case, *doubt]),
        heading=head.title or head.case,
        what="; ".join(words) + ".",
        sections=parts,
    )


def verdict_of_study(study: StoredStudy) -> str:
    """One paragraph: which variants can be relied on, which not and why, and what optimizing saves."""
    wrong = _wrong(study)
    good = [name for name in study.head.order if name not in wrong]
    total = counted(len(study.head.order), "variant")
    which = f": {', '.join(good)}" if good else ""
    told = [f"{len(good)} of {total} converged, keep all limits and are confirmed by OpenDSS{which}."]
    told += [f"{name}: {why}." for name, why in wrong.items()]
    known = {run.name: found for run in study.variants.values() if (found := saving(run)) is not None}
    if known:
        most, least = (pick(known, key=lambda name: known[name][0]) for pick in (max, min))
        told.append(
            f"Against the plain rule for the same devices, optimizing saves {_money(known[most])} in {most}"
            + (f" and {_money(known[least])} in {least}, the least." if most != least else ".")
        )
        dearer = [name for name, (dollars, _) in known.items() if dollars < 0]
        if dearer:
            told.append(f"It costs more than the plain rule in {', '.join(dearer)}.")
        doubted = [run.name for run in study.variants.values() if run.rule is not None and doubts(run.rule)]
        if doubted:
            told.append(f"The plain rule itself does not hold up, see below, in {', '.join(doubted)}.")
    return " ".join(told)


def _figure(picture: StudyPicture) -> str:
    kind, content = "svg", study_image(picture, "svg")
    if len(content) > LARGEST_SVG:
        kind, content = "png", study_image(picture, "png", DPI)
    return figure(picture.name, picture.title, picture.read(), kind, content)


def _wrong(study: StoredStudy) -> dict[str, str]:
    """What keeps variants from being relied on, by their names."""
    found = {}
    for name in study.head.order:
        run = study.variants.get(name)
        if run is None:
            found[name] = "NOT RUN"
        elif run.optimized is None:
            found[name] = f"FAILED ({run.failure.rstrip('.')})"
        elif wrong := doubts(run.optimized):
            found[name] = ", ".join(wrong)
    return found


def _money(found: tuple[float, float]) -> str:
    dollars, percent = found
    return f"{dollars + 0.0:,.2f} $" + (f" ({percent:.1f} %)" if np.isfinite(percent) else "")


def _variant_table(runs: Iterable[VariantRun]) -> str:
    known = ("saving $", "saving %", "cost $", "rule's $", "losses kWh", "rule's kWh", "verdict", "plain rule")
    lines = [_variant_row(run) for run in runs]
    return table(("variant", *known), lines, "Optimized against the plain rule.", "many")


def _variant_row(run: VariantRun) -> tuple[str, ...]:
    known = saving(run)
    ours, rule = (None if own is None else kpi_report(own).kpis for own in (run.optimized, run.rule))
    return (
        run.name,
        _number(None if known is None else known[0], 2),
        _number(None if known is None else known[1], 1),
        _number(None if ours is None else ours.energy_cost, 2),
        _number(None if rule is None else rule.energy_cost, 2),
        _number(None if ours is None else ours.losses_kwh, 1),
        _number(None if rule is None else rule.losses_kwh, 1),
        "failed" if run.optimized is None else _reliable(run.optimized),
        missing(run) if run.rule is None else _reliable(run.rule),
    )


def _reliable(result: Result) -> str:
    return ", ".join(doubts(result)) or "confirmed"


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None or not np.isfinite(value) else f"{round(value, digits) + 0.0:,.{digits}f}"


def _kpi_table(runs: Iterable[VariantRun]) -> str:
    """A line for each indicator that any run has, a column for each run."""
    columns: dict[str, Result] = {}
    for run in runs:
        columns |= {f"{run.name}, {how}": own for how, own in _schedules(run) if own is not None}
    if not columns:
        return "<p>None: no variant was solved.</p>"
    told = [{row.name: row.value for row in rows(kpi_report(own))} for own in columns.values()]
    lines = [
        (item.metadata["label"], *(own.get(item.name, NOTHING) for own in told))
        for item in fields(Kpis)
        if any(item.name in own for own in told)
    ]
    elsewhere = [name for name, own in columns.items() if shown_state(own)[1] != OPENDSS]
    caption = f"Source: {OPENDSS}" + (f", but the optimizer for {'; '.join(elsewhere)}." if elsewhere else ".")
    per_phase = next(iter(columns.values())).case.is_balanced
    caption += " Powers, energies and costs per phase." if per_phase else ""
    return table(("figure", *columns), lines, caption, "many wordy")


def _schedules(run: VariantRun) -> tuple[tuple[str, Result | None], ...]:
    return ("optimized", run.optimized), ("plain rule", run.rule)


def _placement_table(runs: Iterable[VariantRun]) -> str:
    """A line for each device as it is placed, with the variants that have it so."""
    found: dict[tuple[str, ...], list[str]] = {}
    for run in runs:
        for row in run.placements:
            kind, bus = row.kind.replace("_", " "), ".".join(filter(None, (row.bus, row.phases)))
            cells = (row.device, kind, f"{row.rated_kw:g}", row.named or NOTHING, bus, row.note or NOTHING)
            found.setdefault(cells, []).append(run.name)
    if not found:
        return "<p>There are none.</p>"
    head = ("device", "kind", "kW", "source's bus", "our bus", "variants", "note")
    lines = [(*cells[:-1], ", ".join(names), cells[-1]) for cells, names in found.items()]
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
    parts += [f"<h3>Notes</h3>\n{bullets(result.notes)}"] if result.notes else []
    if run.rule is not None:
        parts.append(f"<h3>The same devices by the plain rule</h3>\n{verdict(run.rule)}")
        parts += [bullets(run.rule.notes)] if run.rule.notes else []
    elif run.rule_failure:
        parts.append(f"<h3>The same devices by the plain rule</h3>\n<p>It failed: {escape(run.rule_failure)}</p>")
    return folded(f"{run.name}: {_reliable(result)}", "\n".join(parts))
