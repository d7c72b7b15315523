"""How devices look to OpenDSS, one element a device; a replay edits its setpoints in for every period."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tieflow.common.case import Case
from tieflow.common.inputs.devices import PV, Battery, Device, FlexibleLoad, Wind
from tieflow.common.results.schedule import Schedule

COLLAPSE_PU = 0.5
"""Voltage below which an hour counts as collapsed: OpenDSS turns constant-power loads into impedances there and may
well converge."""
SPAN = f"vminpu={COLLAPSE_PU} vmaxpu=1.5"
"""voltages at which an element keeps its power"""


def _pv_element(name: str, at: str, pv: PV) -> str:
    """A PVSystem without sun."""
    # The panel is as large as the inverter, for OpenDSS cuts irradiance above 1.
    return (
        f"new pvsystem.{name} {at} kva={pv.s_rated_kva} pmpp={pv.s_rated_kva} irradiance=0 kvar=0 %cutin=0 %cutout=0 "
        f"model=1 {SPAN}"
    )


def _storage_element(name: str, at: str, battery: Battery) -> str:
    """A Storage at rest, as full as it begins."""
    # A reserve of 0 and external dispatch leave every decision to the schedule.
    return (
        f"new storage.{name} {at} kva={battery.s_rated_kva} kwrated={battery.p_rated_kw} "
        f"kwhrated={battery.energy_kwh} %stored={100 * battery.soc_initial} %reserve=0 "
        f"%effcharge={100 * battery.eta_charge} %effdischarge={100 * battery.eta_discharge} %idlingkw=0 "
        f"dispmode=external kw=0 kvar=0 %cutin=0 %cutout=0 model=1 {SPAN}"
    )


def _load_element(name: str, at: str, load: FlexibleLoad) -> str:
    """A Load of its rated power."""
    # A fixed load ignores loadmult.
    return f"new load.{name} {at} kw={load.p_kw} kvar={load.q_kvar} model=1 status=fixed {SPAN}"


def _wind_element(name: str, at: str, wind: Wind) -> str:
    """A Generator of its rated power."""
    # A new kw takes kvar with it, at the power factor of the last.
    return f"new generator.{name} {at} kva={wind.s_rated_kva} kw={wind.p_rated_kw} kvar=0 model=1 status=fixed {SPAN}"


_KINDS: dict[type[Device], tuple[str, str, Callable[[str, str, Any], str]]] = {
    PV: ("pvsystem", "PV", _pv_element),
    Battery: ("storage", "battery", _storage_element),
    FlexibleLoad: ("load", "flexible load", _load_element),
    Wind: ("generator", "turbine", _wind_element),
}
"""of devices: the class of their elements, what they are to the user, and the command that makes one"""


def device_commands(case: Case, names: Sequence[str], at: Callable[[Device], str]) -> list[str]:
    """The OpenDSS commands that make idle elements of all devices. ``names`` are theirs, in the order of
    ``case.devices``; ``at`` tells a device's bus, phases and rated voltage."""
    return [_KINDS[type(unit)][2](name, at(unit), unit) for name, unit in zip(names, case.devices, strict=True)]


def setpoint_commands(case: Case, schedule: Schedule, t: int, names: Sequence[str]) -> list[str]:
    """The OpenDSS commands that apply the setpoints of period ``t``; ``names`` as above. Raises ValueError for one that
    is not finite."""
    commands = []
    for name, unit, (p, q) in zip(names, case.devices, _powers(case, schedule, t), strict=True):
        element, device, _ = _KINDS[type(unit)]
        # OpenDSS reads 'nan' as 0 without a word.
        if not np.isfinite(p + q):
            raise ValueError(f"the setpoint of the {device} '{unit.label}' is {p + q}")
        # The panel is as large as the inverter. A new kw takes kvar with it, so kvar comes after it.
        power = f"irradiance={p / unit.s_rated_kva}" if isinstance(unit, PV) else f"kw={p}"
        commands.append(f"edit {element}.{name} {power} kvar={q}")
    return commands


def _powers(case: Case, schedule: Schedule, t: int) -> Iterator[tuple[float, float]]:
    """kW and kvar of each device; those of a flexible load are drawn."""
    pv, batteries, wind = schedule.pv, schedule.batteries, schedule.wind
    for i in range(len(case.pv)):
        yield pv["p_kw"][i, t], pv["q_kvar"][i, t]
    for i in range(len(case.batteries)):
        yield batteries["discharge_kw"][i, t] - batteries["charge_kw"][i, t], batteries["q_kvar"][i, t]
    for i, load in enumerate(case.flexible_loads):
        kw = schedule.flexible_loads["p_kw"][i, t]
        yield kw, kw * load.q_kvar / load.p_kw
    for i in range(len(case.wind)):
        yield wind["p_kw"][i, t], wind["q_kvar"][i, t]
