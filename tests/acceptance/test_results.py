"""What is stored, what the commands print of it, and what they end with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import pytest
from mpi_runs import Run, contents, mpirun, run

FIGURES = {
    "method",
    "periods",
    "areas",
    "converged",
    "rounds",
    "cost",
    "substation_energy_kwh",
    "substation_reactive_kvarh",
    "losses_kwh",
    "max_mismatch_pu",
    "relaxation_gap_pu",
    "checker",
    "time",
}
CHECKER_FIGURES = {
    "passed",
    "max_voltage_error_pu",
    "max_substation_error_kw",
    "max_loss_error_kw",
    "max_soc_error",
    "violations",
}
TIME_FIGURES = {"total_s", "critical_path_s", "solve_s", "communication_s"}
CHANGED = {"der_fraction": 0.35, "pv_percent": 10.0, "battery_percent": 15.0, "v_min_pu": 0.96}
SHIPPED = Path(str(resources.files("tieflow.launch") / "cases" / "ieee123"))


class Solved:
    """A solve of a user's own case in a folder with spaces in its name; the case is gone when the tests look."""

    def __init__(self, folder: Path) -> None:
        case = folder / "my cases" / "our feeder"
        shutil.copytree(SHIPPED, case)
        overrides = [word for key, value in CHANGED.items() for word in ("--set", f"{key}={value}")]
        self.folder = folder / "elsewhere"
        self.folder.mkdir()
        self.path = self.folder / "my results" / "run 1.h5"
        self.path.parent.mkdir()
        command = ("tieflow", "solve", "../my cases/our feeder", "--periods", "4", *overrides)
        self.run = run(mpirun(5, *command, "--output", "my results/run 1.h5", "--json"), self.folder)
        self.printed: dict[str, Any] = self.run.json()
        shutil.rmtree(case)


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Solved:
    return Solved(tmp_path_factory.mktemp("solved"))


@pytest.fixture
def file(solved: Solved) -> Iterator[h5py.File]:
    with h5py.File(solved.path) as opened:
        yield opened


def arrays(group: h5py.Group) -> dict[str, Any]:
    """What a group holds besides the names along its axes."""
    return {name: item[()] for name, item in group.items() if "axes" in item.attrs}


def tieflow(folder: Path, *arguments: str) -> Run:
    return run(["tieflow", *arguments], folder)


def assert_figures(figures: dict[str, Any]) -> None:
    assert set(figures) >= FIGURES, f"missing: {sorted(FIGURES - set(figures))}"
    assert set(figures["checker"]) >= CHECKER_FIGURES, f"missing: {sorted(CHECKER_FIGURES - set(figures['checker']))}"
    assert set(figures["time"]) >= TIME_FIGURES, f"missing: {sorted(TIME_FIGURES - set(figures['time']))}"


# The file


def test_a_case_folder_and_a_result_with_spaces_work_from_another_directory(solved: Solved) -> None:
    assert solved.run.code == 0, solved.run.text
    assert solved.printed["case"] == "our feeder"
    assert list(contents(solved.folder)) == [solved.path]


def test_the_file_says_what_it_is_and_its_format_version(file: h5py.File) -> None:
    assert file.attrs["format"] == "tieflow result"
    assert file.attrs["format_version"] >= 1


def test_the_file_has_the_case_as_solved(file: h5py.File) -> None:
    settings = file["case/settings"].attrs
    assert {key: settings[key] for key in CHANGED} == CHANGED
    assert settings["periods"] == 4
    for table, columns in (
        ("buses", ("bus", "p_load_kw", "q_load_kvar", "q_cap_kvar")),
        ("branches", ("from_bus", "to_bus", "r_ohm", "x_ohm")),
        ("areas", ("bus", "area")),
    ):
        header, *rows = [line.split(",") for line in (SHIPPED / f"{table}.csv").read_text().split()]
        for column in columns:
            given = [row[header.index(column)] for row in rows]
            stored = file[f"case/{table}/{column}"]
            if stored.dtype.kind == "f":
                assert stored[()].tolist() == [float(cell) for cell in given]
            else:
                assert stored.asstr()[()].tolist() == given
    # 10 % and 15 % of 85 load buses; the middle 4 of 24 hours.
    assert file["case/pv/bus"].shape == (9,)
    assert file["case/batteries/bus"].shape == (13,)
    assert file["case/horizon/hour"][()].tolist() == [10, 11, 12, 13]
    rows = [line.split(",") for line in (SHIPPED / "profiles.csv").read_text().split()[11:15]]
    assert file["case/horizon/load"][()].tolist() == [float(row[1]) for row in rows]
    assert file["case/horizon/pv"][()].tolist() == [float(row[2]) for row in rows]
    assert sorted(file["case/horizon/price"][()].tolist()) == [0.04820404] * 3 + [0.3018066]


def test_the_file_has_the_schedule_of_every_device(file: h5py.File) -> None:
    pv_kvar = file["schedule/pv/q_kvar"][()]
    assert pv_kvar.shape == (9, 4)
    battery = arrays(file["schedule/batteries"])
    assert {name: array.shape for name, array in battery.items()} == dict.fromkeys(
        ("charge_kw", "discharge_kw", "q_kvar", "energy_kwh"), (13, 4)
    )
    row = arrays(file["case/batteries"])
    moved = row["eta_charge"][:, None] * battery["charge_kw"] - battery["discharge_kw"] / row["eta_discharge"][:, None]
    start = row["soc_initial"] * row["energy_kwh"]
    assert battery["charge_kw"].max() > 1.0, "batteries that do nothing prove nothing"
    np.testing.assert_allclose(battery["energy_kwh"], start[:, None] + np.cumsum(moved, axis=1), atol=1e-3)
    np.testing.assert_allclose(battery["energy_kwh"][:, -1], start, atol=1e-3)


def test_the_file_has_the_network_state(solved: Solved, file: h5py.File) -> None:
    state = arrays(file["state"])
    assert state["v_pu"].shape == (128, 4)
    assert state["p_kw"].shape == state["q_kvar"].shape == state["i_a"].shape == (127, 4)
    assert state["v_pu"].min() >= 0.96 - 1e-5
    assert state["v_pu"].max() <= 1.05 + 1e-5
    assert state["substation_p_kw"].sum() == pytest.approx(solved.printed["substation_energy_kwh"])
    assert state["substation_q_kvar"].sum() == pytest.approx(solved.printed["substation_reactive_kvarh"])
    assert state["losses_kw"].sum() == pytest.approx(solved.printed["losses_kwh"])
    price = file["case/horizon/price"][()]
    assert price @ state["substation_p_kw"] == pytest.approx(solved.printed["cost"], rel=1e-6)
    # What flows in is load, less PV, plus what batteries take, plus losses.
    load = file["case/buses/p_load_kw"][()].sum() * file["case/horizon/load"][()]
    sun = file["case/pv/p_rated_kw"][()].sum() * file["case/horizon/pv"][()]
    battery = (file["schedule/batteries/charge_kw"][()] - file["schedule/batteries/discharge_kw"][()]).sum(axis=0)
    np.testing.assert_allclose(state["substation_p_kw"], load - sun + battery + state["losses_kw"], atol=0.05)


def test_the_file_has_the_convergence_of_every_round(solved: Solved, file: h5py.File) -> None:
    rounds = solved.printed["rounds"]
    history = arrays(file["history"])
    # Of earlier versions only.
    assert len(history.pop("model_error_pu")) == 0
    assert all(len(array) == rounds for array in history.values())
    assert np.isnan(history["optimality"]).all(), "areas of admm do not know the whole"
    assert (history["cpu_s"] > 0).all()
    assert history["mismatch_pu"][-1] == solved.printed["max_mismatch_pu"] <= 1e-5
    assert history["change_pu"][-1] <= 1e-5 < max(history["mismatch_pu"][-2], history["change_pu"][-2])
    assert history["cost"][-1] == pytest.approx(solved.printed["cost"], rel=1e-12)
    assert (np.diff(history["elapsed_s"]) > 0).all()
    assert set(history["method"]) == {b"admm"}


def test_the_file_has_the_times_of_every_area_and_round(solved: Solved, file: h5py.File) -> None:
    history, time = file["history"], solved.printed["time"]
    solve_s, area_s = history["solve_s"][()], history["area_s"][()]
    assert solve_s.shape == area_s.shape == (solved.printed["rounds"], 4)
    assert file["axes/area"].asstr()[()].tolist() == ["1", "2", "3", "4"]
    assert (solve_s > 0).all()
    assert (area_s >= solve_s).all()
    coordinator_s, communication_s = history["coordinator_s"][()], history["communication_s"][()]
    assert (coordinator_s > 0).all()
    assert time["solve_s"] == pytest.approx(solve_s.sum())
    assert time["communication_s"] == pytest.approx(communication_s.sum())
    assert time["critical_path_s"] == pytest.approx((area_s.max(axis=1) + coordinator_s + communication_s).sum())
    assert time["total_s"] >= history["elapsed_s"][-1]


def test_the_file_has_the_verdict_of_opendss(solved: Solved, file: h5py.File) -> None:
    verdict, printed = file["check"].attrs, solved.printed["checker"]
    assert bool(verdict["passed"]) is printed["passed"] is True
    for name in CHECKER_FIGURES - {"passed", "violations"}:
        assert verdict[name] == printed[name]
    assert file["check/state/v_pu"].shape == (128, 4)


def test_the_file_has_the_versions_of_the_libraries(file: h5py.File) -> None:
    versions = dict(file["versions"].attrs)
    assert versions["h5py"] == h5py.__version__
    assert versions["numpy"] == np.__version__
    assert {"tieflow", "cvxpy", "scipy", "mpi4py", "clarabel", "opendssdirect.py"} <= set(versions)


# The commands


def test_solve_prints_the_promised_figures(solved: Solved) -> None:
    assert_figures(solved.printed)


def test_show_prints_the_stored_result_again(solved: Solved) -> None:
    shown = tieflow(solved.folder, "show", str(solved.path), "--json")
    assert shown.code == 0, shown.text
    assert_figures(shown.json())
    assert shown.json() == {key: value for key, value in solved.printed.items() if key != "output"}


def test_show_prints_a_table_for_people(solved: Solved) -> None:
    shown = tieflow(solved.folder, "show", str(solved.path))
    assert shown.code == 0, shown.text
    for text in ("our feeder", f"{solved.printed['cost']:.4f} $", "OpenDSS confirms the schedule", "no limit violated"):
        assert text in shown.stdout, shown.stdout


def test_check_replays_the_stored_schedule(solved: Solved) -> None:
    before = contents(solved.folder)
    checked = tieflow(solved.folder, "check", str(solved.path))
    assert checked.code == 0, checked.text
    assert "OpenDSS confirms the schedule" in checked.stdout
    assert contents(solved.folder) == before


@pytest.fixture(scope="module")
def checked(solved: Solved) -> Run:
    return tieflow(solved.folder, "check", str(solved.path), "--json")


def test_check_finds_the_figures_that_solve_found(solved: Solved, checked: Run) -> None:
    assert checked.code == 0, checked.text
    found = checked.json()
    found = found.get("checker", found)
    assert found["passed"] is True
    for name in CHECKER_FIGURES - {"passed", "violations"}:
        assert found[name] == pytest.approx(solved.printed["checker"][name], rel=1e-6, abs=1e-12)


def test_check_prints_the_promised_figures(checked: Run) -> None:
    assert_figures(checked.json())


def test_benchmark_sets_methods_against_the_centralized_baseline(tmp_path: Path) -> None:
    command = ("tieflow", "benchmark", "ieee123", "--periods", "3", "--methods", "admm,dlmp,enapp", "--json")
    ended = run(mpirun(3, *command), tmp_path)
    assert ended.code == 0, ended.text
    assert contents(tmp_path) == {}
    rows = {row["method"]: row for row in ended.json()["runs"]}
    assert list(rows) == ["centralized", "admm", "dlmp", "enapp"]
    baseline = rows["centralized"]
    for row in rows.values():
        assert_figures(row)
        assert row["gap_to_optimum"] == pytest.approx(row["objective"] / baseline["objective"] - 1, abs=1e-12)
        path = row["time"]["critical_path_s"] / baseline["time"]["critical_path_s"]
        assert row["critical_path_ratio"] == pytest.approx(path)
    assert [rows[method]["areas"] for method in rows] == [1, 4, 4, 4]
    assert abs(rows["admm"]["gap_to_optimum"]) <= 1e-5
    assert abs(rows["dlmp"]["gap_to_optimum"]) <= 1e-6


def test_benchmark_prints_one_table(tmp_path: Path) -> None:
    ended = run(mpirun(2, "tieflow", "benchmark", "ieee123", "--periods", "1", "--methods", "admm"), tmp_path)
    assert ended.code == 0, ended.text
    header, *rows = ended.stdout.splitlines()
    for name in ("method", "cost", "gap", "rounds", "mismatch", "critical path", "centralized", "OpenDSS"):
        assert name in header
    assert [row.split()[0] for row in rows[:2]] == ["centralized", "admm"]
    assert len([row for row in ended.stdout.splitlines() if row == header]) == 1


# How a run ends


@pytest.fixture(scope="module")
def unconverged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("unconverged")
    return run(mpirun(2, "tieflow", "solve", "ieee123", "--max-rounds", "3"), folder), folder / "ieee123.h5"


def test_a_run_that_did_not_converge_is_stored_and_marked_so(unconverged: tuple[Run, Path]) -> None:
    ended, path = unconverged
    assert ended.code == 2, ended.text
    assert "NOT CONVERGED" in ended.stdout
    assert str(path) in ended.stdout
    with h5py.File(path) as file:
        assert not file["summary"].attrs["converged"]
        assert len(file["history/cost"]) == 3


def test_show_says_that_a_stored_run_did_not_converge(unconverged: tuple[Run, Path]) -> None:
    _, path = unconverged
    shown = tieflow(path.parent, "show", path.name)
    assert shown.code == 2, shown.text
    assert "NOT CONVERGED" in shown.stdout
    printed = tieflow(path.parent, "show", path.name, "--json")
    assert printed.code == 2
    assert printed.json()["converged"] is False


def test_a_batch_log_has_one_plain_line_a_round(unconverged: tuple[Run, Path]) -> None:
    ended, _ = unconverged
    assert len(ended.rounds) == 3
    assert "\x1b" not in ended.text
    assert "\r" not in ended.text
    header = ended.stdout.splitlines()[0].split()
    assert header == ["round", "method", "mismatch", "change", "residual", "cost", "elapsed"]


@pytest.fixture
def stored(solved: Solved, tmp_path: Path) -> Path:
    """A stored result to be tampered with."""
    path = tmp_path / "stored.h5"
    shutil.copy(solved.path, path)
    return path


def test_a_schedule_that_opendss_does_not_confirm_ends_with_4(stored: Path) -> None:
    with h5py.File(stored, "r+") as file:
        file["schedule/pv/q_kvar"][0, 2] -= 5.0
    checked = tieflow(stored.parent, "check", stored.name)
    assert checked.code == 4, checked.text
    assert "OpenDSS DOES NOT CONFIRM the schedule" in checked.stdout


def test_a_violated_limit_is_told_with_element_hour_and_amount(stored: Path) -> None:
    with h5py.File(stored, "r+") as file:
        bus = file["case/batteries/bus"].asstr()[0]
        initial = float(file["case/batteries/soc_initial"][0])
        # The hour of the high price, so the battery discharges; now it keeps what it has and ends too full.
        kept = float(file["schedule/batteries/discharge_kw"][0, 2])
        assert kept > 3.0
        file["schedule/batteries/discharge_kw"][0, 2] = 0.0
    checked = tieflow(stored.parent, "check", stored.name, "--json")
    assert checked.code == 4, checked.text
    found = checked.json()
    found = found.get("checker", found)
    assert found["passed"] is False
    terminal = [v for v in found["violations"] if v["kind"] == "terminal SOC"]
    assert [(v["element"], v["hour"]) for v in terminal] == [(bus, 13)], found["violations"]
    assert terminal[0]["limit"] == pytest.approx(initial)
    assert terminal[0]["value"] > initial + 1e-3


def test_a_setpoint_beyond_its_rating_is_not_confirmed(stored: Path) -> None:
    with h5py.File(stored, "r+") as file:
        rated = float(file["case/batteries/p_rated_kw"][0])
        file["schedule/batteries/discharge_kw"][0, 2] = 1.7 * rated
    checked = tieflow(stored.parent, "check", stored.name)
    assert checked.code == 4, checked.text


def test_a_new_result_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "run.h5").write_bytes(b"the result of an earlier run")
    command = ("tieflow", "solve", "ieee123", "--periods", "1", "--output", "run.h5", "--json")
    ended = run(mpirun(2, *command), tmp_path)
    assert ended.code == 0, ended.text
    assert [path.name for path in contents(tmp_path)] == ["run.h5"]
    assert tieflow(tmp_path, "show", "run.h5", "--json").json()["cost"] == ended.json()["cost"]
