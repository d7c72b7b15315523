"""A run as one HTML file that needs nothing else: no network, no script, readable on a phone."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from string import Template

from common.errors import counted
from common.result import Result, Violation
from launch.kpis import KpiReport, kpi_report, rows
from launch.plot_style import library
from launch.plots import Picture, image, pictures
from launch.report import SHOWN_VIOLATIONS, disagreements, doubts, in_words

LARGEST_SVG = 400_000
"""bytes beyond which a picture of lines, as of a feeder of thousands of buses, is stored as one of dots"""

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
:root { color-scheme: light; }
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 46rem; margin: 0 auto;
  padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
p, ul { margin: .5rem 0; }
.verdict { list-style: none; padding: 0; }
.verdict li { border-left: .4rem solid #009E73; background: #eef7f4; padding: .4rem .7rem; margin: .4rem 0; }
.verdict li.bad { border-color: #D55E00; background: #fdf0e8; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #555; padding: .2rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #ddd;
  overflow-wrap: break-word; }
th { font-weight: 600; }
figure { margin: 1.5rem 0; }
img { display: block; width: 100%; max-width: 36rem; height: auto; margin: 0 auto; }
figcaption { color: #333; font-size: .95rem; margin-top: .3rem; }
@media print { figure, tr { break-inside: avoid; } }
</style>
</head>
<body>
<header>
<h1>$heading</h1>
<p>$what</p>
</header>
<main>
$body
</main>
</body>
</html>
""")


def html_report(result: Result) -> str:
    """The page. Raises TieflowError without matplotlib."""
    case = result.case
    report, shown = kpi_report(result), pictures(result)
    hours = case.horizon.hour
    words = [
        f"Method {result.method}",
        counted(len(result.areas), "area"),
        f"{counted(len(hours), 'period')} of {case.horizon.dt:g} h, hours {hours[0]} to {hours[-1]}",
    ]
    if case.is_balanced:
        words.append("balanced, powers and energies per phase")
    wrong = doubts(result)
    parts = [
        _section("Verdict", _verdict(result)),
        _section("Key figures", _kpi_table(report)),
        _section("Pictures", "\n".join(_figure(picture, result) for picture in shown)),
        _section("Replay in OpenDSS", _replay(result)),
        _section("Notes", _list(result.notes) if result.notes else "<p>None.</p>"),
        _section("Versions", _table(("library", "version"), sorted(_versions(result).items()))),
    ]
    return _PAGE.substitute(
        title=escape(" - ".join([f"{case.name}, {result.method}", *wrong])),
        heading=escape(f"{case.name}: {case.settings.title}" if case.settings.title else case.name),
        what=escape("; ".join(words)) + ".",
        body="\n".join(parts),
    )


def _verdict(result: Result) -> str:
    rounds, check = counted(len(result.history.cost), "round"), result.check
    agree = f": areas agree to {result.max_mismatch_pu:.1e} pu" if len(result.areas) > 1 else ""
    told = [
        (True, f"Converged in {rounds}{agree}.")
        if result.converged
        else (
            False,
            f"NOT CONVERGED after {rounds}: areas still differ by {result.max_mismatch_pu:.1e} pu. This is not a "
            "schedule to use.",
        )
    ]
    if not len(result.history.cost):
        told = [(True, "Run by the plain rule: nothing is optimized.")]
    if check is None:
        told.append((False, "NOT CHECKED: no replay in OpenDSS; all figures are the optimizer's own."))
    elif check.passed:
        told.append((True, "Confirmed by OpenDSS."))
    else:
        told.append((False, "NOT CONFIRMED BY OPENDSS."))
    if check is not None and check.failed_hours:
        hours = ", ".join(map(str, check.failed_hours))
        told.append((False, f"OpenDSS found no power flow solution in hours {hours}."))
    if check is not None:
        number = len(check.violations)
        told.append((not number, f"{counted(number, 'limit')} violated in the replay." if number else _KEPT))
    if result.oversteps:
        limits = counted(len(result.oversteps), "voltage limit")
        told.append((False, f"{limits} OVERSTEPPED as the optimizer expects: they cannot be kept, or cost too much."))
    if "CONE RELAXATION LOOSE" in doubts(result):
        told.append((False, "CONE RELAXATION LOOSE: flows and losses are not physical; see the notes."))
    items = "\n".join(f'<li class="{"good" if good else "bad"}">{escape(text)}</li>' for good, text in told)
    return f'<ul class="verdict">\n{items}\n</ul>' + _violations(result)


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
    return _list([*texts, f"and {more} more"] if more else texts) if texts else ""


def _kpi_table(report: KpiReport) -> str:
    found = list(rows(report))
    others = any(row.optimizer for row in found)
    head = ("figure", "value", "optimizer") if others else ("figure", "value")
    caption = f"Source: {report.source}" + ("; powers and energies per phase." if report.per_phase else ".")
    if others:
        caption += " The optimizer's own where it differs."
    return _table(head, [(row.label, row.value, row.optimizer)[: len(head)] for row in found], caption)


def _figure(picture: Picture, result: Result) -> str:
    reading = escape(picture.read(result))
    kind, content = "svg+xml", image(picture, result, "svg")
    if len(content) > LARGEST_SVG:
        kind, content = "png", image(picture, result, "png")
    data = base64.b64encode(content).decode()
    return (
        f'<figure id="{picture.name}">\n<img alt="{escape(picture.title)}: {reading}" src="data:image/{kind};base64,'
        f'{data}">\n<figcaption><strong>{escape(picture.title)}.</strong> {reading}</figcaption>\n</figure>'
    )


def _replay(result: Result) -> str:
    if result.check is None:
        return "<p>The schedule was not replayed.</p>"
    return _table(("compared", "largest disagreement", "allowed"), disagreements(result.check))


def _versions(result: Result) -> dict[str, str]:
    """Of the libraries that made the result, and of the one that drew the pictures."""
    return {**result.versions, "matplotlib (pictures)": library("matplotlib", "'tieflow[plot]'").__version__}


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _list(texts: Iterable[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(text)}</li>" for text in texts) + "\n</ul>"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]], caption: str = "") -> str:
    title = f"<caption>{escape(caption)}</caption>\n" if caption else ""
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for first, *cells in lines
    )
    return f'<div class="wide"><table>\n{title}<tr>{names}</tr>\n{body}\n</table></div>'
