"""OpenDSS's own run of a multi-phase case: its circuit with real PV and storage elements, and a schedule's replay.

A device is one element, whose power OpenDSS shares out evenly among its phases whatever their voltages: between two
phases a single-phase one, otherwise in wye to ground.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from tieflow.common.arrays import Bools, Complexes, Floats, Ints
from tieflow.common.case import Case
from tieflow.common.circuit.engine import new_context
from tieflow.common.circuit.text import quoted
from tieflow.common.feeder.branch_limits import branch_numbers, limited_branches
from tieflow.common.feeder.multiphase import FIXED, GROUND, TRANSFORMERS, connection, incidence
from tieflow.common.inputs.devices import Device
from tieflow.common.replay.balanced import Replay
from tieflow.common.replay.elements import COLLAPSE_PU, device_commands, setpoint_commands
from tieflow.common.results.schedule import NetworkState, Schedule

REST_PU = 1e-9
"""change of a complex voltage, from one solution to a repeated one, below which the power flow is at rest"""
ATTEMPTS = 15
WRITTEN_ATTEMPTS = 3
"""how often a written circuit repeats a solution: a script cannot look whether it rests"""
_ELEMENTS = {"pv": "pv", "batteries": "battery", "flexible_loads": "tieflow_flexible", "wind": "tieflow_wind"}
"""names of devices' elements, before their number"""
_AGAIN = "_solvenocontrol"
"""Solves at the present time and stored energy. Once ``solve`` has moved the energy, a battery that has just become
full or empty would be off in another solution, so all repeats come before it."""


@dataclass(frozen=True)
class MultiphaseReplay(Replay):
    """What OpenDSS makes of a schedule, with its complex voltages."""

    v: Complexes
    """(node, T) per unit, of all nodes but bus 0's; NaN in the hours that failed"""


def replay(case: Case, schedule: Schedule) -> MultiphaseReplay:
    """Solve the power flow of every period in turn, until its complex voltages rest.

    Devices get the schedule's setpoints; the engine enforces their ratings and stored energy. An hour fails if it does
    not come to rest or a node with voltage limits falls below ``COLLAPSE_PU``. Raises ValueError for a setpoint that
    is not finite.
    """
    feeder, periods = case.multiphase_feeder, len(case.horizon)
    commands = [_setpoints(case, schedule, t) for t in range(periods)]
    engine = new_context()
    engine.Text.Commands("\n".join(circuit_commands(case)))
    layout = _layout(engine, case)
    v_base, resting = feeder.v_base[feeder.roots :], feeder.grounded[feeder.roots :]
    limited = feeder.limited[feeder.roots :]
    capacity = np.array([battery.energy_kwh for battery in case.batteries])
    nan = complex(np.nan, np.nan)
    v: Complexes = np.full((len(v_base), periods), nan)
    current, substation = np.full(v.shape, nan), np.full(periods, nan)
    losses = np.full((3, periods), np.nan)
    branch_kva = np.full((len(case.branch_limits), periods), np.nan)
    energy = np.empty((len(capacity), periods))
    failed = []
    for t, hour in enumerate(case.horizon.hour):
        engine.Text.Commands("\n".join(commands[t]))
        rests = _settle(engine, layout.nodes[resting], v_base[resting])
        engine.Solution.Solve()
        energy[:, t] = capacity * [engine.Storages.puSOC() for _ in engine.Storages]
        volts = _volts(engine)
        # NaN fails the comparison too.
        if not (rests and (np.abs(volts[layout.nodes] / v_base)[limited] > COLLAPSE_PU).all()):
            failed.append(hour)
            continue
        amperes = layout.amperes(engine)
        v[:, t], current[:, t] = volts[layout.nodes], layout.into @ amperes
        substation[t] = -complex(*engine.Circuit.TotalPower())
        # Circuit.Losses leaves shunt reactors and capacitors out.
        into_elements = volts[layout.conductors] * np.conj(amperes) / 1000
        losses[:, t] = layout.classes @ into_elements.real
        branch_kva[:, t] = np.abs(layout.limited @ into_elements)
    power = v * np.conj(current) / 1000
    state = NetworkState(
        v_pu=np.abs(v) / v_base[:, None],
        p_kw=power.real,
        q_kvar=power.imag,
        i_a=np.abs(current),
        substation_p_kw=substation.real,
        substation_q_kvar=substation.imag,
        losses_kw=losses.sum(axis=0),
        line_losses_kw=losses[0],
        transformer_losses_kw=losses[1],
        branch_kva=branch_kva,
    )
    v /= v_base[:, None]
    return MultiphaseReplay(state, energy, tuple(failed), v)


def outside_range(case: Case, v: Complexes) -> Bools:
    """(leg, T) whether the voltage across a leg of the feeder has left the load's vminpu..vmaxpu, where it turns into
    an impedance; ``v`` (node, T) as in :class:`MultiphaseReplay`, False where it is NaN."""
    feeder, legs = case.multiphase_feeder, case.multiphase_feeder.legs
    known = np.concatenate([np.repeat(feeder.v_no_load[: feeder.roots, None], v.shape[1], axis=1), v])
    r = np.abs(incidence(legs.a, legs.b, len(known)) @ known) / legs.v_rated[:, None]
    outside: Bools = (r < legs.v_min[:, None]) | (r > legs.v_max[:, None])
    return outside


def write_circuit(case: Case, schedule: Schedule, path: Path) -> None:
    """Write a .dss file that OpenDSS solves period by period to the same answer as :func:`replay`.

    Its monitor ``substation`` records the substation power of every period by phase. To look at one, run the file up
    to its ``solve``. Raises ValueError for a setpoint that is not finite.
    """
    source = case.multiphase_feeder.branches[0].name
    lines = [
        f"! {' '.join((case.settings.title or case.name).split())}",
        *circuit_commands(case),
        f"new monitor.substation element={quoted(source)} terminal=1 mode=1 ppolar=no",
    ]
    for t, time in enumerate(case.horizon.times):
        lines += ["", f"! {time}", *period_commands(case, schedule, t)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def circuit_commands(case: Case) -> list[str]:
    """The OpenDSS commands that build the circuit with idle devices, ready for its first period."""
    legs = case.multiphase_feeder.legs
    shape_of = {name: i for i, name in enumerate(_shapes(case))}
    commands = [case.circuit.rstrip("\n"), "", "! tieflow's load shapes: one value, set anew for every period"]
    commands += [f"new loadshape.tieflow{i} npts=1 interval=1 mult=(1)" for i in shape_of.values()]
    # Under its own status, OpenDSS would not let a fixed one follow a shape.
    commands += [
        f"edit {quoted(name)} status=variable daily=tieflow{shape_of[shape]}"
        for name, shape in dict(zip(legs.name, legs.shape, strict=True)).items()
    ]
    commands += ["", "! devices", *device_commands(case, _elements(case), partial(_at, case))]
    # Only the time modes move stored energy. An odd number of iterations shows voltages that alternate.
    return [
        *commands,
        f"set mode=daily stepsize={case.horizon.dt}h number=1 controlmode=off tolerance=1e-10 maxiterations=21 "
        "loadmult=1 genmult=1",
    ]


def period_commands(case: Case, schedule: Schedule, t: int) -> list[str]:
    """The OpenDSS commands that apply loads and setpoints of period ``t`` and solve it. Raises ValueError for a NaN."""
    return [*_setpoints(case, schedule, t), *[_AGAIN] * WRITTEN_ATTEMPTS, "solve"]


def _setpoints(case: Case, schedule: Schedule, t: int) -> list[str]:
    shapes = [f"edit loadshape.tieflow{i} mult=({values[t]})" for i, values in enumerate(_shapes(case).values())]
    return shapes + setpoint_commands(case, schedule, t, _elements(case))


def _elements(case: Case) -> list[str]:
    """Names of the devices' elements."""
    return [f"{name}{i + 1}" for kind, name in _ELEMENTS.items() for i in range(len(getattr(case, kind)))]


def _shapes(case: Case) -> dict[str, Floats]:
    """(T,) multipliers by the shapes that loads and generators follow, as in ``common.feeder.multiphase.Legs``."""
    horizon = case.horizon
    known = {"": horizon.load, FIXED: np.ones(len(horizon)), **horizon.shapes}
    return {name: known[name] for name in dict.fromkeys(case.multiphase_feeder.legs.shape)}


def _at(case: Case, unit: Device) -> str:
    """Bus, phases and rated voltage of a device."""
    feeder = case.multiphase_feeder
    a, b = connection(feeder, unit.bus, unit.phases)
    between = b[0] != GROUND
    nodes = [*feeder.node_phase[a], feeder.node_phase[b[0]] if between else 0]
    if between:
        v = feeder.v_no_load * feeder.v_base
        volts = abs(v[a[0]] - v[b[0]])
    else:
        # OpenDSS takes two or three phases for parts of a three-phase system.
        volts = feeder.v_base[a[0]] * (np.sqrt(3) if len(a) in (2, 3) else 1)
    bus = quoted(".".join(map(str, [unit.bus, *nodes])))
    return f"bus1={bus} phases={len(a)} kv={volts / 1000}"


def _settle(engine: Any, nodes: Ints, v_base: Floats) -> bool:
    """Repeat the solution until the voltages of ``nodes`` rest: the engine's own test sees magnitudes only."""
    previous = np.full(len(nodes), np.inf)
    for _ in range(ATTEMPTS):
        engine.Solution.SolveNoControl()
        v = _volts(engine)[nodes] / v_base
        if not np.isfinite(v).all():
            return False
        if (np.abs(v - previous) <= REST_PU).all():
            return True
        previous = v
    return False


@dataclass(frozen=True)
class _Layout:
    """Where the engine's arrays hold what a replay reads. Conductors: of all PD elements, then of the source."""

    source: str
    nodes: Ints
    """(node,) position of each node but bus 0's in the engine's voltages"""
    conductors: Ints
    """(conductor,) the same of each conductor; the source's and grounded ones are at the zero that ends the voltages"""
    classes: sp.csr_array
    """(3, conductor) adds up what is lost in lines, in transformers and elsewhere, by the powers into conductors"""
    into: sp.csr_array
    """(node, conductor) takes currents into elements to those that branches deliver into nodes"""
    limited: sp.csr_array
    """(branch limit, conductor) adds up what goes into a limited branch at its parent's end"""

    def amperes(self, engine: Any) -> Complexes:
        """(conductor,) currents into the elements."""
        engine.Circuit.SetActiveElement(self.source)
        return np.concatenate([_complex(engine.PDElements.AllCurrents()), _complex(engine.CktElement.Currents())])


def _layout(engine: Any, case: Case) -> _Layout:
    feeder, active = case.multiphase_feeder, engine.CktElement
    engine_at = {name.lower(): i for i, name in enumerate(engine.Circuit.AllNodeNames())}
    node_at = {name: i for i, name in enumerate(feeder.node_names)}
    branches = {(feeder.buses[parent], feeder.buses[k + 1]) for k, parent in enumerate(feeder.parent)}
    conductors: list[int] = []
    rows: list[int] = []
    columns: list[int] = []
    classes: list[int] = []
    source = feeder.branches[0].name
    number = branch_numbers(feeder)
    limit_of = {k: row for row, k in enumerate(limited_branches(feeder, case.branch_limits).tolist())}
    ends: list[tuple[int, int]] = []
    for name in [*engine.PDElements.AllNames(), source]:
        engine.Circuit.SetActiveElement(name)
        buses = [bus.split(".")[0].lower() for bus in active.BusNames()]
        # Of the two buses that a branch joins, the child is the one that it delivers into.
        child = buses[0] if name == source else next((b for a in buses for b in buses if (a, b) in branches), "")
        per_bus = active.NumConductors()
        kind = name.split(".")[0].lower()
        group = 0 if kind == "line" else 1 if kind in TRANSFORMERS else 2
        classes += [group] * (per_bus * active.NumTerminals())
        if not active.Enabled():
            # The engine counts it, and knows no nodes of it.
            conductors += [len(engine_at)] * (per_bus * active.NumTerminals())
            continue
        limit = limit_of.get(number.get(name.lower(), -1))
        for i, phase in enumerate(active.NodeOrder()):
            if limit is not None and buses[i // per_bus] != child:
                ends.append((limit, len(conductors)))
            node = f"{buses[i // per_bus]}.{phase}"
            if phase and buses[i // per_bus] == child:
                rows.append(node_at[node])
                columns.append(len(conductors))
            conductors.append(engine_at[node] if phase and name != source else len(engine_at))
    into = sp.csr_array((-np.ones(len(rows)), (rows, columns)), shape=(len(node_at), len(conductors)))
    at_ends = np.array(ends, np.int64).reshape(-1, 2).T
    return _Layout(
        source=source,
        nodes=np.array([engine_at[name] for name in feeder.node_names[feeder.roots :]], np.int64),
        conductors=np.array(conductors, np.int64),
        classes=sp.csr_array((np.ones(len(classes)), (classes, np.arange(len(classes)))), shape=(3, len(classes))),
        into=into[feeder.roots :],
        limited=sp.csr_array((np.ones(len(ends)), at_ends), shape=(len(limit_of), len(conductors))),
    )


def _volts(engine: Any) -> Complexes:
    """Node voltages, V, and the zero of ground."""
    return np.append(_complex(engine.Circuit.AllBusVolts()), 0)


def _complex(pairs: Any) -> Complexes:
    # Of nothing the engine has one zero.
    return np.array(pairs[: len(pairs) // 2 * 2], float).view(complex)
