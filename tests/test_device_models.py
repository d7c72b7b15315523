"""What devices may do, and that a solve uses it."""

from __future__ import annotations

import numpy as np
import pytest

from tieflow.common.case import Case, read_case
from tieflow.common.results.result import Result
from tieflow.launch.runs.solve import Options, solve


@pytest.fixture(scope="module")
def solved() -> Result:
    return solve(
        read_case("ieee123", {"periods": 24, "der_fraction": 0.35}), Options(method="centralized", check=False)
    )


def column(case: Case, kind: str, field: str) -> np.ndarray:
    return np.array([[getattr(unit, field)] for unit in getattr(case, kind)])


def test_pv_reactive_power_keeps_within_the_inverter(solved: Result) -> None:
    case = solved.case
    p = column(case, "pv", "p_rated_kw") * case.horizon.pv
    apparent = np.hypot(p, solved.schedule.pv["q_kvar"])
    assert np.all(apparent <= column(case, "pv", "s_rated_kva") * (1 + 1e-6))
    assert apparent.max() > 0


def test_stored_energy_follows_charge_and_discharge(solved: Result) -> None:
    case, battery = solved.case, solved.schedule.batteries
    start = column(case, "batteries", "soc_initial") * column(case, "batteries", "energy_kwh")
    gained = 0.95 * battery["charge_kw"] - battery["discharge_kw"] / 0.95
    assert np.allclose(battery["energy_kwh"], start + np.cumsum(gained, axis=1), atol=1e-4)


def test_batteries_end_as_full_as_they_began(solved: Result) -> None:
    start = column(solved.case, "batteries", "soc_initial") * column(solved.case, "batteries", "energy_kwh")
    assert np.allclose(solved.schedule.batteries["energy_kwh"][:, -1:], start, atol=1e-4)


def test_stored_energy_keeps_within_its_limits_and_reaches_one(solved: Result) -> None:
    soc = solved.schedule.batteries["energy_kwh"] / column(solved.case, "batteries", "energy_kwh")
    assert soc.min() >= 0.30 - 1e-6
    assert soc.max() <= 0.95 + 1e-6
    assert soc.min() < 0.31 or soc.max() > 0.94


def test_batteries_do_not_charge_and_discharge_at_once(solved: Result) -> None:
    both = np.minimum(solved.schedule.batteries["charge_kw"], solved.schedule.batteries["discharge_kw"])
    assert both.max() <= 1e-2


def test_batteries_discharge_in_hours_of_high_price(solved: Result) -> None:
    net = (solved.schedule.batteries["discharge_kw"] - solved.schedule.batteries["charge_kw"]).sum(axis=0)
    expensive = solved.case.horizon.price > 0.1
    assert net[expensive].sum() > 0 > net[~expensive].sum()


def test_battery_reactive_power_is_what_the_inverter_has_left_at_rated_power(solved: Result) -> None:
    limit = np.array([[unit.q_max_kvar] for unit in solved.case.batteries])
    assert np.all(np.abs(solved.schedule.batteries["q_kvar"]) <= limit * (1 + 1e-6))
