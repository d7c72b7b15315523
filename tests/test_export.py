"""Exported folders, run by OpenDSS alone and read as plain CSV."""

from __future__ import annotations

import csv
import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opendssdirect import dss
from test_replay_multiphase import random_schedule, small_case

from tieflow.common.arrays import Floats
from tieflow.common.case import Case, read_case
from tieflow.common.errors import TieflowError
from tieflow.common.replay import balanced as opendss
from tieflow.common.replay import multiphase as multiphase_opendss
from tieflow.common.results.schedule import NetworkState, Schedule
from tieflow.launch.commands.export import export


def solved(case: Case) -> tuple[Schedule, NetworkState]:
    schedule = random_schedule(case)
    return schedule, (opendss if case.is_balanced else multiphase_opendss).replay(case, schedule).state


CASES = [
    small_case(),
    replace(small_case(), pv=(), batteries=()),
    read_case("ieee123", {"pv_percent": 10, "battery_percent": 10, "periods": 4}),
]


def voltages(engine: Any, case: Case) -> Floats:
    """(bus or node,) pu, in the case's order."""
    if case.is_balanced:
        volts: Floats = np.array(engine.Circuit.AllBusVMag())
        return np.asarray(volts * np.sqrt(3) / (1000 * case.settings.voltage_kv))
    feeder = case.multiphase_feeder
    at = {name: i for i, name in enumerate(engine.Circuit.AllNodeNames())}
    volts = np.array(engine.Circuit.AllBusVMag(), float)[[at[name] for name in feeder.node_names[feeder.roots :]]]
    pu: Floats = volts / feeder.v_base[feeder.roots :]
    return pu


def table(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def by_unit(lines: list[list[str]], column: int, units: int) -> Floats:
    """(unit, 4) of a table of four hours"""
    return np.array([float(line[column]) for line in lines]).reshape(4, units).T


@pytest.mark.parametrize("case", CASES, ids=["multiphase", "no devices", "balanced"])
def test_opendss_alone_runs_the_exported_circuit_to_the_answer_of_the_replay(case: Case, tmp_path: Path) -> None:
    schedule = random_schedule(case)
    expected = (opendss if case.is_balanced else multiphase_opendss).replay(case, schedule)
    state, capacity = expected.state, np.array([battery.energy_kwh for battery in case.batteries])
    export(case, schedule, state, tmp_path / "out")
    text = (tmp_path / "out" / "Master.dss").read_text(encoding="utf-8")
    engine = dss.NewContext()
    engine.Basic.AllowChangeDir(False)
    *hours, rest = text.split("\nsolve\n")
    assert not rest
    for t, commands in enumerate(hours):
        engine.Text.Commands(f"{commands}\nsolve")
        np.testing.assert_allclose(voltages(engine, case), state.v_pu[:, t], rtol=0, atol=1e-9)
        stored = capacity * [engine.Storages.puSOC() for _ in engine.Storages]
        np.testing.assert_allclose(stored, expected.battery_energy_kwh[:, t], rtol=1e-9)

    whole = dss.NewContext()
    whole.Basic.AllowChangeDir(False)
    whole.Text.Command(f'redirect "{tmp_path / "out" / "Master.dss"}"')
    np.testing.assert_allclose(voltages(whole, case), state.v_pu[:, -1], rtol=0, atol=1e-9)
    whole.Monitors.Name("substation")
    phases = whole.Monitors.NumChannels() // 2
    kw = -np.sum([whole.Monitors.Channel(2 * phase + 1) for phase in range(phases)], axis=0)
    np.testing.assert_allclose(kw, state.substation_p_kw, rtol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=["multiphase", "no devices", "balanced"])
def test_the_tables_hold_schedule_and_state(case: Case, tmp_path: Path) -> None:
    schedule, state = solved(case)
    export(case, schedule, state, tmp_path)
    header, *lines = table(tmp_path / "pv.csv")
    assert header == ["hour", "time", "bus", "phases", "name", "p_kw", "q_kvar"]
    periods = list(zip(map(str, case.horizon.hour), case.horizon.times, strict=True))
    places = [[*period, unit.bus, unit.phases] for period in periods for unit in case.pv]
    assert [line[:4] for line in lines] == places
    p, q = (by_unit(lines, k, len(case.pv)) for k in (5, 6))
    for name, array in (("p_kw", p), ("q_kvar", q)):
        np.testing.assert_array_equal(array, [*schedule.pv[name]] or np.zeros_like(array))

    header, *lines = table(tmp_path / "batteries.csv")
    assert len(lines) == len(case.horizon) * len(case.batteries)
    for k, name in enumerate(header[5:], 5):
        np.testing.assert_array_equal(by_unit(lines, k, len(case.batteries)), schedule.batteries[name])

    header, *lines = table(tmp_path / "voltages.csv")
    assert header[1:] == list(case.horizon.times)
    np.testing.assert_array_equal(np.array([line[1:] for line in lines], float), state.v_pu)
    assert lines[-1][0] in (
        (case.balanced_feeder.buses[-1],) if case.is_balanced else case.multiphase_feeder.node_names
    )
    lines = table(tmp_path / "substation.csv")[1:]
    assert [tuple(line[:2]) for line in lines] == periods
    expected = [state.substation_p_kw, state.substation_q_kvar, state.losses_kw]
    np.testing.assert_array_equal(np.array([line[2:] for line in lines], float).T, expected)


def test_a_folder_with_anything_in_it_is_left_alone(tmp_path: Path) -> None:
    case = small_case()
    (tmp_path / "mine.txt").touch()
    with pytest.raises(TieflowError, match="not empty. Name a new folder"):
        export(case, *solved(case), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(TieflowError, match=r"mine\.txt: cannot be written .*Choose another folder"):
        export(case, *solved(case), tmp_path / "mine.txt")
    with pytest.raises(TieflowError, match="Make the folder above it first"):
        export(case, *solved(case), tmp_path / "missing" / "out")


@pytest.mark.parametrize(("code", "advice"), [(errno.ENOSPC, "Make room"), (errno.EACCES, "Get permission")])
@pytest.mark.parametrize("existed", [False, True])
def test_nothing_is_left_of_an_export_that_fails(
    code: int, advice: str, existed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = small_case()
    schedule, state = solved(case)
    folder = tmp_path / "out"
    if existed:
        folder.mkdir()
    plain_open = Path.open

    def fails_late(path: Path, *args: Any, **options: Any) -> Any:
        if path.name == "voltages.csv":
            raise OSError(code, "refused")
        return plain_open(path, *args, **options)

    monkeypatch.setattr(Path, "open", fails_late)
    with pytest.raises(TieflowError, match=rf"out: cannot be written \(refused\)\. {advice}"):
        export(case, schedule, state, folder)
    assert folder.exists() == existed
    assert not existed or not any(folder.iterdir())


def test_a_setpoint_that_is_not_a_number_leaves_no_folder(tmp_path: Path) -> None:
    case = small_case()
    schedule, state = solved(case)
    schedule.pv["q_kvar"][0, 1] = np.nan
    with pytest.raises(ValueError, match="is nan"):
        export(case, schedule, state, tmp_path / "out")
    assert not (tmp_path / "out").exists()
