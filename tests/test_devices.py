"""What devices can do: powers, bounds, what is told of their controls, and what they store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from device_feeders import feeder
from hypothesis import given
from hypothesis import strategies as st

from areas.devices import AT_ONCE, KINDS, ROOM, Controls, area_controls, setpoints
from common.case import Case
from common.devices import DEVICE_KINDS, PV, Battery, FlexibleLoad, Wind
from common.feeder import Complexes, Floats
from common.partition import one_area
from common.schedule import Schedule, injected

BASE = 1000.0
"""kVA per pu"""


def mixed(rng: np.random.Generator, periods: int, **settings: Any) -> Case:
    """All kinds of devices, some curtailable, of random sizes."""

    def kw() -> float:
        return float(rng.uniform(5, 50))

    def weathered(kind: type[PV] | type[Wind], bus: str, free: bool) -> Any:
        p = kw()
        return kind(bus=bus, p_rated_kw=p, s_rated_kva=p * rng.uniform(1, 1.3), curtailable=free)

    p = kw()
    return feeder(
        "multiphase",
        sun=rng.uniform(0, 1, periods),
        blowing=rng.uniform(0, 1, periods),
        load=rng.uniform(0.4, 1, periods),
        price=rng.uniform(0.05, 0.3, periods),
        given=settings,
        pv=(weathered(PV, "a", False), weathered(PV, "b", True)),
        wind=(weathered(Wind, "b", True), weathered(Wind, "a", False)),
        batteries=tuple(
            Battery(
                bus=bus,
                p_rated_kw=p,
                s_rated_kva=1.2 * p,
                energy_kwh=4 * p,
                eta_charge=rng.uniform(0.8, 1),
                eta_discharge=rng.uniform(0.8, 1),
                cost_per_kwh=0.01,
            )
            for bus in ("b", "a")
        ),
        flexible_loads=(FlexibleLoad(bus="b", p_kw=30, q_kvar=-12, down=0.4, up=0.2, cost_per_kwh=0.03),),
    )


def within(rng: np.random.Generator, controls: Controls) -> Floats:
    """Random values within all bounds and circles."""
    value = rng.uniform(controls.low, controls.high)
    for a, b, radius in controls.circles:
        far = np.maximum(np.hypot(value[a], value[b]) / radius, 1.0)
        value[a], value[b] = value[a] / far, value[b] / far
    return value


def powers(controls: Controls, value: Floats) -> Complexes:
    """(device, T) power into the feeder at controls (control, T)."""
    found = controls.given.copy()
    np.add.at(found, controls.unit, controls.power[:, None] * value)
    return found


def told(case: Case, value: Floats) -> Schedule:
    """The schedule that controls mean, as the areas tell it."""
    named = setpoints(one_area(case).areas[0], value, slice(0, len(case.horizon)))
    scheduled: dict[str, dict[str, Floats]] = {kind: {} for kind in DEVICE_KINDS}
    for name, values in named.items():
        kind, quantity = name.split(".")
        scheduled[kind][quantity] = BASE * values
    return Schedule(**scheduled)


cases = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 5))


@given(cases)
def test_what_is_told_is_what_enters_the_feeder(drawn: tuple[int, int]) -> None:
    rng = np.random.default_rng(drawn[0])
    case = mixed(rng, drawn[1])
    controls = area_controls(one_area(case).areas[0])
    value = within(rng, controls)
    # A little of charging and discharging at once is told as the one of both that is more.
    for store in controls.stores[: len(case.batteries)]:
        rows = sorted(store.gains)
        value[rows] = np.maximum(value[rows], 0.1 * controls.high[rows])
    np.testing.assert_allclose(BASE * powers(controls, value), injected(case, told(case, value)), atol=1e-9)


@given(st.floats(0, 0.99), st.floats(0, 1), st.booleans())
def test_a_little_of_both_is_told_as_the_one_that_stores_as_much(share: float, much: float, charges: bool) -> None:
    unit = Battery(bus="b", p_rated_kw=10, s_rated_kva=10, energy_kwh=40, eta_charge=0.9, eta_discharge=0.8)
    case = feeder("multiphase", price=(0.1,), batteries=(unit,))
    one, other = (0.01 * AT_ONCE * share, 0.01 * much)
    value = np.array([[other], [one], [0.0]] if charges else [[one], [other], [0.0]])
    schedule = told(case, value).batteries
    charge, discharge = schedule["charge_kw"][0, 0], schedule["discharge_kw"][0, 0]
    stored = 0.9 * value[0, 0] - value[1, 0] / 0.8
    assert min(charge, discharge) == 0.0
    assert 0.9 * charge - discharge / 0.8 == pytest.approx(BASE * stored, abs=1e-12)
    assert max(charge, discharge) <= 10.0
    # More than that is what an optimizer means.
    both = told(case, np.array([[0.005], [0.004], [0.0]])).batteries
    assert (both["charge_kw"][0, 0], both["discharge_kw"][0, 0]) == pytest.approx((5.0, 4.0))


@given(cases)
def test_stored_energy_rises_by_the_gains_of_the_controls(drawn: tuple[int, int]) -> None:
    rng = np.random.default_rng(drawn[0])
    case = mixed(rng, drawn[1])
    area = one_area(case).areas[0]
    controls = area_controls(area)
    value = within(rng, controls)
    schedule = told(case, value)
    gained = [sum(gain * value[k] for k, gain in store.gains.items()) for store in controls.stores]
    levels = [store.start + np.cumsum(gain) for store, gain in zip(controls.stores, gained, strict=True)]
    for k, unit in enumerate(case.batteries):
        expected = unit.stored_kwh(
            schedule.batteries["charge_kw"][k], schedule.batteries["discharge_kw"][k], case.horizon.dt
        )
        np.testing.assert_allclose(BASE * levels[k], expected, rtol=1e-9)
        assert (controls.stores[k].low, controls.stores[k].high) == pytest.approx(
            (unit.soc_min * unit.energy_kwh / BASE, unit.soc_max * unit.energy_kwh / BASE)
        )
    # A flexible load's store is the energy that it has drawn beyond its profile.
    moved = schedule.flexible_loads["p_kw"][0] - 30 * case.horizon.load
    np.testing.assert_allclose(BASE * levels[-1], np.cumsum(moved) * case.horizon.dt, atol=1e-9)
    assert (controls.stores[-1].low, controls.stores[-1].high) == (-np.inf, np.inf)


@given(cases)
def test_bounds_and_circles_are_the_devices_own(drawn: tuple[int, int]) -> None:
    rng = np.random.default_rng(drawn[0])
    case = mixed(rng, drawn[1])
    controls = area_controls(one_area(case).areas[0])
    schedule = told(case, within(rng, controls))
    for unit, p, q in (
        *zip(case.pv, schedule.pv["p_kw"], schedule.pv["q_kvar"], strict=True),
        *zip(case.wind, schedule.wind["p_kw"], schedule.wind["q_kvar"], strict=True),
    ):
        available = unit.p_rated_kw * case.horizon.profile(unit)
        if unit.curtailable:
            assert ((p >= 0) & (p <= available)).all()
            assert (np.hypot(p, q) <= unit.s_rated_kva + 1e-9).all()
        else:
            np.testing.assert_allclose(p, available)
            assert (np.abs(q) <= np.sqrt(np.maximum(unit.s_rated_kva**2 - available**2, 0.0)) + 1e-9).all()
    for unit, charge, discharge in zip(
        case.batteries, schedule.batteries["charge_kw"], schedule.batteries["discharge_kw"], strict=True
    ):
        assert ((charge >= 0) & (charge <= unit.p_rated_kw)).all()
        assert ((discharge >= 0) & (discharge <= unit.p_rated_kw)).all()
    assert (np.abs(schedule.batteries["q_kvar"]) <= [[unit.q_max_kvar + 1e-9] for unit in case.batteries]).all()
    share = schedule.flexible_loads["p_kw"][0] / (30 * case.horizon.load)
    assert ((share >= 0.6 - 1e-9) & (share <= 1.2 + 1e-9)).all()


@given(cases)
def test_every_control_has_an_inside_and_begins_there_or_is_fixed_where_it_begins(drawn: tuple[int, int]) -> None:
    controls = area_controls(one_area(mixed(np.random.default_rng(drawn[0]), drawn[1])).areas[0])
    fixed = controls.fixed
    assert ((controls.high - controls.low >= 0.99 * ROOM) | fixed).all()
    assert ((controls.first > controls.low) & (controls.first < controls.high) | fixed).all()
    assert (controls.first == controls.low)[fixed].all()
    for a, b, radius in controls.circles:
        assert (np.hypot(controls.first[a], controls.first[b]) < radius).all()


def test_controls_are_each_in_one_pair_and_charge_stands_with_discharge() -> None:
    controls = area_controls(one_area(mixed(np.random.default_rng(0), 2)).areas[0])
    paired = [k for pair in controls.pairs for k in pair]
    assert sorted(paired) == list(range(len(controls.unit)))
    for store in controls.stores:
        assert tuple(store.gains) in controls.pairs
    for a, b, _ in controls.circles:
        assert (a, b) in controls.pairs


def test_a_night_leaves_nothing_to_curtail_and_all_reactive_power() -> None:
    case = feeder("multiphase", sun=(0.0, 1.0, 0.0), pv=(PV(bus="b", p_rated_kw=10, s_rated_kva=10, curtailable=True),))
    controls = area_controls(one_area(case).areas[0])
    assert controls.high[0].tolist() == pytest.approx([0.0, 0.01, 0.0])
    assert controls.fixed.tolist() == [[True, False, True], [False] * 3]
    assert controls.high[1].tolist() == pytest.approx([0.01] * 3)
    # Of what cannot be curtailed nothing is left at full power.
    fixed = area_controls(one_area(replace(case, pv=(PV(bus="b", p_rated_kw=10, s_rated_kva=10),))).areas[0])
    assert fixed.high[0].tolist() == pytest.approx([0.01, 0.0, 0.01])
    assert (fixed.low == -fixed.high).all()


def test_use_costs_what_devices_and_weights_ask_and_losses_at_once_a_little() -> None:
    unit = Battery(
        bus="b", p_rated_kw=10, s_rated_kva=12, energy_kwh=40, eta_charge=0.9, eta_discharge=0.8, cost_per_kwh=0.02
    )
    load = FlexibleLoad(bus="a", p_kw=20, q_kvar=0, down=0.5, up=0.5, cost_per_kwh=0.05)
    case = feeder("multiphase", given={"scd_weight": 3.0}, batteries=(unit,), flexible_loads=(load,))
    controls = area_controls(one_area(case).areas[0])
    charge, discharge, q, above, below = controls.cost[:, 0].tolist()
    assert charge == pytest.approx(3.0 * 0.1 + 0.02 * BASE)
    assert discharge == pytest.approx(3.0 * 0.25 + 0.02 * BASE)
    assert q == 0.0
    assert above == below == pytest.approx(0.05 * BASE)


def test_a_battery_whose_limits_meet_stays_where_it_is() -> None:
    unit = Battery(bus="b", p_rated_kw=10, s_rated_kva=10, energy_kwh=40, soc_min=0.5, soc_max=0.5, soc_initial=0.5)
    controls = area_controls(one_area(feeder("multiphase", batteries=(unit,))).areas[0])
    assert controls.fixed.all()
    assert not controls.high.any()


def test_setpoints_of_a_span_follow_its_own_hours() -> None:
    rng = np.random.default_rng(1)
    case = mixed(rng, 5)
    area = one_area(case).areas[0]
    value = within(rng, area_controls(area))
    whole, span = setpoints(area, value, slice(0, 5)), slice(2, 4)
    part = setpoints(area, value[:, span], span)
    assert part.keys() == whole.keys()
    for name, values in part.items():
        np.testing.assert_array_equal(values, whole[name][:, span])


def test_there_is_a_model_for_every_kind_in_their_order() -> None:
    assert list(KINDS) == list(DEVICE_KINDS)
    controls = area_controls(one_area(feeder("multiphase")).areas[0])
    assert (len(controls.unit), len(controls.given), controls.stores) == (0, 0, ())
