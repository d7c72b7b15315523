"""A run as a notebook shows it: verdict first, then a few key figures, then one picture."""

from __future__ import annotations

from html import escape

from tieflow.common.errors import TieflowError
from tieflow.common.results.result import Result
from tieflow.launch.figures.kpis import kpi_report, rows
from tieflow.launch.plots.figures import KNOWN, image
from tieflow.launch.report.html_page import figure, table
from tieflow.launch.report.html_report import verdict

KEY_FIGURES = (
    *("energy_cost", "substation_energy_kwh", "peak_substation_kw", "losses_kwh"),
    *("lowest_voltage_pu", "highest_voltage_pu", "violations", "objective"),
)
PICTURE = "schedule"
# Colours that a dark notebook shows as well, and only within the card.
_STYLE = """\
<style>
.tieflow { max-width: 40rem; }
.tieflow .verdict { list-style: none; padding: 0; }
.tieflow .verdict li { border-left: .4rem solid #009E73; padding: .1rem .6rem; margin: .3rem 0; }
.tieflow .verdict li.bad { border-color: #D55E00; font-weight: 600; }
.tieflow th, .tieflow td { text-align: left; }
.tieflow figure { margin: .5rem 0; }
.tieflow img { max-width: 100%; background: #fff; }
</style>"""


def result_card(result: Result) -> str:
    """HTML to stand within a page; without matplotlib it says so in place of the picture."""
    case, report = result.case, kpi_report(result)
    shown = [(row.label, row.value) for row in rows(report) if row.name in KEY_FIGURES]
    caption = f"Source: {report.source}" + ("; powers and energies per phase." if report.per_phase else ".")
    heading = f"{case.name}: {case.settings.title}" if case.settings.title else case.name
    picture = KNOWN[PICTURE]
    try:
        drawn = figure(picture.name, picture.title, picture.read(result), "svg", image(picture, result, "svg"))
    except TieflowError as error:
        drawn = f"<p>No picture: {escape(str(error))}</p>"
    return "\n".join(
        [
            f'<div class="tieflow">\n{_STYLE}',
            verdict(result),
            f"<p><strong>{escape(heading)}</strong>, by {escape(result.method)}</p>",
            table(("figure", "value"), shown, caption),
            drawn,
            "</div>",
        ]
    )
