"""The Python API: what it changes in a case, what its tables and plots show, and what it refuses."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import tieflow
from tieflow.common.errors import InfeasibleError
from tieflow.common.ties.cutting import partition
from tieflow.launch import api, example
from tieflow.launch.plots.figures import pictures

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def multiphase() -> tieflow.Result:
    """Two hours of the unbalanced IEEE 13 bus feeder."""
    result = tieflow.solve(tieflow.load("ieee13", periods=2))
    assert result is not None
    return result


def battery(bus: str, energy_kwh: float = 100.0, phases: str = "") -> tieflow.Battery:
    return tieflow.Battery(bus=bus, p_rated_kw=20, s_rated_kva=24, energy_kwh=energy_kwh, phases=phases)


def pv(bus: str, p_rated_kw: float = 10.0, **more: object) -> tieflow.PV:
    return tieflow.PV.model_validate({"bus": bus, "p_rated_kw": p_rated_kw, "s_rated_kva": 12.0} | more)


def test_a_shipped_case_and_a_folder_load_with_changed_settings(small: Path) -> None:
    assert tieflow.load("ieee13", periods=3).horizon.hour == (10, 11, 12)
    case = tieflow.load(small, periods=4, v_min_pu=0.97)
    assert (len(case.horizon), case.settings.v_min_pu) == (4, 0.97)


def test_a_wrong_name_or_setting_is_refused_with_the_nearest_right_one(small: Path) -> None:
    with pytest.raises(tieflow.CaseError, match="Did you mean 'ieee13'"):
        tieflow.load("ieee14")
    with pytest.raises(tieflow.CaseError, match="Did you mean 'periods'"):
        tieflow.load(small, period=3)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"peroids": 3}, "keyword argument: unknown setting 'peroids'"),
        ({"v_min_pu": "high"}, "keyword argument: v_min_pu: must be "),
        ({"model": "multiphase", "pv_percent": 3}, "keyword argument: pv_percent has no meaning"),
        ({"objective": "peak"}, "keyword argument: objective = peak needs the cap. Set substation_peak_kw."),
    ],
)
def test_a_wrong_setting_is_blamed_on_the_keyword_argument(small: Path, settings: dict[str, object], told: str) -> None:
    with pytest.raises(tieflow.CaseError) as error:
        tieflow.load(small, **settings)
    assert str(error.value).startswith(told)
    assert "--set" not in str(error.value)


def test_a_device_is_added_or_replaces_the_one_at_its_place(small: Path) -> None:
    case = tieflow.load(small)
    more = tieflow.with_batteries(case, battery("b"), battery("d", energy_kwh=300))
    assert [(unit.bus, unit.energy_kwh) for unit in more.batteries] == [("d", 300), ("b", 100)]
    assert tieflow.with_pv(case, pv("c", 5), pv("a")).pv == (pv("c", 5), pv("a"))
    assert [unit.energy_kwh for unit in case.batteries] == [200], "the given case must stay as it was"


def test_devices_on_other_phases_of_a_bus_are_others() -> None:
    case = tieflow.load("ieee13", periods=1)
    more = tieflow.with_batteries(case, battery("675", phases="1"), battery("675", phases="2-3"), battery("675", 5))
    assert [unit.place for unit in more.batteries] == ["675", "634", "680", "675.1", "675.2-3"]
    assert more.batteries[0].energy_kwh == 5


def test_a_case_with_a_device_added_is_the_one_read_from_files(small: Path) -> None:
    added = tieflow.solve(tieflow.with_batteries(tieflow.load(small), battery("b")))
    with (small / "batteries.csv").open("a") as file:
        file.write("b,20,24,100\n")
    read = tieflow.solve(tieflow.load(small))
    assert added is not None and read is not None
    assert added.case.batteries == read.case.batteries
    assert added.cost == pytest.approx(read.cost, abs=1e-9)
    np.testing.assert_allclose(added.schedule.batteries["energy_kwh"], read.schedule.batteries["energy_kwh"], atol=1e-9)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (pv("aa"), "unknown bus 'aa'. Did you mean 'a'"),
        (pv("b", phases="1"), "phases at bus 'b', but the case is balanced"),
        (pv("b", profile="sun"), "profile at bus 'b', but the case is balanced"),
        (pv("b").model_copy(update={"s_rated_kva": 9.0}), "s_rated_kva = 9.0 is below p_rated_kw"),
        (pv("b").model_copy(update={"p_rated_kw": -1.0}), "p_rated_kw: must be greater than 0"),
    ],
)
def test_a_device_that_does_not_fit_a_balanced_case_is_refused(small: Path, unit: tieflow.PV, message: str) -> None:
    with pytest.raises(tieflow.CaseError, match=message):
        tieflow.with_pv(tieflow.load(small), unit)


def test_pv_with_more_power_than_its_inverter_in_an_hour_is_refused(small: Path) -> None:
    (small / "profiles.csv").write_text("hour,load_pu,pv_pu\n0,0.6,0\n1,0.8,1.1\n2,1,0.5\n3,0.7,0\n")
    with pytest.raises(tieflow.CaseError, match="pv_pu = 1.1 asks 13.2 kW of the 12 kVA inverter at bus 'b'"):
        tieflow.with_pv(tieflow.load(small), pv("b", 12))


def test_two_devices_for_one_place_in_one_call_are_two_and_each_is_replaced_by_its_name(small: Path) -> None:
    case = tieflow.with_batteries(tieflow.load(small), battery("b"), battery("b", 50))
    assert [unit.label for unit in case.batteries] == ["d", "b", "b (2)"]
    second = case.batteries[2].model_copy(update={"energy_kwh": 70.0})
    changed = tieflow.with_batteries(case, second)
    assert [unit.energy_kwh for unit in changed.batteries][1:] == [case.batteries[1].energy_kwh, 70.0]
    with pytest.raises(tieflow.CaseError, match="two devices are called 'b'"):
        tieflow.with_batteries(case, *[unit.model_copy(update={"name": "b"}) for unit in (second, second)])


@pytest.mark.parametrize(
    ("bus", "phases", "message"),
    [
        ("611", "1", "asks for phase 1, but the bus has phases 3 only"),
        ("612", "", "unknown bus '612'"),
    ],
)
def test_a_device_that_does_not_fit_a_multiphase_case_is_refused(bus: str, phases: str, message: str) -> None:
    with pytest.raises(tieflow.CaseError, match=message):
        tieflow.with_batteries(tieflow.load("ieee13", periods=1), battery(bus, phases=phases))


def test_a_branch_limit_is_added_or_replaces_that_of_its_branch_by_whichever_name(small: Path) -> None:
    def limit(branch: str, s_max_kva: float) -> tieflow.BranchLimit:
        return tieflow.BranchLimit(branch=branch, s_max_kva=s_max_kva)

    case = tieflow.with_branch_limits(tieflow.load("ieee13", periods=1), limit("transformer.reg1", 800))
    more = tieflow.with_branch_limits(case, limit("Transformer.reg3", 700), limit("line.650632", 900))
    assert [(row.branch, row.s_max_kva) for row in more.branch_limits] == [
        ("Transformer.reg3", 700),
        ("line.650632", 900),
    ]
    balanced = tieflow.with_branch_limits(tieflow.load(small), limit("d-a", 50))
    assert [row.s_max_kva for row in balanced.branches] == [None, None, None, 50]
    with pytest.raises(tieflow.CaseError, match="branch limits: unknown branch 'a-z'"):
        tieflow.with_branch_limits(balanced, limit("a-z", 50))
    with pytest.raises(tieflow.CaseError, match="'d-a' is the same branch as 'a-d'"):
        tieflow.with_branch_limits(balanced, limit("a-d", 50), limit("d-a", 60))
    with pytest.raises(tieflow.CaseError, match="s_max_kva: must be greater than 0"):
        tieflow.with_branch_limits(case, limit("line.650632", 1).model_copy(update={"s_max_kva": 0.0}))


@pytest.mark.parametrize("name", ["ieee123", "ieee13"])
def test_a_case_is_cut_into_so_many_areas_and_the_same_by_their_names(name: str) -> None:
    case = tieflow.load(name, periods=1)
    three = tieflow.with_areas(case, 3)
    assert len(partition(three).areas) == 3
    assert len(partition(tieflow.with_areas(case, 1)).areas) == 1
    again = tieflow.with_areas(case, {row.bus: int(row.area) for row in three.areas})
    assert again.areas == three.areas


def test_areas_that_cannot_be_are_refused(small: Path) -> None:
    case = tieflow.load(small)
    apart = {"s": 1, "a": 1, "b": 1, "d": 2, "c": 2}
    for areas, message in (
        (0, "0 areas"),
        (6, "6 areas"),
        ({}, "no area for 5 bus"),
        ({**apart, "x": 1}, "unknown bus 'x'"),
        (apart, "area 2 is not connected"),
        ({**apart, "s": ""}, "area: must be String should have at least 1 character"),
    ):
        with pytest.raises(tieflow.CaseError, match=message):
            tieflow.with_areas(case, areas)  # type: ignore[arg-type]


def test_a_battery_makes_the_day_cheaper_and_a_bound_says_how_much_is_left(small: Path) -> None:
    case = replace(tieflow.load(small, periods=4), batteries=())
    rounds: list[int] = []
    without = tieflow.solve(case, check=False)
    stored = tieflow.solve(
        tieflow.with_batteries(case, battery("b")), certify=True, on_round=lambda round_: rounds.append(round_.number)
    )
    assert without is not None and stored is not None
    assert stored.converged and stored.check is not None and stored.check.passed
    assert without.check is None and without.lower_bound is None
    assert stored.cost < without.cost - 1
    assert stored.lower_bound == pytest.approx(stored.objective, rel=1e-4)
    assert rounds == list(range(1, len(stored.history.cost) + 1))


def test_the_options_of_a_solve_reach_it(small: Path) -> None:
    case = tieflow.load(small)
    one = tieflow.solve(case, "dlmp", max_rounds=1, tolerance_pu=1e-4, check=False)
    assert one is not None
    assert (one.method, one.converged, len(one.history.cost), one.tolerance_pu) == ("dlmp", False, 1, 1e-4)
    few = tieflow.solve(case, "newton", max_rounds=2, check=False)
    assert few is not None and (few.converged, len(few.history.cost)) == (False, 2)
    whole = tieflow.solve(case, "centralized", check=False)
    assert whole is not None and whole.areas == ("all",)


def test_the_method_is_the_cases_own_unless_another_is_asked_for(small: Path) -> None:
    for case, method, expected in (
        (tieflow.load(small), None, "admm"),
        (tieflow.load(small, method="newton"), None, "newton"),
        (tieflow.load(small, method="newton"), "dlmp", "dlmp"),
        (tieflow.load("ieee13", periods=1), None, "newton"),
    ):
        result = tieflow.solve(case, method, check=False)
        assert result is not None and result.converged
        assert (result.method, set(result.history.method)) == (expected, {expected})


def test_wrong_arguments_and_an_infeasible_case_are_refused(small: Path) -> None:
    case = tieflow.load(small)
    with pytest.raises(tieflow.CaseError, match="method 'amdm' is unknown. Did you mean 'admm'"):
        tieflow.solve(case, "amdm")
    with pytest.raises(tieflow.CaseError, match="max_rounds = 0"):
        tieflow.solve(case, max_rounds=0)
    with pytest.raises(tieflow.CaseError, match="tolerance_pu = 0"):
        tieflow.solve(case, tolerance_pu=0)
    with pytest.raises(InfeasibleError):
        tieflow.solve(tieflow.load(small, v_min_pu=1.04), check=False)


def test_a_saved_result_is_read_again(multiphase: tieflow.Result, tmp_path: Path) -> None:
    tieflow.save(multiphase, str(tmp_path / "run.h5"))
    again = tieflow.read(tmp_path / "run.h5")
    assert again.cost == multiphase.cost
    for what in ("voltages", "flows", "substation", "pv", "batteries", "rounds"):
        assert tieflow.table(again, what).equals(tieflow.table(multiphase, what)), what
    with pytest.raises(tieflow.TieflowError, match="no such file"):
        tieflow.read(tmp_path / "other.h5")


def test_tables_of_a_balanced_case_hold_each_number_under_its_name(small_result: tieflow.Result) -> None:
    case, state = small_result.case, small_result.state
    hours = [6, 12]
    voltages, flows = tieflow.table(small_result, "voltages"), tieflow.table(small_result, "flows")
    assert voltages.index.tolist() == hours and voltages.index.name == "hour"
    assert voltages.columns.tolist() == list(case.balanced_feeder.buses) and voltages.columns.name == "bus"
    assert voltages.loc[hours[1], "c"] == state.v_pu[case.balanced_feeder.index["c"], 1]
    assert flows.shape == (2, 3 * 4)
    assert flows.loc[hours[0], ("q_kvar", "b-c")] == state.q_kvar[case.balanced_feeder.index["c"] - 1, 0]
    assert set(flows["i_a"]) == {"s-a", "a-b", "b-c", "a-d"}
    batteries = tieflow.table(small_result, "batteries")
    assert batteries["energy_kwh"]["d"].tolist() == small_result.schedule.batteries["energy_kwh"][0].tolist()
    assert set(batteries.columns.levels[0]) == {"charge_kw", "discharge_kw", "q_kvar", "energy_kwh"}
    assert tieflow.table(small_result, "pv").loc[hours[1], ("q_kvar", "c")] == small_result.schedule.pv["q_kvar"][0, 1]
    substation = tieflow.table(small_result, "substation")
    energy = (substation["p_kw"] * substation["price_per_kwh"]).sum() * case.horizon.dt
    assert energy == pytest.approx(small_result.cost)
    assert substation["losses_kw"].tolist() == state.losses_kw.tolist()


def test_tables_of_a_multiphase_case_go_by_node_and_place(multiphase: tieflow.Result) -> None:
    network = multiphase.case.multiphase_feeder
    voltages = tieflow.table(multiphase, "voltages")
    node = network.node_names.index("611.3") - network.roots
    assert voltages.columns.name == "node"
    assert voltages["611.3"].tolist() == multiphase.state.v_pu[node].tolist()
    assert tieflow.table(multiphase, "flows")["p_kw", "611.3"].tolist() == multiphase.state.p_kw[node].tolist()
    places = ["671", "675", "634", "646.2-3", "611.3", "652.1"]
    assert tieflow.table(multiphase, "pv")["q_kvar"].columns.tolist() == places


def test_the_table_of_rounds_has_the_first_order_residual_where_it_is_known(
    multiphase: tieflow.Result, small_result: tieflow.Result
) -> None:
    rounds = tieflow.table(multiphase, "rounds")
    assert rounds["optimality"].tolist() == multiphase.history.optimality.tolist()
    assert set(rounds["method"]) == {"newton"} and rounds["optimality"].iloc[-1] == multiphase.optimality
    assert multiphase.optimality is not None and multiphase.optimality <= 1e-8
    assert tieflow.table(small_result, "rounds")["optimality"].isna().all()


def test_the_table_of_rounds_starts_at_one_and_knows_older_files(small_result: tieflow.Result) -> None:
    rounds = tieflow.table(small_result, "rounds")
    history = small_result.history
    assert rounds.index.tolist() == list(range(1, len(history.cost) + 1)) and rounds.index.name == "round"
    assert rounds["mismatch_pu"].tolist() == history.mismatch_pu.tolist()
    assert rounds["method"].tolist() == list(history.method)
    older = replace(small_result, history=replace(history, optimality=np.zeros(0), model_error_pu=history.cost))
    assert tieflow.table(older, "rounds")["optimality"].isna().all()
    assert tieflow.table(older, "rounds")["model_error_pu"].tolist() == history.cost.tolist()
    assert tieflow.table(small_result, "rounds")["model_error_pu"].isna().all()
    labels = [line.get_label() for line in tieflow.plot(older, "convergence").axes[0].get_lines()]
    assert labels == ["mismatch", "change", "model error", "tolerance"]


def test_a_case_without_devices_has_tables_and_plots_without_columns(small: Path) -> None:
    bare = tieflow.solve(replace(tieflow.load(small), pv=(), batteries=()), check=False)
    assert bare is not None
    assert tieflow.table(bare, "pv").shape == (2, 0)
    assert tieflow.table(bare, "batteries").shape == (2, 0)
    assert len(tieflow.plot(bare).axes) == 1
    with pytest.raises(tieflow.TieflowError, match="plot 'pv': this run has nothing to show in it"):
        tieflow.plot(bare, "pv")


def test_a_change_of_a_table_leaves_the_result_alone(small_result: tieflow.Result) -> None:
    before = small_result.state.v_pu.copy()
    mine = tieflow.table(small_result, "voltages")
    mine.loc[:, :] = 0.0
    assert not mine.to_numpy().any()
    assert (small_result.state.v_pu == before).all()


def test_the_schedule_is_plotted_with_units_over_the_hours_of_the_day(small_result: tieflow.Result) -> None:
    figure = tieflow.plot(small_result)
    labels = [axes.get_ylabel() for axes in figure.axes]
    kw = [f"{name}\n{unit} per phase" for name, unit in (("substation", "kW, kvar"), ("batteries", "kW"))]
    assert labels == [*kw, "state of\ncharge, %", "PV\nkW, kvar per phase"]
    assert figure.axes[-1].get_xlabel() == "time of day"
    real = figure.axes[0].patches[0].get_data()
    assert small_result.check is not None
    assert real.values.tolist() == small_result.check.state.substation_p_kw.tolist()
    assert real.edges.tolist() == [6.0, 12.0, 18.0], "rows 1 and 2 of a day of four 6 h periods"
    stored = next(line for line in figure.axes[2].get_lines() if line.get_label() == "all together").get_ydata()
    expected = [125.0, *small_result.check.battery_energy_kwh[0]]
    np.testing.assert_allclose(stored, np.array(expected) / 2)


def test_voltages_are_plotted_where_limits_hold(multiphase: tieflow.Result, small_result: tieflow.Result) -> None:
    for result, limits in ((multiphase, [1.06, 0.95]), (small_result, [1.05, 0.95])):
        axes = tieflow.plot(result, "voltages").axes[0]
        shown = axes.patches[0].get_data()
        assert result.check is not None
        v = result.check.state.v_pu
        expected = (
            v[1:]
            if result.case.is_balanced
            else v[result.case.multiphase_feeder.limited[result.case.multiphase_feeder.roots :]]
        )
        np.testing.assert_array_equal(shown.values, expected.max(axis=0))
        np.testing.assert_array_equal(shown.baseline, expected.min(axis=0))
        assert [line.get_ydata()[0] for line in axes.get_lines()] == limits


def test_every_picture_of_the_command_is_had_by_its_name(small_result: tieflow.Result) -> None:
    for picture in pictures(small_result):
        heading = tieflow.plot(small_result, picture.name).get_suptitle()
        assert heading == picture.draw(small_result).get_suptitle()


def test_convergence_is_plotted_by_round_and_says_when_there_is_none(multiphase: tieflow.Result) -> None:
    figure = tieflow.plot(replace(multiphase, converged=False), "convergence")
    axes = figure.axes[0]
    assert "NOT CONVERGED" in figure.get_suptitle()
    assert axes.get_yscale() == "log"
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == ["mismatch", "change", "first-order residual", "tolerance"]
    assert lines["mismatch"].get_xdata().tolist() == list(range(1, len(multiphase.history.cost) + 1))
    assert lines["first-order residual"].get_ydata().tolist() == multiphase.history.optimality.tolist()


def test_unknown_tables_and_plots_are_refused(small_result: tieflow.Result) -> None:
    with pytest.raises(tieflow.TieflowError, match="Did you mean 'voltages'"):
        tieflow.table(small_result, "voltage")
    with pytest.raises(tieflow.TieflowError, match="Known: area_map, batteries, convergence, .*schedule, .*voltages"):
        tieflow.plot(small_result, "xyz")


def test_what_is_not_installed_is_named_with_how_to_get_it(
    small_result: tieflow.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(tieflow.TieflowError, match="^pandas cannot be loaded .*pip install pandas$"):
        tieflow.table(small_result, "voltages")
    with pytest.raises(tieflow.TieflowError, match=r"^matplotlib cannot be loaded .*pip install 'tieflow\[plot\]'$"):
        tieflow.plot(small_result)


def test_the_indicators_of_a_run_are_numbers(small_result: tieflow.Result) -> None:
    found = tieflow.kpis(small_result)
    check = small_result.check
    assert check is not None
    assert found.energy_cost == pytest.approx(check.cost)
    assert found.peak_substation_kw.value == check.state.substation_p_kw.max()
    assert isinstance(found.lowest_voltage_pu, tieflow.Extreme)
    assert asdict(found)["losses_kwh"] == found.losses_kwh


def test_runs_are_compared_where_both_have_something(small: Path, small_result: tieflow.Result) -> None:
    case = tieflow.with_batteries(tieflow.load(small), battery("b"))
    more = tieflow.solve(replace(case, pv=()))
    assert more is not None
    found = tieflow.compare(small_result, more)
    cost = found.kpis["energy_cost"]
    a, b = tieflow.kpis(small_result), tieflow.kpis(more)
    assert (cost.a, cost.b, cost.change) == (a.energy_cost, b.energy_cost, b.energy_cost - a.energy_cost)
    assert cost.change_percent == pytest.approx(100 * (b.energy_cost / a.energy_cost - 1))
    assert found.kpis["pv_utilization_percent"].b is None and found.kpis["pv_utilization_percent"].change is None
    assert set(found.setpoints) == {
        f"batteries.{name}" for name in ("charge_kw", "discharge_kw", "q_kvar", "energy_kwh")
    }
    assert found.sources == ("OpenDSS replay", "OpenDSS replay")
    first, second = (tieflow.table(run, "batteries")["q_kvar"]["d"] for run in (small_result, more))
    told = found.setpoints["batteries.q_kvar"]
    assert (told.place, abs(told.value)) == ("d", (second - first).abs().max())
    assert told.value == (second - first)[told.hour * small_result.case.horizon.dt]
    assert found.voltage_pu is not None and small_result.check is not None and more.check is not None
    away = (more.check.state.v_pu - small_result.check.state.v_pu)[1:]
    assert abs(found.voltage_pu.value) == np.abs(away).max()


def test_runs_that_share_no_hour_or_kind_of_case_are_told_apart(
    multiphase: tieflow.Result, small_result: tieflow.Result
) -> None:
    later = replace(small_result.case.horizon, hour=(20, 21))
    other = replace(small_result, case=replace(small_result.case, horizon=later), check=None)
    found = tieflow.compare(small_result, other)
    assert found.voltage_pu is None and found.setpoints == {}
    assert found.sources == ("OpenDSS replay", "optimizer (not checked in OpenDSS)")
    same = tieflow.compare(multiphase, multiphase)
    assert same.voltage_pu is not None and same.voltage_pu.value == 0
    assert all(item.change in (0, None) for item in same.kpis.values())
    with pytest.raises(
        tieflow.TieflowError, match="ieee13 and small: powers of a balanced case are those of one phase"
    ):
        tieflow.compare(multiphase, small_result)


def test_methods_are_benchmarked_as_data(small: Path) -> None:
    case = tieflow.load(small)
    rows = tieflow.benchmark(case, ["admm", "enapp"], tolerance_pu=1e-4)
    assert rows is not None
    assert [row["method"] for row in rows] == ["centralized", "admm", "enapp"]
    assert [row["converged"] for row in rows] == [True] * 3 and rows[1]["tolerance_pu"] == 1e-4
    assert rows[0]["gap_to_optimum"] == 0 and 0 < rows[2]["gap_to_optimum"] < 1e-2
    assert all(row["checker"]["passed"] and row["critical_path_ratio"] > 0 for row in rows)
    with pytest.raises(tieflow.CaseError, match="method 'amdm' is unknown. Did you mean 'admm'"):
        tieflow.benchmark(case, ["amdm"])
    with pytest.raises(tieflow.CaseError, match="max_rounds = 0"):
        tieflow.benchmark(case, ["admm"], max_rounds=0)


def test_what_the_package_offers_is_what_the_module_and_the_types_offer() -> None:
    tree = ast.parse(Path(tieflow.__file__).read_text())
    typed = next(
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "tieflow.launch.api"
    )
    assert sorted(alias.name for alias in typed.names) == sorted(tieflow.__all__) == sorted(api.__all__)


def test_the_example_is_that_of_the_readme_and_prints_and_leaves_what_is_told_there(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tieflow.launch.example"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert f"```py\n{Path(example.__file__).read_text()}```" in readme
    printed = "\n".join(line.rstrip() for line in run.stdout.splitlines())
    # How many rounds it takes is not what the example is about.
    told, found = (re.sub(r"\d+ rounds", "rounds", text) for text in (readme, printed))
    assert f"```text\n{found}\n```" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ieee13.h5", "ieee13.png"]
    assert (tmp_path / "ieee13.png").read_bytes().startswith(PNG)
    assert [unit.energy_kwh for unit in tieflow.read(tmp_path / "ieee13.h5").case.batteries] == [1600, 400, 600, 240]


def test_neither_loading_the_module_nor_a_plot_touches_pyplot(small_result: tieflow.Result, tmp_path: Path) -> None:
    tieflow.save(small_result, tmp_path / "small.h5")
    script = """
import sys
import tieflow
assert not {"pandas", "matplotlib", "mpi4py.MPI"} & set(sys.modules)
tieflow.plot(tieflow.read("small.h5")).savefig("small.png")
assert "matplotlib.pyplot" not in sys.modules
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "small.png").read_bytes().startswith(PNG)
