"""A case: feeder, devices, horizon and settings, read from a folder of TOML and CSV files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
from pydantic import Field

from common.devices import PV, Battery, BusName
from common.errors import CaseError, did_you_mean
from common.feeder import BranchRow, BusRow, Feeder, Floats, make_feeder
from common.multiphase import MultiphaseFeeder, connection
from common.settings import NotNegative, Settings, read_settings
from common.tables import Row, read_table

RowType = TypeVar("RowType", bound=Row)


class ProfileRow(Row):
    """A line of profiles.csv: one period of the day."""

    hour: Annotated[int, Field(ge=0)]
    load_pu: float
    pv_pu: NotNegative
    price_per_kwh: NotNegative | None = None


class AreaRow(Row):
    """A line of areas.csv: the area of a bus, a number or a name."""

    bus: BusName
    area: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class Horizon:
    """The periods that a schedule covers; (T,) arrays."""

    hour: tuple[int, ...]
    """rows of profiles.csv"""
    load: Floats
    """load per rated load"""
    pv: Floats
    """PV power per rated PV power"""
    price: Floats
    """$ per kWh of substation energy"""
    dt: float
    """hours per period"""
    shapes: Mapping[str, Floats] = field(default_factory=dict)
    """(T,) multipliers of each load shape of the circuit, by name"""

    def __len__(self) -> int:
        return len(self.hour)

    def pv_profile(self, unit: PV) -> Floats:
        """(T,) real power of a PV system per rated power."""
        return self.shapes[unit.profile] if unit.profile else self.pv


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

    @property
    def is_balanced(self) -> bool:
        return self.settings.model == "balanced"

    @cached_property
    def feeder(self) -> Feeder:
        """The balanced feeder in per unit."""
        return make_feeder(self.buses, self.branches, self.settings)

    @cached_property
    def network(self) -> MultiphaseFeeder:
        """The multi-phase feeder in per unit, from OpenDSS's own objects."""
        # Loads OpenDSS, which balanced cases do without until they are checked.
        from common.extraction import compiled, extract_feeder

        return extract_feeder(compiled(self.circuit), self.settings.base_kva)


def find_case(name: str) -> Path:
    """The folder of a shipped case, or the folder itself. Raises CaseError when there is neither."""
    folder = Path(name)
    if (folder / "case.toml").is_file():
        return folder
    shipped = resources.files("launch") / "cases"
    if Path(name).name == name and (shipped / name / "case.toml").is_file():
        return Path(str(shipped / name))
    if folder.is_dir():
        raise CaseError(f"{folder}: no case.toml in this folder. See 'Case format' in the README.")
    known = [entry.name for entry in shipped.iterdir() if (entry / "case.toml").is_file()]
    raise CaseError(f"case '{name}': no such folder and no shipped case of that name.{did_you_mean(name, known)}")


def read_case(name: str, overrides: Mapping[str, object] | None = None, set_by: str = "--set") -> Case:
    """Read a shipped case or a case folder; ``overrides`` replace settings, and ``set_by`` tells the user how they were
    given. Raises CaseError for anything wrong."""
    folder = find_case(name)
    settings = read_settings(folder / "case.toml", overrides or {}, set_by)
    if settings.model != "balanced":
        return _read_multiphase(folder, settings)
    buses = read_table(folder / "buses.csv", BusRow)
    branches = read_table(folder / "branches.csv", BranchRow)
    loads = [row for row in buses if row.p_load_kw > 0]
    pv = _optional(folder / "pv.csv", PV) + [
        _default_pv(row, settings) for row in pick_evenly(loads, settings.pv_percent) if settings.der_fraction > 0
    ]
    batteries = _optional(folder / "batteries.csv", Battery) + [
        _default_battery(row, settings)
        for row in pick_evenly(loads, settings.battery_percent)
        if settings.der_fraction > 0
    ]
    case = Case(
        name=folder.resolve().name,
        settings=settings,
        buses=tuple(buses),
        branches=tuple(branches),
        pv=tuple(pv),
        batteries=tuple(batteries),
        horizon=_read_horizon(folder / "profiles.csv", settings),
        areas=tuple(_optional(folder / "areas.csv", AreaRow)),
    )
    case.feeder  # noqa: B018 - a feeder that is not a tree is an error of the case, found while reading it
    check_devices(case)
    return case


def _read_multiphase(folder: Path, settings: Settings) -> Case:
    from common.extraction import compiled, load_shapes

    path = folder / "circuit.dss"
    try:
        circuit = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(
            f"{path}: cannot be read ({error}). 'tieflow import' writes it from an OpenDSS model."
        ) from None
    horizon = _read_horizon(folder / "profiles.csv", settings)
    try:
        shapes = load_shapes(compiled(circuit), horizon.hour, horizon.dt)
        case = Case(
            name=folder.resolve().name,
            settings=settings,
            buses=(),
            branches=(),
            pv=tuple(_optional(folder / "pv.csv", PV)),
            batteries=tuple(_optional(folder / "batteries.csv", Battery)),
            horizon=replace(horizon, shapes=shapes),
            areas=tuple(_optional(folder / "areas.csv", AreaRow)),
            circuit=circuit,
        )
        case.network  # noqa: B018 - what is wrong with the circuit is found while reading it
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None
    check_devices(case)
    return case


def pick_evenly(loads: Sequence[BusRow], percent: float) -> list[BusRow]:
    """ceil(percent / 100 * n) of the n load buses, evenly along the list from the first to the last."""
    count = math.ceil(percent / 100 * len(loads) - 1e-9)
    picks = np.floor(np.linspace(1, len(loads), count) + 1e-9).astype(int) - 1
    return [loads[i] for i in picks]


def _default_pv(row: BusRow, settings: Settings) -> PV:
    rated = settings.der_fraction * row.p_load_kw
    return PV(bus=row.bus, p_rated_kw=rated, s_rated_kva=settings.pv_inverter_ratio * rated)


def _default_battery(row: BusRow, settings: Settings) -> Battery:
    rated = settings.der_fraction * row.p_load_kw
    middle = (settings.soc_min + settings.soc_max) / 2
    return Battery(
        bus=row.bus,
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
    """Raises CaseError, naming the table, for a device that does not fit: its bus, phases, profile or inverter."""
    known = set(case.feeder.buses if case.is_balanced else case.network.buses[1:])
    for table, units in (("pv.csv", case.pv), ("batteries.csv", case.batteries)):
        _check_places(table, units, known)
        for unit in units:
            profile = getattr(unit, "profile", "")
            if case.is_balanced and (unit.phases or profile):
                what = "phases" if unit.phases else "profile"
                raise CaseError(f"{table}: {what} at bus '{unit.bus}', but the case is balanced. Leave it empty.")
            if profile and profile not in case.horizon.shapes:
                raise CaseError(f"{table}: unknown profile '{profile}'.{did_you_mean(profile, case.horizon.shapes)}")
            if not case.is_balanced:
                try:
                    connection(case.network, unit.bus, unit.phases)
                except CaseError as error:
                    raise CaseError(f"{table}: {error}") from None
    _check_inverters(case)


def _check_places(table: str, units: Sequence[PV | Battery], known: set[str]) -> None:
    counts = Counter(unit.place for unit in units)
    for unit in units:
        if unit.bus not in known:
            raise CaseError(f"{table}: unknown bus '{unit.bus}'.{did_you_mean(unit.bus, known)}")
        if counts[unit.place] > 1:
            raise CaseError(
                f"{table}: duplicate device at bus '{unit.place}'. Add the ratings up in one line (the percentage "
                "settings of case.toml place devices too; set them to 0 to place all by file)."
            )


def _check_inverters(case: Case) -> None:
    for pv in case.pv:
        peak = float(case.horizon.pv_profile(pv).max())
        if pv.p_rated_kw * peak > pv.s_rated_kva * (1 + 1e-12):
            raise CaseError(
                f"profiles.csv: pv_pu = {peak:g} asks {pv.p_rated_kw * peak:g} kW of the {pv.s_rated_kva:g} kVA "
                f"inverter at bus '{pv.bus}'. Lower pv_pu or raise s_rated_kva (pv_inverter_ratio)."
            )


def _read_horizon(path: Path, settings: Settings) -> Horizon:
    rows = read_table(path, ProfileRow)
    expected = round(24 / settings.dt_hours)
    if [row.hour for row in rows] != list(range(expected)):
        raise CaseError(
            f"{path}: {len(rows)} rows, but a day of {settings.dt_hours:g} h periods (dt_hours) needs the rows "
            f"hour = 0..{expected - 1}, in order. Add, remove or renumber rows."
        )
    if settings.periods > len(rows):
        raise CaseError(f"periods = {settings.periods}, but {path} has {len(rows)} rows. Choose fewer periods.")
    # The middle of the day: row ceil((rows - T + 1) / 2) - 1 is the first of T.
    first = math.ceil((len(rows) - settings.periods + 1) / 2) - 1
    chosen = rows[first : first + settings.periods]
    load = np.array([row.load_pu for row in chosen])
    return Horizon(
        hour=tuple(row.hour for row in chosen),
        load=load,
        pv=np.array([row.pv_pu for row in chosen]),
        price=_prices(path, chosen, load, settings),
        dt=settings.dt_hours,
    )


def _prices(path: Path, rows: Sequence[ProfileRow], load: Floats, settings: Settings) -> Floats:
    low, high = settings.price_low_per_kwh, settings.price_high_per_kwh
    given = [row.price_per_kwh for row in rows]
    if all(price is not None for price in given):
        if low is not None or high is not None:
            raise CaseError(
                f"{path}: both the column price_per_kwh and the settings price_low_per_kwh / price_high_per_kwh give "
                "prices. Remove one of the two."
            )
        return np.array(given, float)
    if any(price is not None for price in given):
        raise CaseError(f"{path}: price_per_kwh is empty in some rows. Fill it in all rows or in none.")
    if low is None or high is None:
        raise CaseError(
            f"{path}: no prices. Add a column price_per_kwh, or set price_low_per_kwh and price_high_per_kwh in "
            "case.toml."
        )
    count = max(1, math.floor(settings.price_high_share * len(load) + 1e-9))
    price = np.full(len(load), low)
    price[np.argsort(-load, kind="stable")[:count]] = high
    return price
