"""PV that may be curtailed, its inverter, and PV power from irradiance and temperature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cvxpy as cp
import numpy as np
import pytest
from device_feeders import BOTH, MODELS, confirmed, feeder, power_at
from ipopt import ipopt_optimum
from stored_results import older

from tieflow.areas.relaxation import model
from tieflow.common.case import Case, read_case
from tieflow.common.errors import CaseError
from tieflow.common.inputs.devices import PV
from tieflow.common.results.store import read_result, write_result
from tieflow.common.ties.cutting import one_area
from tieflow.coordinator.checker import check
from tieflow.launch import api
from tieflow.launch.runs.solve import Options, solve

Edit = Callable[[str, str, str], None]


def sunny(model: str, curtailable: bool = True, noon: float = 1.0, v_max: float = 1.04) -> Case:
    """At noon bus b would rise far above its limit; a second system may not be curtailed."""
    units = (
        PV(bus="b", p_rated_kw=600, s_rated_kva=700, curtailable=curtailable),
        PV(bus="s", p_rated_kw=20, s_rated_kva=25),
    )
    return feeder(model, sun=(0.0, 0.2, noon), given={"v_max_pu": v_max}, pv=units)


@pytest.mark.parametrize(("model", "method"), BOTH)
def test_pv_is_curtailed_where_it_would_overstep_the_upper_voltage_limit_and_nowhere_else(
    model: str, method: str
) -> None:
    result = confirmed(sunny(model), method)
    p = result.schedule.pv["p_kw"]
    np.testing.assert_allclose(p[0], [0, 120, power_at(1.04)], atol=0.02)
    np.testing.assert_array_equal(p[1], [0, 4, 20])
    assert result.state.v_pu[-1].max() == pytest.approx(1.04, abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("by", ["newton", "admm"])
def test_two_areas_find_the_curtailment_of_one(model: str, by: str) -> None:
    one, two = (solve(sunny(model), Options(method, 1e-6, check=False)) for method in ("centralized", by))
    assert two.objective == pytest.approx(one.objective, rel=1e-6)
    np.testing.assert_allclose(two.schedule.pv["p_kw"], one.schedule.pv["p_kw"], atol=0.02)


@pytest.mark.parametrize("model", MODELS)
def test_pv_that_oversteps_no_limit_is_not_curtailed(model: str) -> None:
    free, given = (confirmed(sunny(model, curtailable, 0.3, 1.1)) for curtailable in (True, False))
    np.testing.assert_allclose(free.schedule.pv["p_kw"], given.schedule.pv["p_kw"], atol=1e-2)
    assert free.objective == pytest.approx(given.objective, rel=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_pv_that_may_be_curtailed_gives_nothing_at_night(model: str) -> None:
    night = sunny(model)
    result = confirmed(replace(night, horizon=replace(night.horizon, pv=np.zeros(3))))
    np.testing.assert_array_equal(result.schedule.pv["p_kw"], 0)


def test_an_inverter_gives_all_of_its_circle_in_the_relaxation_too() -> None:
    unit = PV(bus="b", p_rated_kw=100, s_rated_kva=100, curtailable=True)
    case = feeder("balanced", sun=(1.0,), price=(0.1,), pv=(unit,))
    written, variables, _ = model(one_area(case).areas[0])
    p, q = variables["decided"]
    for angle in np.linspace(-np.pi / 2, np.pi / 2, 17):
        along = np.cos(angle) * p + np.sin(angle) * q
        problem = cp.Problem(cp.Maximize(along), written.constraints)
        problem.solve(solver=cp.CLARABEL)
        assert 10 * float(problem.value) == pytest.approx(1, abs=1e-6)


def test_more_sun_than_an_inverter_can_take_is_refused_unless_it_may_be_curtailed() -> None:
    case, unit = feeder("balanced", sun=(1.5, 0.5, 0.5)), PV(bus="b", p_rated_kw=40, s_rated_kva=50)
    with pytest.raises(CaseError, match="pv_pu = 1.5 asks 60 kW of the 50 kVA inverter at bus 'b'"):
        api.with_pv(case, unit)
    result = confirmed(api.with_pv(case, unit.model_copy(update={"curtailable": True})))
    np.testing.assert_allclose(result.schedule.pv["p_kw"], [[50, 20, 20]], atol=0.01)


@pytest.mark.parametrize(("unit", "kw", "limit"), [(0, 130, 120), (0, -5, 0), (1, 3, 4), (1, 5, 4)])
def test_power_that_the_sun_does_not_give_is_a_violation(unit: int, kw: float, limit: float) -> None:
    result = solve(sunny("balanced"), Options("centralized", check=False))
    result.schedule.pv["p_kw"][unit, 1] = kw
    found = check(result.case, result.schedule, result.state)
    assert not found.passed
    (violation,) = [violation for violation in found.violations if violation.kind == "rating"]
    assert (violation.element, violation.hour, violation.limit) == ("bs"[unit], 1, pytest.approx(limit))


def test_a_file_from_before_curtailment_is_read_with_pv_at_its_profile(tmp_path: Path) -> None:
    result = solve(sunny("balanced"), Options("centralized", check=False))
    path = tmp_path / "old.h5"
    write_result(path, result)
    assert read_result(path).schedule.pv["p_kw"].tolist() == result.schedule.pv["p_kw"].tolist()
    with older(path) as file:
        del file["schedule/pv/p_kw"], file["case/pv/curtailable"]
    old = read_result(path)
    np.testing.assert_allclose(old.schedule.pv["p_kw"], [[0, 120, 600], [0, 4, 20]])
    assert api.table(old, "pv")["p_kw"].to_numpy().tolist() == old.schedule.pv["p_kw"].T.tolist()


def test_pv_power_falls_with_the_cells_temperature(small: Path) -> None:
    path = small / "profiles.csv"
    path.write_text("hour,load_pu,irradiance_pu,cell_c\n0,1,0,10\n1,1,0.5,25\n2,1,0.8,50\n3,1,0.1,-5\n")
    assert read_case(str(small), {"periods": 4}).horizon.pv == pytest.approx([0, 0.5, 0.72, 0.112])
    steeper = read_case(str(small), {"periods": 4, "temperature_coefficient": -0.005}).horizon.pv
    assert steeper == pytest.approx([0, 0.5, 0.7, 0.115])
    path.write_text("hour,load_pu,irradiance_pu,cell_c\n0,1,0,10\n1,1,1,275\n2,1,1,300\n3,1,0.1,-5\n")
    assert read_case(str(small)).horizon.pv == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize(
    ("header", "cells", "words"),
    [
        ("load_pu", "1", "missing column 'pv_pu'. The header must contain it, or irradiance_pu and cell_c instead."),
        ("load_pu,pv_pu", "1,", "missing column 'pv_pu'."),
        ("load_pu,irradiance_pu", "1,1", "irradiance_pu without cell_c. Add the column cell_c"),
        ("load_pu,cell_c", "1,25", "cell_c without irradiance_pu. Add the column irradiance_pu"),
        ("load_pu,pv_pu,irradiance_pu,cell_c", "1,1,1,25", "both the column pv_pu and cell_c give PV power. Remove"),
        ("load_pu,pv_pu,irradiance_pu", "1,1,1", "both the column pv_pu and irradiance_pu give PV power. Remove"),
        ("load_pu,irradiance_pu,cell_c", "1,-1,25", "line 2: irradiance_pu: must be greater than or equal to 0"),
    ],
)
def test_profiles_that_do_not_tell_pv_power_name_the_column(small: Path, header: str, cells: str, words: str) -> None:
    lines = [f"hour,{header}", *(f"{hour},{cells}" for hour in range(4))]
    (small / "profiles.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(CaseError) as error:
        read_case(str(small))
    assert str(error.value).startswith(str(small / "profiles.csv"))
    assert words in str(error.value)


def test_a_profile_with_a_gap_names_the_time(small: Path, edit: Edit) -> None:
    edit("profiles.csv", "2,1,0.5", "2,1,")
    with pytest.raises(CaseError, match=r"profiles\.csv: pv_pu is empty in the row of 12:00\. Fill it in all rows"):
        read_case(str(small))


def test_a_spoilt_setting_or_column_is_named(small: Path) -> None:
    with pytest.raises(CaseError, match="temperature_coefficient: must be greater than or equal to -0.05"):
        read_case(str(small), {"temperature_coefficient": -0.4})
    (small / "pv.csv").write_text("bus,p_rated_kw,s_rated_kva,curtailable\nc,30,36,perhaps\n")
    with pytest.raises(CaseError, match=r"pv\.csv, line 2: curtailable: must be a valid boolean"):
        read_case(str(small))
    (small / "pv.csv").write_text("bus,p_rated_kw,s_rated_kva,curtailable\nc,30,36,yes\n")
    assert read_case(str(small)).pv[0].curtailable


@pytest.mark.parametrize("by", ["newton", "admm"])
def test_a_feeder_of_many_phases_is_curtailed_alike_by_one_area_and_four(by: str) -> None:
    case = read_case("ieee13", {"periods": 2, "v_max_pu": 1.058})
    # Inverters that real power can take up wholly, so that reactive power alone does not keep the limits.
    pv = tuple(
        PV(bus=u.bus, phases=u.phases, p_rated_kw=s, s_rated_kva=s, curtailable=u.bus != "671")
        for u, s in ((unit, 6 * unit.p_rated_kw) for unit in case.pv)
    )
    one, four = (solve(replace(case, pv=pv), Options(method, 1e-6)) for method in ("centralized", by))
    for result in (one, four):
        assert result.converged and result.check is not None and result.check.passed
        assert result.check.max_voltage_error_pu < 1e-6
    assert four.objective == pytest.approx(one.objective, rel=1e-6)
    given = np.array([case.horizon.idle(unit) for unit in pv])
    share = one.schedule.pv["p_kw"] / given
    assert (share[1:, 1] < 0.9999).all() and share[4, 1] < 0.96
    np.testing.assert_allclose(four.schedule.pv["p_kw"] / given, share, atol=1e-6)
    expected = ipopt_optimum(one.case)
    np.testing.assert_allclose(expected.schedule.pv["p_kw"] / given, share, atol=1e-5)
    assert one.objective == pytest.approx(expected.cost, rel=1e-7)


def test_inverters_and_batteries_without_room_for_reactive_power_do_not_keep_areas_from_agreeing() -> None:
    case = read_case("ieee13", {"periods": 2})
    pv = tuple(unit.model_copy(update={"s_rated_kva": unit.p_rated_kw}) for unit in case.pv)
    batteries = tuple(unit.model_copy(update={"s_rated_kva": unit.p_rated_kw}) for unit in case.batteries)
    full = replace(case, pv=pv, batteries=batteries, horizon=replace(case.horizon, pv=np.array([0.5, 1.0])))
    result = solve(full, Options(max_rounds=30))
    assert result.converged and result.check is not None and result.check.passed
    # An interior point needs an inside: half a millionth of a megawatt to each side.
    assert np.abs(result.schedule.pv["q_kvar"][:, 1]).max() < 5e-4 < np.abs(result.schedule.pv["q_kvar"][:, 0]).max()
    assert np.abs(result.schedule.batteries["q_kvar"]).max() < 5e-4
