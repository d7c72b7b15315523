"""The commands that look at a stored run: ``tieflow kpis``, ``tieflow plot`` and ``tieflow report``."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tieflow.common.errors import EXIT_CONVERGED, TieflowError
from tieflow.common.results.store import beside
from tieflow.common.results.study import StoredStudy
from tieflow.common.results.study_store import is_study, read_run, read_study
from tieflow.launch.commands.options import json_option, print_json, run_options, run_stem
from tieflow.launch.figures.kpis import kpi_report, lines, rows
from tieflow.launch.figures.study import figures, unreliable
from tieflow.launch.figures.summary import doubts
from tieflow.launch.plots.figures import FORMATS, write_pictures
from tieflow.launch.plots.study import write_study_pictures
from tieflow.launch.report.html_report import html_report
from tieflow.launch.report.study_page import study_page


@click.command()
@run_options
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print a table for a spreadsheet.")
def kpis(file: Path, variant: str | None, rule: bool, as_json: bool, as_csv: bool) -> int:
    """Print the key performance indicators of the stored result FILE."""
    if as_json and as_csv:
        raise TieflowError("--json and --csv contradict each other. Use one of them.")
    result = read_run(file, variant, rule)
    report = kpi_report(result)
    if as_json:
        print_json(asdict(report) | {"doubts": doubts(result)})
    elif as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(lines(report))
    else:
        console = Console()
        table = Table.grid(padding=(0, 2))
        for _ in range(3):
            table.add_column(no_wrap=True, overflow="ignore")
        for row in rows(report):
            table.add_row(row.label, row.value, f"optimizer: {row.optimizer}" if row.optimizer else "")
        console.print(Text(f"Source: {report.source}{'; powers and energies per phase' if report.per_phase else ''}"))
        console.print(table)
        _warn(console, doubts(result))
    return EXIT_CONVERGED


@click.command()
@run_options
@click.option(
    "--out", "folder", type=click.Path(path_type=Path), help="The folder to make. [default: FILE_plots, here]"
)
@click.option("--format", "kind", type=click.Choice(FORMATS), default="png", show_default=True, help="PNG: 300 dpi.")
@json_option
def plot(file: Path, variant: str | None, rule: bool, folder: Path | None, kind: str, as_json: bool) -> int:
    """Draw the stored result FILE: pictures of the day, of voltages, of the feeder and of convergence.

    A study's FILE without --variant: pictures over its variants.
    """
    folder = folder or Path(f"{run_stem(file, variant, rule)}_plots")
    if _is_whole_study(file, variant, rule):
        study = read_study(file)
        readings, wrong = write_study_pictures(study, folder, kind), _study_doubts(study)
    else:
        result = read_run(file, variant, rule)
        readings, wrong = write_pictures(result, folder, kind), doubts(result)
    if as_json:
        shown = [{"file": name, "reading": reading} for name, reading in readings.items()]
        print_json({"folder": str(folder.resolve()), "pictures": shown, "doubts": wrong})
        return EXIT_CONVERGED
    console = Console()
    for name, reading in readings.items():
        console.print(f"{name}: {reading}", soft_wrap=True, highlight=False, markup=False)
    _warn(console, wrong)
    console.print(f"Pictures: {folder.resolve()}", soft_wrap=True, highlight=False, markup=False)
    return EXIT_CONVERGED


@click.command()
@run_options
@click.option("--out", "page", type=click.Path(path_type=Path), help="The page to write. [default: FILE.html, here]")
@click.option("--force", is_flag=True, help="Replace the page if it is there.")
def report(file: Path, variant: str | None, rule: bool, page: Path | None, force: bool) -> int:
    """Write the stored result FILE as one HTML page, to be read anywhere: verdict, key figures, pictures.

    A study's FILE without --variant: a page over its variants, each in a section of its own.
    """
    make: Callable[[], str]
    if _is_whole_study(file, variant, rule):
        study = read_study(file)
        make, wrong = partial(study_page, study), _study_doubts(study)
    else:
        result = read_run(file, variant, rule)
        make, wrong = partial(html_report, result), doubts(result)
    page = page or Path(f"{run_stem(file, variant, rule)}.html")
    if page.exists() and page.samefile(file):
        raise TieflowError(f"{page}: that is the result itself. Name another file with --out.")
    if page.exists() and not force:
        raise TieflowError(f"{page}: is there already. Add --force to replace it, or name another file with --out.")
    with beside(page, make().encode()) as temporary:
        os.replace(temporary, os.path.realpath(page))
    console = Console()
    _warn(console, wrong)
    console.print(f"Report: {page.resolve()}", soft_wrap=True, highlight=False, markup=False)
    return EXIT_CONVERGED


def _is_whole_study(file: Path, variant: str | None, rule: bool) -> bool:
    return variant is None and not rule and is_study(file)


def _study_doubts(study: StoredStudy) -> list[str]:
    return [f"{name}: {why}" for name, why in unreliable(study, figures(study)).items()]


def _warn(console: Console, wrong: Sequence[str]) -> None:
    for doubt in wrong:
        console.print(Text(doubt, style="bold red"), soft_wrap=True)
