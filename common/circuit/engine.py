"""The user's OpenDSS model in an engine of its own: compiled, settled by its controls, solved to the last digits."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from opendssdirect import dss

from tieflow.common.arrays import Complexes
from tieflow.common.circuit.text import Record, bus_of
from tieflow.common.errors import CaseError

PRECISE = "controlmode=off tolerance=1e-10 maxiterations=100"
CONTROL_ITERATIONS = 200
ALL_PROPERTIES = 1 | 32
"""JSON export of enabled elements"""
GIVEN_PROPERTIES = 32
"""JSON export of enabled elements: the properties that the model sets, in that order"""
POWERLESS = (
    "RegControl", "CapControl", "SwtControl", "Relay", "Recloser", "Fuse", "GenDispatcher", "StorageController",
    "InvControl", "ExpControl", "UPFCControl", "ESPVLControl", "Monitor", "EnergyMeter", "Sensor",
)  # fmt: skip
"""classes that carry no power; tieflow decides in their place"""
_REST_PU = 1e-10
_NO_NUMBER = re.compile(r"([\[,:])\s*[+-]?(?:nan|inf(?:inity)?)(?=[,\]}])", re.IGNORECASE)
_OFF = -1
_CONTROLS_MOVE = 485
"""the engine's error number when controls do not come to rest; it abandons the file that it reads"""

Engine = Any
"""a context of OpenDSSDirect, which comes without type information"""


def new_context() -> Engine:
    """An empty engine that leaves the working directory alone and opens no windows."""
    engine = dss.NewContext()
    engine.Basic.AllowChangeDir(False)
    engine.Basic.AllowForms(False)
    engine.Basic.AllowEditor(False)
    return engine


def compile_model(master: Path, commands: Sequence[str]) -> Engine:
    """Compile a model and run ``commands`` on it. Raises CaseError for whatever the engine refuses."""
    if not os.path.isfile(master):
        raise CaseError(f"{master}: no such file. Name the OpenDSS file that builds the circuit (often Master.dss).")
    engine = new_context()
    # Not resolve(): files beside a link are looked for beside the link.
    for command in [f'compile "{master.absolute()}"', *commands]:
        try:
            engine.Text.Command(command)
        except dss.DSSException as error:
            unsettled = error.args[0] == _CONTROLS_MOVE
            if unsettled and not command.startswith("compile"):
                continue  # A solution of the user's: the import makes its own, with more iterations.
            advice = " Write 'set maxcontroliter=100' before its 'solve', or leave that out." if unsettled else ""
            raise CaseError(f"{master}: OpenDSS refuses '{command}': {message(error)}{advice}") from None
    if not engine.Basic.NumCircuits():
        raise CaseError(f"{master}: builds no circuit. Name the file that has 'new circuit' in it, or redirects to it.")
    return engine


def changed_circuit(circuit: str, commands: Sequence[str], where: str) -> str:
    """The text of a circuit with ``commands`` after it. Raises CaseError, beginning with ``where``, for a command that
    the engine refuses and for the edit of an element that is not there, over which the engine passes in silence."""
    engine = new_context()
    engine.Text.Commands(circuit)
    for command in commands:
        words = command.split()
        if len(words) > 1 and words[0].lower() == "edit" and engine.Circuit.SetActiveElement(words[1]) < 0:
            raise CaseError(f"{where}: the circuit has no '{words[1]}' to edit. Name an element that it has.")
        try:
            engine.Text.Command(command)
        except dss.DSSException as error:
            raise CaseError(f"{where}: OpenDSS refuses '{command}': {message(error)}") from None
    return "\n".join([circuit.rstrip("\n"), "! changed by the study", *commands, ""])


def settle(engine: Engine, master: Path, keep_controls: bool) -> list[str]:
    """Solve the snapshot until the controls rest; returns notes. Raises CaseError when there is no power flow."""
    solution, notes = engine.Solution, []
    off = solution.ControlMode() == _OFF
    mode = "off" if keep_controls or off else "static"
    if off and not keep_controls:
        notes.append("The model switches its controls off (controlmode=off): taps and capacitors are as it has them.")
    engine.Text.Command(f"set mode=snapshot maxiterations=100 maxcontroliter={CONTROL_ITERATIONS} controlmode={mode}")
    try:
        solution.Solve()
    except dss.DSSException as error:
        # The engine raises when its controls do not come to rest, but not when the power flow fails.
        if error.args[0] != _CONTROLS_MOVE:
            raise CaseError(f"{master}: OpenDSS cannot solve it: {message(error)}") from None
    if not solution.Converged():
        raise CaseError(f"{master}: OpenDSS finds no power flow for its snapshot. {_unrest(engine)}")
    if solution.ControlIterations() >= CONTROL_ITERATIONS:
        notes.append(
            f"Regulators or capacitor controls were still moving after {CONTROL_ITERATIONS} iterations: their last "
            "state is taken. Widen their bands to be sure of it."
        )
    for option, factor in (("loadmult", solution.LoadMult()), ("genmult", solution.GenMult())):
        if factor != 1:
            notes.append(
                f"The model's {option}={factor:g} only chose taps and capacitor states: the circuit has its rated "
                f"powers ({option} 1), which the profiles multiply."
            )
    return notes


@dataclass(frozen=True)
class Voltages:
    """The converged node voltages."""

    pu: dict[str, complex]
    """by node; in volts where a bus has no voltage base"""
    shape: dict[str, complex]
    """the same without the mean of their bus: all that is determined in an ungrounded part of the circuit"""
    floating: frozenset[str]
    """nodes whose voltage to ground wanders, as nothing grounds them"""


def solve_precisely(engine: Engine, master: Path) -> Voltages:
    """Solve until the complex voltages rest, controls off; the engine's own test sees magnitudes only.

    Raises CaseError when they do not.
    """
    # An odd number of iterations shows voltages that alternate.
    engine.Text.Command(f"set mode=snapshot {PRECISE} maxiterations=21")
    engine.Solution.Solve()
    names = engine.Circuit.AllNodeNames()
    base = {bus: 1000 * kv or 1.0 for bus, kv, _ in bus_table(engine)}
    scale = np.array([base[bus_of(name)] for name in names])
    _, bus = np.unique([bus_of(name) for name in names], return_inverse=True)
    previous = previous_shape = np.full(len(names), np.inf + 0j)
    for attempt in range(15):
        engine.Solution.Solve()
        pu = np.array(engine.Circuit.AllBusVolts(), float).view(complex) / scale
        mean = (np.bincount(bus, pu.real) + 1j * np.bincount(bus, pu.imag)) / np.bincount(bus)
        shape = pu - mean[bus]
        change, change_of_shape = abs(pu - previous), abs(shape - previous_shape)
        rests = change <= _REST_PU
        if (rests.all() and engine.Solution.Converged()) or (attempt > 5 and (change_of_shape <= _REST_PU).all()):
            engine.Text.Command(f"set {PRECISE}")
            floating = frozenset(np.array(names)[~rests].tolist())
            return Voltages(
                dict(zip(names, pu.tolist(), strict=True)), dict(zip(names, shape.tolist(), strict=True)), floating
            )
        previous, previous_shape = pu, shape
    raise CaseError(f"{master}: OpenDSS does not converge to {_REST_PU:g} pu. {_unrest(engine)}")


def _unrest(engine: Engine) -> str:
    """Where and why a power flow may not converge, and the way out."""
    engine.Text.Command("set controlmode=off maxiterations=1")
    engine.Solution.Solve()
    before = np.array(engine.Circuit.AllBusMagPu())
    engine.Solution.Solve()
    change = abs(np.array(engine.Circuit.AllBusMagPu()) - before)
    node = engine.Circuit.AllNodeNames()[int(change.argmax())]
    where = f"Most unrest is at {node} (connected there: {name_list(connected(engine, bus_of(node)))})."
    holders = [f"generator.{r['Name']}" for r in export(engine, "Generator", ALL_PROPERTIES) if r["Model"] == 3]
    if holders:
        return (
            f"{where} {name_list(holders)} holds its voltage (model=3), which can make OpenDSS alternate; import with "
            f"the command 'edit {holders[0]} model=1' to keep its kvar instead."
        )
    return f"{where} Solve it in OpenDSS first; commands such as 'set loadmult=0.5' can be given to the import."


def export(engine: Engine, kind: str, options: int) -> list[Record]:
    """The records of all enabled elements of a class."""
    engine.Circuit.SetActiveClass(kind)
    exported = engine.ActiveClass.ToJSON(options)
    return parsed(exported) if exported else []


def parsed(exported: str) -> Any:
    """What the engine exports as JSON. Matrices that nobody gave it may hold anything, also what is no number."""
    return json.loads(_NO_NUMBER.sub(r"\1NaN", exported))


def export_shape(engine: Engine, name: str) -> Record:
    """The record of one load shape; a model may have thousands of long ones that nobody uses."""
    engine.LoadShape.Name(name)
    record: Record = parsed(engine.Element.ToJSON(ALL_PROPERTIES))
    return record


def bus_table(engine: Engine) -> list[tuple[str, float, tuple[float, float] | None]]:
    """Name, line-to-neutral base in kV (0 for none) and coordinates of every bus."""
    rows, bus = [], engine.Bus
    for i, name in enumerate(engine.Circuit.AllBusNames()):
        engine.Circuit.SetActiveBusi(i)
        rows.append((name, bus.kVBase(), (bus.X(), bus.Y()) if bus.Coorddefined() else None))
    return rows


def admittance(engine: Engine, name: str) -> Complexes:
    """The primitive admittance matrix of an element, S."""
    engine.Circuit.SetActiveElement(name)
    y = np.array(engine.CktElement.YPrim(), float).view(complex)
    return y.reshape(int(np.sqrt(len(y))), -1)


def is_open(engine: Engine, name: str) -> bool:
    """Whether an element has an open terminal; it becomes the active one. CaseError: only some conductors are open."""
    engine.Circuit.SetActiveElement(name)
    return active_is_open(engine, name)


def active_is_open(engine: Engine, name: str) -> bool:
    """As ``is_open``, for the element that is the active one; the name is for the message."""
    element = engine.CktElement
    for terminal in range(1, element.NumTerminals() + 1):
        if element.IsOpen(terminal, 0):
            phases = element.NumPhases()
            if all(element.IsOpen(terminal, phase + 1) for phase in range(phases)):
                return True
            raise CaseError(
                f"{name}: only some of its conductors are open. Open all of them, or give the element with fewer "
                "phases in the model."
            )
    return False


def connected(engine: Engine, bus: str) -> list[str]:
    """The elements at a bus that carry power."""
    engine.Circuit.SetActiveBus(bus)
    return [name.lower() for name in [*engine.Bus.AllPDEatBus(), *engine.Bus.AllPCEatBus()] if "." in name]


def name_list(names: Sequence[str], shown: int = 12) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def message(error: Exception) -> str:
    """The engine's words in one line."""
    return " ".join(str(error.args[-1]).split())
