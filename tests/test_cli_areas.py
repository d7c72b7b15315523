"""Areas and ranks on the command line: how they are chosen, and that their number does not show in the result."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Tieflow, without_times

from tieflow.common.case import read_case
from tieflow.common.results.result import Result
from tieflow.common.results.store import read_result

Mpirun = Callable[..., subprocess.CompletedProcess[str]]


def test_options_and_settings_change_the_case_without_editing_files(tieflow: Tieflow, small: Path) -> None:
    changes = ("--periods", 3, "--set", "v_min_pu=0.96", "--set", "price_high_per_kwh = 0.4")
    assert tieflow("solve", small, *changes, "--no-check").code == 0
    case = read_result(small.parent / "small.h5").case
    assert (len(case.horizon), case.settings.v_min_pu, case.horizon.price.max()) == (3, 0.96, 0.4)


def test_the_number_of_areas_can_be_chosen(tieflow: Tieflow, small: Path, small_result: Result) -> None:
    figures = tieflow("solve", small, "--areas", 3, "--json").json
    assert (figures["areas"], figures["converged"], figures["checker"]["passed"]) == (3, True, True)
    assert figures["cost"] == pytest.approx(small_result.cost, rel=1e-5)
    case = read_result(small.parent / "small.h5").case
    assert {row.area for row in case.areas} == {"1", "2", "3"}
    assert sorted(row.bus for row in case.areas) == ["a", "b", "c", "d", "s"]
    assert tieflow("solve", small, "--areas", 1, "--json").json["areas"] == 1


def test_areas_can_be_told_by_a_file(tieflow: Tieflow, small: Path, small_result: Result) -> None:
    (small.parent / "two.csv").write_text("bus,area\ns,up\na,up\nd,up\nb,down\nc,down\n")
    figures = tieflow("solve", small, "--areas", "two.csv", "--json").json
    assert (figures["areas"], figures["converged"]) == (2, True)
    assert figures["cost"] == pytest.approx(small_result.cost, rel=1e-5)
    assert read_result(small.parent / "small.h5").areas == ("up", "down")


def test_a_benchmark_can_choose_the_areas_too(tieflow: Tieflow, small: Path) -> None:
    runs = tieflow("benchmark", small, "--areas", 2, "--methods", "admm", "--json").json["runs"]
    assert [run["areas"] for run in runs] == [1, 2]
    assert abs(runs[1]["gap_to_optimum"]) < 1e-5


def test_partition_writes_areas_that_solve_takes(tieflow: Tieflow, tmp_path: Path) -> None:
    ended = tieflow("partition", "ieee123", "--areas", 5, "--out", "five.csv")
    assert (ended.code, ended.err) == (0, "")
    path = tmp_path / "five.csv"
    assert ended.out.splitlines()[-1] == f"Areas: {path}"
    assert "largest area" in ended.out
    rows = path.read_text().splitlines()
    assert rows[0] == "bus,area"
    area_of = dict(row.split(",") for row in rows[1:])
    assert sorted(area_of) == sorted(read_case("ieee123").feeder.buses)
    assert set(area_of.values()) == {"1", "2", "3", "4", "5"}
    solved = tieflow("solve", "ieee123", "--areas", "five.csv", "--periods", 1, "--json")
    assert solved.code == 0
    assert solved.json["areas"] == 5
    assert {row.bus: row.area for row in read_result(tmp_path / "ieee123.h5").case.areas} == area_of


def test_partition_keeps_an_edited_file_unless_told(tieflow: Tieflow, tmp_path: Path) -> None:
    path = tmp_path / "five.csv"
    path.write_text("mine")
    ended = tieflow("partition", "ieee123", "--areas", 5, "--out", path)
    assert ended.code == 1
    assert f"{path}: exists, and you may have edited it" in " ".join(ended.err.split())
    assert path.read_text() == "mine"
    assert tieflow("partition", "ieee123", "--areas", 5, "--out", path, "--force").code == 0
    assert path.read_text().startswith("bus,area\n")


def test_partition_writes_into_the_case_folder_unless_told_where(tieflow: Tieflow, small: Path) -> None:
    before = (small / "areas.csv").read_text()
    assert tieflow("partition", small, "--areas", 2).code == 1
    assert (small / "areas.csv").read_text() == before
    assert tieflow("partition", small, "--areas", 2, "--force").code == 0
    assert tieflow("solve", small, "--json").json["areas"] == 2
    # A shipped case has no folder of the user's.
    assert tieflow("partition", "ieee123", "--areas", 2).code == 0
    assert (small.parent / "areas.csv").read_text().startswith("bus,area\n")


def test_partition_looks_at_a_file_and_writes_nothing(tieflow: Tieflow, small: Path) -> None:
    before = {path: path.read_bytes() for path in small.iterdir()}
    figures = tieflow("partition", small, "--areas", small / "areas.csv", "--json").json
    assert len(figures["areas"]) == 4
    assert figures["ties"] == 3
    assert [area["buses"] for area in figures["areas"]] == [2, 1, 1, 1]
    assert {path: path.read_bytes() for path in small.iterdir()} == before
    assert [path.name for path in small.parent.iterdir()] == ["small"]


@pytest.mark.parametrize("method", ["admm", "newton"])
def test_the_number_of_ranks_does_not_show_in_the_result(
    mpirun: Mpirun, tieflow: Tieflow, small: Path, method: str
) -> None:
    asked = ("solve", small, "--method", method, "--json")
    alone = tieflow(*asked).json
    # All areas on one rank, and one area on each; acceptance/test_api_over_mpi.py has a number between.
    for ranks in (2, 5):
        run = mpirun(ranks, "-m", "tieflow", *asked, "--output", f"on{ranks}.h5")
        assert run.returncode == 0, run.stderr
        figures = json.loads(run.stdout)
        assert figures["ranks"] == ranks
        assert without_times(figures) == without_times(alone)
        assert read_result(small.parent / f"on{ranks}.h5").ranks == ranks


def test_ranks_beyond_the_areas_share_out_the_periods_of_newton(mpirun: Mpirun, tieflow: Tieflow, small: Path) -> None:
    asked = ("solve", small, "--method", "newton", "--json")
    alone = tieflow(*asked).json
    run = mpirun(7, "-m", "tieflow", *asked, "--output", "on7.h5")
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout)
    assert (figures["ranks"], figures["areas"], figures["rounds"]) == (7, 4, alone["rounds"])
    assert figures["objective"] == pytest.approx(alone["objective"], rel=1e-9)
