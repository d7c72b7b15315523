"""Wind turbines: the power curve, curtailment behind the inverter, and the generator that OpenDSS sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from device_feeders import BOTH, MODELS, confirmed, feeder, power_at, power_flow
from opendssdirect import dss
from stored_results import older
from test_replay_multiphase import batteries, small_case

from tieflow.common.case import Case, read_case
from tieflow.common.errors import CaseError
from tieflow.common.inputs.devices import PV, Wind
from tieflow.common.replay import multiphase as multiphase_opendss
from tieflow.common.results.schedule import Schedule
from tieflow.common.results.store import read_result, write_result
from tieflow.coordinator.checker import check
from tieflow.launch import api
from tieflow.launch.commands.export import export
from tieflow.launch.runs.solve import Options, solve


def windy(model: str, curtailable: bool = True) -> Case:
    """In the last hour the turbine at b would lift its bus far above the limit; one at s may not be curtailed."""
    turbines = (
        Wind(bus="b", p_rated_kw=600, s_rated_kva=700, curtailable=curtailable),
        Wind(bus="s", p_rated_kw=20, s_rated_kva=25),
    )
    return feeder(model, blowing=(0.0, 0.2, 1.0), given={"v_max_pu": 1.04}, wind=turbines)


@pytest.mark.parametrize(("model", "method"), BOTH)
def test_wind_is_curtailed_where_it_would_overstep_the_upper_voltage_limit_and_nowhere_else(
    model: str, method: str
) -> None:
    result = confirmed(windy(model), method)
    np.testing.assert_allclose(result.schedule.wind["p_kw"][0], [0, 120, power_at(1.04)], atol=0.02)
    np.testing.assert_array_equal(result.schedule.wind["p_kw"][1], [0, 4, 20])
    assert result.state.v_pu[-1].max() == pytest.approx(1.04, abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_a_turbine_is_to_the_feeder_what_a_pv_system_of_the_same_profile_is(model: str) -> None:
    wind = windy(model)
    units = tuple(PV.model_validate(unit.model_dump()) for unit in wind.wind)
    sun = replace(wind, wind=(), pv=units, horizon=replace(wind.horizon, pv=wind.horizon.wind))
    one, other = (solve(case, Options("centralized")) for case in (wind, sun))
    assert one.objective == pytest.approx(other.objective, rel=1e-9)
    np.testing.assert_allclose(one.state.v_pu, other.state.v_pu, atol=1e-8)
    assert one.check is not None and other.check is not None
    np.testing.assert_allclose(one.check.state.v_pu, other.check.state.v_pu, atol=1e-8)


def test_power_rises_with_the_cube_of_the_wind_between_cut_in_and_rated_speed(small: Path) -> None:
    path = small / "profiles.csv"

    def power(*speeds: float, **settings: float) -> list[float]:
        rows = [f"{hour},1,0,{speed}" for hour, speed in enumerate(speeds)]
        path.write_text("\n".join(["hour,load_pu,pv_pu,wind_mps", *rows]) + "\n")
        found: list[float] = read_case(str(small), {"periods": 4, **settings}).horizon.wind.tolist()
        return found

    assert power(0, 2.9, 3, 8) == pytest.approx([0, 0, 0, (8**3 - 27) / (12**3 - 27)])
    assert power(12, 20, 25, 25.1) == pytest.approx([1, 1, 1, 0])
    slower = {"wind_cut_in_mps": 2.0, "wind_rated_mps": 10.0, "wind_cut_out_mps": 20.0}
    assert power(2.5, 9, 20, 21, **slower) == pytest.approx([(2.5**3 - 8) / 992, (9**3 - 8) / 992, 1, 0])


@pytest.mark.parametrize("by", ["newton", "admm"])
def test_a_case_folder_with_turbines_is_solved_in_areas_as_in_one(small: Path, by: str) -> None:
    (small / "wind.csv").write_text("bus,p_rated_kw,s_rated_kva,curtailable\nc,20,24,true\nd,10,10,\n")
    (small / "profiles.csv").write_text("hour,load_pu,pv_pu,wind_pu\n0,0.6,0,0\n1,0.8,1,0\n2,1,0.5,1\n3,0.7,0,0.3\n")
    case = read_case(str(small), {"periods": 4})
    assert [unit.curtailable for unit in case.wind] == [True, False]
    one, four = (solve(case, Options(method, 1e-6)) for method in ("centralized", by))
    assert four.cost == pytest.approx(one.cost, rel=1e-6)
    for result in (one, four):
        assert result.converged and result.check is not None and result.check.passed
        assert result.check.max_voltage_error_pu < 1e-6
        np.testing.assert_allclose(result.schedule.wind["p_kw"], [[0, 0, 20, 6], [0, 0, 10, 3]], atol=1e-3)


@pytest.mark.parametrize("by", ["newton", "admm"])
def test_a_feeder_of_many_phases_has_turbines_alike_in_one_area_and_four(by: str) -> None:
    case = read_case("ieee13", {"periods": 2})
    case = api.with_wind(
        replace(case, horizon=replace(case.horizon, wind=np.array([0.4, 0.9]))),
        Wind(bus="671", p_rated_kw=300, s_rated_kva=300, curtailable=True),
        Wind(bus="646", phases="2-3", p_rated_kw=100, s_rated_kva=120),
        Wind(bus="611", phases="3", p_rated_kw=80, s_rated_kva=100, curtailable=True),
    )
    one, four = (solve(case, Options(method, 1e-6)) for method in ("centralized", by))
    for result in (one, four):
        assert result.converged and result.check is not None and result.check.passed
        assert result.check.max_voltage_error_pu < 1e-6
    assert four.objective == pytest.approx(one.objective, rel=1e-6)
    np.testing.assert_allclose(four.schedule.wind["p_kw"], one.schedule.wind["p_kw"], atol=0.05)


def test_opendss_feeds_in_the_schedule_on_any_phases() -> None:
    # Hours without real but with reactive power, and with a power factor that changes its sign.
    p = np.array([[60, 0, 20, 90], [0, 0, 40, 30], [9, 8, 0, 0.0]])
    q = np.array([[-30, 20, -40, 0], [10, 0, -10, 25], [2, -3, 1, 0.0]])
    places = [("mid", "", 90.0), ("mid", "3-1", 50.0), ("pole", "2", 10.0)]
    turbines = tuple(
        Wind(bus=bus, phases=phases, p_rated_kw=kw, s_rated_kva=1.2 * kw, profile="evening")
        for bus, phases, kw in places
    )
    case = replace(small_case(), wind=turbines)
    idle, none = np.array([case.horizon.idle(unit) for unit in case.pv]), np.zeros((len(case.batteries), 4))
    schedule = Schedule(
        pv={"p_kw": idle, "q_kvar": 0 * idle}, batteries=batteries(case, none, none), wind={"p_kw": p, "q_kvar": q}
    )
    found = multiphase_opendss.replay(case, schedule)
    assert found.failed_hours == ()
    np.testing.assert_allclose(found.state.v_pu, power_flow(case, schedule), rtol=0, atol=1e-8)
    q[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"turbine 'mid\.3-1' is nan"):
        multiphase_opendss.replay(case, schedule)


@pytest.mark.parametrize("model", MODELS)
def test_what_is_exported_has_turbines_as_generators_and_a_table(model: str, tmp_path: Path) -> None:
    result = solve(windy(model), Options("centralized", check=False))
    export(result.case, result.schedule, result.state, tmp_path / "out")
    lines = [line.split(",") for line in (tmp_path / "out" / "wind.csv").read_text().splitlines()]
    assert lines[0] == ["hour", "time", "bus", "phases", "name", "p_kw", "q_kvar"]
    told = [[float(line[k]) for line in lines[1::2]] for k in (5, 6)]
    assert told == [result.schedule.wind[name][0].tolist() for name in ("p_kw", "q_kvar")]
    engine = dss.NewContext()
    engine.Basic.AllowChangeDir(False)
    engine.Text.Command(f'redirect "{tmp_path / "out" / "Master.dss"}"')
    volts = np.array(engine.Circuit.AllBusVMag()) * np.sqrt(3) / 4160
    np.testing.assert_allclose(volts[-1], result.state.v_pu[-1, -1], atol=1e-6)
    assert engine.Generators.Count() == 2


@pytest.mark.parametrize(("unit", "name", "value"), [(0, "p_kw", 130), (1, "p_kw", 3), (0, "q_kvar", 690)])
def test_a_setpoint_that_no_turbine_can_give_is_a_violation(unit: int, name: str, value: float) -> None:
    result = solve(windy("balanced"), Options("centralized", check=False))
    result.schedule.wind[name][unit, 1] = value
    found = check(result.case, result.schedule, result.state)
    assert not found.passed
    violation = next(violation for violation in found.violations if violation.kind == "rating")
    assert (violation.element, violation.hour) == ("bs"[unit], 1)


def test_turbines_come_back_from_their_file_which_older_ones_lack(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    result = solve(windy("balanced"), Options("centralized", check=False))
    write_result(path, result)
    read = read_result(path)
    assert read.case.wind == result.case.wind
    np.testing.assert_array_equal(api.table(read, "wind")["p_kw"]["b"], result.schedule.wind["p_kw"][0])
    with h5py.File(path) as file:
        assert file["axes/wind"].asstr()[()].tolist() == ["b", "s"]
        wind = file["case/horizon/wind"].attrs
        assert (wind["axes"], wind["units"]) == ("period", "per rated wind power")
    write_result(path, solve(feeder("balanced"), Options("centralized", check=False)))
    with older(path) as file:
        del file["schedule/wind"], file["case/wind"], file["case/horizon/wind"]
    assert read_result(path).case.wind == ()
    assert api.table(read_result(path), "wind").shape == (3, 0)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("c,20,19", "wind.csv, line 2: s_rated_kva = 19.0 is below p_rated_kw = 20.0. Raise it."),
        ("c,0,19", "wind.csv, line 2: p_rated_kw: must be greater than 0 (got '0')."),
        ("zz,20,24", "wind.csv: unknown bus 'zz'."),
        ("c,20,24", "profiles.csv: no column wind_pu or wind_mps, but wind.csv has turbines that need one. Add it."),
    ],
)
def test_a_spoilt_line_is_named(small: Path, row: str, words: str) -> None:
    (small / "wind.csv").write_text(f"bus,p_rated_kw,s_rated_kva\n{row}\n")
    with pytest.raises(CaseError) as error:
        read_case(str(small))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("columns", "cells", "settings", "words"),
    [
        (
            "wind_pu,wind_mps",
            "1,8",
            {},
            "both the columns wind_pu and wind_mps give wind power. Remove one of the two.",
        ),
        ("wind_mps", "-1", {}, "line 2: wind_mps: must be greater than or equal to 0 (got '-1')."),
        (
            "wind_pu",
            "1.3",
            {},
            "wind_pu = 1.3 asks 26 kW of the 24 kVA inverter at bus 'c'. Lower wind_pu or raise s_r",
        ),
        (
            "wind_mps",
            "8",
            {"wind_rated_mps": 2.0},
            "wind_cut_in_mps = 3.0, wind_rated_mps = 2.0, wind_cut_out_mps = 25",
        ),
    ],
)
def test_wind_that_cannot_be_is_named(
    small: Path, columns: str, cells: str, settings: dict[str, float], words: str
) -> None:
    (small / "wind.csv").write_text("bus,p_rated_kw,s_rated_kva\nc,20,24\n")
    lines = [f"hour,load_pu,pv_pu,{columns}", *(f"{hour},1,0,{cells}" for hour in range(4))]
    (small / "profiles.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(CaseError) as error:
        read_case(str(small), settings)
    assert words in str(error.value)
