"""A case: feeder, devices, horizon and settings, read from a folder of TOML and CSV files."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import Field, ValidationError

from tieflow.common.errors import CaseError, counted, did_you_mean
from tieflow.common.feeder.balanced import BranchRow, BusRow, Feeder, make_feeder
from tieflow.common.feeder.branch_limits import TABLE, BranchLimit, check_branch_limits
from tieflow.common.feeder.multiphase import MultiphaseFeeder, connection
from tieflow.common.feeder.one_conductor import one_conductor
from tieflow.common.feeder.places import AnyFeeder
from tieflow.common.inputs.devices import (
    DEVICE_KINDS,
    KINDS,
    PV,
    Battery,
    BusName,
    Device,
    FlexibleLoad,
    Wind,
    devices_of,
    labelled,
)
from tieflow.common.inputs.horizon import Horizon, read_horizon
from tieflow.common.inputs.settings import Settings, read_settings
from tieflow.common.inputs.tables import Row, explain, read_table

RowType = TypeVar("RowType", bound=Row)


class AreaRow(Row):
    """A line of areas.csv: the area of a bus, a number or a name."""

    bus: BusName
    area: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class Case:
    """Everything a schedule depends on, as tables in engineering units."""

    name: str
    settings: Settings
    buses: tuple[BusRow, ...]
    branches: tuple[BranchRow, ...]
    pv: tuple[PV, ...]
    batteries: tuple[Battery, ...]
    horizon: Horizon
    areas: tuple[AreaRow, ...]
    """empty when the feeder is one area"""
    circuit: str = ""
    """OpenDSS commands that build the feeder of a multi-phase case, which has no tables of buses and branches"""
    flexible_loads: tuple[FlexibleLoad, ...] = ()
    wind: tuple[Wind, ...] = ()
    branch_limits: tuple[BranchLimit, ...] = ()
    """of a multi-phase case; a balanced one has them in its table of branches"""
    overrides: tuple[str, ...] = ()
    """names of settings that were given in place of those of case.toml"""

    def __repr__(self) -> str:
        """Which feeder, how long, and what is in it, in a line."""
        areas, horizon = max(1, len({row.area for row in self.areas})), self.horizon
        told = [self.settings.model, counted(areas, "area")]
        told.append(f"{counted(len(horizon), 'period')} of {horizon.dt:g} h from {horizon.times[0]}")
        told += [f"{kind} {len(getattr(self, kind))}" for kind in DEVICE_KINDS if getattr(self, kind)]
        return f"<Case {self.name}: {', '.join(told)}>"

    @property
    def is_balanced(self) -> bool:
        return self.settings.is_balanced

    @property
    def devices(self) -> tuple[Device, ...]:
        """Every device, kind by kind."""
        return devices_of(self)

    @cached_property
    def balanced_feeder(self) -> Feeder:
        """The balanced feeder in per unit."""
        return make_feeder(self.buses, self.branches, self.settings)

    @cached_property
    def multiphase_feeder(self) -> MultiphaseFeeder:
        """The multi-phase feeder in per unit, from OpenDSS's own objects."""
        return _network_of(self.circuit, self.settings.base_kva)

    @property
    def feeder(self) -> AnyFeeder:
        """Whichever it is, by what both have."""
        return self.balanced_feeder if self.is_balanced else self.multiphase_feeder

    @cached_property
    def exact_feeder(self) -> MultiphaseFeeder:
        """The feeder of the exact equations: a balanced one has one conductor."""
        return one_conductor(self.balanced_feeder, self.settings) if self.is_balanced else self.multiphase_feeder


@lru_cache(maxsize=2)
def _network_of(circuit: str, base_kva: float) -> MultiphaseFeeder:
    """A large circuit takes seconds; a case with other devices has the same."""
    # Loads OpenDSS, which balanced cases do without until they are checked.
    from tieflow.common.circuit.extraction import compiled, extract_feeder
    from tieflow.common.circuit.frozen import frozen_controls

    engine = compiled(circuit)
    return replace(extract_feeder(engine, base_kva), frozen=frozen_controls(engine, circuit))


def find_case(name: str) -> Path:
    """The folder of a shipped case, or the folder itself. Raises CaseError when there is neither."""
    folder = Path(name)
    # Of a name that is too long for one, a Path would raise.
    if os.path.isfile(folder / "case.toml"):
        return folder
    shipped = resources.files("tieflow.launch") / "cases"
    if Path(name).name == name and os.path.isfile(str(shipped / name / "case.toml")):
        return Path(str(shipped / name))
    if os.path.isdir(folder):
        raise CaseError(f"{folder}: no case.toml in this folder. See 'Case format' in the README.")
    known = [entry.name for entry in shipped.iterdir() if (entry / "case.toml").is_file()]
    raise CaseError(f"case '{name}': no such folder and no shipped case of that name.{did_you_mean(name, known)}")


def read_case(
    name: str,
    overrides: Mapping[str, object] | None = None,
    set_by: str = "--set",
    profiles: Path | None = None,
    with_devices: bool = True,
) -> Case:
    """Read a shipped case or a case folder; ``overrides`` replace settings, and ``set_by`` tells the user how they were
    given. Columns of ``profiles`` come before those of profiles.csv; ``with_devices`` may leave all devices out. Raises
    CaseError for anything wrong."""
    folder = find_case(name)
    settings = read_settings(folder / "case.toml", overrides or {}, set_by)
    horizon = read_horizon(folder / "profiles.csv", settings, profiles)
    changed = tuple(sorted(overrides or {}))
    if not settings.is_balanced:
        return replace(_read_multiphase(folder, settings, horizon, with_devices), overrides=changed)
    buses = read_table(folder / "buses.csv", BusRow)
    branches = read_table(folder / "branches.csv", BranchRow)
    loads = [row for row in buses if row.p_load_kw > 0]
    devices = _devices(folder, with_devices)
    if with_devices and settings.der_fraction > 0:
        added = [_default_pv(row, settings) for row in pick_evenly(loads, settings.pv_percent)]
        devices["pv"] = labelled([*devices["pv"], *added])
        chosen = pick_evenly(loads, settings.battery_percent)
        devices["batteries"] = labelled([*devices["batteries"], *(_default_battery(row, settings) for row in chosen)])
    case = Case(
        name=folder.resolve().name,
        settings=settings,
        buses=tuple(buses),
        branches=tuple(branches),
        horizon=horizon,
        areas=tuple(_optional(folder / "areas.csv", AreaRow)),
        branch_limits=tuple(_optional(folder / TABLE, BranchLimit)),
        overrides=changed,
        **devices,
    )
    case.balanced_feeder  # noqa: B018 - a feeder that is not a tree is an error of the case, found while reading it
    check_devices(case)
    return case


def _devices(folder: Path, with_devices: bool) -> dict[str, Any]:
    """The devices that the case's tables tell, by kind."""
    return {
        name: labelled(_optional(folder / f"{name}.csv", kind.row)) if with_devices else ()
        for name, kind in KINDS.items()
    }


def _read_multiphase(folder: Path, settings: Settings, horizon: Horizon, with_devices: bool) -> Case:
    from tieflow.common.circuit.extraction import compiled, load_shapes

    path = folder / "circuit.dss"
    try:
        circuit = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(
            f"{path}: cannot be read ({error}). 'tieflow import' writes it from an OpenDSS model."
        ) from None
    case = Case(
        name=folder.resolve().name,
        settings=settings,
        buses=(),
        branches=(),
        horizon=horizon,
        areas=tuple(_optional(folder / "areas.csv", AreaRow)),
        branch_limits=tuple(_optional(folder / TABLE, BranchLimit)),
        circuit=circuit,
        **_devices(folder, with_devices),
    )
    try:
        shapes = {**load_shapes(compiled(circuit), horizon.hour, horizon.dt), **horizon.shapes}
        case = replace(case, horizon=replace(horizon, shapes=shapes))
        case.multiphase_feeder  # noqa: B018 - what is wrong with the circuit is found while reading it
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None
    check_devices(case)
    return case


def pick_evenly(loads: Sequence[BusRow], percent: float) -> list[BusRow]:
    """ceil(percent / 100 * n) of the n load buses, evenly along the list from the first to the last."""
    count = math.ceil(percent / 100 * len(loads) - 1e-9)
    picks = np.floor(np.linspace(1, len(loads), count) + 1e-9).astype(int) - 1
    return [loads[i] for i in picks]


def _default(row_type: type[RowType], row: BusRow, **fields: float) -> RowType:
    """A device that settings place at a bus. Raises CaseError for a rating that none has."""
    try:
        return row_type.model_validate({"bus": row.bus, **fields})
    except ValidationError as error:
        raise CaseError(
            f"case.toml: the device that it places at bus '{row.bus}', by p_load_kw = {row.p_load_kw:g} there: "
            f"{explain(error)} Change the load, or der_fraction and the ratios; with pv_percent = battery_percent = 0 "
            "tables alone place devices."
        ) from None


def _default_pv(row: BusRow, settings: Settings) -> PV:
    rated = settings.der_fraction * row.p_load_kw
    return _default(PV, row, p_rated_kw=rated, s_rated_kva=settings.pv_inverter_ratio * rated)


def _default_battery(row: BusRow, settings: Settings) -> Battery:
    rated = settings.der_fraction * row.p_load_kw
    middle = (settings.soc_min + settings.soc_max) / 2
    return _default(
        Battery,
        row,
        p_rated_kw=rated,
        s_rated_kva=settings.battery_inverter_ratio * rated,
        energy_kwh=settings.battery_hours * rated,
        eta_charge=settings.eta_charge,
        eta_discharge=settings.eta_discharge,
        soc_min=settings.soc_min,
        soc_max=settings.soc_max,
        soc_initial=middle if settings.soc_initial is None else settings.soc_initial,
    )


def _optional(path: Path, row_type: type[RowType]) -> list[RowType]:
    return read_table(path, row_type) if path.exists() else []


def check_devices(case: Case) -> None:
    """Raises CaseError, naming the table, for a device that does not fit: its bus, phases, profile or inverter; or for
    a branch limit."""
    known = set(case.feeder.own_buses)
    for table, units in ((f"{kind}.csv", getattr(case, kind)) for kind in DEVICE_KINDS):
        _check_places(table, units, known)
        for unit in units:
            profile = getattr(unit, "profile", "")
            if case.is_balanced and (unit.phases or (profile and not case.horizon.shapes)):
                what = "phases" if unit.phases else "profile"
                raise CaseError(f"{table}: {what} at bus '{unit.bus}', but the case is balanced. Leave it empty.")
            if profile and profile not in case.horizon.shapes:
                raise CaseError(f"{table}: unknown profile '{profile}'.{did_you_mean(profile, case.horizon.shapes)}")
            if not case.is_balanced:
                try:
                    connection(case.multiphase_feeder, unit.bus, unit.phases)
                except CaseError as error:
                    raise CaseError(f"{table}: {error}") from None
    _check_inverters(case)
    _check_branch_limits(case)
    for load in case.flexible_loads:
        least = float(case.horizon.profile(load).min())
        if least < 0:
            raise CaseError(
                f"flexible_loads.csv: {load.profile or 'load_pu'} of the load '{load.label}' falls to "
                f"{least:g}. A flexible load only draws power: give it a profile that is never below 0."
            )


def _check_places(table: str, units: Sequence[Device], known: set[str]) -> None:
    counts = Counter(unit.label for unit in units)
    for unit in units:
        if unit.bus not in known:
            raise CaseError(f"{table}: unknown bus '{unit.bus}'.{did_you_mean(unit.bus, known)}")
        if counts[unit.label] > 1:
            raise CaseError(f"{table}: two devices are called '{unit.label}'. Give each a name of its own.")


def _check_branch_limits(case: Case) -> None:
    if not case.branch_limits:
        return
    if case.is_balanced:
        raise CaseError(f"{TABLE}: the case is balanced. Put s_max_kva into branches.csv and remove this file.")
    check_branch_limits(case.multiphase_feeder, case.branch_limits)


def _check_inverters(case: Case) -> None:
    if not len(case.horizon.wind) and any(not unit.profile for unit in case.wind):
        raise CaseError("profiles.csv: no column wind_pu or wind_mps, but wind.csv has turbines that need one. Add it.")
    units: tuple[PV | Wind, ...] = (*case.pv, *case.wind)
    for unit in units:
        peak = float(case.horizon.profile(unit).max())
        # One that may be curtailed is, to what its inverter can give.
        if not unit.curtailable and unit.p_rated_kw * peak > unit.s_rated_kva * (1 + 1e-12):
            column, ratio = ("pv_pu", " (pv_inverter_ratio)") if isinstance(unit, PV) else ("wind_pu", "")
            raise CaseError(
                f"profiles.csv: {column} = {peak:g} asks {unit.p_rated_kw * peak:g} kW of the {unit.s_rated_kva:g} kVA "
                f"inverter at bus '{unit.bus}'. Lower {column} or raise s_rated_kva{ratio}."
            )
