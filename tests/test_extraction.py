"""The feeder that is read from a compiled circuit: what becomes of each element, and what is refused by name."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from multiphase_feeders import published, random_circuits
from small_circuits import HEAD, feeder_of, text

from tieflow.common.arrays import Complexes
from tieflow.common.circuit.extraction import SOURCE, compiled, extract_feeder
from tieflow.common.circuit.importing import import_circuit
from tieflow.common.errors import CaseError
from tieflow.common.feeder.load_law import leg_currents
from tieflow.common.feeder.multiphase import GROUND, admittance, connection, path_length
from tieflow.common.feeder.power_flow import PowerFlow

DELTA = "new transformer.t phases=3 windings=2 buses=(b c) conns=(wye delta) kvs=(12.47 0.48) kvas=(500 500) xhl=4"
FOUR_WIRES = (
    "new line.bc bus1=b.1.2.3.4 bus2=c.1.2.3.4 phases=4 cmatrix=[0] "
    "rmatrix=[1|0.1 1|0.1 0.1 1|0.1 0.1 0.1 1] xmatrix=[1|0.1 1|0.1 0.1 1|0.1 0.1 0.1 1]"
)
ZIP = "new load.z bus1=b.1 phases=1 kv=7.2 kw=50 kvar=20 model=8"


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        (
            ("new line.bc bus1=b bus2=c length=1", "new line.tie bus1=c bus2=a length=1"),
            ("a loop", "between buses", "'c'", "open line.NAME"),
        ),
        (
            ("new line.cd bus1=c bus2=d length=1", "new load.lost bus1=d.2 phases=1 kv=7.2 kw=5"),
            ("load.lost at node d.2", "not connected to the source"),
        ),
        (
            (DELTA, "new load.floats bus1=c phases=3 conn=wye kv=0.48 kw=30"),
            ("load.floats at node c.1", "ungrounded transformer secondary", "conn=wye", "between phases"),
        ),
        (
            (
                DELTA,
                "new line.cd bus1=c bus2=d r1=0.01 x1=0.01 c1=0 c0=0 length=1",
                "new load.further bus1=d.2 phases=1 kv=0.277 kw=30",
            ),
            ("load.further at node d.2", "ungrounded transformer secondary"),
        ),
        (("new vsource.second bus1=b basekv=12.47",), ("2 voltage sources", "must have one")),
        (
            ("new generator.held bus1=b phases=3 kv=12.47 kw=100 model=3",),
            ("generator.held", "only model 1", "not 3"),
        ),
        (
            (
                "new transformer.three phases=3 windings=3 buses=(b c d) kvs=(12.47 0.48 0.208) "
                "kvas=(500 500 500) conns=(wye wye wye)",
            ),
            ("transformer.three joins 3 buses (b, c, d)",),
        ),
        (("new load.nowhere bus1=b.0 phases=1 kv=7.2 kw=5",), ("load.nowhere", "ground to ground")),
        (("new pvsystem.p bus1=b kv=12.47 kva=9 pmpp=9",), ("pvsystem.p", "pv.csv")),
        (("new storage.s bus1=b kv=12.47 kva=9",), ("storage.s", "batteries.csv")),
        (("new indmach012.m bus1=b kv=12.47 kva=9 kw=5",), ("indmach012.m", "this class", "disable")),
        (("new isource.i bus1=b amps=1",), ("isource.i", "this class")),
        (("new fault.f bus1=b",), ("fault.f", "this class")),
        ((f"{ZIP} zipv=(0.2 0.3 0.5 0.1 0.3 0.6 0.85)",), ("load.z", "switches off below 0.85 pu", "zipv")),
        (
            (FOUR_WIRES, "new load.n bus1=c.1.4 phases=1 kv=7.2 kw=50 rneut=5"),
            ("load.n", "neutral impedance", "rneut=-1"),
        ),
        (("new load.n bus1=b.1.4 phases=1 kv=7.2 kw=50",), ("load.n at node b.4", "brings node 4 to the bus")),
        (
            ("new generator.g bus1=b phases=3 kv=12.47 kw=9 dispmode=loadlevel",),
            ("generator.g", "dispmode=loadlevel", "dispmode=default"),
        ),
        (
            ("new line.bc bus1=b bus2=c length=1", "open line.bc 2 1"),
            ("line.bc", "only some of its conductors are open"),
        ),
        ((FOUR_WIRES,), ("nodes b.4, c.4 (at line.bc)", "float", "reactor to ground")),
    ],
    ids=[
        "loop", "island", "delta", "behind-delta", "sources", "generator", "three-buses", "grounded", "pv", "storage",
        "machine", "current", "fault", "cut-off", "neutral", "no-node", "dispatch", "half-open", "floating",
    ],
)  # fmt: skip
def test_what_cannot_be_modelled_is_refused_by_name(commands: tuple[str, ...], words: tuple[str, ...]) -> None:
    with pytest.raises(CaseError) as error:
        feeder_of(*commands)
    for word in words:
        assert word.lower() in str(error.value).lower()


def test_a_loop_that_an_open_switch_breaks_is_none() -> None:
    feeder = feeder_of(
        "new line.bc bus1=b bus2=c length=1", "new line.tie bus1=c bus2=a length=1 switch=yes", "open line.tie 1"
    )
    assert [branch.name for branch in feeder.branches] == ["vsource.source", "line.ab", "line.bc"]


def test_a_bus_without_a_base_voltage_is_refused() -> None:
    with pytest.raises(CaseError, match="has no base voltage. Add 'set voltagebases"):
        extract_feeder(compiled(HEAD), 1000.0)


@pytest.mark.parametrize("pu", [1e-3, 1e3, 1e9])
def test_a_source_whose_voltage_is_far_from_every_base_is_refused_by_name(pu: float) -> None:
    with pytest.raises(
        CaseError, match=r"without load the voltages lie between .* pu. Let basekv and pu of vsource\.source, and the"
    ):
        feeder_of(f"edit vsource.source pu={pu}")


@pytest.mark.parametrize("value", ["inf", "nan", "1e300"])
def test_an_element_whose_admittance_none_has_is_refused_by_name(value: str) -> None:
    with pytest.raises(CaseError, match=r"line\.bc: no element has an admittance of .* S\. Correct its impedance"):
        feeder_of(f"new line.bc bus1=b bus2=c length=1 c1={value}")


def test_a_circuit_that_opendss_refuses_is_refused_in_its_words() -> None:
    with pytest.raises(CaseError, match=re.compile("OpenDSS refuses the circuit.*nonsense", re.DOTALL)):
        compiled(text("new line.bc bus1=b bus2=c nonsense=3"))


def test_an_unconnected_part_without_load_is_left_out() -> None:
    feeder = feeder_of("new line.cd bus1=c bus2=d length=1", "new capacitor.d bus1=d phases=3 kv=12.47 kvar=100")
    assert feeder.buses == (SOURCE, "a", "b")
    assert feeder.shunts == ()


def test_the_source_impedance_is_the_first_branch() -> None:
    feeder = feeder_of()
    assert feeder.parent.tolist() == [0, 1]
    assert feeder.roots == 3
    r = 2 / 3 * 0.2 + 0.5 / 3
    x = 2 / 3 * 1 + 2 / 3
    z = PowerFlow(feeder, np.zeros((0, 1))).impedance(feeder.nodes_of("a"))
    assert z[0, 0] == pytest.approx((r + 1j * x) / (12.47**2 / 3), rel=1e-5)
    np.testing.assert_allclose(np.abs(feeder.v_no_load[:3]), 1.02, rtol=1e-6)


def test_regulators_in_parallel_are_one_branch() -> None:
    bank = [
        f"new transformer.reg{phase} phases=1 windings=2 buses=(b.{phase} c.{phase}) kvs=(7.2 7.2) kvas=(2000 2000) "
        f"xhl=0.1 taps=(1 {1 + phase / 100})"
        for phase in (1, 2, 3)
    ]
    feeder = feeder_of(*bank)
    assert feeder.branch_name(feeder.index["c"] - 1) == "transformer.reg1+transformer.reg2+transformer.reg3"
    b, c = (np.abs(feeder.v_no_load[feeder.nodes_of(bus)]) for bus in "bc")
    np.testing.assert_allclose(c / b, [1.01, 1.02, 1.03], rtol=1e-4)


def test_a_branch_has_the_phases_that_it_has() -> None:
    feeder = feeder_of("new line.bc bus1=b.3.1 bus2=c.3.1 phases=2 length=1")
    assert feeder.node_names[-2:] == ("c.1", "c.3")
    branch = feeder.branches[feeder.index["c"] - 1]
    assert [feeder.node_names[node] for node in branch.nodes] == ["b.1", "b.3", "c.1", "c.3"]


def test_phases_that_change_along_a_line_are_followed() -> None:
    feeder = feeder_of("new line.bc bus1=b.3 bus2=c.1 phases=1 length=1 c1=0 c0=0")
    b3 = feeder.v_no_load[feeder.node_index[feeder.index["b"], 3]]
    assert feeder.v_no_load[feeder.node_index[feeder.index["c"], 1]] == pytest.approx(b3, abs=1e-6)


def test_coordinates_are_kept_where_they_are_known() -> None:
    feeder = extract_feeder(compiled(text() + "setbusxy bus=a x=3 y=4\n"), 1000.0)
    np.testing.assert_array_equal(feeder.coordinates, [[3, 4], [3, 4], [np.nan, np.nan]])


def test_only_switches_are_switches() -> None:
    feeder = feeder_of("new line.bc bus1=b bus2=c switch=yes", "new line.cd bus1=c bus2=d length=1")
    assert [branch.name for branch in feeder.branches if branch.is_switch] == ["line.bc"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("switch=yes r1=0.5 x1=0 r0=0.5 x0=0 length=1", True),
        ("r1=1e-3 x1=1e-3 r0=1e-3 x0=1e-3 c1=0 c0=0 length=1", True),
        ("r1=1 x1=1 r0=1 x0=1 length=0.001 switch=no", True),
        ("r1=3e-3 x1=1e-3 r0=1e-3 x0=1e-3 c1=0 c0=0 length=1", False),
        ("rmatrix=[1e-4|0 1e-4|0 0 5e-3] xmatrix=[0|0 0|0 0 0] cmatrix=[0] length=1", False),
    ],
)
def test_a_switch_is_marked_as_one_or_has_next_to_no_impedance(line: str, expected: bool) -> None:
    feeder = feeder_of(f"new line.bc bus1=b bus2=c phases=3 {line}", "new line.cd bus1=c bus2=d length=1")
    assert [branch.is_switch for branch in feeder.branches] == [False, False, expected, False]


@pytest.mark.parametrize(
    ("line", "km"),
    [
        ("length=2 units=km", 2.0),
        ("length=5280 units=ft", 1.609344),
        ("length=0.5 units=mi", 0.804672),
        ("length=3 units=kft", 0.9144),
        ("length=150 units=m", 0.15),
        ("length=2", np.nan),
        ("switch=yes length=20 units=m", 0.02),
        ("switch=yes", 0.0),
    ],
)
def test_a_line_has_the_length_that_its_unit_tells(line: str, km: float) -> None:
    feeder = feeder_of("edit line.ab units=km", f"new line.bc bus1=b bus2=c {line}", DELTA.replace("c)", "d)"))
    away = dict(zip(feeder.buses, path_length(feeder), strict=True))
    assert [away["a"], away["b"], away["d"]] == [0, 1, 1], "the source and transformers have no length"
    assert away["c"] - away["b"] == pytest.approx(km, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("path", "bus", "feet"),
    [
        # The published tables of segments, along the path.
        ("ieee13/circuit.dss", "652", 2000 + 667 + 1333 + 300 + 800),
        ("ieee123_unbalanced/circuit.dss", "33", 400 + 300 + 200 + 300 + 825 + 300 + 250 + 275 + 350 + 275 + 500),
        ("34Bus/ieee34Mod1.dss", "816", 2580 + 1730 + 32230 + 37500 + 29730 + 10 + 310),
    ],
)
def test_published_feeders_have_their_lengths(path: str, bus: str, feet: float) -> None:
    own = Path(str(resources.files("tieflow.launch") / "cases")) / path
    feeder = extract_feeder(compiled(import_circuit(own if own.exists() else published(path)).text), 1000.0)
    assert path_length(feeder)[feeder.index[bus]] == pytest.approx(feet * 0.3048e-3, rel=1e-12)


@pytest.mark.parametrize(
    ("master", "commands", "switches"),
    [
        ("ieee13_dss/IEEE13Nodeckt.dss", (), ["671692"]),
        ("34Bus/ieee34Mod1.dss", (), []),
        ("ieee123_dss/IEEE123Master.dss", ("open line.sw7", "open line.sw8"), [f"sw{i}" for i in range(1, 7)]),
    ],
)
def test_the_import_keeps_switches(master: str, commands: tuple[str, ...], switches: list[str]) -> None:
    feeder = extract_feeder(compiled(import_circuit(published(master), commands).text), 1000.0)
    assert sorted(branch.name for branch in feeder.branches if branch.is_switch) == [f"line.{i}" for i in switches]


def test_a_capacitor_that_is_switched_off_gives_nothing() -> None:
    on = feeder_of("new capacitor.c bus1=b phases=3 kv=12.47 kvar=300")
    off = feeder_of("new capacitor.c bus1=b phases=3 kv=12.47 kvar=300 states=[0]")
    at = on.nodes_of("b")
    y_on, y_off = (admittance(feeder, feeder.shunts).toarray()[np.ix_(at, at)] for feeder in (on, off))
    np.testing.assert_allclose(y_on, 0.1j * np.eye(3), atol=1e-9)
    np.testing.assert_allclose(y_off, 0, atol=1e-9)


def test_a_delta_secondary_without_load_has_no_voltage_limit() -> None:
    feeder = feeder_of(
        "new transformer.t phases=3 windings=2 buses=(b c) conns=(wye delta) kvs=(12.47 0.48) kvas=(500 500)"
    )
    assert not feeder.grounded[feeder.nodes_of("c")].any()
    assert feeder.grounded[feeder.nodes_of("b")].all()
    assert feeder.limited.sum() == 6


@pytest.mark.parametrize(
    ("shunt", "expected"),
    [
        ("new reactor.corner bus1=d.1 phases=1 r=0.001 x=0", True),
        ("new capacitor.c bus1=d phases=3 kv=0.48 kvar=30", True),
        ("new capacitor.c bus1=d phases=3 kv=0.48 kvar=30 conn=delta", False),
        ("new transformer.z phases=3 windings=2 buses=(d e) conns=(wye delta) kvs=(0.48 0.48) kvas=(50 50)", True),
        ("new transformer.z phases=3 windings=2 buses=(d e) conns=(delta wye) kvs=(0.48 0.48) kvas=(50 50)", False),
    ],
    ids=["corner", "wye-capacitor", "delta-capacitor", "grounding-transformer", "delta-transformer"],
)
def test_a_shunt_may_ground_a_delta_secondary(shunt: str, expected: bool) -> None:
    feeder = feeder_of(DELTA, "new line.cd bus1=c bus2=d r1=0.01 x1=0.01 c1=0 c0=0 length=1", shunt)
    for bus in "cd":
        assert feeder.grounded[feeder.nodes_of(bus)].all() == feeder.grounded[feeder.nodes_of(bus)].any() == expected
    if not expected and "e" in feeder.index:
        assert feeder.grounded[feeder.nodes_of("e")].all()


def test_a_device_to_ground_at_a_bus_without_ground_is_refused() -> None:
    feeder = feeder_of(DELTA)
    for phases in ("", "1", "1.2.3"):
        with pytest.raises(CaseError, match="bus 'c' is connected to ground, but nothing grounds.*1-2"):
            connection(feeder, "c", phases)
    assert len(connection(feeder, "c", "1-2")[0]) == 1


@given(circuit=random_circuits(smooth=True))
@settings(max_examples=30)
def test_what_is_read_carries_the_currents_of_the_engine(circuit: str) -> None:
    engine = compiled(circuit)
    for _ in range(5):
        engine.Solution.Solve()
    feeder = extract_feeder(engine, 1000.0)
    names = [name.lower() for name in engine.Circuit.AllNodeNames()]
    found = np.array(engine.Circuit.AllBusVolts()).view(complex)
    v: Complexes = feeder.v_no_load.copy()
    for node in range(feeder.roots, len(v)):
        v[node] = found[names.index(feeder.node_names[node])] / feeder.v_base[node]
    a, b, none = feeder.legs.a, feeder.legs.b, GROUND
    across = v[a] - np.where(b == none, 0, v[b])
    current = leg_currents(feeder.legs, across[:, None], np.ones((len(a), 1)))[:, 0]
    into = -admittance(feeder) @ v
    np.subtract.at(into, a, current)
    np.add.at(into, b[b != none], current[b != none])
    largest = max(np.abs(element.y).max() for element in feeder.branches)
    assert np.abs(into[feeder.roots :]).max() <= 1e-7 + 1e-11 * largest
    elements = [name.lower() for name in engine.Circuit.AllElementNames() if "load" not in name.lower()]
    own = "+".join(element.name for element in (*feeder.branches, *feeder.shunts)).split("+")
    assert sorted(own) == sorted(elements)
