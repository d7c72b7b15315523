"""How devices look to OpenDSS, one element a device; a replay edits its setpoints in for every period.

``name`` is the element's own; ``at`` tells bus, phases and rated voltage.
"""

from __future__ import annotations

from common.devices import PV, Battery, FlexibleLoad, Wind

COLLAPSE_PU = 0.5
"""Voltage below which an hour counts as collapsed: OpenDSS turns constant-power loads into impedances there and may
well converge."""
SPAN = f"vminpu={COLLAPSE_PU} vmaxpu=1.5"
"""voltages at which an element keeps its power"""


def pv_element(name: str, at: str, pv: PV) -> str:
    """A PVSystem without sun."""
    # The panel is as large as the inverter, for OpenDSS cuts irradiance above 1.
    return (
        f"new pvsystem.{name} {at} kva={pv.s_rated_kva} pmpp={pv.s_rated_kva} irradiance=0 kvar=0 %cutin=0 %cutout=0 "
        f"model=1 {SPAN}"
    )


def storage_element(name: str, at: str, battery: Battery) -> str:
    """A Storage at rest, as full as it begins."""
    # A reserve of 0 and external dispatch leave every decision to the schedule.
    return (
        f"new storage.{name} {at} kva={battery.s_rated_kva} kwrated={battery.p_rated_kw} "
        f"kwhrated={battery.energy_kwh} %stored={100 * battery.soc_initial} %reserve=0 "
        f"%effcharge={100 * battery.eta_charge} %effdischarge={100 * battery.eta_discharge} %idlingkw=0 "
        f"dispmode=external kw=0 kvar=0 %cutin=0 %cutout=0 model=1 {SPAN}"
    )


def flexible_load_element(name: str, at: str, load: FlexibleLoad) -> str:
    """A Load of its rated power."""
    # A fixed load ignores loadmult.
    return f"new load.{name} {at} kw={load.p_kw} kvar={load.q_kvar} model=1 status=fixed {SPAN}"


def wind_element(name: str, at: str, wind: Wind) -> str:
    """A Generator of its rated power."""
    # A new kw takes kvar with it at the power factor of the last: kvar always comes after it.
    return f"new generator.{name} {at} kva={wind.s_rated_kva} kw={wind.p_rated_kw} kvar=0 model=1 status=fixed {SPAN}"
