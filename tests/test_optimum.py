"""Schedules against IPOPT on the same equations written anew, and what was asked of them in vain before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from benchmarks.configurations import configuration
from feeders import with_settings
from hypothesis import Phase, given, settings
from ipopt import Optimum, solve_with_ipopt
from joint_parts import everything
from multiphase_feeders import day, published, random_multiphase_cases, with_devices

from tieflow.common.case import Case, read_case
from tieflow.common.circuit.extraction import compiled, load_shapes
from tieflow.common.circuit.importing import import_circuit
from tieflow.common.errors import InfeasibleError
from tieflow.common.feeder.branch_limits import BranchLimit
from tieflow.common.inputs.devices import PV, Battery, FlexibleLoad, Wind
from tieflow.common.inputs.settings import Settings
from tieflow.common.inputs.weights import Terms
from tieflow.common.results.result import Result
from tieflow.common.results.terms import objective_value
from tieflow.launch.runs.base_run import with_bases
from tieflow.launch.runs.partition import in_areas
from tieflow.launch.runs.solve import CENTRALIZED, Options, solve

RELATIVE = 1e-8
"""of the cost, between two optima"""
SMOOTH = "batchedit load..* vminpu=0.5 vmaxpu=1.5"


def found(case: Case, method: str = CENTRALIZED) -> Result:
    result = solve(case, Options(method, check=False))
    assert result.converged, result.notes
    return result


def assert_same_optimum(case: Case, method: str = CENTRALIZED, relative: float = RELATIVE) -> tuple[Result, Optimum]:
    result, expected = found(case, method), solve_with_ipopt(case, priced=True)
    assert expected.succeeded, expected.status
    # IPOPT's batteries may charge and discharge at once.
    if result.relaxed_objective is not None:
        assert result.relaxed_objective == pytest.approx(expected.cost, rel=relative, abs=1e-7)
        assert result.objective > expected.cost
        return result, expected
    assert result.objective == pytest.approx(expected.cost, rel=relative, abs=1e-7)
    np.testing.assert_allclose(
        result.state.substation_p_kw, expected.substation_p * case.settings.base_kva, rtol=1e-3, atol=0.5
    )
    return result, expected


def published_case(master: str, commands: Sequence[str], pv: int, batteries: int, smooth: bool = True) -> Case:
    circuit = import_circuit(published(master), [*commands, *([SMOOTH] * smooth)]).text
    case = Case(
        name=master,
        settings=Settings(model="multiphase", v_min_pu=0.95, v_max_pu=1.05),
        buses=(),
        branches=(),
        pv=(),
        batteries=(),
        horizon=day(0.9, load_shapes(compiled(circuit), range(24), 1.0)),
        areas=(),
        circuit=circuit,
    )
    return with_devices(case, pv, batteries)


def ieee13(smooth: bool = True) -> Case:
    regulators = [f"edit regcontrol.reg{k} vreg=121 r=1 x=3" for k in (1, 2, 3)]
    return published_case("ieee13_dss/IEEE13Nodeckt.dss", [*regulators, "set loadmult=0.8"], 8, 4, smooth)


def ieee123() -> Case:
    commands = ["open line.sw7", "open line.sw8", "set loadmult=0.65"]
    return published_case("ieee123_dss/IEEE123Master.dss", commands, 30, 10)


# Multi-phase feeders.


@pytest.mark.parametrize("make", [ieee13, ieee123])
def test_the_schedule_of_a_published_feeder_is_the_nonconvex_optimum(make: Callable[[], Case]) -> None:
    case = make()
    # IPOPT takes half a minute for the day of the larger one.
    hours = slice(0, 24) if make is ieee13 else slice(8, 14)
    assert_same_optimum(
        with_settings(replace(case, horizon=case.horizon.part(hours)), periods=hours.stop - hours.start)
    )


def test_in_areas_and_with_sharp_kinks_in_reach_it_is_the_same_optimum() -> None:
    result, _ = assert_same_optimum(in_areas(ieee13(smooth=False), 3), "newton")
    assert len(result.areas) == 3


@pytest.mark.parametrize("aim", ["losses", "voltage_deviation"])
def test_other_objectives_reach_their_nonconvex_optimum_too(aim: str) -> None:
    assert_same_optimum(with_settings(ieee13(), objective=aim))


def test_a_mix_of_terms_over_their_bases_reaches_its_nonconvex_optimum_too() -> None:
    mix = Terms(energy=0.2, losses=0.3, voltage_deviation=0.5, battery_use=0.01)
    assert_same_optimum(with_bases(with_settings(ieee13(), weights=mix, weights_bases=Terms())))


@settings(max_examples=10, phases=[Phase.generate])
@given(random_multiphase_cases(max_areas=3))
def test_schedules_of_random_circuits_are_nonconvex_optima(case: Case) -> None:
    result, expected = found(case, "newton"), solve_with_ipopt(case)
    assert expected.succeeded
    # Costs of cents: an optimizer's tolerance is that of a pu at the dearest hour's price.
    pu = float(case.horizon.price.max()) * case.settings.base_kva
    assert result.objective == pytest.approx(expected.cost, rel=RELATIVE, abs=RELATIVE * pu)


@pytest.mark.parametrize("number", [8, 20, 39, 55, 57, 59, 65])
def test_no_devices_near_collapse_branch_limits_wind_and_mixes_are_solved_as_ipopt_solves_them(number: int) -> None:
    # No devices; near collapse; branch limits and flexible loads; losses and wind; voltages and curtailed wind; a mix
    # with flexible loads; kinks.
    case = with_bases(configuration(number).case)
    assert_same_optimum(case, relative=2e-8 if case.branch_limits else RELATIVE)


BINDING = """\
clear
new circuit.small bus1=a basekv=12.47 pu=1.03 r1=0.3 x1=1.5 r0=0.6 x0=4
new line.ab bus1=a bus2=b length=1 rmatrix=[1.2|0.3 1.1|0.2 0.4 1.3] xmatrix=[2.5|0.9 2.4|0.7 1 2.6]
~ cmatrix=[9|-2 9|-1 -2 9]
new line.bc bus1=b.1.3 bus2=c.1.3 phases=2 length=1 rmatrix=[1.5|0.3 1.6] xmatrix=[2.8|0.8 2.7] cmatrix=[9|-2 9]
new transformer.bd phases=3 windings=2 buses=(b d) conns=(delta wye) kvs=(12.47 0.48) kvas=(500 500) xhl=5
new load.b bus1=b phases=3 conn=delta kv=12.47 kw=1500 kvar=600 model=8 zipv=(0.3 0.3 0.4 0.5 0.3 0.2 0)
new load.c bus1=c.3.1 phases=1 conn=delta kv=12.47 kw=400 kvar=150 model=4 cvrwatts=0.8 cvrvars=2.6
new load.d bus1=d.2 phases=1 kv=0.277 kw=90 kvar=40 model=5
batchedit load..* vminpu=0.5 vmaxpu=1.5
set voltagebases=(12.47 0.48)
calcvoltagebases
"""


def binding_case(v_max: float, **changes: Any) -> Case:
    case = Case(
        name="binding",
        settings=Settings(model="multiphase", v_min_pu=0.95, v_max_pu=v_max),
        buses=(),
        branches=(),
        pv=(
            PV(bus="c", phases="1", p_rated_kw=1500, s_rated_kva=2000),
            PV(bus="c", phases="1-3", p_rated_kw=500, s_rated_kva=700),
            PV(bus="d", p_rated_kw=60, s_rated_kva=90),
        ),
        batteries=(
            Battery(bus="b", p_rated_kw=300, s_rated_kva=400, energy_kwh=1200),
            Battery(bus="d", phases="2.3", p_rated_kw=50, s_rated_kva=60, energy_kwh=150, eta_charge=0.9),
        ),
        horizon=day(0.9, {}),
        areas=(),
        circuit=BINDING,
    )
    return replace(case, **changes)


def test_a_schedule_at_its_voltage_limit_is_the_nonconvex_optimum_with_hard_limits() -> None:
    free, case = found(binding_case(1.1)), with_settings(binding_case(1.04), voltage_slack_price=1e5)
    # The multipliers of hard limits are below the price, so that nothing is overstepped.
    result, expected = found(case), solve_with_ipopt(case, priced=False)
    assert expected.succeeded
    assert result.objective == pytest.approx(expected.cost, rel=RELATIVE)
    limited = case.multiphase_feeder.limited
    assert result.state.v_pu[limited[case.multiphase_feeder.roots :]].max() == pytest.approx(1.04, abs=1e-6)
    assert np.abs(expected.v[limited]).max() == pytest.approx(1.04, abs=1e-6)
    assert result.oversteps == ()
    assert result.objective > free.objective * (1 + 1e-6)


def test_a_voltage_limit_that_is_worth_less_than_it_costs_is_overstepped_as_far_as_ipopt_does() -> None:
    case = with_settings(binding_case(1.04), voltage_slack_price=2.0)
    result, expected = assert_same_optimum(case)
    assert expected.voltage_slack.max() > 1e-3
    assert np.log(result.state.v_pu.max() / 1.04) == pytest.approx(expected.voltage_slack.max(), abs=1e-6)


def test_power_is_curtailed_on_the_circle_of_the_inverter_itself() -> None:
    units = (
        PV(bus="c", phases="1", p_rated_kw=2500, s_rated_kva=2500, curtailable=True),
        PV(bus="d", p_rated_kw=200, s_rated_kva=210, curtailable=True),
    )
    case = lit(binding_case(1.04, pv=units))
    result, _ = assert_same_optimum(case)
    p, q = result.schedule.pv["p_kw"], result.schedule.pv["q_kvar"]
    assert (p[0] < 0.9 * 2500 * case.horizon.pv).any()
    # On the circle at several angles, and never beyond it as a polygon's corners would be.
    full = np.hypot(p[1], q[1])
    angles = np.degrees(np.arctan2(q[1], p[1]))[full > 210 * (1 - 1e-5)]
    assert np.ptp(angles) > 5
    assert (full <= 210 * (1 + 1e-8)).all()


def lit(case: Case) -> Case:
    """With some light at night: a control that has no range at all is given one of a watt, which has its worth."""
    return replace(case, horizon=replace(case.horizon, pv=np.maximum(case.horizon.pv, 0.05)))


def test_limits_of_branches_are_kept_or_overstepped_at_their_price_as_ipopt_does() -> None:
    case = binding_case(1.1)
    flowing = 1300.0
    kept = replace(case, branch_limits=(BranchLimit(branch="line.ab", s_max_kva=flowing),))
    result, expected = assert_same_optimum(kept, relative=2e-8)
    assert result.state.branch_kva.max() >= 0.999 * flowing
    cheap = with_settings(kept, overload_price_per_kvah=1e-3)
    result, expected = assert_same_optimum(cheap, relative=2e-8)
    assert expected.load_slack.max() > 1e-3
    over = result.state.branch_kva.max() - flowing
    assert over == pytest.approx(expected.load_slack.max() * case.settings.base_kva, rel=1e-4)


def test_flexible_loads_and_wind_move_as_ipopt_moves_them() -> None:
    case = binding_case(
        1.1,
        flexible_loads=(
            FlexibleLoad(bus="b", p_kw=300, q_kvar=100, down=0.4, up=0.5),
            FlexibleLoad(bus="d", phases="2", p_kw=20, q_kvar=-5, down=0.3, up=0.3, cost_per_kwh=0.02),
        ),
        wind=(Wind(bus="c", phases="3", p_rated_kw=400, s_rated_kva=420, curtailable=True),),
    )
    case = replace(case, horizon=replace(case.horizon, wind=0.5 + 0.4 * np.sin(np.arange(24))))
    result, expected = assert_same_optimum(case)
    moved = result.schedule.flexible_loads["p_kw"]
    np.testing.assert_allclose(moved, expected.schedule.flexible_loads["p_kw"], atol=1.0)
    assert np.ptp(moved[0] / case.horizon.load) > 50


def test_a_cap_on_power_and_a_price_of_exports_are_kept_as_ipopt_keeps_them() -> None:
    free = found(binding_case(1.1))
    peak = 0.9 * free.state.substation_p_kw.max()
    capped, _ = assert_same_optimum(with_settings(binding_case(1.1), substation_peak_kw=peak))
    assert capped.state.substation_p_kw.max() == pytest.approx(peak, rel=1e-5)
    big = (PV(bus="c", phases="1", p_rated_kw=3000, s_rated_kva=3300), PV(bus="b", p_rated_kw=2500, s_rated_kva=2500))
    priced, _ = assert_same_optimum(with_settings(binding_case(1.15, pv=big), export_price_per_kwh=0.02))
    assert priced.state.substation_p_kw.min() < -10


@pytest.mark.parametrize("cap", [0.0, 300.0, 1000.0])
def test_a_cap_on_exports_is_kept_by_curtailing_for_nothing(cap: float) -> None:
    units = (
        PV(bus="c", phases="1", p_rated_kw=3000, s_rated_kva=3300, curtailable=True),
        PV(bus="b", p_rated_kw=2500, s_rated_kva=2500, curtailable=True),
    )
    case = lit(with_settings(binding_case(1.15, pv=units), substation_export_kw=cap))
    result, expected = found(case), solve_with_ipopt(case)
    assert result.objective == pytest.approx(expected.cost, rel=RELATIVE)
    assert result.state.substation_p_kw.min() == pytest.approx(-cap, abs=0.05)


def test_with_everything_at_once_it_is_still_the_nonconvex_optimum() -> None:
    case = everything(5, 12, 6, export_price_per_kwh=0.02, v_min_pu=0.97, v_max_pu=1.03)
    assert_same_optimum(case, "newton", 2e-8)


def test_what_is_paid_is_the_objective_of_the_schedule_s_own_power_flow() -> None:
    case = binding_case(1.04)
    result = found(case)
    assert objective_value(case, result.schedule, result.state) == pytest.approx(result.objective, rel=1e-7)


# The balanced feeder: what failed and must not.


def balanced(areas: int = 0, periods: int = 5, **changes: Any) -> Case:
    case = read_case("ieee123", {"periods": periods, **changes})
    return in_areas(case, areas) if areas else case


def confirmed(case: Case, method: str = "newton") -> Result:
    """Solved, and confirmed by OpenDSS."""
    result = solve(case, Options(method))
    assert result.converged, result.notes
    assert result.check is not None and result.check.passed, result.check
    return result


def ipopt_of_balanced(case: Case) -> Optimum:
    """With hard limits of voltages, as a balanced feeder's are."""
    optimum = solve_with_ipopt(case, priced=False)
    assert optimum.succeeded, optimum.status
    return optimum


def test_the_balanced_feeder_costs_what_ipopt_and_its_cone_relaxation_say() -> None:
    case = balanced()
    result, relaxed = confirmed(case), solve(case, Options("admm", check=False))
    assert result.objective == pytest.approx(ipopt_of_balanced(case).cost, rel=RELATIVE)
    # The relaxation neglects the losses of switches.
    assert result.objective == pytest.approx(relaxed.objective, rel=1e-5)
    assert result.objective >= relaxed.objective * (1 - 1e-6)


@pytest.mark.parametrize("areas", [5, 6])
def test_a_voltage_limit_that_is_just_met_is_solved_in_five_and_six_areas(areas: int) -> None:
    result = confirmed(balanced(areas, v_min_pu=1.007))
    # The limit does not change the optimum.
    assert result.objective == pytest.approx(found(balanced()).objective, rel=1e-7)
    assert len(result.areas) == areas


@pytest.mark.parametrize("areas", [3, 6])
def test_more_devices_under_a_binding_voltage_limit_are_solved_in_every_cut(areas: int) -> None:
    case = balanced(areas, der_fraction=0.35, v_min_pu=1.008)
    result = confirmed(case)
    assert result.cost == pytest.approx(solve(case, Options(CENTRALIZED, check=False)).cost, rel=1e-7)


def test_a_cap_is_kept_at_its_cost() -> None:
    result = confirmed(balanced(objective="peak", substation_peak_kw=900))
    assert result.state.substation_p_kw.max() == pytest.approx(900, abs=0.01)
    assert result.cost == pytest.approx(616.13, abs=0.02)


def test_a_cap_that_cannot_be_kept_is_told_by_how_much() -> None:
    with pytest.raises(InfeasibleError, match="substation_peak_kw = 500 cannot be kept"):
        solve(balanced(objective="peak", substation_peak_kw=500), Options("newton"))


@pytest.mark.parametrize("price", [{"price_low_per_kwh": 0}, {"price_high_per_kwh": 1e4}])
def test_free_and_dear_hours_are_solved(price: dict[str, float]) -> None:
    case = balanced(**price)
    assert confirmed(case).objective == pytest.approx(ipopt_of_balanced(case).cost, rel=RELATIVE)


def test_hours_of_negative_prices_are_solved_and_what_one_direction_of_batteries_costs_is_told() -> None:
    case = balanced(price_low_per_kwh=-0.1)
    result = confirmed(case)
    # IPOPT's batteries charge and discharge at once, since wasting energy pays.
    assert result.relaxed_objective == pytest.approx(ipopt_of_balanced(case).cost, rel=RELATIVE)
    assert result.objective > result.relaxed_objective


def test_power_that_flows_back_is_solved_exactly_where_the_relaxation_is_loose() -> None:
    case = balanced(pv_percent=100, der_fraction=1.5)
    result = confirmed(case)
    assert result.objective == pytest.approx(ipopt_of_balanced(case).cost, rel=RELATIVE)
    assert result.objective == pytest.approx(-770.54809, abs=1e-4)
    assert result.state.substation_p_kw.min() < 0


@pytest.mark.parametrize("changes", [{"price_low_per_kwh": 0}, {"pv_percent": 100, "der_fraction": 1.5}])
def test_where_admm_meets_a_loose_relaxation_it_hands_over_and_says_so(changes: dict[str, float]) -> None:
    case = balanced(**changes)
    result = confirmed(case, "admm")
    if result.history.method[-1] == "newton":
        assert any("newton takes over" in note for note in result.notes)
    assert result.objective == pytest.approx(ipopt_of_balanced(case).cost, rel=1e-5)


def test_many_devices_over_twelve_hours_reach_ipopt_s_cost() -> None:
    result = confirmed(balanced(0, 12, der_fraction=1.0, pv_percent=40, battery_percent=10), CENTRALIZED)
    assert result.cost == pytest.approx(852.24919, abs=1e-2)


@pytest.mark.parametrize("name", ["ieee13", "ieee123"])
def test_ninety_six_quarter_hours_in_areas_are_solved(name: str) -> None:
    case = read_case(name, {"periods": 24})
    horizon = case.horizon
    fine = np.linspace(0, len(horizon) - 1, 96)
    rows = {row: np.interp(fine, np.arange(len(horizon)), getattr(horizon, row)) for row in ("load", "pv", "price")}
    shapes = {key: np.interp(fine, np.arange(len(horizon)), shape) for key, shape in horizon.shapes.items()}
    quarter = replace(horizon, hour=tuple(range(96)), dt=0.25, shapes=shapes, **rows)
    changed = case.settings.model_copy(update={"periods": 96, "dt_hours": 0.25})
    result = solve(replace(case, horizon=quarter, settings=changed), Options("newton", check=False))
    assert result.converged, result.notes
    assert len(result.areas) > 2
    assert len(result.history.cost) <= 60


def test_ieee34_with_kinked_loads_is_ipopt_s_optimum() -> None:
    case = configuration(1).case
    case = replace(case, horizon=case.horizon.part(slice(8, 14)))
    case = with_settings(case, periods=6)
    assert_same_optimum(case, relative=2e-8)
