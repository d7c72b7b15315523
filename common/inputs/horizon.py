"""The periods that a schedule covers: what follows the hour, read from profiles.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, create_model

from tieflow.common.arrays import Floats
from tieflow.common.errors import CaseError
from tieflow.common.inputs.devices import PV, Battery, Device, FlexibleLoad, Wind
from tieflow.common.inputs.numbers import Celsius, NotNegative, Number, RowNumber
from tieflow.common.inputs.settings import Settings
from tieflow.common.inputs.tables import Row, read_header, read_table

STC_C = 25.0
"""cell temperature, deg C, under standard test conditions"""


class ProfileRow(Row):
    """A line of profiles.csv: one period of the day."""

    hour: RowNumber
    load_pu: Number
    pv_pu: NotNegative | None = None
    price_per_kwh: Number | None = None
    irradiance_pu: NotNegative | None = None
    cell_c: Celsius | None = None
    wind_pu: NotNegative | None = None
    wind_mps: NotNegative | None = None


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
    """$ per kWh of substation energy; negative where taking it is paid for"""
    dt: float
    """hours per period"""
    shapes: Mapping[str, Floats] = field(default_factory=dict)
    """(T,) multipliers of each load shape of the circuit, by name"""
    wind: Floats = field(default_factory=lambda: np.zeros(0))
    """wind power per rated wind power; empty where profiles.csv does not tell it"""

    def __len__(self) -> int:
        return len(self.hour)

    def part(self, span: slice) -> Horizon:
        """The periods of a span."""
        return replace(
            self,
            hour=self.hour[span],
            load=self.load[span],
            pv=self.pv[span],
            price=self.price[span],
            shapes={name: shape[span] for name, shape in self.shapes.items()},
            wind=self.wind[span],
        )

    def profile(self, unit: PV | FlexibleLoad | Wind) -> Floats:
        """(T,) what a device follows, per rated power."""
        if unit.profile:
            return self.shapes[unit.profile]
        if isinstance(unit, FlexibleLoad):
            return self.load
        return self.wind if isinstance(unit, Wind) else self.pv

    def idle(self, unit: Device) -> NDArray[Any]:
        """(T,) kVA, real or complex, that a device feeds in when nobody controls it: a battery rests."""
        if isinstance(unit, Battery):
            return np.zeros(len(self))
        rated = -complex(unit.p_kw, unit.q_kvar) if isinstance(unit, FlexibleLoad) else unit.p_rated_kw
        return rated * self.profile(unit)

    def most_kva(self, unit: Device) -> float:
        """The most apparent power of a device."""
        peak = float(self.profile(unit).max()) if isinstance(unit, FlexibleLoad) else 1.0
        return unit.s_rated_kva * peak


RIVALS = (("pv_pu",), ("irradiance_pu", "cell_c")), (("wind_pu",), ("wind_mps",))
"""columns that tell the same in two ways"""
PRICE = "price_per_kwh"


def read_horizon(path: Path, settings: Settings, own: Path | None = None) -> Horizon:
    """The middle rows of profiles.csv. Raises CaseError for a table that is no whole day, lacks a column or price, and
    for prices as ``check_export_price`` does.

    ``own`` is another such table, whose columns come before those of the first and before prices of the settings; its
    columns of other names are shapes that devices may follow.
    """
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
    middle = slice(first, first + settings.periods)
    shapes: dict[str, Floats] = {}
    if own is not None:
        rows, shapes = _changed(rows, own)
        if PRICE in read_header(own):
            settings = settings.model_copy(update={"price_low_per_kwh": None, "price_high_per_kwh": None})
    load = np.array([row.load_pu for row in rows[middle]])
    horizon = Horizon(
        hour=tuple(row.hour for row in rows[middle]),
        load=load,
        pv=_pv(path, rows, settings)[middle],
        price=_prices(path, rows[middle], load, settings),
        dt=settings.dt_hours,
        shapes={name: shape[middle] for name, shape in shapes.items()},
        wind=_wind(path, rows, settings)[middle],
    )
    check_export_price(horizon, settings)
    return horizon


def check_export_price(horizon: Horizon, settings: Settings) -> None:
    """Raises CaseError where exported energy earns more than energy costs: buying and selling at once would pay, so the
    cost of a period would not be convex in its power."""
    earned, lowest = settings.export_price_per_kwh, int(horizon.price.argmin())
    price = float(horizon.price[lowest])
    if earned is not None and earned > price:
        # Prices in full: a rounded one could be refused again.
        raise CaseError(
            f"export_price_per_kwh = {earned}, but in hour {horizon.hour[lowest]} energy costs {price} $ per kWh, less "
            f"than it would earn. Lower export_price_per_kwh to {price} or less, or leave it out: exported energy then "
            "earns the price of its period."
        )


def _changed(rows: Sequence[ProfileRow], own: Path) -> tuple[list[ProfileRow], dict[str, Floats]]:
    """The rows with the columns of another table, and its (row,) columns that are none of theirs."""
    known = ProfileRow.model_fields
    header = read_header(own)
    given, shapes = [name for name in header if name in known], [name for name in header if name not in known]
    columns: dict[str, Any] = {name: (known[name].annotation, known[name]) for name in ("hour", *given)}
    # Their names are the user's, and may be none that a field can have.
    columns |= {f"shape_{i}": (Number, Field(alias=name)) for i, name in enumerate(shapes)}
    model = create_model("OwnRow", __base__=Row, **columns)
    more = read_table(own, model)
    if [getattr(row, "hour", None) for row in more] != [row.hour for row in rows]:
        raise CaseError(
            f"{own}: needs the rows of the case's profiles.csv, hour = 0..{len(rows) - 1}, in order. Add, remove or "
            "renumber rows."
        )
    dropped = {
        name: None
        for ways in RIVALS
        for way, other in (ways, ways[::-1])
        if set(way) & set(given)
        for name in other
        if name not in given
    }
    changed = [
        row.model_copy(update=dropped | {name: getattr(new, name) for name in given})
        for row, new in zip(rows, more, strict=True)
    ]
    return changed, {
        name: np.array([getattr(row, f"shape_{i}") for row in more], float) for i, name in enumerate(shapes)
    }


def _column(path: Path, rows: Sequence[ProfileRow], name: str) -> Floats | None:
    """(row,) a column that may be left out as a whole."""
    cells = [getattr(row, name) for row in rows]
    if all(cell is None for cell in cells):
        return None
    if None in cells:
        raise CaseError(
            f"{path}: {name} is empty in the row hour = {rows[cells.index(None)].hour}. Fill it in all rows or in none."
        )
    return np.array(cells, float)


def _pv(path: Path, rows: Sequence[ProfileRow], settings: Settings) -> Floats:
    """(row,) PV power per rated power: as given, or irradiance times the cells' efficiency over that at 25 deg C.

    G / G_STC * (1 + coefficient * (cell temperature - 25)), as in Massaoudi et al. (2025), whose title
    ``areas.devices`` gives; never below 0, whatever the temperature.
    """
    given, sun, cell = (_column(path, rows, name) for name in ("pv_pu", "irradiance_pu", "cell_c"))
    if given is not None:
        if sun is None and cell is None:
            return given
        raise CaseError(
            f"{path}: both the column pv_pu and {'irradiance_pu' if cell is None else 'cell_c'} give PV power. Remove "
            "pv_pu, or irradiance_pu and cell_c."
        )
    if sun is None and cell is None:
        raise CaseError(
            f"{path}: missing column 'pv_pu'. The header must contain it, or irradiance_pu and cell_c instead."
        )
    if sun is None or cell is None:
        there, missing = ("cell_c", "irradiance_pu") if sun is None else ("irradiance_pu", "cell_c")
        raise CaseError(f"{path}: {there} without {missing}. Add the column {missing}, or give pv_pu instead of both.")
    return np.asarray(np.maximum(0.0, sun * (1 + settings.temperature_coefficient * (cell - STC_C))))


def _wind(path: Path, rows: Sequence[ProfileRow], settings: Settings) -> Floats:
    """(row,) wind power per rated power, as given or by a turbine's power curve; empty where neither is there.

    Of the wind's speed v: (v^3 - v_in^3) / (v_rated^3 - v_in^3) between cut-in and rated speed, as in Massaoudi et al.
    (2025); 1 up to the cut-out speed, 0 below cut-in and above cut-out.
    """
    given, v = (_column(path, rows, name) for name in ("wind_pu", "wind_mps"))
    if given is not None and v is not None:
        raise CaseError(f"{path}: both the columns wind_pu and wind_mps give wind power. Remove one of the two.")
    if v is None:
        return np.zeros(0) if given is None else given
    v_in, v_rated, v_out = settings.wind_cut_in_mps, settings.wind_rated_mps, settings.wind_cut_out_mps
    rising = (np.minimum(v, v_rated) ** 3 - v_in**3) / (v_rated**3 - v_in**3)
    return np.where((v < v_in) | (v > v_out), 0.0, rising)


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
