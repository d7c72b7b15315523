"""OpenDSS: a case as a circuit, and the replay of a schedule in it. The only module that knows OpenDSS.

A balanced feeder becomes the single-phase circuit of one of its phases: line-to-neutral voltage, per-phase powers. The
same commands build the live circuit and the ``.dss`` file. Importing this module loads OpenDSS (0.3 s).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from opendssdirect import dss

from tieflow.common.arrays import Floats
from tieflow.common.case import Case
from tieflow.common.feeder.balanced import BranchRow, BusRow, Feeder
from tieflow.common.inputs.devices import Device, FlexibleLoad
from tieflow.common.inputs.settings import Settings
from tieflow.common.replay.elements import COLLAPSE_PU, SPAN, device_commands, setpoint_commands
from tieflow.common.results.schedule import NetworkState, Schedule, told_apart

STIFF_PU = 1e-8
"""Impedance of the source and of switches given as 0 + j0, pu. OpenDSS takes neither as zero; a smaller one loses more
digits of the power through it than it gains in voltage."""


@dataclass(frozen=True)
class Replay:
    """What OpenDSS makes of a schedule."""

    state: NetworkState
    """NaN in the hours that failed"""
    battery_energy_kwh: Floats
    """(battery, T) stored energy at the end of each period, kept by the engine's Storage elements"""
    failed_hours: tuple[int, ...]
    """hours of the horizon without convergence or with a collapsed voltage"""


def replay(case: Case, schedule: Schedule) -> Replay:
    """Solve the power flow of every period in turn.

    Devices get the schedule's real and reactive setpoints; the engine enforces their ratings and stored energy.
    Raises ValueError for a setpoint that is not finite, and the engine's DSSException for a circuit it refuses.
    """
    engine = dss.NewContext()
    engine.Basic.AllowChangeDir(False)
    engine.Basic.AllowForms(False)
    engine.Text.Commands("\n".join(circuit_commands(case)))

    feeder, periods = case.balanced_feeder, len(case.horizon)
    branches, capacity = len(feeder.parent), np.array([battery.energy_kwh for battery in case.batteries])
    v = np.full((len(feeder.buses), periods), np.nan)
    current = np.full((branches, periods), np.nan)
    nan = complex(np.nan, np.nan)
    power = np.full((branches, 2, periods), nan)  # into the branch at its two ends
    substation = np.full(periods, nan)
    energy = np.empty((len(capacity), periods))
    failed = []
    for t, hour in enumerate(case.horizon.hour):
        engine.Text.Commands("\n".join(period_commands(case, schedule, t)))
        energy[:, t] = capacity * [engine.Storages.puSOC() for _ in engine.Storages]
        v_pu = np.array(engine.Circuit.AllBusVMag()) / _volts(case)
        # OpenDSS does not raise when it fails to converge. NaN voltages fail the comparison too.
        if not (engine.Solution.Converged() and v_pu.min() > COLLAPSE_PU):
            failed.append(hour)
            continue
        # Buses and lines come in the order of their definition, which is the feeder's; capacitors follow the lines.
        v[:, t] = v_pu
        power[:, :, t] = _complex(engine.PDElements.AllPowers())[: 2 * branches].reshape(-1, 2)
        current[:, t] = np.abs(_complex(engine.PDElements.AllCurrents())[: 2 * branches : 2])
        substation[t] = -complex(*engine.Circuit.TotalPower())
    state = NetworkState(
        v_pu=v,
        p_kw=power[:, 0].real,
        q_kvar=power[:, 0].imag,
        i_a=current,
        substation_p_kw=substation.real,
        substation_q_kvar=substation.imag,
        losses_kw=power.sum(axis=(0, 1)).real,
    )
    state = told_apart(case, state)
    return Replay(state, energy, tuple(failed))


def write_circuit(case: Case, schedule: Schedule, path: Path) -> None:
    """Write a .dss file that OpenDSS solves period by period to the same answer; per-phase powers.

    Its monitor ``substation`` records the substation power of every period. To look at one, run the file up to its
    ``solve``.
    """
    feeder = case.balanced_feeder
    lines = [
        f"! {_one_line(case.settings.title or case.name)}: one phase of a balanced feeder, per-phase powers",
        *circuit_commands(case),
        "new monitor.substation element=vsource.source terminal=1 mode=1 ppolar=no",
    ]
    names = _bus_names(feeder)
    if names != feeder.buses:
        lines[1:1] = [f"! bus {name}: {_one_line(bus)}" for name, bus in zip(names, feeder.buses, strict=True)]
    for t, time in enumerate(case.horizon.times):
        lines += ["", f"! {time}", *period_commands(case, schedule, t)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def circuit_commands(case: Case) -> list[str]:
    """The OpenDSS commands that build the circuit at rated load, with idle batteries, ready for its first period."""
    feeder, settings = case.balanced_feeder, case.settings
    kv = settings.voltage_kv / np.sqrt(3)
    stiff_ohm = STIFF_PU * kv**2 / (settings.base_kva / 1000)
    names = _bus_names(feeder)
    rows = {row.bus: row for row in case.buses}
    commands = [
        "clear",
        f"new circuit.feeder bus1={names[0]} phases=1 basekv={kv} pu={settings.substation_v_pu} "
        f"r1=0 x1={stiff_ohm} r0=0 x0={stiff_ohm}",
    ]
    commands += [
        _line(names[parent], names[k + 1], row, stiff_ohm)
        for k, (parent, row) in enumerate(zip(feeder.parent, _branch_rows(case), strict=True))
    ]
    for name, bus in zip(names, feeder.buses, strict=True):
        commands += _shunts(name, rows[bus], kv, settings)
    bus_name = dict(zip(feeder.buses, names, strict=True))
    commands += device_commands(case, _elements(case), lambda unit: f"bus1={bus_name[unit.bus]} phases=1 kv={kv}")
    # Only the time modes move stored energy. No element has a load shape, so each solve is one period as set.
    return [
        *commands,
        f"set mode=daily stepsize={case.horizon.dt}h number=1 controlmode=off tolerance=1e-10 maxiterations=100",
    ]


def period_commands(case: Case, schedule: Schedule, t: int) -> list[str]:
    """The OpenDSS commands that apply the setpoints of period ``t`` and solve it. Raises ValueError for a NaN."""
    setpoints = setpoint_commands(case, schedule, t, _elements(case))
    return [f"set loadmult={case.horizon.load[t]}", *setpoints, "solve"]


def _elements(case: Case) -> list[str]:
    """Names of the devices' elements, each that of its bus."""
    bus_name = dict(zip(case.balanced_feeder.buses, _bus_names(case.balanced_feeder), strict=True))
    at_bus: Counter[tuple[type[Device], str]] = Counter()
    names = []
    for unit in case.devices:
        at_bus[type(unit), unit.bus] += 1
        number = at_bus[type(unit), unit.bus]
        # The bus may have a load already, and no bus has a hyphen here.
        more = "-flexible" * isinstance(unit, FlexibleLoad) + f"-{number}" * (number > 1)
        names.append(bus_name[unit.bus] + more)
    return names


def _line(parent: str, child: str, row: BranchRow, stiff_ohm: float) -> str:
    x_ohm = row.x_ohm if row.r_ohm or row.x_ohm else stiff_ohm
    # A shunt capacitance of exactly 0: any other makes OpenDSS add a small one of its own.
    return (
        f"new line.{child} bus1={parent} bus2={child} phases=1 "
        f"rmatrix=({row.r_ohm}) xmatrix=({x_ohm}) cmatrix=(0) length=1"
    )


def _shunts(name: str, row: BusRow, kv: float, settings: Settings) -> list[str]:
    commands = []
    if row.p_load_kw or row.q_load_kvar:
        commands.append(
            f"new load.{name} bus1={name} phases=1 kv={kv} kw={row.p_load_kw} kvar={row.q_load_kvar} model=1 {SPAN}"
        )
    if row.q_cap_kvar and settings.capacitor_model == "constant_power":
        # What the case assumes, and no capacitor can: its rated kvar at any voltage. Fixed loads ignore loadmult.
        commands.append(
            f"new load.{name}_capacitor bus1={name} phases=1 kv={kv} kw=0 kvar={-row.q_cap_kvar} model=1 "
            f"status=fixed {SPAN}"
        )
    elif row.q_cap_kvar:
        commands.append(f"new capacitor.{name} bus1={name} phases=1 kv={kv} kvar={row.q_cap_kvar}")
    return commands


def _branch_rows(case: Case) -> list[BranchRow]:
    """The rows of branches.csv in the order of the feeder's branches."""
    feeder = case.balanced_feeder
    rows = {frozenset((row.from_bus, row.to_bus)): row for row in case.branches}
    return [rows[frozenset((feeder.buses[p], feeder.buses[k + 1]))] for k, p in enumerate(feeder.parent)]


def _bus_names(feeder: Feeder) -> tuple[str, ...]:
    """The user's bus names if OpenDSS can tell them apart (it ignores case), otherwise b0, b1, ..."""
    plain = all(re.fullmatch(r"[A-Za-z0-9_]+", bus) for bus in feeder.buses)
    if plain and len({bus.lower() for bus in feeder.buses}) == len(feeder.buses):
        return feeder.buses
    return tuple(f"b{i}" for i in range(len(feeder.buses)))


def _volts(case: Case) -> float:
    return float(1000 * case.settings.voltage_kv / np.sqrt(3))


def _complex(pairs: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.complex128]]:
    # Of nothing the engine has one zero.
    return np.array(pairs[: len(pairs) // 2 * 2], float).view(complex)


def _one_line(text: str) -> str:
    return " ".join(text.split())
