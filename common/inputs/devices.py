"""Devices as data: one row class each, named as the columns of its CSV file, which is called as the kind. What a device
does stands in ``areas.devices``; how it looks to OpenDSS in ``common.replay.elements``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from tieflow.common.inputs.numbers import Efficiency, NotNegative, Number, Positive, Share
from tieflow.common.inputs.tables import Row

BusName = Annotated[str, Field(min_length=1)]


def _different(phases: str) -> str:
    numbers = [int(phase) for phase in phases.replace("-", ".").split(".") if phase]
    twice = [phase for phase in numbers if numbers.count(phase) > 1]
    if twice:
        way = "between two different phases, as in 1-2" if "-" in phases else "of each once, as in 1.2"
        raise ValueError(f"phase {twice[0]} appears twice in '{phases}'. Connect it {way}.")
    return phases


Phases = Annotated[
    str, Field(pattern=r"^([0-9]{1,2}(\.[0-9]{1,2})*|[0-9]{1,2}-[0-9]{1,2})?$"), AfterValidator(_different)
]
"""where a device of a multi-phase feeder is connected, by OpenDSS's node numbers: ``1.2.3`` or ``2`` from each phase to
ground, ``1-2`` between two phases; empty for all phases of its bus, and on a balanced feeder"""


DeviceName = Annotated[str, Field(pattern=r"^(\S([^\x00-\x1f\x7f]*\S)?)?$")]


class Placed(Row):
    """A device at a bus."""

    bus: BusName
    phases: Phases = ""
    name: DeviceName = ""
    """by which results call it; not given: its place"""

    @property
    def place(self) -> str:
        """Its bus, with its phases where they are given."""
        return f"{self.bus}.{self.phases}" if self.phases else self.bus

    @property
    def label(self) -> str:
        """What it is called: no two devices of a kind have the same."""
        return self.name or self.place


def check_inverter(p_rated_kw: float, s_rated_kva: float) -> None:
    """Raises ValueError for an inverter that cannot carry the real power behind it."""
    if s_rated_kva < p_rated_kw:
        raise ValueError(f"s_rated_kva = {s_rated_kva} is below p_rated_kw = {p_rated_kw}. Raise it.")


class Weathered(Placed):
    """A device behind an inverter whose real power is the weather's, and where it may be curtailed, a decision up to
    that; its reactive power is a decision."""

    p_rated_kw: Positive
    s_rated_kva: Positive
    profile: str = ""
    """load shape of the circuit that it follows instead of the case's profile"""
    curtailable: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_inverter(self.p_rated_kw, self.s_rated_kva)
        return self


class PV(Weathered):
    """A PV system. It follows the case's ``pv_pu`` profile."""


class Wind(Weathered):
    """A wind turbine. It follows the case's ``wind_pu`` profile."""


class Battery(Placed):
    """A battery: charge, discharge and reactive power are decisions; it ends the horizon as full as it began."""

    p_rated_kw: Positive
    s_rated_kva: Positive
    energy_kwh: Positive
    eta_charge: Efficiency = 0.95
    eta_discharge: Efficiency = 0.95
    soc_min: Share = 0.30
    soc_max: Share = 0.95
    soc_initial: Share = 0.625
    cost_per_kwh: NotNegative = 0.0
    """$ per kWh that it charges or discharges"""

    @property
    def q_max_kvar(self) -> float:
        """Reactive power that the inverter has left at full real power."""
        return math.sqrt(self.s_rated_kva**2 - self.p_rated_kw**2)

    def stored_kwh(self, charge_kw: Any, discharge_kw: Any, dt: float) -> Any:
        """(T,) energy at the end of each period of dt hours, from its start value."""
        gained = dt * (self.eta_charge * charge_kw - discharge_kw / self.eta_discharge)
        return self.soc_initial * self.energy_kwh + gained.cumsum()

    @model_validator(mode="after")
    def _consistent(self) -> Battery:
        check_inverter(self.p_rated_kw, self.s_rated_kva)
        if not self.soc_min <= self.soc_initial <= self.soc_max:
            raise ValueError(
                f"SOC limits contradict: soc_min = {self.soc_min}, soc_initial = {self.soc_initial}, "
                f"soc_max = {self.soc_max} must be in rising order."
            )
        return self


class FlexibleLoad(Placed):
    """A load that may draw more or less than its profile within a band, but draws its energy over the horizon. An
    addition to the feeder's own loads; its power factor is constant."""

    p_kw: Positive
    """rated"""
    q_kvar: Number
    """follows real power in the same ratio"""
    down: Share
    up: NotNegative
    """shares of the profile that it may draw less and more"""
    profile: str = ""
    """load shape of the circuit that it follows instead of ``load_pu``"""
    cost_per_kwh: NotNegative = 0.0
    """$ per kWh that it draws more or less than its profile"""

    @property
    def s_rated_kva(self) -> float:
        """The most that it draws at rated load."""
        return (1 + self.up) * math.hypot(self.p_kw, self.q_kvar)


Device = PV | Battery | FlexibleLoad | Wind
AnyDevice = TypeVar("AnyDevice", PV, Battery, FlexibleLoad, Wind)


@dataclass(frozen=True)
class Kind:
    """A kind of device. Its table, and its field of Case, AreaCase and Schedule, have the name by which it is known."""

    row: type[Device]
    setpoints: tuple[str, ...]
    """what a schedule tells of it"""
    word: str
    """one of them: in study files, and as the name of an axis"""
    noun: tuple[str, str]
    """one and several, for people"""


KINDS = {
    "pv": Kind(PV, ("p_kw", "q_kvar"), "pv", ("PV system", "PV systems")),
    "batteries": Kind(
        Battery, ("charge_kw", "discharge_kw", "q_kvar", "energy_kwh"), "battery", ("battery", "batteries")
    ),
    "flexible_loads": Kind(FlexibleLoad, ("p_kw",), "flexible_load", ("flexible load", "flexible loads")),
    "wind": Kind(Wind, ("p_kw", "q_kvar"), "wind", ("wind turbine", "wind turbines")),
}
"""all of them; what they do to the network stands in ``areas.devices``, their elements in ``common.replay.elements``"""
DEVICE_KINDS = {name: kind.setpoints for name, kind in KINDS.items()}


def labelled(units: Iterable[AnyDevice]) -> tuple[AnyDevice, ...]:
    """The devices of a kind, those without a name that share a place named by it and a number: ``675``, ``675 (2)``."""
    found: list[AnyDevice] = []
    counts: Counter[str] = Counter()
    for unit in units:
        counts[unit.label] += not unit.name
        number = counts[unit.label]
        is_more = not unit.name and number > 1
        found.append(unit.model_copy(update={"name": f"{unit.place} ({number})"}) if is_more else unit)
    return tuple(found)


def column(units: Sequence[Device], field: str) -> NDArray[np.float64]:
    """(unit, 1) a number of each."""
    return np.array([getattr(unit, field) for unit in units], float)[:, None]


def devices_of(owner: Any) -> tuple[Device, ...]:
    """Every device of a case or an area, kind by kind."""
    return tuple(unit for kind in DEVICE_KINDS for unit in getattr(owner, kind))


def devices_at(owner: Any, buses: Container[str]) -> dict[str, Any]:
    """A case's devices at some buses, by kind."""
    return {kind: tuple(unit for unit in getattr(owner, kind) if unit.bus in buses) for kind in DEVICE_KINDS}


def stored(owner: Any) -> int:
    """How many of a case's or an area's devices couple its periods: what they store, or draw in all, is given."""
    return len(owner.batteries) + len(owner.flexible_loads)
