"""Each wrong input ends all ranks of a real ``mpirun`` with a message that helps.

What is refused before anything is solved finds every rank but the first in the same place, waiting for its areas: two
ranks prove what five would in half the time. One of each section runs on five all the same.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from contextlib import ExitStack
from importlib import resources
from pathlib import Path

import pytest
from mpi_runs import Launch, Run, contents, mpirun, run

WITHIN_S = 40.0
"""for 'within seconds', on a machine that may be busy"""
ALL = 5
"""a coordinator and a rank for each of the four areas"""
OLD_RESULT = b"the result of an earlier run"
DEVICE_COLUMNS = "bus,p_rated_kw,s_rated_kva"
BATTERY_COLUMNS = "bus,p_rated_kw,s_rated_kva,energy_kwh,soc_min,soc_max,soc_initial"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A copy of the shipped case, to be broken."""
    folder = tmp_path / "feeder"
    shutil.copytree(str(resources.files("tieflow.launch") / "cases" / "ieee123"), folder)
    return folder


def change(path: Path, old: str, new: str) -> None:
    """Replace a line of a file, or a part that it has once."""
    text = path.read_text()
    whole = f"\n{old}\n" in text
    assert whole or text.count(old) == 1, f"{path} does not have '{old}' once"
    path.write_text(text.replace(f"\n{old}\n", f"\n{new}\n" if new else "\n") if whole else text.replace(old, new))


def append(path: Path, *lines: str) -> None:
    path.write_text(path.read_text().rstrip("\n") + "\n" + "\n".join(lines) + "\n")


def solve(folder: Path, *arguments: str, ranks: int = ALL) -> Run:
    """Solve, and hold the promises that every bad input has in common: no file made or changed, no process left."""
    before = contents(folder)
    ended = run(mpirun(ranks, "tieflow", "solve", *arguments), folder, timeout_s=WITHIN_S)
    assert contents(folder) == before
    assert ended.left_over == ()
    return ended


def message(ended: Run, code: int = 1) -> str:
    """The one message of a run that ended with this code."""
    assert ended.code == code, ended.text
    assert "Traceback" not in ended.text
    told = [line for line in ended.text.splitlines() if line.startswith("tieflow: ")]
    assert len(told) == 1, ended.text
    return told[0]


def refusal(folder: Path, *arguments: str, ranks: int = 2) -> str:
    """The message of a run that is refused before it solves anything."""
    ended = solve(folder, *arguments, ranks=ranks)
    told = message(ended)
    assert ended.rounds == []
    assert ended.stdout == ""
    return told


def assert_names(told: str, *names: str) -> None:
    for name in names:
        assert name in told, told


# Names


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path: Path, case: Path) -> None:
    change(case / "case.toml", "v_min_pu = 0.95", "v_mim_pu = 0.95")
    told = refusal(tmp_path, "feeder", ranks=ALL)
    assert_names(told, "case.toml", "'v_mim_pu'", "Did you mean 'v_min_pu'?")


def test_an_unknown_key_in_set_is_refused_with_the_nearest(tmp_path: Path) -> None:
    told = refusal(tmp_path, "ieee123", "--set", "pv_precent=10")
    assert_names(told, "--set", "'pv_precent'", "Did you mean 'pv_percent'?")


def test_a_misspelt_case_is_refused_with_the_nearest(tmp_path: Path) -> None:
    assert_names(refusal(tmp_path, "ieee12"), "'ieee12'", "Did you mean 'ieee123'?")


def test_a_misspelt_method_is_refused_with_the_nearest(tmp_path: Path) -> None:
    assert_names(refusal(tmp_path, "ieee123", "--method", "amdm"), "method", "amdm", "Did you mean 'admm'?")


def test_a_misspelt_option_is_refused_with_the_nearest(tmp_path: Path) -> None:
    ended = solve(tmp_path, "ieee123", "--perids", "5")
    assert ended.code == 1
    assert ended.stdout == ""
    assert ended.text.count("--perids") == 1
    assert ended.text.count("--periods") == 1
    assert "Traceback" not in ended.text


def test_a_misspelt_column_is_refused_with_the_nearest(tmp_path: Path, case: Path) -> None:
    change(case / "buses.csv", "q_load_kvar", "q_laod_kvar")
    assert_names(refusal(tmp_path, "feeder"), "buses.csv", "'q_laod_kvar'", "Did you mean 'q_load_kvar'?")


# Files, columns, values


@pytest.mark.parametrize("name", ["case.toml", "buses.csv", "profiles.csv"])
def test_a_missing_file_is_named(tmp_path: Path, case: Path, name: str) -> None:
    (case / name).unlink()
    assert_names(refusal(tmp_path, "feeder"), "feeder", name, "README")


def test_a_missing_column_is_named(tmp_path: Path, case: Path) -> None:
    change(case / "branches.csv", "from_bus,to_bus,r_ohm,x_ohm", "from_bus,to_bus,r_ohm")
    rows = (case / "branches.csv").read_text().splitlines()
    (case / "branches.csv").write_text("\n".join(rows[:1] + [row.rpartition(",")[0] for row in rows[1:]]) + "\n")
    assert_names(refusal(tmp_path, "feeder", ranks=ALL), "branches.csv", "missing column 'x_ohm'")


def test_a_nan_in_a_table_is_named(tmp_path: Path, case: Path) -> None:
    change(case / "buses.csv", "3,13.33,6.667,0", "3,nan,6.667,0")
    assert_names(refusal(tmp_path, "feeder"), "buses.csv, line 4", "p_load_kw", "nan")


def test_a_nan_in_a_profile_is_named(tmp_path: Path, case: Path) -> None:
    change(case / "profiles.csv", "2,0.618,0", "2,NaN,0")
    assert_names(refusal(tmp_path, "feeder"), "profiles.csv, line 4", "load_pu", "NaN")


def test_a_nan_in_a_setting_is_named(tmp_path: Path, case: Path) -> None:
    change(case / "case.toml", "v_max_pu = 1.05", "v_max_pu = nan")
    assert_names(refusal(tmp_path, "feeder"), "case.toml", "v_max_pu", "nan")


@pytest.mark.parametrize("setting", ["substation_v_pu=4.16", "soc_max=95"])
def test_a_value_in_the_wrong_unit_is_named(tmp_path: Path, setting: str) -> None:
    key, _, value = setting.partition("=")
    assert_names(refusal(tmp_path, "ieee123", "--set", setting), "--set", key, value, "less than or equal to")


def test_a_value_in_the_wrong_unit_in_a_file_is_named(tmp_path: Path, case: Path) -> None:
    change(case / "case.toml", "v_min_pu = 0.95", "v_min_pu = 95")
    assert_names(refusal(tmp_path, "feeder"), "case.toml", "v_min_pu", "95", "less than or equal to 1.5")


@pytest.mark.parametrize(
    ("setting", "message"),
    [("base_kva=1e300", "1 to 1e+06"), ("dt_hours=1e-300", "0.01667 to 24"), ("voltage_kv=true", "valid number")],
)
def test_a_number_that_no_feeder_has_is_named(tmp_path: Path, setting: str, message: str) -> None:
    assert_names(refusal(tmp_path, "ieee123", "--set", setting), "--set", setting.partition("=")[0], message)


def test_a_tolerance_that_is_no_number_is_named(tmp_path: Path) -> None:
    ended = solve(tmp_path, "ieee123", "--tolerance", "nan", ranks=2)
    assert ended.code == 1
    assert ended.stdout == ""
    assert ended.text.count("nan is no number") == 1
    assert "Traceback" not in ended.text


def test_decimal_commas_between_commas_are_named(tmp_path: Path, case: Path) -> None:
    change(case / "buses.csv", "3,13.33,6.667,0", "3,13,33,6,667,0")
    assert_names(refusal(tmp_path, "feeder"), "buses.csv, line 4", "decimal comma", "1.5", "semicolons")


# The network


def test_a_branch_to_an_unknown_bus_is_named(tmp_path: Path, case: Path) -> None:
    change(case / "branches.csv", "2,3,0.0232,0.0475", "2,333,0.0232,0.0475")
    assert_names(refusal(tmp_path, "feeder", ranks=ALL), "branches.csv", "2-333", "unknown bus '333'", "buses.csv")


@pytest.mark.parametrize(
    ("table", "lines"),
    [
        ("areas.csv", ("333,1",)),
        ("batteries.csv", (BATTERY_COLUMNS, "333,10,12,40,0.3,0.95,0.5")),
    ],
)
def test_an_unknown_bus_in_another_table_is_named(
    tmp_path: Path, case: Path, table: str, lines: tuple[str, ...]
) -> None:
    if (case / table).exists():
        append(case / table, *lines)
    else:
        (case / table).write_text("\n".join(lines) + "\n")
    assert_names(refusal(tmp_path, "feeder"), table, "unknown bus '333'")


def test_a_substation_at_an_unknown_bus_is_named(tmp_path: Path) -> None:
    told = refusal(tmp_path, "ieee123", "--set", "substation_bus=333")
    assert_names(told, "substation_bus", "'333'", "buses.csv")


def test_a_disconnected_bus_is_named(tmp_path: Path, case: Path) -> None:
    append(case / "buses.csv", "island,1,1,0")
    append(case / "areas.csv", "island,1")
    assert_names(refusal(tmp_path, "feeder"), "branches.csv", "not connected", "island")


def test_a_loop_names_its_buses_and_no_others(tmp_path: Path, case: Path) -> None:
    append(case / "branches.csv", "4,5,0.1,0.1")
    told = refusal(tmp_path, "feeder")
    assert_names(told, "branches.csv", "loop")
    named = told.partition("buses ")[2].partition(".")[0].split(", ")
    assert sorted(named) == ["3", "4", "5"]


@pytest.mark.parametrize(
    ("table", "line", "name"),
    [
        ("buses.csv", "3,13.33,6.667,0", "'3'"),
        ("branches.csv", "3,2,0.1,0.1", "3-2"),
    ],
)
def test_a_duplicate_element_is_named(tmp_path: Path, case: Path, table: str, line: str, name: str) -> None:
    append(case / table, line)
    assert_names(refusal(tmp_path, "feeder"), table, "duplicate", name)


def test_two_devices_of_one_name_are_named(tmp_path: Path, case: Path) -> None:
    (case / "pv.csv").write_text(f"{DEVICE_COLUMNS},name\n4,10,12,roof\n5,10,12,roof\n")
    assert_names(refusal(tmp_path, "feeder", "--set", "pv_percent=0"), "pv.csv", "two devices", "'roof'")


def test_a_negative_impedance_is_named(tmp_path: Path, case: Path) -> None:
    change(case / "branches.csv", "2,3,0.0232,0.0475", "2,3,-0.0232,0.0475")
    assert_names(refusal(tmp_path, "feeder"), "branches.csv, line 3", "r_ohm", "greater than or equal to 0")


def test_a_zero_resistance_where_it_matters_is_named(tmp_path: Path, case: Path) -> None:
    change(case / "branches.csv", "2,3,0.0232,0.0475", "2,3,0,0.0475")
    assert_names(refusal(tmp_path, "feeder"), "branches.csv", "2-3", "r_ohm")


# Profiles, batteries, areas


def test_a_profile_of_the_wrong_length_is_named(tmp_path: Path, case: Path) -> None:
    lines = (case / "profiles.csv").read_text().splitlines()
    (case / "profiles.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert_names(refusal(tmp_path, "feeder", ranks=ALL), "profiles.csv", "23 rows", "0..23")


def test_soc_settings_that_contradict_are_named(tmp_path: Path, case: Path) -> None:
    change(case / "case.toml", "soc_min = 0.30", "soc_min = 0.96")
    assert_names(refusal(tmp_path, "feeder"), "case.toml", "soc_min = 0.96", "soc_max = 0.95")


def test_soc_settings_that_contradict_blame_set_and_not_the_file(tmp_path: Path) -> None:
    assert_names(refusal(tmp_path, "ieee123", "--set", "soc_min=0.96"), "--set", "soc_min = 0.96", "soc_max = 0.95")


def test_soc_limits_of_a_battery_that_contradict_are_named(tmp_path: Path, case: Path) -> None:
    (case / "batteries.csv").write_text(f"{BATTERY_COLUMNS}\n4,10,12,40,0.8,0.6,0.7\n")
    told = refusal(tmp_path, "feeder", "--set", "battery_percent=0")
    assert_names(told, "batteries.csv, line 2", "soc_min = 0.8", "soc_max = 0.6")


def test_an_area_that_is_not_connected_is_named(tmp_path: Path, case: Path) -> None:
    area_of = dict(line.split(",") for line in (case / "areas.csv").read_text().split())
    assert area_of["4"] == "1"
    change(case / "areas.csv", "4,1", "4,3")
    assert_names(refusal(tmp_path, "feeder"), "areas.csv", "area 3", "not connected", "'4'")


def test_a_bus_that_areas_leave_out_is_named(tmp_path: Path, case: Path) -> None:
    change(case / "areas.csv", "4,1", "")
    assert_names(refusal(tmp_path, "feeder"), "areas.csv", "no area", "4")


def test_a_bus_in_two_areas_is_named(tmp_path: Path, case: Path) -> None:
    append(case / "areas.csv", "4,2")
    assert_names(refusal(tmp_path, "feeder"), "areas.csv", "'4'", "twice")


# The result's path


@pytest.mark.parametrize("path", ["nowhere/run.h5", "a_folder"])
def test_a_result_path_that_cannot_be_written_is_found_before_solving(tmp_path: Path, path: str) -> None:
    (tmp_path / "a_folder").mkdir()
    assert_names(refusal(tmp_path, "ieee123", "--output", path, ranks=ALL), path)
    assert list((tmp_path / "a_folder").iterdir()) == []


# Infeasible


def test_an_infeasible_area_and_its_kind_of_limit_are_named(tmp_path: Path) -> None:
    (tmp_path / "run.h5").write_bytes(OLD_RESULT)
    told = message(solve(tmp_path, "ieee123", "--periods", "2", "--set", "v_min_pu=1.04", "--output", "run.h5"), code=3)
    assert_names(told, "area 1", "infeasible", "voltage limits", "v_min_pu")


def test_voltage_limits_that_no_areas_can_hold_are_named_with_an_area(tmp_path: Path) -> None:
    told = message(solve(tmp_path, "ieee123", "--periods", "2", "--set", "v_min_pu=1.02"), code=3)
    assert_names(told, "voltage", "v_min_pu")
    assert re.search(r"\bareas? [1-4]\b", told), told


def test_a_substation_cap_that_areas_cannot_hold_is_named_with_an_area(tmp_path: Path) -> None:
    told = message(solve(tmp_path, "ieee123", "--periods", "2", "--set", "substation_peak_kw=300"), code=3)
    assert_names(told, "substation_peak_kw")
    assert re.search(r"\bareas? [1-4]\b", told), told


def test_a_cap_that_a_multi_phase_feeder_cannot_keep_is_named_with_the_power_it_takes(tmp_path: Path) -> None:
    told = message(solve(tmp_path, "ieee13", "--set", "substation_peak_kw=100", "--periods", "2"), code=3)
    assert_names(told, "substation_peak_kw = 100", "kW at 11:00", "Raise it")


# Ranks


def test_too_many_ranks_are_told_the_right_command_and_an_existing_result_stays(tmp_path: Path) -> None:
    (tmp_path / "run.h5").write_bytes(OLD_RESULT)
    told = refusal(tmp_path, "ieee123", "--output", "run.h5", ranks=ALL + 1)
    assert_names(told, "6 ranks", "mpirun -n 5 tieflow")
    assert (tmp_path / "run.h5").read_bytes() == OLD_RESULT


BREAKING = """
import sys

from tieflow.areas import relaxed_area
from tieflow.launch.commands import cli

rounds = 0


def breaking(original, where):
    def call(*arguments):
        global rounds
        if where == "rank 0" or arguments[0].area.name == "3":
            rounds += 1
        if rounds == 3:
            raise RuntimeError("boom")
        return original(*arguments)

    return call


where = sys.argv.pop(1)
if where == "rank 0":
    cli.print_round = breaking(cli.print_round, where)
else:
    relaxed_area.RelaxedArea.optimum = breaking(relaxed_area.RelaxedArea.optimum, where)
cli.main()
"""


@pytest.mark.parametrize("where", ["rank 0", "an area's rank"])
def test_an_exception_in_one_rank_ends_all_and_is_told_once(tmp_path: Path, where: str) -> None:
    (tmp_path / "breaking.py").write_text(BREAKING)
    (tmp_path / "run.h5").write_bytes(OLD_RESULT)
    before = contents(tmp_path)
    command = mpirun(ALL, "python", "breaking.py", where, "solve", "ieee123", "--output", "run.h5")
    ended = run(command, tmp_path, timeout_s=WITHIN_S)
    assert ended.code != 0
    assert len(ended.rounds) in (2, 3)
    assert ended.text.count("RuntimeError: boom") == 1, ended.text
    assert ended.left_over == ()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("rank", [0, 3])
def test_a_rank_that_is_killed_in_mid_run_ends_all(tmp_path: Path, rank: int) -> None:
    (tmp_path / "run.h5").write_bytes(OLD_RESULT)
    before = contents(tmp_path)
    endless = ("--periods", "24", "--tolerance", "1e-9", "--max-rounds", "100000")
    command = mpirun(ALL, "tieflow", "solve", "ieee123", *endless, "--output", "run.h5")
    with Launch(command, tmp_path) as launch:
        launch.wait_for_rounds(3)
        os.kill(launch.pid_of_rank(rank), signal.SIGKILL)
        ended = launch.finish(timeout_s=WITHIN_S)
    assert ended.code != 0
    assert ended.left_over == ()
    assert contents(tmp_path) == before


def test_one_ctrl_c_ends_all_ranks(tmp_path: Path) -> None:
    (tmp_path / "run.h5").write_bytes(OLD_RESULT)
    before = contents(tmp_path)
    endless = ("--periods", "24", "--tolerance", "1e-9", "--max-rounds", "100000")
    command = mpirun(2, "tieflow", "solve", "ieee123", *endless, "--output", "run.h5")
    with Launch(command, tmp_path) as launch:
        launch.wait_for_rounds(1)
        launch.interrupt()
        ended = launch.finish(timeout_s=WITHIN_S)
    assert ended.code != 0
    assert "Traceback" not in ended.text
    assert ended.left_over == ()
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("size", "rank"), [("PMI_SIZE", "PMI_RANK"), ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK")])
def test_a_launcher_of_another_mpi_is_refused_by_rank_0_alone(tmp_path: Path, size: str, rank: str) -> None:
    # What such a launcher makes: processes that each believe to be alone. Three of the five.
    with ExitStack() as stack:
        command = ["tieflow", "solve", "ieee123", "--output", "run.h5"]
        launches = [
            stack.enter_context(Launch(command, tmp_path, {size: "5", rank: str(number)})) for number in (0, 1, 4)
        ]
        ended = [launch.finish(timeout_s=WITHIN_S) for launch in launches]
    assert [one.code for one in ended] == [1, 0, 0]
    together = Run(
        code=max(one.code for one in ended),
        stdout="".join(one.stdout for one in ended),
        stderr="".join(one.stderr for one in ended),
        left_over=tuple(pid for one in ended for pid in one.left_over),
    )
    assert_names(message(together), "5 ranks", "mpirun", "README")
    assert together.rounds == []
    assert together.left_over == ()
    assert contents(tmp_path) == {}
