"""Flexible loads: the hours they choose, the energy they keep, and what OpenDSS says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from device_feeders import BOTH, MODELS, confirmed, feeder, power_flow
from hypothesis import given, settings
from hypothesis import strategies as st
from stored_results import older
from test_replay_multiphase import CIRCUIT, small_case
from test_replay_multiphase import batteries as with_energy

from tieflow.common.case import Case, read_case
from tieflow.common.errors import CaseError
from tieflow.common.inputs.devices import PV, FlexibleLoad
from tieflow.common.replay import balanced as opendss
from tieflow.common.replay import multiphase as multiphase_opendss
from tieflow.common.results.schedule import Schedule
from tieflow.common.results.store import read_result, write_result
from tieflow.coordinator.checker import check
from tieflow.launch import api
from tieflow.launch.commands.export import export
from tieflow.launch.runs.solve import Options, solve

PRICE = (0.1, 0.3, 0.2)
HEADER = "bus,p_kw,q_kvar,down,up"


def flexible(model: str, cost: float = 0.0, up: float = 0.2, down: float = 0.4, q_kvar: float = 30.0) -> Case:
    load = FlexibleLoad(bus="b", p_kw=100, q_kvar=q_kvar, down=down, up=up, cost_per_kwh=cost)
    return feeder(model, price=PRICE, flexible_loads=(load,))


@pytest.mark.parametrize(("model", "method"), BOTH)
def test_a_flexible_load_moves_its_energy_to_cheap_hours_within_its_band(model: str, method: str) -> None:
    result = confirmed(flexible(model), method)
    np.testing.assert_allclose(result.schedule.flexible_loads["p_kw"], [[120, 60, 120]], atol=0.02)


@pytest.mark.parametrize(("model", "method"), BOTH)
def test_energy_is_moved_only_where_the_prices_differ_by_more_than_moving_it_costs(model: str, method: str) -> None:
    # A kWh less in one hour and more in another pays twice: 0.16 $ is less than 0.3 - 0.1, more than 0.3 - 0.2.
    result = confirmed(flexible(model, cost=0.08), method)
    np.testing.assert_allclose(result.schedule.flexible_loads["p_kw"], [[120, 80, 100]], atol=0.02)
    assert result.objective == pytest.approx(result.cost + 0.08 * 40, abs=0.01)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("down", "up"), [(0.0, 0.2), (0.4, 0.0), (0.0, 0.0)])
def test_a_load_that_can_only_draw_more_or_only_less_draws_its_profile(model: str, down: float, up: float) -> None:
    result = confirmed(flexible(model, down=down, up=up))
    np.testing.assert_allclose(result.schedule.flexible_loads["p_kw"], [[100, 100, 100]], atol=3e-3)


@pytest.mark.parametrize("model", MODELS)
def test_a_load_follows_the_hours_in_which_it_draws_anything(model: str) -> None:
    loads = (FlexibleLoad(bus="b", p_kw=100, q_kvar=30, down=0.4, up=0.2),)
    never = confirmed(feeder(model, price=PRICE, load=(1, 0, 0), flexible_loads=loads))
    np.testing.assert_allclose(never.schedule.flexible_loads["p_kw"], [[100, 0, 0]], atol=3e-3)
    twice = confirmed(feeder(model, price=PRICE, load=(0, 1, 0.5), flexible_loads=loads))
    np.testing.assert_allclose(twice.schedule.flexible_loads["p_kw"], [[0, 90, 60]], atol=0.02)


def test_a_load_within_its_band_lifts_a_voltage_that_would_be_too_low() -> None:
    case = flexible("balanced")
    heavy = replace(case, horizon=replace(case.horizon, load=np.array([0.8, 1.0, 0.8])))
    cheap = replace(heavy, horizon=replace(heavy.horizon, price=np.array([0.2, 0.1, 0.2])))
    free = confirmed(cheap)
    assert free.schedule.flexible_loads["p_kw"][0, 1] == pytest.approx(120, abs=0.01)
    least = free.state.v_pu.min() + 1e-3
    held = confirmed(replace(cheap, settings=cheap.settings.model_copy(update={"v_min_pu": float(least)})))
    assert held.state.v_pu.min() == pytest.approx(least, abs=1e-6)
    assert held.schedule.flexible_loads["p_kw"].sum() == pytest.approx(260, abs=1e-3)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), cost=st.sampled_from([0.0, 0.02]))
def test_any_mixture_of_loads_keeps_bands_and_energy_and_costs_no_more_than_their_profiles(
    seed: int, cost: float
) -> None:
    rng = np.random.default_rng(seed)
    load, price = rng.uniform(0, 1, 5) * (rng.random(5) < 0.8), rng.uniform(0.05, 0.3, 5)
    loads = tuple(
        FlexibleLoad(bus=bus, p_kw=20, q_kvar=rng.uniform(-5, 5), down=down, up=up, cost_per_kwh=cost)
        for bus, down, up in zip("ab", rng.uniform(0, 1, 2), rng.uniform(0, 2, 2), strict=True)
    )
    case = feeder("balanced", price=price, load=load, flexible_loads=loads, given={"v_min_pu": 0.9})
    result = solve(case, Options("centralized", check=False))
    assert result.converged
    p = result.schedule.flexible_loads["p_kw"]
    for unit, drawn in zip(loads, p, strict=True):
        nominal = unit.p_kw * load
        assert np.all(drawn <= (1 + unit.up) * nominal + 1e-3)
        assert np.all(drawn >= (1 - unit.down) * nominal - 1e-3)
        assert drawn.sum() == pytest.approx(nominal.sum(), abs=1e-3)
    plain = replace(case, flexible_loads=tuple(unit.model_copy(update={"up": 0.0}) for unit in loads))
    assert result.objective <= solve(plain, Options("centralized", check=False)).objective + 1e-6


def places(case: Case) -> Case:
    """The case with flexible loads at a bus's phases, between two, at one, and on a shape of their own."""
    asked = [
        ("mid", "", 90.0, ""),
        ("mid", "3-1", 50.0, ""),
        ("end-2/a", "1.3", 40.0, "evening"),
        ("pole", "2", 9.0, ""),
    ]
    loads = tuple(
        FlexibleLoad(bus=bus, phases=phases, p_kw=kw, q_kvar=0.3 * kw, down=0.4, up=0.5, profile=profile)
        for bus, phases, kw, profile in asked
    )
    return replace(case, flexible_loads=loads)


def schedule_of(case: Case, seed: int = 3) -> Schedule:
    rng = np.random.default_rng(seed)
    periods = len(case.horizon)
    none = np.zeros((len(case.batteries), periods))
    drawn = np.array([unit.p_kw * rng.uniform(0.3, 1.2, periods) for unit in case.flexible_loads])
    drawn[0, 1] = 0.0
    return Schedule(
        pv={"p_kw": np.array([case.horizon.idle(u) for u in case.pv]), "q_kvar": np.zeros((len(case.pv), periods))},
        batteries=with_energy(case, none, none),
        flexible_loads={"p_kw": drawn},
    )


def test_opendss_draws_the_schedule_on_any_phases() -> None:
    assert "loadshape.evening" in CIRCUIT
    case = places(small_case())
    schedule = schedule_of(case)
    found = multiphase_opendss.replay(case, schedule)
    assert found.failed_hours == ()
    np.testing.assert_allclose(found.state.v_pu, power_flow(case, schedule), rtol=0, atol=1e-8)
    schedule.flexible_loads["p_kw"][1, 2] = np.nan
    with pytest.raises(ValueError, match=r"flexible load 'mid\.3-1' is nan"):
        multiphase_opendss.replay(case, schedule)


@pytest.mark.parametrize("model", MODELS)
def test_what_is_exported_has_the_loads_as_elements_and_a_table(model: str, tmp_path: Path) -> None:
    result = solve(flexible(model), Options("centralized", check=False))
    export(result.case, result.schedule, result.state, tmp_path / "out")
    lines = (tmp_path / "out" / "flexible_loads.csv").read_text().splitlines()
    assert lines[0] == "hour,time,bus,phases,name,p_kw"
    drawn = [float(line.split(",")[5]) for line in lines[1:]]
    assert drawn == result.schedule.flexible_loads["p_kw"][0].tolist()
    engine = opendss.dss.NewContext()
    engine.Basic.AllowChangeDir(False)
    engine.Text.Command(f'redirect "{tmp_path / "out" / "Master.dss"}"')
    volts = np.array(engine.Circuit.AllBusVMag()) * np.sqrt(3) / 4160
    np.testing.assert_allclose(volts[-1], result.state.v_pu[-1, -1], atol=1e-6)


@pytest.mark.parametrize(
    ("hour", "kw", "kinds"), [(0, 125, {"rating", "energy"}), (1, 50, {"rating", "energy"}), (2, 115, {"energy"})]
)
def test_a_load_beyond_its_band_or_without_its_energy_is_a_violation(hour: int, kw: float, kinds: set[str]) -> None:
    result = solve(flexible("balanced"), Options("centralized", check=False))
    result.schedule.flexible_loads["p_kw"][0, hour] = kw
    found = check(result.case, result.schedule, result.state)
    assert not found.passed
    assert {violation.kind for violation in found.violations} == kinds
    assert {violation.element for violation in found.violations} == {"b"}
    due = next(violation for violation in found.violations if violation.kind == "energy")
    assert (due.hour, due.limit, due.unit) == (2, pytest.approx(300), "kWh")


def test_a_solved_load_comes_back_from_its_file_and_stands_in_a_table(tmp_path: Path) -> None:
    result = solve(flexible("balanced"), Options("centralized"))
    path = tmp_path / "run.h5"
    write_result(path, result)
    read = read_result(path)
    assert read.case.flexible_loads == result.case.flexible_loads
    drawn = result.schedule.flexible_loads["p_kw"]
    np.testing.assert_array_equal(read.schedule.flexible_loads["p_kw"], drawn)
    np.testing.assert_array_equal(api.table(read, "flexible_loads")["p_kw"]["b"], drawn[0])
    with h5py.File(path) as file:
        drawn = file["schedule/flexible_loads/p_kw"].attrs
        assert (drawn["axes"], drawn["units"]) == ("flexible_load, period", "kW")
        assert file["axes/flexible_load"].asstr()[()].tolist() == ["b"]
        assert file["case/flexible_loads/cost_per_kwh"].attrs["units"] == "$/kWh"


def test_a_file_from_before_flexible_loads_is_read_without_any(tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    write_result(path, solve(replace(flexible("balanced"), flexible_loads=()), Options("centralized", check=False)))
    with older(path) as file:
        del file["schedule/flexible_loads"], file["case/flexible_loads"]
    old = read_result(path)
    assert old.case.flexible_loads == ()
    assert api.table(old, "flexible_loads").shape == (3, 0)


@pytest.mark.parametrize("by", ["newton", "admm"])
def test_a_case_folder_with_flexible_loads_is_solved_in_areas_as_in_one(small: Path, by: str) -> None:
    (small / "flexible_loads.csv").write_text(f"{HEADER},cost_per_kwh\nc,20,5,0.4,0.2,\nd,10,0,0.5,0.5,0.01\n")
    case = read_case(str(small), {"periods": 4})
    assert [(unit.bus, unit.cost_per_kwh) for unit in case.flexible_loads] == [("c", 0), ("d", 0.01)]
    one, four = (solve(case, Options(method, 1e-6)) for method in ("centralized", by))
    assert four.objective == pytest.approx(one.objective, rel=1e-6)
    for result in (one, four):
        assert result.converged and result.check is not None and result.check.passed
        assert result.check.max_voltage_error_pu < 1e-6


@pytest.mark.parametrize("by", ["newton", "admm"])
def test_a_feeder_of_many_phases_moves_load_alike_in_one_area_and_four(by: str) -> None:
    case = read_case("ieee13", {"periods": 3})
    case = api.with_flexible_loads(
        replace(case, horizon=replace(case.horizon, price=np.array(PRICE))),
        FlexibleLoad(bus="671", p_kw=200, q_kvar=60, down=0.4, up=0.2),
        FlexibleLoad(bus="646", phases="2-3", p_kw=60, q_kvar=10, down=0.3, up=0.3, cost_per_kwh=0.08),
        FlexibleLoad(bus="611", phases="3", p_kw=40, q_kvar=0, down=0.4, up=0.2),
    )
    one, four = (solve(case, Options(method, 1e-6)) for method in ("centralized", by))
    for result in (one, four):
        assert result.converged and result.check is not None and result.check.passed
        assert result.check.max_voltage_error_pu < 1e-6
    assert four.objective == pytest.approx(one.objective, rel=1e-6)
    p = one.schedule.flexible_loads["p_kw"]
    np.testing.assert_allclose(four.schedule.flexible_loads["p_kw"], p, atol=0.05)
    nominal = np.array([unit.p_kw for unit in case.flexible_loads])[:, None] * case.horizon.load
    np.testing.assert_allclose(p[:, 0], [1.2, 1.3, 1.2] * nominal[:, 0], rtol=1e-4)
    assert p[1, 2] == pytest.approx(nominal[1, 2], abs=0.01)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("c,-5,0,0.4,0.2", "flexible_loads.csv, line 2: p_kw: must be greater than 0 (got '-5')."),
        ("c,5,0,1.4,0.2", "flexible_loads.csv, line 2: down: must be less than or equal to 1 (got '1.4')."),
        ("c,5,0,0.4,-0.2", "flexible_loads.csv, line 2: up: must be greater than or equal to 0 (got '-0.2')."),
        ("c,5,,0.4,0.2", "flexible_loads.csv, line 2: q_kvar: missing."),
        ("zz,5,0,0.4,0.2", "flexible_loads.csv: unknown bus 'zz'."),
    ],
)
def test_a_spoilt_line_is_named(small: Path, row: str, words: str) -> None:
    (small / "flexible_loads.csv").write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(CaseError) as error:
        read_case(str(small))
    assert words in str(error.value)


def test_what_does_not_fit_the_case_is_refused() -> None:
    load = FlexibleLoad(bus="b", p_kw=5, q_kvar=0, down=0.4, up=0.2)
    case = feeder("balanced")
    with pytest.raises(CaseError, match="phases at bus 'b', but the case is balanced"):
        api.with_flexible_loads(case, load.model_copy(update={"phases": "1"}))
    with pytest.raises(CaseError, match=r"flexible_loads\.csv: load_pu of the load 'b' falls to -0.5\. A flex"):
        api.with_flexible_loads(feeder("balanced", load=(1, -0.5, 1)), load)
    with pytest.raises(CaseError, match="unknown profile 'sun'"):
        api.with_flexible_loads(feeder("multiphase"), load.model_copy(update={"profile": "sun"}))
    assert api.with_pv(case, PV(bus="b", p_rated_kw=5, s_rated_kva=6)).flexible_loads == ()
