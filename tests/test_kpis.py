"""Key performance indicators: by hand on a case of two hours, and of solved runs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from opendssdirect import dss

from tieflow.common.case import Case, Horizon, read_case
from tieflow.common.feeder.balanced import BranchRow, BusRow
from tieflow.common.inputs.devices import PV, Battery, FlexibleLoad, Wind
from tieflow.common.inputs.settings import Settings
from tieflow.common.results.result import Result
from tieflow.common.results.schedule import NetworkState, Schedule
from tieflow.launch.commands.export import MASTER, export
from tieflow.launch.figures.kpis import Extreme, KpiReport, Kpis, kpi_report, kpis, lines, rows
from tieflow.launch.runs.solve import Options, solve


def hand_case() -> Case:
    """A substation and two buses over two half hours; 10 kW of PV and a battery of 20 kWh."""
    return Case(
        name="hand",
        settings=Settings(voltage_kv=4.16, substation_bus="s", periods=2, dt_hours=0.5),
        buses=(BusRow(bus="s"), BusRow(bus="a", p_load_kw=50), BusRow(bus="b", p_load_kw=50)),
        branches=(
            BranchRow(from_bus="s", to_bus="a", r_ohm=0.1, x_ohm=0.1),
            BranchRow(from_bus="a", to_bus="b", r_ohm=0.1, x_ohm=0.1),
        ),
        pv=(PV(bus="a", p_rated_kw=10, s_rated_kva=12),),
        batteries=(Battery(bus="b", p_rated_kw=8, s_rated_kva=10, energy_kwh=20),),
        horizon=Horizon(
            hour=(7, 8), load=np.ones(2), pv=np.array([0.5, 1.0]), price=np.array([0.1, 0.3]), dt=0.5, shapes={}
        ),
        areas=(),
    )


def hand_schedule() -> Schedule:
    """Charges 8 kW, then discharges 4 kW."""
    charge, discharge = np.array([[8.0, 0.0]]), np.array([[0.0, 4.0]])
    return Schedule(
        pv={"q_kvar": np.zeros((1, 2))},
        batteries={"charge_kw": charge, "discharge_kw": discharge, "q_kvar": 0 * charge, "energy_kwh": 0 * charge},
    )


def hand_state() -> NetworkState:
    flows = np.zeros((2, 2))
    return NetworkState(
        v_pu=np.array([[1.5, 1.5], [0.99, 1.02], [0.97, 1.0]]),
        p_kw=flows,
        q_kvar=flows,
        i_a=flows,
        substation_p_kw=np.array([80.0, 40.0]),
        substation_q_kvar=np.zeros(2),
        losses_kw=np.array([3.0, 1.0]),
    )


def by_hand() -> Kpis:
    return kpis(hand_case(), hand_schedule(), hand_state(), 3)


def test_powers_and_energies_follow_from_the_substation_by_hand() -> None:
    found = by_hand()
    assert found.energy_cost == pytest.approx(0.5 * (80 * 0.1 + 40 * 0.3))
    assert found.substation_energy_kwh == pytest.approx(60)
    assert found.peak_substation_kw == Extreme(80.0, "substation", 7, "03:30")
    assert found.load_factor == pytest.approx(60 / 80)
    assert (found.losses_kwh, found.peak_losses_kw) == pytest.approx((2.0, 3.0))
    assert found.violations == 3


def test_the_voltage_indices_leave_the_substation_out_and_are_exact() -> None:
    found = by_hand()
    # Deviations of 0.01, 0.02, 0.03 and 0 over two periods.
    assert found.voltage_performance_index == pytest.approx((0.01**2 + 0.02**2 + 0.03**2) / 2)
    assert found.max_voltage_deviation_percent == pytest.approx(3.0)
    assert found.mean_voltage_deviation_percent == pytest.approx(1.5)
    assert found.lowest_voltage_pu == Extreme(0.97, "b", 7, "03:30")
    assert found.highest_voltage_pu == Extreme(1.02, "a", 8, "04:00")


def test_of_equal_voltages_the_first_is_named_whatever_the_noise() -> None:
    state = hand_state()
    noisy = replace(state, v_pu=np.array([[1.0, 1.0], [1.03, 1.03 + 1e-9], [0.97, 0.97 - 1e-9]]))
    found = kpis(hand_case(), hand_schedule(), noisy, 0)
    assert (found.highest_voltage_pu.hour, found.lowest_voltage_pu.hour) == (7, 7)


def test_system_efficiency_is_what_loads_draw_of_what_is_produced() -> None:
    # Produced 80 + 40 and PV 5 + 10; of that the battery takes 8 and gives 4, and 4 are lost.
    assert by_hand().system_efficiency_percent == pytest.approx(100 * (135 - 4 - 4) / 135)


def test_wind_counts_as_produced_and_tells_its_utilization() -> None:
    turbine = Wind(bus="a", p_rated_kw=20, s_rated_kva=20, curtailable=True)
    horizon = replace(hand_case().horizon, wind=np.array([0.5, 0.5]))
    schedule = replace(hand_schedule(), wind={"p_kw": np.array([[10.0, 5.0]]), "q_kvar": np.zeros((1, 2))})
    found = kpis(replace(hand_case(), wind=(turbine,), horizon=horizon), schedule, hand_state(), 0)
    assert found.system_efficiency_percent == pytest.approx(100 * (150 - 8) / 150)
    assert found.wind_utilization_percent == pytest.approx(75)


def test_battery_cycles_are_half_the_energy_moved_per_capacity() -> None:
    assert by_hand().battery_cycles == pytest.approx((8 + 4) * 0.5 / (2 * 20))


def test_pv_utilization_is_full_unless_the_schedule_curtails_pv() -> None:
    assert by_hand().pv_utilization_percent == pytest.approx(100)
    schedule = hand_schedule()
    curtailed = replace(schedule, pv={**schedule.pv, "p_kw": np.array([[5.0, 7.0]])})
    assert kpis(hand_case(), curtailed, hand_state(), 0).pv_utilization_percent == pytest.approx(100 * 12 / 15)


def test_load_flexibility_is_what_was_moved_per_nominal_demand() -> None:
    assert by_hand().load_flexibility_percent is None
    loads = tuple(FlexibleLoad(bus=bus, p_kw=p, q_kvar=0, down=0.5, up=0.5) for bus, p in (("a", 10), ("b", 5)))
    schedule = replace(hand_schedule(), flexible_loads={"p_kw": np.array([[8.0, 12.0], [5.0, 5.0]])})
    found = kpis(replace(hand_case(), flexible_loads=loads), schedule, hand_state(), 0)
    assert found.load_flexibility_percent == pytest.approx(100 * 4 / 30)


def test_what_is_not_there_has_no_indicator_and_no_row() -> None:
    empty = np.zeros((0, 2))
    bare = replace(hand_case(), pv=(), batteries=())
    schedule = Schedule({"q_kvar": empty}, {name: empty for name in hand_schedule().batteries})
    exporting = replace(hand_state(), substation_p_kw=np.array([-5.0, -1.0]))
    found = kpis(bare, schedule, exporting, 0)
    assert (found.pv_utilization_percent, found.battery_cycles, found.load_factor) == (None, None, None)
    names = {row.name for row in rows(KpiReport("optimizer", True, found, None))}
    assert "losses_kwh" in names
    assert not names & {"pv_utilization_percent", "battery_cycles", "load_factor", "load_flexibility_percent"}


def test_the_optimizers_value_stands_beside_only_where_the_two_differ() -> None:
    found = by_hand()
    peak = replace(found.peak_substation_kw, hour=23, time="11:30")
    other = replace(found, losses_kwh=2.5, lowest_voltage_pu=Extreme(0.97, "a", 8, "04:00"), peak_substation_kw=peak)
    shown = {row.name: row for row in rows(KpiReport("OpenDSS replay", True, found, other))}
    assert (shown["losses_kwh"].value, shown["losses_kwh"].optimizer) == ("2.00 kWh", "2.50 kWh")
    assert shown["lowest_voltage_pu"].value == "0.9700 pu at b at 03:30"
    assert {name for name, row in shown.items() if row.optimizer} == {"losses_kwh"}


def test_a_spreadsheet_has_every_indicator_in_full_precision() -> None:
    found = by_hand()
    table = list(lines(KpiReport("optimizer", True, found, None)))
    assert table[0] == ("name", "value", "unit", "place", "hour", "time", "optimizer", "source")
    by_name = {line[0]: line for line in table[1:]}
    assert by_name["lowest_voltage_pu"] == ("lowest_voltage_pu", 0.97, "pu", "b", 7, "03:30", "", "optimizer")
    assert by_name["load_flexibility_percent"][1] == ""
    assert by_name["load_factor"][1] == found.load_factor


def test_indicators_come_from_opendss_with_the_optimizers_beside(small_result: Result) -> None:
    assert small_result.check is not None
    state = small_result.check.state
    replayed = replace(small_result.check, state=replace(state, losses_kw=state.losses_kw + 1))
    report = kpi_report(replace(small_result, check=replayed))
    assert report.source == "OpenDSS replay"
    assert report.per_phase
    assert report.optimizer is not None
    assert report.kpis.losses_kwh == pytest.approx(report.optimizer.losses_kwh + 12, abs=1e-3)


def test_what_opendss_did_not_solve_is_told_by_the_optimizer_and_said_so(small_result: Result) -> None:
    assert small_result.check is not None
    failed = replace(small_result, check=replace(small_result.check, failed_hours=(2,)))
    for result, why in ((replace(small_result, check=None), "not checked"), (failed, "no solution at 12:00")):
        report = kpi_report(result)
        assert report.source.startswith("optimizer (")
        assert why in report.source
        assert report.optimizer is None
        assert report.kpis.energy_cost == pytest.approx(result.cost)


def test_loads_drawn_by_balance_are_those_of_the_tables(small_result: Result) -> None:
    case = small_result.case
    rated = sum(bus.p_load_kw for bus in case.buses)
    pv = sum(unit.p_rated_kw for unit in case.pv) * case.horizon.pv
    drawn, produced = (rated * case.horizon.load).sum(), (small_result.state.substation_p_kw + pv).sum()
    efficiency = kpi_report(small_result).kpis.system_efficiency_percent
    assert efficiency == pytest.approx(100 * drawn / produced, rel=1e-6)


@pytest.fixture(scope="module")
def ieee13() -> Result:
    """An hour of the unbalanced IEEE 13 bus feeder, which has lines, a transformer and regulators."""
    return solve(read_case("ieee13", {"periods": 1}), Options("centralized"))


@pytest.fixture(scope="module")
def engine(ieee13: Result, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """OpenDSS after it has run the exported schedule by itself."""
    folder = tmp_path_factory.mktemp("exported") / "run"
    export(ieee13.case, ieee13.schedule, ieee13.state, folder)
    context = dss.NewContext()
    context.Text.Command(f'redirect "{folder / MASTER}"')
    return context


def test_losses_of_lines_and_of_transformers_are_those_that_opendss_itself_tells(ieee13: Result, engine: Any) -> None:
    told: dict[str, float] = defaultdict(float)
    for name in engine.PDElements.AllNames():
        engine.Circuit.SetActiveElement(name)
        told[name.split(".")[0].lower()] += engine.CktElement.Losses()[0] / 1000
    report = kpi_report(ieee13)
    assert report.optimizer is not None
    for found in (report.kpis, report.optimizer):
        assert found.line_losses_kwh == pytest.approx(told["line"], abs=1e-3)
        assert found.transformer_losses_kwh == pytest.approx(told["transformer"], abs=1e-3)
        assert told["transformer"] > 0.1
        assert found.line_losses_kwh + found.transformer_losses_kwh == pytest.approx(found.losses_kwh, abs=1e-6)


def test_all_losses_of_a_balanced_feeder_are_those_of_lines(small_result: Result) -> None:
    found = kpi_report(small_result).kpis
    assert (found.line_losses_kwh, found.transformer_losses_kwh) == (found.losses_kwh, 0.0)


def test_losses_that_an_older_file_does_not_tell_apart_are_left_out() -> None:
    assert (by_hand().line_losses_kwh, by_hand().transformer_losses_kwh) == (None, None)


def test_loads_drawn_by_balance_are_those_that_opendss_itself_tells(ieee13: Result, engine: Any) -> None:
    result, report = ieee13, kpi_report(ieee13)
    drawn = 0.0
    for name in engine.Loads.AllNames():
        engine.Circuit.SetActiveElement(f"load.{name}")
        drawn += sum(engine.CktElement.Powers()[::2])
    pv = sum(unit.p_rated_kw * float(result.case.horizon.pv[0]) for unit in result.case.pv)
    produced = report.kpis.substation_energy_kwh + pv
    assert report.source == "OpenDSS replay"
    assert report.kpis.system_efficiency_percent == pytest.approx(100 * drawn / produced, rel=1e-6)
