"""Controls that an import froze: which there were, as comments of the circuit; their states, of its elements."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from tieflow.common.circuit.engine import ALL_PROPERTIES, Engine, export
from tieflow.common.circuit.text import Record
from tieflow.common.feeder.multiphase import Frozen

TITLE = "! controls that the import froze:"
"""of a circuit that has comments on them, be it that there are none"""
_MOVED = re.compile(r"^! (.+) of ((?:transformer|autotrans|capacitor)\..+)$", re.MULTILINE)
SAME_TAP = 1e-9
_STATES = {"Transformer": "Taps", "AutoTrans": "Taps", "Capacitor": "States"}
"""the property that a control moves, by class"""


def comments(records: Mapping[str, Sequence[Record]]) -> list[str]:
    """What a circuit's text tells of the controls that it does not have, of an import's records by class."""
    element_of = {
        record["Name"].lower(): f"{kind.lower()}.{record['Name']}"
        for kind in ("Transformer", "AutoTrans")
        for record in records[kind]
    }
    moved = [
        (f"regcontrol.{record['Name']}", element_of.get(str(record["Transformer"]).lower()))
        for record in records["RegControl"]
    ]
    banks = {record["Name"].lower() for record in records["Capacitor"]}
    moved += [
        (f"capcontrol.{record['Name']}", f"capacitor.{record['Capacitor']}")
        for record in records["CapControl"]
        if str(record["Capacitor"]).lower() in banks
    ]
    lines = [f"! {control} of {element}" for control, element in moved if element is not None]
    return ["", TITLE + " none" * (not lines), *lines]


def frozen_controls(engine: Engine, circuit: str) -> tuple[Frozen, ...]:
    """The controls that are frozen in a circuit, which the engine has compiled, with their states there, and capacitors
    that are switched off. Of a circuit without comments on controls, transformers off their nominal tap and all
    capacitors."""
    _, is_told, told = circuit.partition(TITLE)
    controls: dict[str, list[str]] = defaultdict(list)
    for control, element in _MOVED.findall(told):
        controls[element.lower()].append(control)
    found = []
    for kind, key in _STATES.items():
        for record in export(engine, kind, ALL_PROPERTIES):
            element, states, is_bank = f"{kind.lower()}.{record['Name']}", record[key], kind == "Capacitor"
            is_off = any(abs(state - 1) > SAME_TAP for state in states)
            is_likely = is_off and is_bank if is_told else is_off or is_bank
            if element.lower() in controls or is_likely:
                names = ", ".join(controls.get(element.lower(), ()))
                shown = " ".join(f"{state:.6g}" for state in states)
                found.append(Frozen(element, names, f"{key.lower()} ({shown})"))
    return tuple(found)
