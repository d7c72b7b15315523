"""The periods that a schedule covers: what follows the time of day, read from profiles.csv."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, create_model

from tieflow.common.arrays import Floats
from tieflow.common.errors import CaseError
from tieflow.common.inputs.clock import clock, hours_of
from tieflow.common.inputs.devices import PV, Battery, Device, FlexibleLoad, Wind
from tieflow.common.inputs.numbers import Celsius, NotNegative, Number, RowNumber
from tieflow.common.inputs.settings import Settings
from tieflow.common.inputs.tables import Row, read_header, read_table

STC_C = 25.0
"""cell temperature, deg C, under standard test conditions"""


def _number(value: Any) -> Any:
    try:
        float(value if isinstance(value, str) else 0.0)
    except ValueError:
        raise ValueError(
            f"'{value}' is no number. Number the rows 0, 1, 2, ..., or give hours of the day such as 19.25; times such "
            "as 19:15 go in a column time."
        ) from None
    return value


def _time_of_day(text: str) -> str:
    hours_of(text)  # for its errors
    return text


class ProfileRow(Row):
    """A line of profiles.csv: one period of the day, told by ``hour`` or by ``time``."""

    hour: Annotated[RowNumber, BeforeValidator(_number)] | None = None
    """number of the row, or hours since midnight at its beginning"""
    time: Annotated[str, AfterValidator(_time_of_day)] | None = None
    """of its beginning: HH:MM, or ISO 8601"""
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
    """rows of profiles.csv, from 0; ``time`` tells when they begin"""
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

    def time(self, row: int) -> str:
        """The time of day at which a row of profiles.csv begins, HH:MM; that after the last begins at 24:00."""
        return clock(row * self.dt)

    @property
    def times(self) -> tuple[str, ...]:
        """(T,) at which the periods begin, HH:MM."""
        return tuple(map(self.time, self.hour))

    @property
    def edges(self) -> Floats:
        """(T + 1,) hours since midnight at which the periods begin and end."""
        return np.round((self.hour[0] + np.arange(len(self) + 1)) * self.dt, 9)

    @property
    def extent(self) -> str:
        """From when to when, such as 09:00 to 14:00."""
        return f"{self.times[0]} to {self.time(self.hour[-1] + 1)}"

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
WHEN = ("hour", "time")
"""columns of which one tells when a row begins"""
PRICE = "price_per_kwh"


def read_horizon(path: Path, settings: Settings, own: Path | None = None) -> Horizon:
    """The middle rows of profiles.csv. Raises CaseError for a table that is no whole day, lacks a column or price, and
    for prices as ``check_export_price`` does.

    ``own`` is another such table, whose columns come before those of the first and before prices of the settings; its
    columns of other names are shapes that devices may follow.
    """
    rows = read_table(path, ProfileRow)
    _check_day(path, rows, settings.dt_hours)
    if settings.periods > len(rows):
        raise CaseError(f"periods = {settings.periods}, but {path} has {len(rows)} rows. Choose fewer periods.")
    # The middle of the day: row ceil((rows - T + 1) / 2) - 1 is the first of T.
    first = math.ceil((len(rows) - settings.periods + 1) / 2) - 1
    middle = slice(first, first + settings.periods)
    shapes: dict[str, Floats] = {}
    if own is not None:
        rows, shapes = _changed(rows, own, settings.dt_hours)
        if PRICE in read_header(own):
            settings = settings.model_copy(update={"price_low_per_kwh": None, "price_high_per_kwh": None})
    load = np.array([row.load_pu for row in rows[middle]])
    horizon = Horizon(
        hour=tuple(range(len(rows))[middle]),
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
            f"export_price_per_kwh = {earned}, but at {horizon.times[lowest]} energy costs {price} $ per kWh, less "
            f"than it would earn. Lower export_price_per_kwh to {price} or less, or leave it out: exported energy then "
            "earns the price of its period."
        )


def _check_day(path: Path, rows: Sequence[Row], dt: float) -> None:
    """Raises CaseError unless the rows of a table tell the periods of one day, in order."""
    named, count = [name for name in WHEN if name in read_header(path)], round(24 / dt)
    if not named:
        raise CaseError(f"{path}: missing column 'hour'. The header must contain it, or time instead.")
    if len(named) > 1:
        raise CaseError(f"{path}: both the columns hour and time tell when a row begins. Remove one of the two.")
    if len(rows) != count:
        raise CaseError(
            f"{path}: {len(rows)} rows, but a day of {dt:g} h periods (dt_hours) needs {count}: hour = 0..{count - 1}, "
            f"in order, or the times 00:00 to {clock(24 - dt)}. Add or remove rows, or change dt_hours."
        )
    (_check_hours if named == ["hour"] else _check_times)(path, [getattr(row, *named) for row in rows], dt)


def _check_hours(path: Path, cells: Sequence[float | None], dt: float) -> None:
    given, numbers = np.array(cells, float), np.arange(len(cells))
    ways: tuple[NDArray[Any], ...] = (numbers, numbers * dt)
    wrong = [k for k in (_first_apart(given, way, dt) for way in ways) if k is not None]
    if len(wrong) < len(ways):
        return
    k = max(wrong)
    told = "is empty" if cells[k] is None else f"= {cells[k]:g}"
    wanted = " or ".join(dict.fromkeys(f"{way[k]:g}" for way in ways))
    raise CaseError(
        f"{path}, row {k + 1}: hour {told}, but {wanted} belongs there. Number the rows 0, 1, 2, ..., or give hours of "
        f"the day, 0, {dt:g}, {2 * dt:g}, ...; times such as 19:15 go in a column time."
    )


def _check_times(path: Path, cells: Sequence[str | None], dt: float) -> None:
    moments = [("", np.nan) if cell is None else hours_of(cell) for cell in cells]
    given = np.array([hours if date == moments[0][0] else np.nan for date, hours in moments])
    k = _first_apart(given, np.arange(len(cells)) * dt, dt)
    if k is None:
        return
    told = "is empty" if cells[k] is None else f"= {cells[k]}"
    raise CaseError(
        f"{path}, row {k + 1}: time {told}, but {clock(k * dt)} of the same day belongs there. Times tell when rows "
        f"begin: from 00:00 on, {dt:g} h apart (dt_hours)."
    )


def _first_apart(given: Floats, wanted: NDArray[Any], dt: float) -> int | None:
    """The first row with another value than wanted; those may be rounded to a minute."""
    apart = np.flatnonzero(~(np.abs(given - wanted) <= min(1 / 120, dt / 2) + 1e-9))
    return int(apart[0]) if len(apart) else None


def _changed(rows: Sequence[ProfileRow], own: Path, dt: float) -> tuple[list[ProfileRow], dict[str, Floats]]:
    """The rows with the columns of another table, and its (row,) columns that are none of theirs."""
    known = ProfileRow.model_fields
    header = read_header(own)
    given, shapes = [name for name in header if name in known], [name for name in header if name not in known]
    columns: dict[str, Any] = {name: (known[name].annotation, known[name]) for name in given}
    # Their names are the user's, and may be none that a field can have.
    columns |= {f"shape_{i}": (Number, Field(alias=name)) for i, name in enumerate(shapes)}
    model = create_model("OwnRow", __base__=Row, **columns)
    more = read_table(own, model)
    _check_day(own, more, dt)
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


def _column(path: Path, rows: Sequence[ProfileRow], name: str, dt: float) -> Floats | None:
    """(row,) a column that may be left out as a whole."""
    cells = [getattr(row, name) for row in rows]
    if all(cell is None for cell in cells):
        return None
    if None in cells:
        empty = clock(cells.index(None) * dt)
        raise CaseError(f"{path}: {name} is empty in the row of {empty}. Fill it in all rows or in none.")
    return np.array(cells, float)


def _pv(path: Path, rows: Sequence[ProfileRow], settings: Settings) -> Floats:
    """(row,) PV power per rated power: as given, or irradiance times the cells' efficiency over that at 25 deg C.

    G / G_STC * (1 + coefficient * (cell temperature - 25)), as in Massaoudi et al. (2025), whose title
    ``areas.devices`` gives; never below 0, whatever the temperature.
    """
    given, sun, cell = (_column(path, rows, name, settings.dt_hours) for name in ("pv_pu", "irradiance_pu", "cell_c"))
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
    given, v = (_column(path, rows, name, settings.dt_hours) for name in ("wind_pu", "wind_mps"))
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
