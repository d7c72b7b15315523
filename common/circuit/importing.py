"""Import of a user's OpenDSS model as one flat circuit that needs no other file, and tables of its DER.

The engine itself compiles the model; the circuit is written from its objects, never from the user's text, and then
compiled and compared with the original.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from opendssdirect import dss

from tieflow.common.circuit import frozen, text
from tieflow.common.circuit.devices import battery_row, pv_row
from tieflow.common.circuit.engine import (
    ALL_PROPERTIES,
    GIVEN_PROPERTIES,
    POWERLESS,
    PRECISE,
    Engine,
    Voltages,
    admittance,
    bus_table,
    compile_model,
    connected,
    export,
    export_shape,
    is_open,
    message,
    name_list,
    new_context,
    settle,
    solve_precisely,
)
from tieflow.common.circuit.text import Record, bus_of, value
from tieflow.common.errors import CaseError, did_you_mean
from tieflow.common.inputs.devices import PV, Battery

SAME_VOLTAGE_PU = 1e-8
"""Largest difference of any node voltage between the model and its copy, pu. Where a stiff switch leads to ordinary
lines, the last digit of an impedance alone moves voltages by several 1e-9 pu (IEEE 13, 9500)."""
_SERIES = ("Line", "Transformer", "AutoTrans", "Reactor")
_WRITTEN = ("Vsource", *_SERIES, "Capacitor", "Load", "Generator")
_DEVICES = ("PVSystem", "Storage")
Records = dict[str, list[Record]]


@dataclass(frozen=True)
class ImportedCircuit:
    """An OpenDSS model as tieflow uses it."""

    text: str
    """OpenDSS commands that build the circuit at rated load; they need no other file"""
    pv: tuple[PV, ...]
    """from the PVSystem elements, which the text leaves out"""
    batteries: tuple[Battery, ...]
    """from the Storage elements, which the text leaves out"""
    notes: tuple[str, ...]
    """what the user should know: what was frozen, left out or simplified"""
    engine: Engine = field(compare=False, repr=False)
    """has run the text"""


def import_circuit(master: Path, commands: Sequence[str] = (), keep_controls: bool = False) -> ImportedCircuit:
    """Read an OpenDSS model and copy it at the taps and capacitor states of its snapshot.

    ``commands`` are run after compiling, as a run script would (``open line.sw7``, ``set loadmult=0.65``). The controls
    act on the snapshot, unless ``keep_controls``: then taps and capacitors stay as the model has them.
    Raises CaseError for a model that OpenDSS does not compile or solve, for elements that cannot be carried, and when
    the voltages of the copy differ by more than ``SAME_VOLTAGE_PU``.
    """
    engine = compile_model(master, commands)
    notes = settle(engine, master, keep_controls)
    records = _read(engine, master)
    notes += _drop_open(engine, records)
    notes += _voltage_bases(engine, records)
    pv = [row for record in records["PVSystem"] if (row := pv_row(record, notes))]
    batteries = [battery for record in records["Storage"] if (battery := battery_row(record, notes))]
    notes += _state_notes(engine, records)
    for kind in _DEVICES:
        for record in records[kind]:
            engine.Circuit.Disable(f"{kind}.{record['Name']}")
    expected = solve_precisely(engine, master)
    if expected.floating:
        floating = sorted({bus_of(node) for node in expected.floating})
        notes.append(f"Nothing grounds these buses, so their voltage to ground is undetermined: {name_list(floating)}.")
    _check_device_buses(engine, [*pv, *batteries])
    commands_of_copy = _write(engine, records, master, {row.profile for row in pv})
    copy, fixes = _verify(engine, expected, commands_of_copy, master)
    commands_of_copy += [*fixes, f"set {PRECISE}"]
    return ImportedCircuit("\n".join(commands_of_copy) + "\n", tuple(pv), tuple(batteries), tuple(notes), copy)


def _read(engine: Engine, master: Path) -> Records:
    """The enabled elements by class. Raises CaseError for a class or an element that cannot be carried."""
    records: Records = {kind: export(engine, kind, ALL_PROPERTIES) for kind in (*_WRITTEN, *_DEVICES, *POWERLESS)}
    known = {kind.lower() for kind in records}
    for name in engine.Circuit.AllElementNames():
        if name.split(".", 1)[0].lower() not in known:
            engine.Circuit.SetActiveElement(name)
            if engine.CktElement.Enabled():
                raise CaseError(
                    f"{name}: elements of this class cannot be carried. Replace it by a load, generator or line, or "
                    f"import with the command 'disable {name.lower()}' if you can do without it."
                )
    sources = [f"vsource.{record['Name']}" for record in records["Vsource"]]
    if len(sources) != 1:
        found = "no voltage source" if not sources else f"several voltage sources ({name_list(sources)})"
        raise CaseError(f"{master}: {found}. A case has one substation; enable exactly one.")
    for record in records["Generator"]:
        if record["Model"] == 6:
            raise CaseError(
                f"generator.{record['Name']}: a user-written model (model=6) cannot be carried. Choose another model."
            )
    return records


def _drop_open(engine: Engine, records: Records) -> list[str]:
    """Take elements with an open terminal out of records and engine; returns notes."""
    gone = []
    for kind in (*_SERIES, "Capacitor", "Load", "Generator", *_DEVICES):
        kept = []
        for record in records[kind]:
            if not is_open(engine, name := f"{kind.lower()}.{record['Name']}"):
                kept.append(record)
            elif kind == "Capacitor":
                # A bank that is switched off keeps its place; the command 'open' leaves its states unchanged.
                kept.append({**record, "States": [0] * len(record["States"])})
            else:
                gone.append(name)
                engine.Circuit.Disable(name)
        records[kind] = kept
    return [f"Left out, as they are open: {name_list(gone)}."] if gone else []


def _voltage_bases(engine: Engine, records: Records) -> list[str]:
    """Give voltage bases to a model that has none; returns notes."""
    if any(kv for _, kv, _ in bus_table(engine)):
        return []
    kv = {records["Vsource"][0]["BasekV"]} | {kv for kind in ("Transformer", "AutoTrans") for record in records[kind]
          for kv in record["kVs"]}  # fmt: skip
    engine.Text.Command(f"set voltagebases={value(sorted(kv))}")
    engine.Text.Command("calcvoltagebases")
    return [f"The model sets no voltage bases; taken from source and transformers: {value(sorted(kv))} kV."]


def _state_notes(engine: Engine, records: Records) -> list[str]:
    notes = []
    taps = {record["Name"]: record["Taps"] for kind in ("Transformer", "AutoTrans") for record in records[kind]}
    regulators = [
        f"{record['Transformer']} = {taps[record['Transformer']][(record['TapWinding'] or record['Winding']) - 1]:g}"
        for record in records["RegControl"]
        if record["Transformer"] in taps
    ]
    if regulators:
        notes.append(f"Regulators are frozen at these taps (pu): {name_list(regulators)}.")
    banks = [f"capacitor.{record['Name']}" for record in records["Capacitor"] if not all(record["States"])]
    if banks:
        notes.append(f"Switched off, wholly or in part: {name_list(banks)}.")
    spans = Counter((record["VMinpu"], record["VMaxpu"]) for record in records["Load"] if record["Model"] != 2)
    notes += [
        f"{count} load(s) turn into constant impedances below {low:g} pu and above {high:g} pu (their vminpu, vmaxpu)."
        for (low, high), count in sorted(spans.items())
    ]
    dropped = [f"{len(records[kind])} {kind}" for kind in POWERLESS if records[kind]]
    if dropped:
        notes.append(f"Left out, as tieflow decides in their place or needs none: {', '.join(dropped)}.")
    for key in ("Yearly", "Duty"):
        # OpenDSS takes the daily shape for a yearly one that is not given.
        users = [
            r for kind in ("Load", "Generator", "PVSystem") for r in records[kind] if r[key] not in (None, r["Daily"])
        ]
        if users:
            notes.append(f"{len(users)} {key.lower()} load shape(s) left out: only daily ones are carried.")
    if records["PVSystem"] or records["Storage"]:
        notes.append("Taps and capacitor states were found with PV systems and batteries as the model has them.")
    return notes


def _check_device_buses(engine: Engine, rows: Sequence[PV | Battery]) -> None:
    buses = set(engine.Circuit.AllBusNames())
    for row in rows:
        if row.bus not in buses:
            raise CaseError(
                f"bus '{row.bus}' has a PV system or battery, but nothing else is connected there."
                f"{did_you_mean(row.bus, buses)}"
            )


def _write(engine: Engine, records: Records, master: Path, profiles: Iterable[str]) -> list[str]:
    """The commands up to the coordinates, without the voltage bases that need correction."""
    source = records["Vsource"][0]
    frequency = source["BaseFreq"]
    users = [*records["Load"], *records["Generator"]]
    used = {*profiles, *(record["Daily"] for record in users)} - {"", None}
    shapes = [export_shape(engine, name) for name in sorted(used)]

    def shunts(kind: str, write: Any) -> list[str]:
        given = {record["Name"]: record for record in export(engine, kind, GIVEN_PROPERTIES)}
        return [
            write(r, given[r["Name"]], frequency, lambda r=r: admittance(engine, f"{kind}.{r['Name']}"))
            for r in records[kind]
        ]

    buses = bus_table(engine)
    bases = sorted({round(kv * np.sqrt(3), 9) for _, kv, _ in buses if kv})
    groups = {
        "load shapes": [text.load_shape(record) for record in shapes],
        "lines: matrices in ohm and nF per unit of length": [text.line(r, frequency) for r in records["Line"]],
        "transformers": [text.transformer(r, frequency) for r in records["Transformer"]],
        "autotransformers": [text.autotransformer(r, frequency) for r in records["AutoTrans"]],
        "reactors": shunts("Reactor", text.reactor),
        "capacitors": shunts("Capacitor", text.capacitor),
        "loads": [text.load(record) for record in records["Load"]],
        "generators": [text.generator(record) for record in records["Generator"]],
        "voltage bases, kV": [f"set voltagebases={value(bases)}", "calcvoltagebases"],
        "coordinates": [
            f"setbusxy bus={text.quoted(bus)} x={value(place[0])} y={value(place[1])}"
            for bus, _, place in buses
            if place is not None
        ],
    }
    commands = [
        f"! {' '.join(master.name.split())}, written flat by tieflow",
        *text.source(source, engine.Circuit.Name(), lambda: admittance(engine, f"vsource.{source['Name']}")),
    ]
    for title, lines in groups.items():
        commands += ["", f"! {title}", *lines] if lines else []
    return [*commands, *frozen.comments(records)]


def _verify(engine: Engine, expected: Voltages, commands: Sequence[str], master: Path) -> tuple[Engine, list[str]]:
    """Compare the copy with the solved original; returns it at rated load, and what corrects its voltage bases."""
    copy = new_context()
    advice = "This is a case that tieflow does not copy faithfully; please report it with the model."
    try:
        copy.Text.Commands("\n".join(commands))
        bases = {bus: kv for bus, kv, _ in bus_table(copy)}
        fixes = [
            f"setkvbase bus={text.quoted(bus)} kvln={value(kv)}"
            for bus, kv, _ in bus_table(engine)
            if kv and kv != bases.get(bus)
        ]
        copy.Text.Commands("\n".join(fixes))
        solution = engine.Solution
        copy.Text.Command(f"set loadmult={value(solution.LoadMult())} genmult={value(solution.GenMult())}")
        found = solve_precisely(copy, master)
    except dss.DSSException as error:
        raise CaseError(f"{master}: OpenDSS refuses the copy: {message(error)} {advice}") from None
    if expected.pu.keys() != found.pu.keys():
        raise CaseError(
            f"{master}: the copy differs in {name_list(sorted(expected.pu.keys() ^ found.pu.keys()))}. {advice}"
        )
    floating = expected.floating | found.floating
    difference = {
        node: abs(expected.shape[node] - found.shape[node] if node in floating else v - found.pu[node])
        for node, v in expected.pu.items()
    }
    worst = max(difference, key=lambda node: difference[node])
    if not difference[worst] <= SAME_VOLTAGE_PU:
        raise CaseError(
            f"{master}: the copy's voltage at {worst} is off by {difference[worst]:.1e} pu (connected there: "
            f"{name_list(connected(engine, bus_of(worst)))}). {advice}"
        )
    copy.Text.Command("set loadmult=1 genmult=1")
    return copy, fixes
