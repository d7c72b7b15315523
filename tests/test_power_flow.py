"""The project's own power flow: OpenDSS's voltages on random and published feeders, and honest refusals."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multiphase_feeders import grown, published, random_circuits
from opendssdirect import dss

from tieflow.common.arrays import Complexes
from tieflow.common.circuit.extraction import compiled, extract_feeder
from tieflow.common.errors import CaseError, SolverError
from tieflow.common.feeder.multiphase import GROUND, MultiphaseFeeder, incidence, multipliers
from tieflow.common.feeder.power_flow import Injections, PowerFlow

NONE = np.zeros(0, np.int64)
NOTHING = Injections(NONE, NONE, np.zeros((0, 1), complex))
NO_DER = tuple(f"batchedit {kind}..* enabled=no" for kind in ("generator", "pvsystem", "storage"))
HEAD = "clear\nnew circuit.small bus1=b0 basekv=12.47 pu=1.02 r1=0.2 x1=1 r0=0.5 x0=2\n"
LINE = "new line.l bus1=b0 bus2=b1 r1=1 x1=3 r0=2 x0=4 c1=0 c0=0 length=1\n"
BASES = "set voltagebases=(12.47 0.48)\ncalcvoltagebases\n"


def small(*commands: str) -> str:
    return HEAD + LINE + "\n".join(commands) + "\n" + BASES


def flow_of(feeder: MultiphaseFeeder, load: float = 1.0) -> PowerFlow:
    return PowerFlow(feeder, multipliers(feeder.legs, np.array([load]), {}))


def own_voltages(feeder: MultiphaseFeeder, injections: Injections = NOTHING, load: float = 1.0) -> Complexes:
    """(node,)"""
    return flow_of(feeder, load).solve(feeder.v_no_load[: feeder.roots, None], injections)[0][:, 0]


def resting_voltages(engine: Any) -> dict[str, complex]:
    """OpenDSS's node voltages, V, solved again and again until they rest: its own test sees magnitudes, and roughly."""
    engine.Text.Command("set controlmode=off tolerance=1e-10 maxiterations=100")
    before = np.zeros(0, complex)
    for _ in range(30):
        engine.Solution.Solve()
        found = np.array(engine.Circuit.AllBusVolts()).view(complex)
        if len(before) and np.abs(found - before).max() <= 1e-12 * np.abs(found).max():
            break
        before = found
    return dict(zip(map(str.lower, engine.Circuit.AllNodeNames()), found.tolist(), strict=True))


def largest_difference(feeder: MultiphaseFeeder, found: Complexes, expected: dict[str, complex]) -> float:
    """pu, over the nodes that have a voltage limit"""
    pairs = zip(feeder.node_names, found, feeder.v_base, feeder.limited, strict=True)
    differences = [abs(v - expected[name] / base) for name, v, base, limited in pairs if limited]
    return max(differences)


def published_engine(master: Path, commands: tuple[str, ...]) -> Any:
    """A model as its controls leave it."""
    engine = dss.NewContext()
    engine.Basic.AllowChangeDir(False)
    engine.Basic.AllowForms(False)
    for command in (f'compile "{master}"', *commands, "set maxcontroliter=200 maxiterations=200", "solve"):
        engine.Text.Command(command)
    engine.Text.Command("set controlmode=off")
    return engine


@given(circuit=random_circuits(smooth=True))
@settings(max_examples=60)
def test_voltages_of_random_circuits_are_those_of_opendss(circuit: str) -> None:
    engine = compiled(circuit)
    feeder = extract_feeder(engine, 1000.0)
    assert feeder.limited[feeder.roots :].all()
    found = own_voltages(feeder)
    assert 0.9 < np.abs(found).min() <= np.abs(found).max() < 1.1
    assert largest_difference(feeder, found, resting_voltages(engine)) <= 1e-8


@given(circuit=random_circuits(smooth=False))
@settings(max_examples=60)
def test_loads_outside_their_voltage_range_are_those_of_opendss(circuit: str) -> None:
    engine = compiled(circuit)
    feeder = extract_feeder(engine, 1000.0)
    assert largest_difference(feeder, own_voltages(feeder), resting_voltages(engine)) <= 1e-8


@pytest.mark.parametrize("limits", [(0.5, 1.5), (0.5, 0.9), (1.1, 1.5)], ids=["within", "above", "below"])
@pytest.mark.parametrize("connection", ["bus1=b1.1 kv=7.2", "bus1=b1.1.2 conn=delta kv=12.47"], ids=["wye", "delta"])
@pytest.mark.parametrize("model", [1, 2, 3, 4, 5, 6, 7, 8])
def test_every_load_model_is_that_of_opendss(model: int, connection: str, limits: tuple[float, float]) -> None:
    extra = {4: "cvrwatts=0.8 cvrvars=2.6", 8: "zipv=(0.3 0.3 0.4 0.5 0.3 0.2 0)"}.get(model, "")
    engine = compiled(
        small(
            f"new load.x {connection} phases=1 model={model} {extra} kw=300 kvar=120 "
            f"vminpu={limits[0]} vmaxpu={limits[1]}"
        )
    )
    feeder = extract_feeder(engine, 1000.0)
    assert largest_difference(feeder, own_voltages(feeder), resting_voltages(engine)) <= 1e-9


@pytest.mark.parametrize("pu", [0.55, 0.7, 0.85, 0.9, 1.0, 1.1, 1.25])
@pytest.mark.parametrize("model", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_load_draws_what_it_draws_in_opendss_at_any_voltage(model: int, pu: float) -> None:
    extra = {4: "cvrwatts=0.8 cvrvars=2.6", 8: "zipv=(0.2 0.3 0.5 0.5 0.1 0.4 0.5)"}.get(model, "")
    circuit = small(
        f"new load.x bus1=b1 phases=3 kv=12.47 model={model} {extra} kw=300 kvar=120 vminpu=0.85 vmaxpu=1.05"
    )
    engine = compiled(circuit.replace("pu=1.02", f"pu={pu}"))
    feeder = extract_feeder(engine, 1000.0)
    assert largest_difference(feeder, own_voltages(feeder), resting_voltages(engine)) <= 1e-9


@pytest.mark.parametrize("ground", ["", "new reactor.corner bus1=b3.1 phases=1 r=0.001 x=0"], ids=["none", "corner"])
@pytest.mark.parametrize("primary", ["wye", "delta"])
def test_loads_between_the_phases_of_a_delta_secondary_have_the_voltages_of_opendss(primary: str, ground: str) -> None:
    engine = compiled(
        small(
            f"new transformer.t phases=3 windings=2 buses=(b1 b2) conns=({primary} delta) kvs=(12.47 0.48) "
            "kvas=(500 500) xhl=4",
            "new line.l2 bus1=b2 bus2=b3 r1=0.01 x1=0.02 r0=0.02 x0=0.03 c1=0 c0=0 length=1",
            "new load.three bus1=b3 phases=3 conn=delta kv=0.48 kw=200 kvar=50 vminpu=0.7",
            "new load.one bus1=b3.2.3 phases=1 kv=0.48 kw=60 kvar=30 model=5 vminpu=0.7",
            ground,
        )
    )
    feeder = extract_feeder(engine, 1000.0)
    assert feeder.grounded[feeder.nodes_of("b3")].all() == bool(ground)
    expected = resting_voltages(engine)
    found = own_voltages(feeder)
    assert largest_difference(feeder, found, expected) <= 1e-8
    theirs = np.array(
        [expected.get(name, 0) / base for name, base in zip(feeder.node_names, feeder.v_base, strict=True)]
    )
    across = incidence(feeder.legs.a, feeder.legs.b, len(found))
    np.testing.assert_allclose(across @ found, across @ theirs, rtol=0, atol=2e-8)


@given(circuit=random_circuits(smooth=True), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_the_thevenin_impedance_is_the_voltage_per_current_put_in(circuit: str, seed: int) -> None:
    feeder = extract_feeder(compiled(circuit), 1000.0)
    flow = PowerFlow(feeder, np.zeros((len(feeder.legs), 1)))
    rng = np.random.default_rng(seed)
    nodes = rng.choice(np.arange(feeder.roots, len(feeder.node_bus)), 3, replace=False)
    z = flow.impedance(nodes)
    for k, node in enumerate(nodes):
        at = np.array([node])
        injection = Injections(at, np.array([GROUND]), np.array([[0.02 + 0.01j]]))
        v = flow.solve(feeder.v_no_load[: feeder.roots, None], injection)[0][:, 0]
        current = np.conj(injection.s[0, 0] / v[node])
        moved = (v - feeder.v_no_load)[nodes] / current
        np.testing.assert_allclose(moved, z[:, k], rtol=0, atol=1e-7 * np.abs(z).max())


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_power_put_in_is_a_load_with_the_other_sign(seed: int) -> None:
    circuit = grown(np.random.default_rng(seed), 8, smooth=True)
    bus = list(circuit.kv)[-1]
    phase = circuit.phases[bus][0]
    text = circuit.text()
    load = f"new load.more bus1={bus}.{phase} phases=1 kv={circuit.kv[bus]} kw=-4 kvar=3 vminpu=0.5 vmaxpu=1.5\n"
    engine = compiled(text.replace("set voltagebases", load + "set voltagebases"))
    feeder = extract_feeder(compiled(text), 1000.0)
    at = np.array([feeder.node_index[feeder.index[bus], phase]])
    found = own_voltages(feeder, Injections(at, np.array([GROUND]), np.array([[0.004 - 0.003j]])))
    assert largest_difference(feeder, found, resting_voltages(engine)) <= 1e-8


@given(circuit=random_circuits(smooth=True))
@settings(max_examples=15)
def test_each_period_is_solved_as_if_alone(circuit: str) -> None:
    feeder = extract_feeder(compiled(circuit), 1000.0)
    load = np.array([0.4, 1.0, 0.0])
    emf = np.repeat(feeder.v_no_load[: feeder.roots, None], 3, axis=1)
    nothing = replace(NOTHING, s=np.zeros((0, 3), complex))
    together = PowerFlow(feeder, multipliers(feeder.legs, load, {})).solve(emf, nothing)[0]
    alone = np.stack([own_voltages(feeder, load=float(level)) for level in load], axis=1)
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-9)


def test_a_neutral_that_nothing_grounds_is_refused() -> None:
    circuit = small("new line.m bus1=b1.1.2.3.4 bus2=b2.1.2.3.4 phases=4 rmatrix=[1|0 1|0 0 1|0 0 0 1] cmatrix=[0]")
    with pytest.raises(CaseError, match=r"nodes b1.4, b2.4 \(at line.m\) to ground or to the source: they float"):
        extract_feeder(compiled(circuit), 1000.0)


def test_a_branch_whose_end_floats_is_refused_by_name() -> None:
    feeder = extract_feeder(compiled(small()), 1000.0)
    cut = replace(feeder.branches[1], y=0 * feeder.branches[1].y)
    with pytest.raises(SolverError, match="line.l: its end at bus 'b1' floats"):
        flow_of(replace(feeder, branches=(feeder.branches[0], cut)))


@pytest.mark.parametrize("load", [100.0, 1e6])
def test_a_load_that_cannot_be_served_ends_in_an_error(load: float) -> None:
    circuit = small("new load.x bus1=b1 phases=3 kv=12.47 kw=3000 kvar=900 vminpu=0.01 vlowpu=0 vmaxpu=9")
    feeder = extract_feeder(compiled(circuit), 1000.0)
    assert own_voltages(feeder).size
    with pytest.raises(SolverError, match="did not converge"):
        own_voltages(feeder, load=load)


@pytest.mark.parametrize(
    ("master", "commands"),
    [
        ("ieee13_dss/IEEE13Nodeckt.dss", ()),
        ("34Bus/ieee34Mod1.dss", ()),
        ("ieee123_dss/IEEE123Master.dss", ("open line.sw7", "open line.sw8")),
        ("ieee9500_dss/Master-unbal-initial-config.dss", NO_DER),
    ],
    ids=["13", "34", "123", "9500"],
)
def test_voltages_of_published_feeders_are_those_of_opendss(master: str, commands: tuple[str, ...]) -> None:
    assert_same_voltages(published_engine(published(master), commands))


def test_voltages_of_the_ieee8500_feeder_are_those_of_opendss() -> None:
    master = os.environ.get("TIEFLOW_IEEE8500", "")
    if not master:
        pytest.skip("TIEFLOW_IEEE8500 does not name the Master-unbal.dss of the IEEE 8500-node feeder")
    engine = published_engine(Path(master), ())
    assert len(engine.Circuit.AllNodeNames()) > 8000
    assert_same_voltages(engine)


def assert_same_voltages(engine: Any) -> None:
    feeder = extract_feeder(engine, 1000.0)
    for load in (1.0, 0.6):
        engine.Solution.LoadMult(load)
        expected = resting_voltages(engine)
        assert largest_difference(feeder, own_voltages(feeder, load=load), expected) <= 1e-7, load
