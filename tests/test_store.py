"""Results in real HDF5 files: the whole way round, in one step or not at all, and every way it can go wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np
import pytest
from stored_results import older

from tieflow.common.case import AreaRow, Case, Horizon, read_case
from tieflow.common.errors import TieflowError
from tieflow.common.feeder.balanced import BranchRow, BusRow
from tieflow.common.inputs.devices import PV, Battery, FlexibleLoad, Wind
from tieflow.common.inputs.settings import Settings
from tieflow.common.results.result import Check, History, Result, Tolerances, Violation
from tieflow.common.results.schedule import NetworkState, Schedule
from tieflow.common.results.store import FORMAT_VERSION, check_writable, read_result, write_result


def small_case() -> Case:
    return Case(
        name="Dörfli",
        settings=Settings(title="Tal – 谷", voltage_kv=4.16, substation_bus="Süd", periods=2, price_low_per_kwh=0.1),
        buses=(BusRow(bus="Süd"), BusRow(bus="bus/2", p_load_kw=40.0, q_load_kvar=-3.0), BusRow(bus="変電所")),
        branches=(
            BranchRow(from_bus="Süd", to_bus="変電所", r_ohm=0.1, x_ohm=0.2, i_max_a=300.0),
            BranchRow(from_bus="変電所", to_bus="bus/2", r_ohm=0.0, x_ohm=0.0),
        ),
        pv=(PV(bus="変電所", p_rated_kw=10.0, s_rated_kva=12.0),),
        batteries=(Battery(bus="bus/2", p_rated_kw=10.0, s_rated_kva=12.0, energy_kwh=40.0),),
        flexible_loads=(FlexibleLoad(bus="bus/2", p_kw=9.0, q_kvar=-1.0, down=0.4, up=0.2),),
        wind=(Wind(bus="bus/2", p_rated_kw=10.0, s_rated_kva=12.0, curtailable=True),),
        horizon=Horizon(
            (11, 12), np.array([0.9, 1.0]), np.array([0.5, 0.4]), np.array([0.1, 0.2]), 0.5, wind=np.array([0.3, 0.2])
        ),
        areas=(AreaRow(bus="Süd", area="1"), AreaRow(bus="変電所", area="1"), AreaRow(bus="bus/2", area="Ost")),
        overrides=("periods", "price_low_per_kwh"),
    )


def make_result(case: Case, rounds: int = 3) -> Result:
    """A result of the right shapes with random numbers in it; the same ones every time."""
    random = np.random.default_rng(7)
    areas = tuple(dict.fromkeys(row.area for row in case.areas)) or ("1",)
    periods = len(case.horizon)

    buses, branches = len(case.buses), len(case.branches)
    if not case.is_balanced:
        buses = branches = len(case.multiphase_feeder.node_bus) - case.multiphase_feeder.roots

    def state() -> NetworkState:
        flows = [random.random((branches, periods)) for _ in range(3)]
        return NetworkState(random.random((buses, periods)), *flows, *random.random((5, periods)))

    def units(count: int, *names: str) -> Mapping[str, Any]:
        return {name: random.random((count, periods)) for name in names}

    check = Check(
        passed=False,
        tolerances=Tolerances(voltage_pu=1e-3),
        max_voltage_error_pu=np.inf,
        max_substation_error_kw=0.1,
        max_substation_error_kvar=float("nan"),
        max_loss_error_kw=-0.0,
        max_soc_error=1e-300,
        violations=(
            Violation("voltage", "変電所", 12, 1.07, 1.05, "pu", "06:00"),
            Violation("SOC", "b", 11, np.inf, 0.3, "1", "05:30"),
        ),
        cost=12.5,
        state=state(),
        battery_energy_kwh=random.random((len(case.batteries), periods)),
        failed_hours=(11,),
    )
    return Result(
        case=case,
        method="dlmp",
        areas=areas,
        tolerance_pu=1e-5,
        converged=True,
        schedule=Schedule(
            pv=units(len(case.pv), "p_kw", "q_kvar"),
            batteries=units(len(case.batteries), "charge_kw", "discharge_kw", "q_kvar", "energy_kwh"),
            flexible_loads=units(len(case.flexible_loads), "p_kw"),
            wind=units(len(case.wind), "p_kw", "q_kvar"),
        ),
        state=state(),
        history=History(
            ("dlmp",) * rounds,
            np.full(rounds, np.inf),
            *random.random((5, rounds)),
            *random.random((2, rounds, len(areas))),
            model_error_pu=random.random(rounds),
            optimality=np.where(np.arange(rounds) == 1, np.nan, random.random(rounds)),
            cpu_s=random.random((rounds, 2)),
        ),
        cost=576.2918,
        objective=576.3,
        relaxation_gap_pu=1e-9,
        lower_bound=576.29,
        max_mismatch_pu=3e-6,
        max_change_pu=np.inf,
        model_error_pu=2e-7,
        optimality=3e-9,
        relaxed_objective=2.25,
        oversteps=(Violation("voltage", "bus/2.3", 12, 0.94, 0.95, "pu", "06:00"),),
        total_s=1.5,
        ranks=5,
        check=check,
        versions={"python": sys.version, "opendssdirect.py": "0.9.4"},
        notes=("dlmp handed over to admm after round 3", ""),
        date="2026-11-25T18:02:34+01:00",
        command="tieflow solve 'Dörfli 2' --set periods=2",
        loose_because="v_max_pu = 1.05 binds at bus 変電所",
    )


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if is_dataclass(one):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, dict):
        assert sorted(one) == sorted(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other or (one != one and other != other)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.h5"


@pytest.fixture
def stored(path: Path) -> Path:
    write_result(path, make_result(small_case()))
    return path


def round_trip(path: Path, result: Result) -> None:
    write_result(path, result)
    assert_same(read_result(path), result)


def test_a_result_comes_back_as_it_was_stored(path: Path) -> None:
    round_trip(path, make_result(small_case()))


def test_a_case_of_several_phases_comes_back_with_circuit_shapes_and_places(path: Path) -> None:
    shipped = read_case("ieee13", {"periods": 2})
    pv = (*shipped.pv, PV(bus="684", phases="1-3", p_rated_kw=1.0, s_rated_kva=1.2, profile="sun"))
    shapes = {"sun": np.array([0.25, 0.5]), "night": np.zeros(2)}
    case = replace(shipped, pv=pv, horizon=replace(shipped.horizon, shapes=shapes))
    assert case.circuit and case.settings.model == "multiphase"
    feeder = case.multiphase_feeder
    result = make_result(case)
    of_nodes = "v_pu", "p_kw", "q_kvar", "i_a", "nodal_price"
    round_trip(path, replace(result, state=replace(result.state, nodal_price=result.state.v_pu / 10)))
    assert read_result(path).case.pv[-1].place == "684.1-3"
    with h5py.File(path) as file:
        axes = {name: file["axes"][name].asstr()[()].tolist() for name in ("node", "pv")}
        along = {name: file[f"state/{name}"].attrs["axes"] for name in (*of_nodes, "branch_kva", "losses_kw")}
    assert axes["node"] == list(feeder.node_names[feeder.roots :])
    assert axes["pv"] == [unit.place for unit in pv]
    by_node = dict.fromkeys(of_nodes, "node, period")
    assert along == by_node | {"branch_kva": "branch_limit, period", "losses_kw": "period"}


def test_the_shipped_case_comes_back_with_its_devices_and_areas(path: Path) -> None:
    round_trip(path, make_result(read_case("ieee123", {"pv_percent": 10, "battery_percent": 15, "periods": 5})))


def test_what_was_not_asked_for_comes_back_as_none(path: Path) -> None:
    round_trip(path, replace(make_result(small_case()), check=None, lower_bound=None, optimality=None))


def test_empty_tables_and_lists_come_back_empty(path: Path) -> None:
    result = make_result(replace(small_case(), pv=(), batteries=(), areas=()), rounds=0)
    assert result.check is not None
    check = replace(result.check, violations=(), failed_hours=())
    round_trip(path, replace(result, check=check, notes=(), versions={}))


def test_violations_of_a_file_without_times_get_those_of_their_rows(path: Path) -> None:
    write_result(path, make_result(small_case()))
    with older(path) as file:
        del file["check/violations/time"], file["summary/oversteps/time"], file["axes/time"]
    found = read_result(path)
    assert found.check is not None
    assert [violation.time for violation in (*found.check.violations, *found.oversteps)] == ["06:00", "05:30", "06:00"]


def test_the_same_result_gives_the_same_bytes(stored: Path, tmp_path: Path) -> None:
    write_result(tmp_path / "again.h5", make_result(small_case()))
    assert (tmp_path / "again.h5").read_bytes() == stored.read_bytes()


def test_the_file_explains_itself_without_tieflow(stored: Path) -> None:
    with h5py.File(stored) as file:
        assert file.attrs["format"] == "tieflow result"
        assert file.attrs["format_version"] == 2
        assert set(file) == {"axes", "case", "check", "history", "schedule", "state", "summary", "versions"}
        assert set(file["case"]) == {
            *("areas", "batteries", "branch_limits", "branches", "buses", "flexible_loads", "horizon"),
            *("overrides", "pv", "settings", "wind"),
        }
        assert file["summary"].attrs["cost"] == 576.2918
        assert file["case/settings"].attrs["title"] == "Tal – 谷"
        told = {
            "state/v_pu": ("bus, period", "per unit"),
            "check/state/i_a": ("branch, period", "A"),
            "schedule/batteries/charge_kw": ("battery, period", "kW"),
            "schedule/pv/q_kvar": ("pv, period", "kvar"),
            "history/solve_s": ("round, area", "s"),
            "case/batteries/p_rated_kw": ("battery", "kW"),
            "case/branches/r_ohm": ("row", "ohm"),
            "case/horizon/price": ("period", "$/kWh"),
            "case/horizon/pv": ("period", "per rated PV power"),
        }
        assert {name: (file[name].attrs["axes"], file[name].attrs["units"]) for name in told} == told


def test_the_names_along_every_axis_are_in_the_order_of_the_arrays(stored: Path) -> None:
    with h5py.File(stored) as file:
        names = {
            axis: item.asstr()[()].tolist()
            for axis, item in file["axes"].items()
            if item.dtype == object and axis != "time"
        }
        assert names == {
            "area": ["1", "Ost"],
            "battery": ["bus/2"],
            "branch": ["Süd-変電所", "変電所-bus/2"],
            "bus": ["Süd", "変電所", "bus/2"],
            "clock": ["busiest rank", "coordinator"],
            "flexible_load": ["bus/2"],
            "pv": ["変電所"],
            "wind": ["bus/2"],
        }
        assert file["axes/period"][()].tolist() == [11, 12]
        assert file["axes/round"][()].tolist() == [1, 2, 3]
        assert file["axes/time"].asstr()[()].tolist() == ["05:30", "06:00"]


def test_a_field_that_older_files_lack_takes_its_default(stored: Path) -> None:
    with older(stored) as file:
        del file["summary/notes"], file["case/settings"].attrs["scd_weight"], file["case/batteries/eta_charge"]
    result = read_result(stored)
    assert (result.notes, result.case.settings.scd_weight, result.case.batteries[0].eta_charge) == ((), 1e-3, 0.95)


def test_losses_of_an_older_balanced_file_are_all_those_of_lines(tmp_path: Path) -> None:
    path, result = tmp_path / "run.h5", make_result(small_case())
    write_result(path, result)
    with older(path) as file:
        for group in (file["state"], file["check/state"]):
            for name in ("line_losses_kw", "transformer_losses_kw"):
                del group[name]
    found = read_result(path)
    assert found.check is not None
    for state in (found.state, found.check.state):
        np.testing.assert_array_equal(state.line_losses_kw, state.losses_kw)
        np.testing.assert_array_equal(state.transformer_losses_kw, 0.0)


def test_a_new_file_has_the_users_permissions_and_a_link_stays_a_link(tmp_path: Path) -> None:
    link = tmp_path / "latest.h5"
    link.symlink_to(tmp_path / "run.h5")
    mask = os.umask(0o027)
    try:
        write_result(link, make_result(small_case()))
    finally:
        os.umask(mask)
    assert link.is_symlink()
    assert (tmp_path / "run.h5").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_mid_write_leaves_the_old_file_and_no_stray_one(
    stored: Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    before = stored.read_bytes()

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(os, step, fail)
    expected = TieflowError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_result(stored, make_result(small_case(), rounds=9))
    assert stored.read_bytes() == before
    assert list(stored.parent.iterdir()) == [stored]


def test_a_text_that_hdf5_cannot_hold_is_an_error_and_leaves_the_old_file(stored: Path) -> None:
    before = stored.read_bytes()
    with pytest.raises(TieflowError, match=r"run\.h5: the case holds text .* Rename"):
        write_result(stored, make_result(replace(small_case(), name="a\0b")))
    assert stored.read_bytes() == before


FILL = """
import resource, sys
from pathlib import Path
from tieflow.common.errors import TieflowError
from tieflow.common.results.store import {imports}
sys.path.append("tests")
from test_store import make_result, small_case
path = Path(sys.argv[1])
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    {call}
except TieflowError as error:
    sys.exit(str(error))
"""
ROOT = Path(__file__).parents[1]
WRITE = FILL.format(imports="write_result", call="write_result(path, make_result(small_case(), rounds=9))")
PROBE = FILL.format(imports="check_writable", call="check_writable(path)")


@pytest.mark.parametrize("script", [WRITE, PROBE])
def test_a_file_beyond_the_size_limit_is_an_error_and_leaves_the_old_file(stored: Path, script: str) -> None:
    before = stored.read_bytes()
    command = [sys.executable, "-c", script, str(stored), "8192"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{stored}: cannot be written (File too large). Make room there" in done.stderr
    assert "Traceback" not in done.stderr
    assert stored.read_bytes() == before
    assert list(stored.parent.iterdir()) == [stored]


@pytest.mark.parametrize("script", [WRITE, PROBE])
def test_a_full_disk_is_an_error_and_leaves_the_old_file(tmp_path: Path, script: str) -> None:
    # A tiny disk in a mount namespace of its own: nothing stays mounted, whatever happens.
    inside = 'mount -t tmpfs -o size=48k none "$0" && echo old > "$0/run.h5"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*unshare, inside, str(tmp_path)], capture_output=True).returncode:
        pytest.skip("no user namespace in which to mount a small disk")
    solve = f'{inside}; "$1" -c "$2" "$0/run.h5"; code=$?; cat "$0/run.h5"; ls -A "$0"; exit $code'
    command = [*unshare, solve, str(tmp_path), sys.executable, script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert f"{tmp_path / 'run.h5'}: cannot be written (No space left on device). Make room there" in done.stderr
    assert (done.returncode, done.stdout) == (1, "old\nrun.h5\n")


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(TieflowError, match=r"run\.h5: no such file"):
        read_result(path)


def test_a_folder_is_not_a_result(tmp_path: Path) -> None:
    with pytest.raises(TieflowError, match="cannot be read .Is a directory."):
        read_result(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x89HDF", b"bus,p_load_kw\n"])
def test_a_file_of_another_kind_is_not_hdf5(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(TieflowError, match=r"run\.h5: not an HDF5 file\. Name a result file"):
        read_result(path)


def test_an_hdf5_file_of_another_program_is_refused(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["format"] = [1, 2]
    with pytest.raises(TieflowError, match=r"run\.h5: not a tieflow result"):
        read_result(path)


def test_a_file_cut_anywhere_is_truncated_or_not_hdf5(stored: Path) -> None:
    whole = stored.read_bytes()
    for size in [8, 100, len(whole) // 2, len(whole) - 1]:
        stored.write_bytes(whole[:size])
        with pytest.raises(TieflowError, match=r"run\.h5: truncated or damaged .* Copy it again"):
            read_result(stored)


@pytest.mark.parametrize("part", ["state", "summary", "history/cost", "case/buses/bus"])
def test_a_file_that_lacks_a_part_is_damaged(stored: Path, part: str) -> None:
    with h5py.File(stored, "r+") as file:
        del file[part]
    with pytest.raises(TieflowError, match=r"run\.h5: truncated or damaged"):
        read_result(stored)


def test_a_newer_format_version_says_what_is_known_and_what_to_do(stored: Path) -> None:
    with h5py.File(stored, "r+") as file:
        file.attrs["format_version"] = FORMAT_VERSION + 1
    with pytest.raises(TieflowError, match=r"run\.h5: format version 3, .* knows 1 to 2 only.* --upgrade tieflow"):
        read_result(stored)


def test_a_writable_path_passes_and_nothing_is_left_behind(path: Path) -> None:
    check_writable(path)
    assert not list(path.parent.iterdir())


def test_an_existing_result_is_not_touched(stored: Path) -> None:
    before = stored.stat(), stored.read_bytes()
    check_writable(stored)
    after = stored.stat(), stored.read_bytes()
    assert (before[0].st_ino, before[0].st_mtime_ns, before[1]) == (after[0].st_ino, after[0].st_mtime_ns, after[1])
    assert list(stored.parent.iterdir()) == [stored]


def test_a_missing_folder_is_found_before_solving(tmp_path: Path) -> None:
    with pytest.raises(TieflowError, match=r"there is no folder .*results\. Make it"):
        check_writable(tmp_path / "results" / "run.h5")


@pytest.mark.parametrize("name", ["", "/dev/null"])
def test_a_folder_or_device_is_no_place_for_a_result(tmp_path: Path, name: str) -> None:
    with pytest.raises(TieflowError, match="a folder or device"):
        check_writable(tmp_path / name)
    with pytest.raises(TieflowError, match="a folder or device"):
        write_result(tmp_path / name, make_result(small_case()))


def test_a_name_that_the_disk_refuses_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TieflowError, match=r"cannot be written .File name too long"):
        check_writable(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "refused"), [(0o777, 0o666, False), (0o555, 0o666, True), (0o777, 0o444, True)]
)
def test_a_place_without_permission_is_found_before_solving(folder_mode: int, file_mode: int, refused: bool) -> None:
    # Root may write anywhere: the probe gives that up, in a folder that everybody can reach.
    script = PROBE.replace("try:", "import os\nif os.geteuid() == 0: os.setuid(65534)\ntry:")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.h5")
        path.write_text("old")
        path.chmod(file_mode)
        path.parent.chmod(folder_mode)
        command = [sys.executable, "-c", script, str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        path.parent.chmod(0o700)
        assert done.returncode == refused
        message = (
            f"{path}: cannot be written (Permission denied). Get permission to write there or choose another path."
        )
        assert done.stderr.strip() == (message if refused else "")
        assert [entry.name for entry in path.parent.iterdir()] == ["run.h5"]
