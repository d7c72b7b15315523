"""A balanced feeder as a multi-phase one of one conductor: the power flow of the balanced model, and OpenDSS's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feeders import random_cases, with_settings
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tieflow.common.arrays import Complexes
from tieflow.common.case import Case, read_case
from tieflow.common.feeder import one_conductor as exact_model
from tieflow.common.feeder.balanced import BranchRow, BusRow, Feeder
from tieflow.common.feeder.multiphase import GROUND, MultiphaseFeeder, connection, multipliers
from tieflow.common.feeder.one_conductor import STIFF_PU, current_limits, limited_nodes, one_conductor, power_limits
from tieflow.common.feeder.power_flow import Injections, PowerFlow, branch_losses
from tieflow.common.replay import balanced as opendss
from tieflow.common.results.distflow import balanced_flow
from tieflow.common.results.schedule import NetworkState, Schedule, idle_schedule, injected

CAPACITORS = ["constant_impedance", "constant_power"]
SCHEDULES = ["idle", "random"]


def feeder_of(case: Case) -> MultiphaseFeeder:
    return one_conductor(case.balanced_feeder, case.settings)


def schedule_of(case: Case, kind: str) -> Schedule:
    """Idle devices, or random setpoints within their ratings; batteries take turns, so that none runs full or empty."""
    idle = idle_schedule(case)
    if kind == "idle":
        return idle
    random, periods = np.random.default_rng(1), len(case.horizon)
    rated = {name: np.array([unit.p_rated_kw for unit in getattr(case, name)])[:, None] for name in ("pv", "batteries")}
    shape = {name: (len(kw), periods) for name, kw in rated.items()}
    net = rated["batteries"] * random.uniform(0.1, 0.4, shape["batteries"]) * (-1.0) ** np.arange(periods)
    return replace(
        idle,
        pv={
            "p_kw": idle.pv["p_kw"] * random.uniform(0, 1, shape["pv"]),
            "q_kvar": rated["pv"] * random.uniform(-0.6, 0.6, shape["pv"]),
        },
        batteries={
            "charge_kw": np.maximum(-net, 0),
            "discharge_kw": np.maximum(net, 0),
            "q_kvar": rated["batteries"] * random.uniform(-0.6, 0.6, shape["batteries"]),
            "energy_kwh": 0 * net,
        },
    )


def state_of(case: Case, feeder: MultiphaseFeeder, device_kva: Complexes) -> NetworkState:
    """What the multi-phase power flow makes of devices that feed in (device, T) kVA, by the balanced feeder's buses."""
    base_kva, periods = case.settings.base_kva, len(case.horizon)
    places = [connection(feeder, unit.bus, unit.phases) for unit in case.devices]
    a, b = (np.array([place[end][0] for place in places], np.int64) for end in (0, 1))
    flow = PowerFlow(feeder, multipliers(feeder.legs, case.horizon.load, case.horizon.shapes))
    v_root = np.full((1, periods), complex(case.settings.substation_v_pu))
    v, i = flow.solve(v_root, Injections(a, b, device_kva / base_kva))
    lost = branch_losses(feeder, v, i)[1:].sum(axis=0)
    # A branch without shunts carries one current. The substation gives what arrives behind the source's impedance.
    s = v[feeder.parent[1:]] * np.conj(i[2:]) * base_kva
    substation = v[1] * np.conj(i[1]) * base_kva
    return NetworkState(
        v_pu=np.abs(v[1:]),
        p_kw=s.real,
        q_kvar=s.imag,
        i_a=np.abs(i[2:]) * base_kva * 1000 / feeder.v_base[0],
        substation_p_kw=substation.real,
        substation_q_kvar=substation.imag,
        losses_kw=lost * base_kva,
    )


def largest_differences(case: Case, one: NetworkState, other: NetworkState) -> dict[str, float]:
    """pu, of each quantity"""
    base_kva = case.settings.base_kva
    units = dict.fromkeys(("p_kw", "q_kvar", "substation_p_kw", "substation_q_kvar", "losses_kw"), base_kva)
    units |= {"v_pu": 1.0, "i_a": base_kva * np.sqrt(3) / case.settings.voltage_kv}
    return {
        name: float(np.abs(getattr(one, name) - getattr(other, name)).max(initial=0)) / unit
        for name, unit in units.items()
    }


def stiffer(feeder: MultiphaseFeeder) -> MultiphaseFeeder:
    """The feeder with next to nothing in place of STIFF_PU, the one thing that the balanced model does not have."""

    def changed(y: Complexes) -> Complexes:
        return 1e5 * y if abs(y[0, 0]) > 0.5 / STIFF_PU else y

    return replace(feeder, branches=tuple(replace(branch, y=changed(branch.y)) for branch in feeder.branches))


def assert_balanced_flow(case: Case, kind: str) -> None:
    device_kva = injected(case, schedule_of(case, kind))
    expected = balanced_flow(case, device_kva)
    found = largest_differences(case, state_of(case, stiffer(feeder_of(case)), device_kva), expected)
    assert max(found.values()) < 1e-9, found
    found = largest_differences(case, state_of(case, feeder_of(case), device_kva), expected)
    assert max(found.values()) < 1e-7, found


def assert_replay(case: Case, kind: str) -> None:
    """Within what OpenDSS's digits allow beside a switch's admittance."""
    schedule = schedule_of(case, kind)
    replayed = opendss.replay(case, schedule)
    assert replayed.failed_hours == ()
    found = largest_differences(case, state_of(case, feeder_of(case), injected(case, schedule)), replayed.state)
    assert found["v_pu"] < 1e-8, found
    assert max(found.values()) < 2e-7, found


def with_switches(case: Case) -> Case:
    """Every third branch a switch, by turns without impedance and with losses."""
    ohm = [(0.0, 0.0), (1e-4, 5e-5)]
    branches = [
        branch.model_copy(update=dict(zip(("r_ohm", "x_ohm"), ohm[k // 3 % 2], strict=True))) if k % 3 == 0 else branch
        for k, branch in enumerate(case.branches)
    ]
    return replace(case, branches=tuple(branches))


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("capacitors", CAPACITORS)
def test_the_shipped_feeder_has_the_power_flow_of_the_balanced_model(capacitors: str, kind: str) -> None:
    assert_balanced_flow(read_case("ieee123", {"capacitor_model": capacitors}), kind)


@given(case=random_cases(), capacitors=st.sampled_from(CAPACITORS), kind=st.sampled_from(SCHEDULES))
@hypothesis_settings(max_examples=30)
def test_random_feeders_have_the_power_flow_of_the_balanced_model(case: Case, capacitors: str, kind: str) -> None:
    assert_balanced_flow(with_settings(case, capacitor_model=capacitors), kind)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("capacitors", CAPACITORS)
def test_the_shipped_feeder_has_the_power_flow_of_opendss(capacitors: str, kind: str) -> None:
    assert_replay(read_case("ieee123", {"capacitor_model": capacitors}), kind)


@given(case=random_cases(), capacitors=st.sampled_from(CAPACITORS), kind=st.sampled_from(SCHEDULES))
@hypothesis_settings(max_examples=20)
def test_random_feeders_with_switches_have_the_power_flow_of_opendss(case: Case, capacitors: str, kind: str) -> None:
    assert_replay(with_switches(with_settings(case, capacitor_model=capacitors)), kind)


@given(case=random_cases())
@hypothesis_settings(max_examples=5)
def test_switches_have_the_losses_that_the_balanced_model_neglects(case: Case) -> None:
    case = with_switches(case)
    device_kva = injected(case, idle_schedule(case))
    found = state_of(case, feeder_of(case), device_kva)
    switches = np.flatnonzero(case.balanced_feeder.is_switch)
    base_a = case.settings.base_kva * np.sqrt(3) / case.settings.voltage_kv
    expected = case.balanced_feeder.r[switches] @ (found.i_a[switches] / base_a) ** 2 * case.settings.base_kva
    neglected = found.losses_kw - balanced_flow(case, device_kva).losses_kw
    assume((expected > 0).all())  # a switch with nothing behind it loses nothing
    # They raise the currents, and so the losses elsewhere, a little.
    np.testing.assert_allclose(neglected, expected, rtol=0.05)


@pytest.mark.parametrize("capacitors", CAPACITORS)
def test_softer_switches_bring_the_two_closer(capacitors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (opendss, exact_model):
        monkeypatch.setattr(module, "STIFF_PU", 1e-6)
    case = read_case("ieee123", {"capacitor_model": capacitors})
    schedule = schedule_of(case, "random")
    found = state_of(case, feeder_of(case), injected(case, schedule))
    differences = largest_differences(case, found, opendss.replay(case, schedule).state)
    assert max(differences.values()) < 2e-9 and differences["v_pu"] < 1e-10, differences


def test_switches_are_as_stiff_as_in_a_replay() -> None:
    assert STIFF_PU == opendss.STIFF_PU
    case = read_case("ieee123")
    feeder = feeder_of(case)
    stiff = [k for k, branch in enumerate(feeder.branches) if branch.y[0, 0] == pytest.approx(-1j / STIFF_PU)]
    assert stiff == [0, *(np.flatnonzero(case.balanced_feeder.is_switch) + 1)]
    assert [k for k, branch in enumerate(feeder.branches) if branch.is_switch] == stiff[1:]


@pytest.mark.parametrize("capacitors", CAPACITORS)
def test_buses_branches_and_loads_keep_their_places_behind_the_source(capacitors: str) -> None:
    case = read_case("ieee123", {"capacitor_model": capacitors})
    balanced, feeder = case.balanced_feeder, feeder_of(case)
    assert feeder.roots == 1 and feeder.buses[1:] == balanced.buses
    assert feeder.node_bus.tolist() == list(range(len(feeder.buses)))
    for k, (parent, branch) in enumerate(zip(feeder.parent, feeder.branches, strict=True)):
        assert branch.nodes.tolist() == [parent, k + 1]
        assert k == 0 or (parent == balanced.parent[k - 1] + 1 and balanced.branch_name(k - 1) in branch.name)
    drawn = np.zeros(len(feeder.buses), complex)
    np.add.at(drawn, feeder.legs.a, feeder.legs.s)
    for shunt in feeder.shunts:
        drawn[shunt.nodes] += np.conj(shunt.y[0])
    np.testing.assert_allclose(drawn[1:], balanced.p_load + 1j * (balanced.q_load - balanced.q_cap), atol=1e-15)
    assert bool(feeder.shunts) == (capacitors == "constant_impedance")


def test_a_device_is_connected_from_its_bus_to_ground() -> None:
    case = read_case("ieee123")
    feeder = feeder_of(case)
    for unit in case.devices:
        a, b = connection(feeder, unit.bus, "")
        assert (a.tolist(), b.tolist()) == ([case.balanced_feeder.index[unit.bus] + 1], [GROUND])


def test_the_voltage_without_loads_is_the_substations_and_what_capacitors_raise_it_to() -> None:
    fixed, real = (feeder_of(read_case("ieee123", {"capacitor_model": model})) for model in CAPACITORS[::-1])
    np.testing.assert_allclose(fixed.v_no_load, 1.03, rtol=1e-14)
    case = read_case("ieee123", {"capacitor_model": "constant_impedance"}, with_devices=False)
    unloaded = replace(case, horizon=replace(case.horizon, load=np.zeros(len(case.horizon))))
    expected = balanced_flow(unloaded, np.zeros((0, len(case.horizon)), complex)).v_pu[:, 0]
    np.testing.assert_allclose(np.abs(real.v_no_load[1:]), expected, atol=1e-8)
    assert expected.max() > 1.04


def test_voltage_limits_hold_behind_the_substation() -> None:
    feeder = feeder_of(read_case("ieee123"))
    assert limited_nodes(feeder).tolist() == [False, False, *[True] * (len(feeder.buses) - 2)]
    assert feeder.limited[1]


def test_the_source_has_a_name_of_its_own(small_feeder: Feeder, small_case: Case) -> None:
    assert one_conductor(small_feeder, small_case.settings).buses == ("source__", "source", "a", "source_")


def test_limits_keep_their_branches(small_feeder: Feeder) -> None:
    base_a = 1000 * np.sqrt(3) / 4.16
    branches, i_max = current_limits(small_feeder)
    assert branches.tolist() == [2]
    np.testing.assert_allclose(i_max, [120 / base_a])
    branches, s_max = power_limits(small_feeder)
    assert branches.tolist() == [1, 2]
    np.testing.assert_allclose(s_max, [0.9, 0.4])


@pytest.fixture
def small_feeder(small_case: Case) -> Feeder:
    return small_case.feeder


@pytest.fixture
def small_case() -> Case:
    """A chain whose buses have the names that the source would like, its second branch listed first."""
    case = read_case("ieee123", {"substation_bus": "1"}, with_devices=False)
    branches = (
        BranchRow(from_bus="source_", to_bus="a", r_ohm=0.1, x_ohm=0.2, i_max_a=120, s_max_kva=400),
        BranchRow(from_bus="source", to_bus="a", r_ohm=0.1, x_ohm=0.2, s_max_kva=900),
    )
    buses = tuple(BusRow(bus=bus, p_load_kw=50) for bus in ("source_", "a", "source"))
    return replace(with_settings(case, substation_bus="source"), buses=buses, branches=branches)
