"""The ``tieflow`` command."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from tieflow.common.case import Case, read_case
from tieflow.common.errors import EXIT_CONVERGED, EXIT_ERROR, CaseError, TieflowError
from tieflow.common.replay import write_circuit as save_circuit
from tieflow.common.results.store import check_writable, write_result
from tieflow.common.results.study_store import read_run
from tieflow.common.ties.cutting import area_numbers
from tieflow.common.wire.transport import abort, dismiss, end_all, launched_rank, work, world
from tieflow.coordinator.methods import find_method, method_names
from tieflow.launch.commands.options import (
    Real,
    Whole,
    command_line,
    given_settings,
    json_option,
    print_json,
    run_options,
    settings_options,
    together,
)
from tieflow.launch.commands.report import kpis, plot, report
from tieflow.launch.commands.study import study
from tieflow.launch.figures.summary import exit_code, summary
from tieflow.launch.report.console import benchmark_table, print_origin, print_result, print_round
from tieflow.launch.runs.partition import describe, in_areas_of, partition_report, write_areas
from tieflow.launch.runs.partition import summary as area_summary
from tieflow.launch.runs.solve import Options, checked, library_versions, make_solver, solve
from tieflow.launch.studies import benchmark as benchmarks

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

case_options = together(
    click.argument("case_name", metavar="CASE"),
    settings_options,
    click.option(
        "--tolerance",
        type=Real(1e-9, 1.0),
        default=1e-5,
        show_default=True,
        help="Mismatch and change at which areas agree, per unit; newton ends by its first-order residual instead.",
    ),
    click.option(
        "--max-rounds",
        type=Whole(1, 10**6),
        default=200,
        show_default=True,
        help="Rounds after which the run is stored as not converged.",
    ),
    click.option("--areas", metavar="N|FILE", help="Cut into N areas, or as FILE says, instead of areas.csv."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(library_versions()["tieflow"], prog_name="tieflow")
def app() -> None:
    """Distributed multi-area optimal power flow of distribution feeders, confirmed by OpenDSS.

    CASE is a shipped case (ieee123, ieee13, ieee123_unbalanced, ieee123_12kv) or a case folder. Exit codes: 0 converged
    and confirmed, 2 not converged, 3 infeasible, 4 not confirmed by OpenDSS or a loose relaxation, 5 confirmed with
    overstepped limits of voltages or branches, 1 anything else. The last line says why it is not 0.
    """


@app.command("solve")
@case_options
@click.option("--method", help=f"One of {', '.join(method_names())}. [default: the case's]")
@click.option(
    "--starts",
    type=Whole(1, 1000),
    default=1,
    show_default=True,
    help="Starting points of newton or centralized: the best schedule is kept, their spread told.",
)
@click.option("--certify", is_flag=True, help="One more round for a lower bound on the optimum.")
@click.option("--no-check", is_flag=True, help="Skip the OpenDSS replay.")
@click.option("--output", type=click.Path(path_type=Path), help="The HDF5 file to write. [default: CASE.h5, here]")
@json_option
@click.pass_obj
def solve_command(
    comm: Comm | None,
    case_name: str,
    periods: int | None,
    overrides: tuple[str, ...],
    tolerance: float,
    max_rounds: int,
    areas: str | None,
    method: str | None,
    starts: int,
    certify: bool,
    no_check: bool,
    output: Path | None,
    as_json: bool,
) -> int:
    """Solve CASE in its areas, replay the schedule in OpenDSS, store and print the result."""
    console = Console(stderr=as_json)
    if method is not None:
        find_method(method)  # for its errors, before anything is read
    case = in_areas_of(_read(case_name, periods, overrides), areas)
    path = output or Path(f"{case.name}.h5")
    check_writable(path)
    options = Options(method, tolerance, max_rounds, certify=certify, check=not no_check, starts=starts)
    result = solve(case, options, comm, lambda round_: print_round(console, round_))
    result = replace(result, command=command_line())
    write_result(path, result)
    print_result(console, result)
    console.print(f"Result: {path.resolve()}", soft_wrap=True, highlight=False, markup=False)
    if as_json:
        print_json(summary(result) | {"output": str(path.resolve())})
    return exit_code(result)


@app.command("import")
@click.argument("master", type=click.Path(path_type=Path))
@click.option("--out", "folder", type=click.Path(path_type=Path), required=True, help="The case folder to make.")
@click.option(
    "--command",
    "commands",
    multiple=True,
    metavar="TEXT",
    help="OpenDSS command to run after compiling, such as 'open line.sw7'. May be given again.",
)
@click.option("--keep-taps", is_flag=True, help="Leave taps and capacitors as the model has them; controls do not act.")
@click.option("--force", is_flag=True, help="Write into a folder that is not empty.")
def import_command(master: Path, folder: Path, commands: tuple[str, ...], keep_taps: bool, force: bool) -> int:
    """Make a case folder of the OpenDSS model MASTER.

    Regulator taps and capacitor states are fixed where its controls leave them. The copy is verified in OpenDSS.
    """
    # Loads OpenDSS.
    from tieflow.launch.commands.import_feeder import import_feeder

    # A model has hundreds of thousands of values, and hardly a cycle to be collected among them.
    gc.disable()
    try:
        made = import_feeder(master, folder, commands, keep_taps, overwrite=force)
    finally:
        gc.enable()
    console = Console()
    nodes, loads = len(made.feeder.node_bus) - made.feeder.roots, len(set(made.feeder.legs.name))
    console.print(
        f"{folder}: {len(made.feeder.buses) - 1} buses, {nodes} nodes, {loads} loads and generators, {made.pv} PV "
        f"systems, {made.batteries} batteries; voltages as in the original",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    for note in made.notes:
        console.print(f"Note: {note}", style="yellow", soft_wrap=True, highlight=False, markup=False)
    console.print(
        "Look at profiles.csv next (a placeholder day and prices), and add pv.csv and batteries.csv.",
        soft_wrap=True,
        highlight=False,
    )
    return EXIT_CONVERGED


@app.command("partition")
@click.argument("case_name", metavar="CASE")
@click.option("--areas", required=True, metavar="N|FILE", help="Number of areas, or an areas.csv to look at.")
@click.option("--out", type=click.Path(path_type=Path), help="The file to write. [default: areas.csv of the case]")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@json_option
def partition_command(case_name: str, areas: str, out: Path | None, force: bool, as_json: bool) -> int:
    """Cut CASE into connected areas of even work, draw them and write areas.csv, which may be edited."""
    if areas.strip() and not areas.isdecimal() and (out is not None or force):
        raise CaseError("--out and --force go with a number of --areas: a file is only looked at.")
    case = in_areas_of(read_case(case_name), areas)
    found = describe(case, area_numbers(case)[0])
    console = Console(stderr=as_json)
    partition_report(console, found)
    if areas.isdecimal():
        folder = Path(case_name)
        path = out or (folder if os.path.isfile(folder / "case.toml") else Path()) / "areas.csv"
        write_areas(path, found.buses, found.area_of, overwrite=force)
        console.print(f"Areas: {path.resolve()}", soft_wrap=True, highlight=False, markup=False)
    if as_json:
        print_json(area_summary(found))
    return EXIT_CONVERGED


@app.command("export")
@run_options
@click.option("--out", "folder", type=click.Path(path_type=Path), required=True, help="The folder to make.")
def export_command(file: Path, variant: str | None, rule: bool, folder: Path) -> int:
    """Write the stored schedule FILE and its circuit as files that OpenDSS alone runs to the same answer."""
    from tieflow.launch.commands.export import export

    result = read_run(file, variant, rule)
    export(result.case, result.schedule, result.state, folder)
    Console().print(f"{folder / 'Master.dss'}: run it in OpenDSS.", soft_wrap=True, highlight=False, markup=False)
    return EXIT_CONVERGED


@app.command()
@run_options
@json_option
def show(file: Path, variant: str | None, rule: bool, as_json: bool) -> int:
    """Print the stored result FILE again, and what was solved: when, by which command, with which settings."""
    result = read_run(file, variant, rule)
    if as_json:
        print_json(summary(result))
    else:
        console = Console()
        print_origin(console, result)
        print_result(console, result)
    return exit_code(result)


@app.command()
@run_options
@click.option(
    "--write-circuit",
    type=click.Path(path_type=Path),
    metavar="FILE.dss",
    help="Also write circuit and schedule as a script for OpenDSS itself.",
)
@json_option
def check(file: Path, variant: str | None, rule: bool, write_circuit: Path | None, as_json: bool) -> int:
    """Replay the stored schedule FILE in OpenDSS."""
    if write_circuit is not None:
        check_writable(write_circuit)
    result = checked(read_run(file, variant, rule))
    assert result.check is not None
    if write_circuit is not None:
        save_circuit(result.case, result.schedule, write_circuit)
    if as_json:
        print_json(summary(result))
    else:
        print_result(Console(), result)
    return exit_code(result)


@app.command()
@case_options
@click.option("--methods", default="newton,admm,dlmp,enapp", show_default=True, help="Comma-separated.")
@click.option("--cpu", is_flag=True, help="Critical paths in threads' CPU time: for more ranks than cores.")
@json_option
@click.pass_obj
def benchmark(
    comm: Comm | None,
    case_name: str,
    periods: int | None,
    overrides: tuple[str, ...],
    tolerance: float,
    max_rounds: int,
    areas: str | None,
    methods: str,
    cpu: bool,
    as_json: bool,
) -> int:
    """Run several methods on CASE against the centralized baseline and print one table."""
    names = list(dict.fromkeys(name.strip() for name in methods.split(",")))
    for name in names:
        find_method(name)  # for its errors, before anything is read
    case = in_areas_of(_read(case_name, periods, overrides), areas)
    rows = benchmarks.benchmark(case, names, Options(tolerance_pu=tolerance, max_rounds=max_rounds), comm, cpu=cpu)
    if as_json:
        print_json({"runs": rows, "exit_code": max(row["exit_code"] for row in rows)})
    else:
        console = Console(width=max(120, Console().width))
        console.print(benchmark_table(rows, cpu))
        for row in rows:
            for note in row["notes"]:
                console.print(f"{row['method']}: {note}", style="yellow", markup=False)
        for row in rows:
            if code := row["exit_code"]:
                told = f"{row['method']}: exit code {code}: {row['exit_reason']}"
                console.print(told, style="bold red", soft_wrap=True, highlight=False, markup=False)
    codes: list[int] = [row["exit_code"] for row in rows]
    return max(codes)


for command in (kpis, plot, report, study):
    app.add_command(command)


def main() -> None:
    """Run the command line on rank 0; on every other rank, serve areas until dismissed.

    Only rank 0 tells the user anything, and only its exit code counts: launchers merge the codes of all ranks.
    """
    # What is imported stays; looking through it for garbage takes as long as a small case.
    gc.freeze()
    first = launched_rank() == 0
    try:
        comm = world()
    except TieflowError as error:
        if first:
            _say(error)
        sys.exit(EXIT_ERROR if first else 0)
    try:
        if comm is not None and not first:
            work(comm, make_solver)
            return
        code = _command(comm)
        dismiss(comm)
    except KeyboardInterrupt:
        # Launchers pass it on to the ranks, which then wait for each other in vain.
        if comm is not None:
            end_all(comm)
        sys.exit(EXIT_ERROR)
    except Exception:
        if comm is not None:
            abort(comm)
        traceback.print_exc()
        sys.exit(EXIT_ERROR)
    sys.exit(code)


def _command(comm: Comm | None) -> int:
    try:
        code: int | None = app.main(prog_name="tieflow", standalone_mode=False, obj=comm)
        return code or 0
    except TieflowError as error:
        _say(error)
        return _told_in_json(error.exit_code, str(error))
    except click.ClickException as error:
        # Its own code, 2, means not converged here.
        error.show()
        return _told_in_json(EXIT_ERROR, error.format_message())
    except click.Abort:
        raise KeyboardInterrupt from None


def _told_in_json(code: int, reason: str) -> int:
    """The code, after an object with it for who asked for one: there is no result to print."""
    if "--json" in sys.argv[1:]:
        print_json({"exit_code": code, "exit_reason": reason})
    return code


def _say(error: TieflowError) -> None:
    Console(stderr=True).print(f"tieflow: {error}", style="bold red", soft_wrap=True, highlight=False, markup=False)


def _read(name: str, periods: int | None, overrides: tuple[str, ...]) -> Case:
    given = given_settings(periods, overrides)
    case = read_case(name, given)
    find_method(case.settings.default_method, "--set" if "method" in given else "case.toml")  # for its errors
    return case


if __name__ == "__main__":
    main()
