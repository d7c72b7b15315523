"""The OpenDSS replay of multi-phase cases against tieflow's own power flow and the test's own battery bookkeeping."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tieflow.common.arrays import Complexes, Floats
from tieflow.common.case import Case, Horizon
from tieflow.common.circuit.extraction import compiled, load_shapes
from tieflow.common.feeder.load_law import leg_currents
from tieflow.common.feeder.multiphase import connection, multipliers
from tieflow.common.feeder.power_flow import Injections, PowerFlow, branch_losses
from tieflow.common.inputs.devices import PV, Battery
from tieflow.common.inputs.settings import Settings
from tieflow.common.replay.multiphase import outside_range, replay
from tieflow.common.results.schedule import Schedule

CIRCUIT = """clear
set defaultbasefrequency=60
new circuit.small bus1=source.1.2.3 phases=3 basekv=34.5 pu=1.03 angle=20 z1=(0.2 1.1) z0=(0.3 1.4)
new loadshape.evening npts=24 interval=1 mult=(.3 .3 .3 .3 .3 .4 .5 .6 .5 .5 .4 .4 .4 .4 .5 .6 .8 1 1 .9 .8 .6 .4 .3)
new transformer.main phases=3 windings=2 buses=(source.1.2.3 head.1.2.3.0) conns=(delta wye) kvs=(34.5 4.16)
~ kvas=(5000 5000) %rs=(0.5 0.5) xhl=8 taps=(1 1.02) %noloadloss=0.1
new transformer.twin phases=3 windings=2 buses=(source.1.2.3 head.1.2.3.0) conns=(delta wye) kvs=(34.5 4.16)
~ kvas=(2500 2500) %rs=(0.6 0.5) xhl=7
new line.trunk phases=3 bus1=head.1.2.3 bus2=mid.1.2.3 length=1 rmatrix=(.12 | .05 .13 | .06 .05 .11)
~ xmatrix=(.35 | .16 .34 | .14 .15 .36) cmatrix=(9 | -2 9 | -1 -2 9)
new line.spur phases=2 bus1=end-2/a.3.1 bus2=mid.3.1 length=1 rmatrix=(.2 | .05 .2)
~ xmatrix=(.4 | .1 .4) cmatrix=(0 | 0 0)
new line.tap phases=1 bus1=mid.2 bus2=pole.2 length=1 rmatrix=(.3) xmatrix=(.3) cmatrix=(5)
new line.unused phases=1 bus1=mid.1 bus2=pole.1 length=1 rmatrix=(.3) xmatrix=(.3) cmatrix=(5) enabled=no
new transformer.service phases=1 windings=3 buses=(pole.2.0 house.1.0 house.0.2) conns=(wye wye wye)
~ kvs=(2.4 .12 .12) kvas=(50 50 50) %rs=(.6 1.2 1.2) xhl=2 xht=2 xlt=1.4
new capacitor.bank phases=3 bus1=mid.1.2.3 kv=4.16 kvar=150
new reactor.choke phases=1 bus1=mid.1 kv=2.4 kvar=20 r=40
new load.plain phases=3 bus1=mid.1.2.3 conn=wye kv=4.16 kw=300 kvar=120 model=1 vminpu=.8 vmaxpu=1.2
new load.delta phases=1 bus1=mid.1.2 conn=delta kv=4.16 kw=120 kvar=60 model=5 vminpu=.8 vmaxpu=1.2
new load.fixed phases=1 bus1=end-2/a.1 kv=2.4 kw=80 kvar=30 model=2 status=fixed
new load.evening phases=1 bus1=end-2/a.3 kv=2.4 kw=120 kvar=40 model=1 vminpu=.8 vmaxpu=1.2 daily=evening
new load.both phases=1 bus1=house.1.2 kv=.24 kw=8 kvar=2 model=1 vminpu=.9 vmaxpu=1.1
new load.one phases=1 bus1=house.1 kv=.12 kw=4 kvar=1 model=1 vminpu=.9 vmaxpu=1.1
new generator.engine phases=3 bus1=mid.1.2.3 kv=4.16 kw=60 kvar=20 model=1 vminpu=.8 vmaxpu=1.2
set voltagebases=[34.5 4.16]
calcvoltagebases
setkvbase bus=house kvln=.12
"""
PLACES = [("mid", ""), ("mid", "2.3"), ("mid", "3-1"), ("end-2/a", "1"), ("house", "1-2"), ("house", ""), ("pole", "")]
SIZES = [90.0, 60.0, 50.0, 40.0, 5.0, 4.0, 10.0]


def small_case(load: tuple[float, ...] = (0.8, 1.0, 0.0, 0.6), dt: float = 0.5, first: int = 15) -> Case:
    hours = tuple(range(first, first + len(load)))
    return Case(
        name="small",
        settings=Settings(model="multiphase", periods=len(load), dt_hours=dt, base_kva=100.0),
        buses=(),
        branches=(),
        pv=tuple(
            PV(bus=bus, phases=phases, p_rated_kw=kw, s_rated_kva=1.25 * kw, profile="evening" if kw == 60 else "")
            for (bus, phases), kw in zip(PLACES, SIZES, strict=True)
        ),
        batteries=tuple(
            Battery(
                bus=bus, phases=phases, p_rated_kw=kw, s_rated_kva=1.2 * kw, energy_kwh=4 * kw, eta_charge=0.9,
                eta_discharge=0.8, soc_min=0, soc_max=1,
            )
            for (bus, phases), kw in zip(PLACES, SIZES, strict=True)
        ),
        horizon=Horizon(
            hours, np.array(load), np.linspace(0, 1.2, len(load)), np.full(len(load), 0.1), dt,
            load_shapes(compiled(CIRCUIT), hours, dt),
        ),
        areas=(),
        circuit=CIRCUIT,
    )  # fmt: skip


def random_schedule(case: Case, seed: int = 0) -> Schedule:
    """Setpoints within the ratings, the energy by its own bookkeeping."""
    random = np.random.default_rng(seed)
    rated = np.array([battery.p_rated_kw for battery in case.batteries])[:, None]
    shape = len(rated), len(case.horizon)
    # Charging and discharging take turns, so that no battery runs full or empty.
    net = rated * random.uniform(0.1, 0.9, shape) * (-1.0) ** np.arange(shape[1])
    return Schedule(
        pv={
            "p_kw": np.array([case.horizon.idle(unit) * random.uniform(0, 1, shape[1]) for unit in case.pv]),
            "q_kvar": np.array([unit.p_rated_kw * random.uniform(-0.3, 0.3, shape[1]) for unit in case.pv]),
        },
        batteries=batteries(case, net, rated * random.uniform(-0.6, 0.6, shape)),
    )


def batteries(case: Case, net: Floats, q: Floats) -> dict[str, Floats]:
    charge, discharge = np.maximum(-net, 0), np.maximum(net, 0)
    rows = [[b.eta_charge, b.eta_discharge, b.soc_initial * b.energy_kwh] for b in case.batteries]
    eta_charge, eta_discharge, start = np.array(rows).reshape(-1, 3).T[:, :, None]
    stored = start + np.cumsum(case.horizon.dt * (eta_charge * charge - discharge / eta_discharge), axis=1)
    return {"charge_kw": charge, "discharge_kw": discharge, "q_kvar": q, "energy_kwh": stored}


def power_flow(case: Case, schedule: Schedule) -> tuple[Complexes, Complexes, Floats]:
    """(node, T) voltages and currents into nodes, pu, and (T,) what no load draws and no device gives, kW."""
    feeder, horizon, base_kva = case.multiphase_feeder, case.horizon, case.settings.base_kva
    stored = schedule.batteries
    powers: list[tuple[PV | Battery, Complexes]] = [
        (unit, p + 1j * q) for unit, p, q in zip(case.pv, schedule.pv["p_kw"], schedule.pv["q_kvar"], strict=True)
    ]
    powers += [
        (unit, stored["discharge_kw"][i] - stored["charge_kw"][i] + 1j * stored["q_kvar"][i])
        for i, unit in enumerate(case.batteries)
    ]
    legs = [
        (a, b, s / base_kva / len(ends[0]))
        for unit, s in powers
        for ends in [connection(feeder, unit.bus, unit.phases)]
        for a, b in zip(*ends, strict=True)
    ]
    injections = Injections(*(np.array(column) for column in zip(*legs, strict=True)))
    flow = PowerFlow(feeder, multipliers(feeder.legs, horizon.load, horizon.shapes))
    v, i = flow.solve(np.repeat(feeder.v_no_load[: feeder.roots, None], len(horizon), axis=1), injections)
    across = flow.load_incidence @ v
    drawn = (across * np.conj(leg_currents(feeder.legs, across, flow.multipliers))).sum(axis=0)
    return v, i, (injections.s.sum(axis=0) - drawn).real * base_kva


@pytest.mark.parametrize("seed", range(5))
def test_replay_agrees_with_the_power_flow(seed: int) -> None:
    case = small_case()
    schedule = random_schedule(case, seed)
    found = replay(case, schedule)
    assert found.failed_hours == ()
    feeder, base_kva = case.multiphase_feeder, case.settings.base_kva
    v, i, surplus_kw = power_flow(case, schedule)
    kva = v * np.conj(i) * base_kva
    substation = kva[feeder.node_bus == 1].sum(axis=0)
    own = slice(feeder.roots, None)
    state = found.state
    np.testing.assert_allclose(found.v, v[own], rtol=0, atol=1e-8)
    np.testing.assert_allclose(state.v_pu, np.abs(v[own]), rtol=0, atol=1e-8)
    np.testing.assert_allclose(state.p_kw, kva[own].real, rtol=0, atol=1e-4)
    np.testing.assert_allclose(state.q_kvar, kva[own].imag, rtol=0, atol=1e-4)
    amperes = np.abs(i[own]) * 1000 * base_kva / feeder.v_base[own, None]
    np.testing.assert_allclose(state.i_a, amperes, rtol=0, atol=1e-4)
    np.testing.assert_allclose(state.substation_p_kw, substation.real, rtol=0, atol=1e-4)
    np.testing.assert_allclose(state.substation_q_kvar, substation.imag, rtol=0, atol=1e-4)
    np.testing.assert_allclose(state.losses_kw, substation.real + surplus_kw, rtol=0, atol=1e-4)
    lost = branch_losses(feeder, v, i) * base_kva
    is_line = np.array([branch.name.startswith("line.") for branch in feeder.branches])
    assert state.line_losses_kw is not None
    assert state.transformer_losses_kw is not None
    np.testing.assert_allclose(state.line_losses_kw, lost[is_line].sum(axis=0), rtol=0, atol=1e-4)
    np.testing.assert_allclose(state.transformer_losses_kw, lost[1:][~is_line[1:]].sum(axis=0), rtol=0, atol=1e-4)
    elsewhere = state.losses_kw - state.line_losses_kw - state.transformer_losses_kw
    assert (elsewhere > 1).all(), "the reactor"
    np.testing.assert_allclose(found.battery_energy_kwh, schedule.batteries["energy_kwh"], rtol=1e-9)


def test_loads_follow_their_own_shape_the_profile_or_nothing() -> None:
    # Without devices, a flat profile and a fixed share, only the load with a shape makes hours differ.
    case = replace(small_case(load=(1.0, 1.0, 0.5), dt=1.0), pv=(), batteries=())
    end = [
        case.multiphase_feeder.node_names[case.multiphase_feeder.roots :].index(f"end-2/a.{phase}") for phase in (1, 3)
    ]
    fixed, evening = replay(case, random_schedule(case)).state.p_kw[end]
    np.testing.assert_allclose(evening, [120 * 0.6, 120 * 0.8, 120 * 1.0], rtol=1e-6)
    assert np.ptp(fixed) < 0.05 * 80


def test_batteries_that_become_full_or_empty_give_their_power_to_the_end_of_the_hour() -> None:
    case = small_case(load=(0.8, 1.0, 0.5), dt=1.0)
    case = replace(
        case,
        batteries=tuple(
            unit.model_copy(update={"energy_kwh": 2 * unit.p_rated_kw, "soc_initial": 0.6}) for unit in case.batteries
        ),
    )
    empties = np.arange(len(SIZES)) % 2 == 0
    # A hair more than they hold or take, so that the engine ends the hour with none to give or take.
    first = np.where(empties, 1.2 * 0.8, -0.8 / 0.9) * (1 + 1e-9)
    net = np.array(SIZES)[:, None] * np.stack([first, -0.5 * first, 0.2 * first], axis=1)
    schedule = replace(random_schedule(case), batteries=batteries(case, net, 0.1 * net))
    found = replay(case, schedule)
    np.testing.assert_allclose(found.battery_energy_kwh, schedule.batteries["energy_kwh"], atol=1e-6)
    np.testing.assert_allclose(found.battery_energy_kwh[:, 0], np.where(empties, 0, 2 * np.array(SIZES)), atol=1e-6)
    np.testing.assert_allclose(
        found.v, power_flow(case, schedule)[0][case.multiphase_feeder.roots :], rtol=0, atol=1e-8
    )


def test_an_hour_that_collapses_fails_and_the_next_one_recovers() -> None:
    heavy = small_case(load=(1.0, 300.0, 1.0, -1e4, 1.0))
    light = small_case(load=(1.0,) * 5)
    schedule = random_schedule(heavy)
    found = replay(heavy, schedule)
    assert found.failed_hours == (16, 18)
    for field, values in vars(found.state).items():
        # Prices are the optimizer's alone.
        assert values is None or np.isnan(values[..., [1, 3]]).all(), field
    expected = power_flow(light, schedule)[0][light.multiphase_feeder.roots :]
    np.testing.assert_allclose(found.v[:, ::2], expected[:, ::2], rtol=0, atol=1e-8)


@pytest.mark.parametrize(("kind", "quantity"), [("pv", "q_kvar"), ("batteries", "charge_kw"), ("batteries", "q_kvar")])
def test_a_setpoint_that_is_not_a_number_is_refused(kind: str, quantity: str) -> None:
    case = small_case()
    schedule = random_schedule(case)
    getattr(schedule, kind)[quantity][2, 1] = np.nan
    with pytest.raises(ValueError, match=r"'mid\.3-1' is nan"):
        replay(case, schedule)


def test_loads_outside_their_voltage_range_are_told() -> None:
    case = small_case()
    found = replay(case, random_schedule(case))
    legs = case.multiphase_feeder.legs
    assert not outside_range(case, found.v).any()
    index = legs.name.index("load.both")
    feeder = replace(
        case.multiphase_feeder, legs=replace(legs, v_min=np.where(np.arange(len(legs)) == index, 1.2, legs.v_min))
    )
    other = replace(case)
    vars(other)["multiphase_feeder"] = feeder
    assert np.flatnonzero(outside_range(other, found.v).all(axis=1)).tolist() == [index]


def test_a_case_without_devices_is_replayed() -> None:
    case = replace(small_case(), pv=(), batteries=())
    found = replay(case, random_schedule(case))
    assert found.failed_hours == ()
    assert found.battery_energy_kwh.shape == (0, 4)
