"""``tieflow study``: the variants of a study file, optimized and by the plain rule, in one command."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.text import Text

from tieflow.common.errors import EXIT_CONVERGED, TieflowError
from tieflow.common.results.store import check_writable, replace_file
from tieflow.common.results.study_store import read_study, stored_digests
from tieflow.launch.commands.options import (
    Whole,
    command_line,
    given_settings,
    json_option,
    print_json,
    settings_options,
)
from tieflow.launch.figures.study import as_json as figures_as_json
from tieflow.launch.figures.study import exit_reason, figures, table_lines, worst_code
from tieflow.launch.report.study_console import Watch, print_placements, print_plan, print_study
from tieflow.launch.studies.file import read_study_file, shipped_studies
from tieflow.launch.studies.run import check_same_study, run_study
from tieflow.launch.studies.variants import Asked, Resolved, resolve

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


@click.command(epilog=f"Shipped studies: {', '.join(shipped_studies())}.")
@click.argument("study_name", metavar="STUDY")
@click.option("--case", "case_name", metavar="CASE", help="A case or case folder instead of the study's.")
@settings_options
@click.option("--areas", metavar="N|FILE", help="Cut into N areas, or as FILE says, instead of as the study says.")
@click.option("--groups", type=Whole(1), help="Variants side by side. [default: ranks / (areas + 1)]")
@click.option("--output", type=click.Path(path_type=Path), help="The HDF5 file. [default: STUDY.h5, here]")
@click.option(
    "--force", is_flag=True, help="Run again what is stored with the same inputs; write over another study's file."
)
@click.option("--dry-run", is_flag=True, help="Print variants and placements; solve and write nothing.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), metavar="FILE", help="Also write a tidy table.")
@json_option
@click.pass_obj
def study(
    comm: Comm | None,
    study_name: str,
    case_name: str | None,
    periods: int | None,
    overrides: tuple[str, ...],
    areas: str | None,
    groups: int | None,
    output: Path | None,
    force: bool,
    dry_run: bool,
    csv_path: Path | None,
    as_json: bool,
) -> int:
    """Run the variants of STUDY, a TOML file or a shipped study: optimized, and by a plain rule beside it.

    Under mpirun variants run side by side. What is stored already with the same inputs is not run again.
    """
    console = Console(stderr=as_json)
    file = read_study_file(study_name)
    path = output or Path(f"{file.path.stem}.h5")
    if path.exists() and path.samefile(file.path):
        raise TieflowError(f"{path}: that is the study file itself. Name another file with --output.")
    variants = resolve(file, Asked(case_name, given_settings(periods, overrides), areas))
    placed = [(v.name, placement) for v in variants if isinstance(v, Resolved) for placement in v.placements]
    if dry_run:
        if not force:
            check_same_study(path, file)
        print_plan(console, variants, stored_digests(path))
        print_placements(console, placed)
        codes = [EXIT_CONVERGED if isinstance(v, Resolved) else v.error.exit_code for v in variants]
        return worst_code(codes)
    if csv_path is not None:
        check_writable(csv_path)
    watch = Watch(console)
    try:
        run_study(file, variants, path, watch, comm, groups, force, command_line())
    finally:
        watch.end()
    stored = read_study(path)
    found = figures(stored)
    code = worst_code([variant.exit_code for variant in found])
    reason = exit_reason(found)
    if csv_path is not None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(table_lines(found))
        replace_file(csv_path, text.getvalue().encode())
    print_study(console, file.title, found, stored.head.base, watch.told)
    print_placements(console, placed)
    if code:
        console.print(Text(f"Exit code {code}: {reason}", style="bold red"), soft_wrap=True)
    if csv_path is not None:
        console.print(f"Table: {csv_path.resolve()}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"Study: {path.resolve()}", soft_wrap=True, highlight=False, markup=False)
    if as_json:
        shown: dict[str, Any] = {"study": file.path.stem, "title": file.title, "case": stored.head.case}
        shown |= {"base": stored.head.base, "variants": [figures_as_json(variant) for variant in found]}
        print_json(shown | {"output": str(path.resolve()), "exit_code": code, "exit_reason": reason})
    return code
