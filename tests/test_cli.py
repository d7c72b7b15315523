"""The command line: what it prints and what it ends with."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Tieflow

from tieflow.common.case import read_case
from tieflow.common.results.result import Result
from tieflow.common.results.store import read_result, write_result
from tieflow.coordinator.methods import METHODS

Mpirun = Callable[..., subprocess.CompletedProcess[str]]
Edit = Callable[[str, str, str], None]

KEYS = {
    *("method", "periods", "areas", "converged", "rounds", "cost", "substation_energy_kwh"),
    *("substation_reactive_kvarh", "losses_kwh", "max_mismatch_pu", "relaxation_gap_pu", "checker", "time"),
    *("model_error_pu", "oversteps", "optimality", "relaxed_objective", "methods_used"),
}
CHECKER_KEYS = {
    *("passed", "max_voltage_error_pu", "max_substation_error_kw", "max_loss_error_kw"),
    *("max_soc_error", "violations"),
}
TIME_KEYS = {"total_s", "critical_path_s", "solve_s", "communication_s", "critical_path_cpu_s"}


@pytest.fixture
def stored(small_result: Result, tmp_path: Path) -> Path:
    path = tmp_path / "run.h5"
    write_result(path, small_result)
    return path


def assert_has_the_promised_keys(figures: dict[str, Any]) -> None:
    assert set(figures) >= KEYS
    assert set(figures["checker"]) >= CHECKER_KEYS
    assert set(figures["time"]) >= TIME_KEYS


def test_solve_prints_its_rounds_the_table_and_where_the_result_is(tieflow: Tieflow, small: Path) -> None:
    ended = tieflow("solve", small)
    assert ended.code == 0
    assert ended.err == ""
    path = small.parent / "small.h5"
    assert ended.out.splitlines()[0].split()[:3] == ["round", "method", "mismatch"]
    assert ended.out.splitlines()[-1] == f"Result: {path}"
    assert "OpenDSS confirms the schedule" in ended.out
    assert read_result(path).converged


def test_solve_json_is_one_object_on_stdout_and_the_rounds_go_to_stderr(tieflow: Tieflow, small: Path) -> None:
    ended = tieflow("solve", small, "--json", "--output", "other.h5")
    assert ended.code == 0
    figures = ended.json
    assert_has_the_promised_keys(figures)
    assert (figures["method"], figures["periods"], figures["areas"], figures["converged"]) == ("admm", 2, 4, True)
    assert figures["checker"]["passed"]
    assert figures["checker"]["violations"] == []
    assert figures["output"] == str(small.parent / "other.h5")
    assert "round  method" in ended.err
    assert not (small.parent / "small.h5").exists()


def test_show_prints_the_stored_figures_again(tieflow: Tieflow, small: Path) -> None:
    solved = tieflow("solve", small, "--json").json
    shown = tieflow("show", "small.h5", "--json")
    assert shown.code == 0
    assert_has_the_promised_keys(shown.json)
    assert shown.json | {"output": solved["output"]} == solved
    assert f"{solved['cost']:.4f} $" in tieflow("show", "small.h5").out


def test_check_replays_the_stored_schedule(tieflow: Tieflow, stored: Path, small_result: Result) -> None:
    ended = tieflow("check", stored, "--json")
    assert ended.code == 0
    assert set(ended.json["checker"]) >= CHECKER_KEYS
    assert ended.json["checker"]["passed"]
    assert ended.json["checker"]["cost"] == pytest.approx(small_result.cost, rel=1e-6)
    assert "OpenDSS confirms the schedule" in tieflow("check", stored).out


def test_check_writes_the_circuit_for_opendss_itself(tieflow: Tieflow, stored: Path, tmp_path: Path) -> None:
    assert tieflow("check", stored, "--write-circuit", "small.dss").code == 0
    assert "new circuit" in (tmp_path / "small.dss").read_text().lower()
    ended = tieflow("check", stored, "--write-circuit", "nowhere/small.dss")
    assert ended.code == 1
    assert "nowhere" in ended.err


def test_benchmark_compares_every_method_with_the_centralized_baseline(tieflow: Tieflow, small: Path) -> None:
    ended = tieflow("benchmark", small, "--methods", "admm, dlmp", "--json")
    assert ended.code == 0
    runs = ended.json["runs"]
    assert [run["method"] for run in runs] == ["centralized", "admm", "dlmp"]
    for run in runs:
        assert_has_the_promised_keys(run)
        assert abs(run["gap_to_optimum"]) < 1e-5
        assert run["critical_path_ratio"] > 0
    assert [run["areas"] for run in runs] == [1, 4, 4]
    assert (runs[0]["gap_to_optimum"], runs[0]["critical_path_ratio"]) == (0, 1)
    assert not list(small.parent.glob("*.h5"))


def test_benchmark_prints_one_table(tieflow: Tieflow, small: Path) -> None:
    ended = tieflow("benchmark", small, "--methods", "enapp", "--tolerance", "1e-3")
    heading, *lines = ended.out.splitlines()
    assert heading.split()[:2] == ["method", "cost"]
    assert [line.split()[0] for line in lines[:2]] == ["centralized", "enapp"]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_solves_the_small_case_to_the_same_cost(
    tieflow: Tieflow, small: Path, small_result: Result, method: str
) -> None:
    ended = tieflow("solve", small, "--method", method, "--json")
    assert ended.code == 0
    assert ended.json["method"] == method
    assert ended.json["methods_used"] == [method]
    assert ended.json["cost"] == pytest.approx(small_result.cost, rel=1e-3 if method == "enapp" else 1e-5)


def test_certify_bounds_the_optimum_from_below_and_closely(tieflow: Tieflow, small: Path) -> None:
    optimum = tieflow("solve", small, "--method", "centralized", "--json").json
    assert optimum["lower_bound"] is None
    figures = tieflow("solve", small, "--certify", "--json").json
    assert figures["lower_bound"] <= optimum["objective"] * (1 + 1e-8)
    assert figures["lower_bound"] == pytest.approx(optimum["objective"], rel=1e-5)
    assert abs(figures["gap_to_bound"]) < 1e-5


@pytest.mark.parametrize("method", ["newton", "centralized"])
def test_exact_equations_are_bounded_by_the_relaxation_of_the_whole_feeder(
    tieflow: Tieflow, small: Path, method: str
) -> None:
    figures = tieflow("solve", small, "--method", method, "--certify", "--json").json
    assert figures["lower_bound"] <= figures["objective"] * (1 + 1e-8)
    assert figures["lower_bound"] == pytest.approx(figures["objective"], rel=1e-5)


def test_a_case_of_several_phases_has_no_bound_and_says_so(tieflow: Tieflow) -> None:
    ended = tieflow("solve", "ieee13", "--periods", 1, "--certify", "--json")
    assert (ended.code, ended.json["lower_bound"], ended.json["gap_to_bound"]) == (0, None, None)
    assert "no lower bound: none is known for the exact equations of a multi-phase feeder" in ended.json["notes"]


def test_the_cases_own_method_is_the_default(tieflow: Tieflow, small: Path) -> None:
    assert tieflow("solve", small, "--set", "method=newton", "--json").json["method"] == "newton"
    figures = tieflow("solve", "ieee13", "--periods", 1, "--json").json
    assert (figures["method"], figures["methods_used"]) == ("newton", ["newton"])
    assert figures["optimality"] <= 1e-8
    assert "first-order residual" in tieflow("show", "ieee13.h5").out


def test_a_bound_that_cannot_be_found_does_not_cost_the_result(tieflow: Tieflow, small: Path) -> None:
    assert tieflow("solve", small, "--method", "dlmp", "--certify").code == 0
    assert read_result(small.parent / "small.h5").converged


@pytest.mark.parametrize("capacitor_model", ["constant_power", "constant_impedance"])
@pytest.mark.parametrize("voltage", [1.0, 1.01, 1.02, 1.03])
def test_the_small_case_is_solved_and_confirmed_at_any_voltage_with_either_capacitor(
    tieflow: Tieflow, small: Path, capacitor_model: str, voltage: float
) -> None:
    settings = (f"capacitor_model={capacitor_model}", f"substation_v_pu={voltage}")
    assert tieflow("solve", small, "--set", settings[0], "--set", settings[1]).code == 0


def test_partition_of_a_feeder_of_several_phases_leaves_out_the_ideal_source(tieflow: Tieflow, tmp_path: Path) -> None:
    ended = tieflow("partition", "ieee13", "--areas", 3, "--json")
    assert ended.code == 0
    assert len(ended.json["areas"]) == 3
    assert ended.json["tie_phases"] >= 2
    rows = [line.split(",") for line in (tmp_path / "areas.csv").read_text().splitlines()[1:]]
    assert [bus for bus, _ in rows] == list(read_case("ieee13").multiphase_feeder.buses[1:])
    assert len(tieflow("partition", "ieee13", "--areas", "areas.csv", "--json").json["areas"]) == 3


def test_a_skipped_check_says_so_everywhere(tieflow: Tieflow, small: Path) -> None:
    ended = tieflow("solve", small, "--no-check")
    assert ended.code == 0
    assert "OpenDSS: NOT CHECKED" in ended.out
    assert "confirms" not in ended.out
    figures = tieflow("show", "small.h5", "--json").json
    assert figures["checker"] is None
    assert any("check was skipped" in note for note in figures["notes"])


@pytest.mark.parametrize("method", ["admm", "newton", "centralized"])
def test_a_run_that_did_not_converge_ends_with_2_and_is_stored_marked_so(
    tieflow: Tieflow, small: Path, method: str
) -> None:
    ended = tieflow("solve", small, "--max-rounds", 2, "--method", method)
    assert ended.code == 2
    assert "NOT CONVERGED after 2 rounds" in ended.out
    assert not read_result(small.parent / "small.h5").converged
    shown = tieflow("show", "small.h5", "--json")
    assert (shown.code, shown.json["converged"], shown.json["rounds"]) == (2, False, 2)


def test_an_infeasible_area_ends_with_3_and_is_named_with_its_kind_of_limit(
    tieflow: Tieflow, small: Path, edit: Edit
) -> None:
    # Bus c needs at least 30 kW, 12 A, and gets 1 A.
    for old, new in (("x_ohm", "x_ohm,i_max_a"), ("a,0.05,0.1", "a,0.05,0.1,"), ("b,a,0.1,0.2", "b,a,0.1,0.2,")):
        edit("branches.csv", old, new)
    edit("branches.csv", "b,c,0.1,0.1\na,d,0.2,0.1", "b,c,0.1,0.1,1\na,d,0.2,0.1,")
    ended = tieflow("solve", small)
    assert ended.code == 3
    assert "area far" in ended.err
    assert "i_max_a" in ended.err
    assert not (small.parent / "small.h5").exists()


@pytest.mark.parametrize("method", ["admm", "newton", "centralized"])
def test_an_infeasible_feeder_ends_with_3_by_any_method(tieflow: Tieflow, small: Path, method: str) -> None:
    ended = tieflow("solve", small, "--method", method, "--set", "v_min_pu=1.0199")
    assert ended.code == 3
    assert "v_min_pu" in ended.err


def test_a_schedule_that_opendss_refutes_ends_with_4(tieflow: Tieflow, stored: Path) -> None:
    result = read_result(stored)
    result.schedule.batteries["discharge_kw"][0, 1] -= 5
    write_result(stored, replace(result, check=None))
    assert tieflow("show", stored).code == 0
    ended = tieflow("check", stored, "--json")
    assert ended.code == 4
    assert not ended.json["checker"]["passed"]
    assert ended.json["checker"]["max_substation_error_kw"] == pytest.approx(5, rel=0.1)
    assert "DOES NOT CONFIRM" in tieflow("check", stored).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["solve"], "Missing argument 'CASE'"),
        (["solve", "SMALL", "--bogus"], "No such option"),
        (["solve", "SMALL", "--periods", "five"], "'five' is not a valid integer"),
        (["solve", "SMALL", "--tolerance", "0"], "--tolerance"),
        (["solve", "SMALL", "--tolerance", "nan"], "'--tolerance': nan is no number. Give one in the range"),
        (["solve", "SMALL", "--tolerance", "inf"], "'--tolerance': inf is not in the range"),
        (["solve", "SMALL", "--tolerance", "1_0e-3"], "'--tolerance': '1_0e-3' is no number"),
        (["benchmark", "SMALL", "--tolerance", "nan"], "'--tolerance': nan is no number"),
        (["solve", "SMALL", "--max-rounds", "0"], "--max-rounds"),
        (["solve", "SMALL", "--max-rounds", "inf"], "'--max-rounds': 'inf' is not a valid integer"),
        (["solve", "SMALL", "--max-rounds", "9" * 30], "--max-rounds"),
        (["solve", "SMALL", "--max-rounds", "1_0"], "'--max-rounds': '1_0' is no number"),
        (["solve", "SMALL", "--starts", "nan"], "'--starts': 'nan' is not a valid integer"),
        (["solve", "SMALL", "--periods", "1_0"], "'--periods': '1_0' is no number"),
        (["solve", "SMALL", "--periods", "9" * 30], "periods: must be less than or equal to 1440"),
        (["study", "ieee13_evening", "--groups", "1_0"], "'--groups': '1_0' is no number"),
        (["sovle", "SMALL"], "No such command 'sovle'"),
        (["show"], "Missing argument 'FILE'"),
        (["solve", "SMALL", "--method", "adm"], "method 'adm' is unknown. Did you mean 'admm'?"),
        (["benchmark", "SMALL", "--methods", "admm,dlpm"], "method 'dlpm' is unknown. Did you mean 'dlmp'?"),
        (["solve", "SMALL", "--set", "v_min_pu"], "key=value"),
        (["solve", "SMALL", "--set", "v_mim_pu=1"], "Did you mean 'v_min_pu'?"),
        (["solve", "SMALL", "--set", "v_min_pu=high"], "--set: v_min_pu: must be a valid number"),
        (["solve", "SMALL", "--periods", "0"], "periods: must be greater than or equal to 1"),
        (["solve", "SMALL", "--periods", "5"], "profiles.csv has 4 rows. Choose fewer periods"),
        (["solve", "x" * 300], "no such folder and no shipped case"),
        (["study", "x" * 300], "no such file and no shipped study"),
        (["solve", "SMALL", "--areas", "x" * 300], "no such file. Give a number of areas"),
        (["solve", "SMALL", "--set", f"periods={'9' * 5000}"], "periods: must be a whole number of fewer digits"),
        (["solve", "ieee12"], "Did you mean 'ieee123'?"),
        (["show", "nothing.h5"], "nothing.h5: no such file"),
        (["check", "SMALL/buses.csv"], "not an HDF5 file"),
        (["solve", "SMALL", "--output", "nowhere/run.h5"], "there is no folder nowhere"),
        (["solve", "SMALL", "--output", "."], "folder"),
        (["solve", "SMALL", "--areas", "6"], "6 areas"),
        (["solve", "SMALL", "--areas", "0"], "areas"),
        (["solve", "SMALL", "--areas", ""], "--areas is empty. Give a number of areas"),
        (["solve", "SMALL", "--areas", "nothing.csv"], "nothing.csv"),
        (["solve", "SMALL", "--areas", "SMALL/buses.csv"], "buses.csv"),
        (["partition", "SMALL"], "Missing option '--areas'"),
        (["partition", "SMALL", "--areas", "6", "--out", "six.csv"], "6 areas"),
        (["partition", "SMALL", "--areas", " ", "--force"], "--areas is empty. Give a number of areas"),
        (["partition", "ieee12", "--areas", "2"], "Did you mean 'ieee123'?"),
        (["export", "nothing.h5", "--out", "made"], "nothing.h5: no such file"),
    ],
)
def test_a_mistake_in_the_command_ends_with_1_before_anything_is_solved(
    tieflow: Tieflow, small: Path, arguments: list[str], words: str
) -> None:
    ended = tieflow(*(argument.replace("SMALL", str(small)) for argument in arguments))
    assert ended.code == 1
    assert ended.out == ""
    assert words in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
    assert sorted(path.name for path in small.parent.iterdir()) == ["small"]


def test_help_and_version_end_with_0(tieflow: Tieflow) -> None:
    assert "Exit codes: 0 converged and confirmed" in " ".join(tieflow("--help").out.split())
    assert tieflow("solve", "-h").code == 0
    assert tieflow("--version").out.startswith("tieflow")


@pytest.mark.parametrize(
    ("method", "ranks", "most"),
    # Four areas; of two periods each.
    [("admm", 6, 5), ("newton", 10, 9)],
)
def test_a_rank_too_many_is_told_the_right_command(
    mpirun: Mpirun, small: Path, method: str, ranks: int, most: int
) -> None:
    run = mpirun(ranks, "-m", "tieflow", "solve", small, "--method", method)
    assert run.returncode == 1
    told = " ".join(run.stderr.split())
    assert f"{ranks} ranks for 4 area(s) and one coordinator: at most {most} can work. Run: mpirun -n {most} " in told
    assert ("--method newton" in told) == (method == "admm")
    assert "Traceback" not in run.stderr


def test_a_method_that_gives_up_hands_over_and_says_so(mpirun: Mpirun, tieflow: Tieflow) -> None:
    # Limits bind between areas: dlmp does not settle.
    asked = ("solve", "ieee123", "--set", "der_fraction=0.35", "--set", "v_min_pu=1.007", "--method", "dlmp", "--json")
    alone = tieflow(*asked)
    run = mpirun(3, "-m", "tieflow", *asked)
    for code, figures in ((alone.code, alone.json), (run.returncode, json.loads(run.stdout))):
        assert code == 0
        assert figures["methods_used"] == ["dlmp", "admm"]
        (note,) = [note for note in figures["notes"] if "takes over" in note]
        assert note.startswith("dlmp gave up in round ") and note.endswith("; admm takes over")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["solve", "SMALL", "--set", "v_min_pu=1.019", "--set", "v_max_pu=1.02"], 3, "Widen these limits"),
        (["solve", "nowhere"], 1, "no such folder"),
        (["solve", "SMALL", "--max-rounds", "few"], 1, "--max-rounds"),
        (["show", "nothing.h5"], 1, "no such file"),
    ],
)
def test_json_says_why_there_is_no_result(
    tieflow: Tieflow, small: Path, arguments: list[str], code: int, words: str
) -> None:
    ended = tieflow(*(argument.replace("SMALL", str(small)) for argument in arguments), "--json")
    assert ended.code == code
    assert set(ended.json) == {"exit_code", "exit_reason"}
    assert ended.json["exit_code"] == code
    assert words in ended.json["exit_reason"]


def test_benchmark_says_what_it_ends_with_and_why(tieflow: Tieflow, small: Path) -> None:
    asked = ("benchmark", small, "--methods", "enapp", "--tolerance", "1e-9", "--max-rounds", "25")
    told = tieflow(*asked, "--json")
    assert told.code == told.json["exit_code"] == max(run["exit_code"] for run in told.json["runs"]) == 2
    assert "enapp: exit code 2: NOT CONVERGED after 25 rounds" in tieflow(*asked).out
