"""The OpenDSS replay against a power flow and battery bookkeeping of the test's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opendssdirect import dss  # type: ignore[import-untyped]

from tieflow.common.arrays import Floats
from tieflow.common.case import Case, Horizon, read_case
from tieflow.common.feeder.balanced import BranchRow, BusRow
from tieflow.common.inputs.devices import PV, Battery
from tieflow.common.inputs.settings import Settings
from tieflow.common.replay.balanced import replay, write_circuit
from tieflow.common.results.schedule import NetworkState, Schedule


def random_case(seed: int, bus_count: int, load: tuple[float, ...] = (0.8, 1.0, 0.0, 0.6), dt: float = 0.5) -> Case:
    """A random tree with everything a feeder may hold; branches are listed in random order and direction."""
    random = np.random.default_rng(seed)
    names = [f"n{i}" for i in range(bus_count)]
    buses = [
        BusRow(
            bus=name,
            p_load_kw=random.choice([0, random.uniform(-5, 25)]),
            q_load_kvar=random.uniform(-3, 10),
            q_cap_kvar=random.choice([0, random.uniform(0, 40)]),
        )
        for name in names
    ]
    branches = []
    for child in range(1, bus_count):
        ends = [names[random.integers(child)], names[child]]
        random.shuffle(ends)
        r, x = (0, 0) if random.random() < 0.1 else random.uniform(0.001, 0.03, 2)
        branches.append(BranchRow(from_bus=ends[0], to_bus=ends[1], r_ohm=r, x_ohm=x))
    random.shuffle(branches)
    hours = tuple(range(8, 8 + len(load)))
    return Case(
        name="random",
        settings=Settings(voltage_kv=4.16, substation_bus="n0", substation_v_pu=1.02, periods=len(load), dt_hours=dt),
        buses=tuple(buses),
        branches=tuple(branches),
        pv=tuple(PV(bus=name, p_rated_kw=8, s_rated_kva=10) for name in names[1::3]),
        batteries=tuple(
            Battery(bus=name, p_rated_kw=10, s_rated_kva=12, energy_kwh=40, eta_charge=0.9, eta_discharge=0.8)
            for name in names[1::2]
        ),
        # pv_pu may exceed 1 where the inverter is large enough.
        horizon=Horizon(hours, np.array(load), np.linspace(0, 1.2, len(load)), np.full(len(load), 0.1), dt),
        areas=(),
    )


def random_schedule(case: Case, seed: int = 0) -> Schedule:
    """Setpoints within the ratings, the energy by its own bookkeeping."""
    random = np.random.default_rng(seed)
    periods = len(case.horizon)
    rated = np.array([battery.p_rated_kw for battery in case.batteries])[:, None]
    # Charging and discharging take turns, so that no battery runs full or empty.
    net = rated * random.uniform(0.1, 0.4, (len(rated), periods)) * (-1.0) ** np.arange(periods)
    charge, discharge = np.maximum(-net, 0), np.maximum(net, 0)
    eta_charge, eta_discharge, start = np.array(
        [[b.eta_charge, b.eta_discharge, b.soc_initial * b.energy_kwh] for b in case.batteries]
    ).T[:, :, None]
    stored = start + np.cumsum(case.horizon.dt * (eta_charge * charge - discharge / eta_discharge), axis=1)
    return Schedule(
        pv={
            "p_kw": np.array([case.horizon.idle(pv) * random.uniform(0, 1, periods) for pv in case.pv]),
            "q_kvar": np.array([pv.p_rated_kw * random.uniform(-0.25, 0.25, periods) for pv in case.pv]),
        },
        batteries={
            "charge_kw": charge,
            "discharge_kw": discharge,
            "q_kvar": rated * random.uniform(-0.6, 0.6, net.shape),
            "energy_kwh": stored,
        },
    )


def sweep(case: Case, schedule: Schedule) -> NetworkState:
    """Backward/forward sweep power flow of all hours at once, in volts and amperes, on the rows of the case."""
    volts = 1000 * case.settings.voltage_kv / np.sqrt(3)
    names, parent = case.balanced_feeder.buses, case.balanced_feeder.parent
    row = {bus.bus: bus for bus in case.buses}
    ohms = {frozenset((b.from_bus, b.to_bus)): complex(b.r_ohm, b.x_ohm) for b in case.branches}
    z = np.array([ohms[frozenset((names[p], names[k + 1]))] for k, p in enumerate(parent)])
    demand = np.array([np.outer(complex(row[n].p_load_kw, row[n].q_load_kvar), case.horizon.load)[0] for n in names])
    for i, pv in enumerate(case.pv):
        demand[names.index(pv.bus)] -= schedule.pv["p_kw"][i] + 1j * schedule.pv["q_kvar"][i]
    for i, battery in enumerate(case.batteries):
        charge, discharge, q = (schedule.batteries[name][i] for name in ("charge_kw", "discharge_kw", "q_kvar"))
        demand[names.index(battery.bus)] -= discharge - charge + 1j * q
    susceptance = np.array([1000 * row[n].q_cap_kvar / volts**2 for n in names])[:, None]
    v = np.full(demand.shape, volts * case.settings.substation_v_pu, complex)
    for _ in range(100):
        current = np.conj(1000 * demand / v) + 1j * susceptance * v
        for k in reversed(range(len(z))):
            current[parent[k]] += current[k + 1]
        for k in range(len(z)):
            v[k + 1] = v[parent[k]] - z[k] * current[k + 1]
    power = v[parent] * np.conj(current[1:]) / 1000
    substation = v[0] * np.conj(current[0]) / 1000
    return NetworkState(
        v_pu=np.abs(v) / volts,
        p_kw=power.real,
        q_kvar=power.imag,
        i_a=np.abs(current[1:]),
        substation_p_kw=substation.real,
        substation_q_kvar=substation.imag,
        losses_kw=(z.real[:, None] * np.abs(current[1:]) ** 2).sum(axis=0) / 1000,
    )


def assert_same(found: NetworkState, expected: NetworkState) -> None:
    for field, tolerance in {"v_pu": 1e-8, "i_a": 1e-4}.items():
        np.testing.assert_allclose(getattr(found, field), getattr(expected, field), rtol=0, atol=tolerance)
    for field in ("p_kw", "q_kvar", "substation_p_kw", "substation_q_kvar", "losses_kw"):
        np.testing.assert_allclose(getattr(found, field), getattr(expected, field), rtol=0, atol=2e-4, err_msg=field)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), bus_count=st.integers(2, 30))
def test_replay_agrees_with_an_independent_power_flow(seed: int, bus_count: int) -> None:
    case = random_case(seed, bus_count)
    schedule = random_schedule(case, seed)
    found = replay(case, schedule)
    assert found.failed_hours == ()
    assert_same(found.state, sweep(case, schedule))


@pytest.mark.parametrize("periods", [5, 24])
def test_replay_of_the_shipped_case_agrees_with_an_independent_power_flow(periods: int) -> None:
    case = read_case("ieee123", {"periods": periods, "capacitor_model": "constant_impedance"})
    schedule = random_schedule(case)
    assert_same(replay(case, schedule).state, sweep(case, schedule))


def test_constant_power_capacitors_give_their_rated_kvar_at_any_voltage() -> None:
    case = read_case("ieee123", {"capacitor_model": "constant_power"})
    schedule = random_schedule(case)
    as_loads = tuple(
        row.model_copy(update={"q_cap_kvar": 0.0, "q_load_kvar": row.q_load_kvar - row.q_cap_kvar})
        for row in case.buses
    )
    # A load follows the load profile; a capacitor does not.
    flat = replace(case.horizon, load=np.ones_like(case.horizon.load))
    expected = sweep(replace(case, buses=as_loads, horizon=flat), schedule)
    assert_same(replay(replace(case, horizon=flat), schedule).state, expected)


def test_stored_energy_follows_charging_and_discharging_losses() -> None:
    case = random_case(seed=3, bus_count=8, load=(1.0,) * 6, dt=0.25)
    schedule = random_schedule(case)
    assert (schedule.batteries["charge_kw"] > 0).any()
    assert (schedule.batteries["discharge_kw"] > 0).any()
    found = replay(case, schedule).battery_energy_kwh
    np.testing.assert_allclose(found, schedule.batteries["energy_kwh"], rtol=1e-4)
    moved = np.diff(schedule.batteries["energy_kwh"])
    np.testing.assert_allclose(np.diff(found), moved, rtol=1e-4, atol=1e-7)


def test_a_feeder_without_devices_loads_or_capacitors_is_replayed() -> None:
    case = replace(random_case(seed=1, bus_count=5), pv=(), batteries=())
    case = replace(case, buses=tuple(BusRow(bus=row.bus) for row in case.buses))
    found = replay(case, Schedule(pv={}, batteries={}))
    np.testing.assert_allclose(found.state.v_pu, 1.02, rtol=1e-9)
    assert found.battery_energy_kwh.shape == (0, 4)


@pytest.mark.parametrize("names", [None, ["sub station", "A", "a", "650.1.2", "new x=[1]", "!é", "Line.1", "''"]])
def test_the_written_circuit_solves_to_the_replay_hour_by_hour(tmp_path: Path, names: list[str] | None) -> None:
    case = random_case(seed=5, bus_count=8)
    if names:
        case = renamed(case, names)
    schedule = random_schedule(case)
    expected = replay(case, schedule)
    path = tmp_path / "circuit.dss"
    write_circuit(case, schedule, path)

    engine = dss.NewContext()
    engine.Basic.AllowChangeDir(False)
    *hours, rest = path.read_text(encoding="utf-8").split("solve\n")
    assert rest == ""
    for t, commands in enumerate(hours):
        engine.Text.Commands(commands + "solve")
        np.testing.assert_array_equal(volts(engine) / (4160 / np.sqrt(3)), expected.state.v_pu[:, t])
        energy = [40 * engine.Storages.puSOC() for _ in engine.Storages]
        np.testing.assert_array_equal(energy, expected.battery_energy_kwh[:, t])

    whole = dss.NewContext()
    whole.Basic.AllowChangeDir(False)
    whole.Text.Command(f'redirect "{path}"')
    np.testing.assert_array_equal(volts(whole), volts(engine))
    whole.Monitors.Name("substation")
    np.testing.assert_allclose(-np.array(whole.Monitors.Channel(1)), expected.state.substation_p_kw, rtol=1e-6)
    for bus in names or []:
        assert f": {bus}\n" in path.read_text(encoding="utf-8")


def test_an_hour_that_collapses_fails_and_the_next_one_recovers() -> None:
    # At 1000 times the load OpenDSS gives up above half the voltage; at 100000 times it converges to next to none.
    heavy = random_case(seed=5, bus_count=8, load=(1.0, 1e3, 1.0, 1e5, 1.0))
    light = random_case(seed=5, bus_count=8, load=(1.0,) * 5)
    schedule = random_schedule(heavy)
    found = replay(heavy, schedule)
    assert found.failed_hours == (9, 11)
    for field, values in vars(found.state).items():
        # Prices and limits on branches are those of multi-phase cases alone.
        assert values is None or not values.size or np.isnan(values[..., [1, 3]]).all(), field
    expected = sweep(replace(light, horizon=replace(light.horizon, pv=heavy.horizon.pv)), schedule)
    np.testing.assert_allclose(found.state.v_pu[:, ::2], expected.v_pu[:, ::2], rtol=0, atol=1e-8)


def test_a_setpoint_that_is_not_a_number_is_refused() -> None:
    case = random_case(seed=5, bus_count=8)
    schedule = random_schedule(case)
    schedule.batteries["q_kvar"][0, 1] = np.nan
    with pytest.raises(ValueError, match="battery 'n1' is nan"):
        replay(case, schedule)


def test_a_replay_leaves_the_circuit_of_the_calling_program_alone() -> None:
    dss.Text.Commands("clear\nnew circuit.mine basekv=1\nsolve")
    case = random_case(seed=5, bus_count=8)
    replay(case, random_schedule(case))
    assert dss.Circuit.Name() == "mine"


def volts(engine: dss.OpenDSSDirect) -> Floats:
    return np.array(engine.Circuit.AllBusVMag())


def renamed(case: Case, names: list[str]) -> Case:
    new = dict(zip([row.bus for row in case.buses], names, strict=True))
    return replace(
        case,
        settings=case.settings.model_copy(update={"substation_bus": names[0]}),
        buses=tuple(row.model_copy(update={"bus": new[row.bus]}) for row in case.buses),
        branches=tuple(
            row.model_copy(update={"from_bus": new[row.from_bus], "to_bus": new[row.to_bus]}) for row in case.branches
        ),
        pv=tuple(pv.model_copy(update={"bus": new[pv.bus]}) for pv in case.pv),
        batteries=tuple(battery.model_copy(update={"bus": new[battery.bus]}) for battery in case.batteries),
    )
