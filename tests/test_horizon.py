"""What tells the periods of profiles.csv: numbers of rows, hours of the day or times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tieflow.common.errors import CaseError
from tieflow.common.inputs.clock import clock
from tieflow.common.inputs.horizon import Horizon, read_horizon
from tieflow.common.inputs.settings import Settings

WAYS: dict[str, tuple[str, Callable[[int, float], str]]] = {
    "row numbers": ("hour", lambda k, dt: str(k)),
    "hours": ("hour", lambda k, dt: f"{k * dt:.12g}"),
    "hours to two decimals": ("hour", lambda k, dt: f"{k * dt:.2f}"),
    "times": ("time", lambda k, dt: clock(k * dt)),
    "times without zeros": ("time", lambda k, dt: clock(k * dt).removeprefix("0")),
    "dates and times": ("time", lambda k, dt: f"2026-06-01T{clock(k * dt)}"),
}


def table(path: Path, name: str, cells: Sequence[str], columns: str = "load_pu,pv_pu", values: str = "1,0.5") -> Path:
    path.write_text("\n".join([f"{name},{columns}", *(f"{cell},{values}" for cell in cells), ""]))
    return path


def settings(dt: float) -> Settings:
    prices = {"price_low_per_kwh": 0.1, "price_high_per_kwh": 0.2}
    return Settings(voltage_kv=4.16, substation_bus="s", periods=round(6 / dt), dt_hours=dt, **prices)


def read(path: Path, dt: float, own: Path | None = None) -> Horizon:
    return read_horizon(path, settings(dt), own)


def complaint(path: Path, dt: float) -> str:
    with pytest.raises(CaseError) as caught:
        read(path, dt)
    return str(caught.value)


@pytest.mark.parametrize("dt", [0.25, 1 / 3, 1.0, 2.0])
@pytest.mark.parametrize("way", WAYS)
def test_a_day_may_be_told_in_every_way_and_is_the_same(tmp_path: Path, way: str, dt: float) -> None:
    name, cell = WAYS[way]
    found = read(table(tmp_path / "profiles.csv", name, [cell(k, dt) for k in range(round(24 / dt))]), dt)
    first = round(9 / dt) if dt < 2 else 4  # of six hours in the middle, the earlier one of two
    assert found.hour == tuple(range(first, first + round(6 / dt)))
    assert found.times == tuple(clock(k * dt) for k in found.hour)
    assert found.extent == f"{clock(first * dt)} to {clock(first * dt + 6)}"
    assert found.edges.tolist() == pytest.approx([k * dt for k in (*found.hour, found.hour[-1] + 1)])


def test_the_last_period_of_the_day_ends_at_24_o_clock(tmp_path: Path) -> None:
    path = table(tmp_path / "profiles.csv", "time", ["0:00", "6:00", "12:00", "18:00"])
    assert read_horizon(path, settings(6.0).model_copy(update={"periods": 4})).extent == "00:00 to 24:00"


def test_a_table_beside_it_may_tell_the_same_day_in_another_way(tmp_path: Path) -> None:
    path = table(tmp_path / "profiles.csv", "hour", ["0", "1", "2", "3"])
    own = table(tmp_path / "own.csv", "time", ["00:00", "06:00", "12:00", "18:00"], "load_pu,gusts", "0.3,2")
    found = read(path, 6.0, own)
    assert (found.load.tolist(), found.shapes["gusts"].tolist()) == ([0.3], [2.0])


@pytest.mark.parametrize(
    ("name", "cells", "message"),
    [
        (
            "hour",
            "0 1 2 4",
            "profiles.csv, row 4: hour = 4, but 3 or 18 belongs there. Number the rows 0, 1, 2, ..., or ",
        ),
        (
            "hour",
            "0 6 13 18",
            "row 3: hour = 13, but 2 or 12 belongs there. Number the rows 0, 1, 2, ..., or give hours",
        ),
        ("hour", "1 2 3 4", "row 1: hour = 1, but 0 belongs there."),
        (
            "hour",
            "0 6 12",
            "3 rows, but a day of 6 h periods (dt_hours) needs 4: hour = 0..3, in order, or the times 00",
        ),
        ("hour", "0:00 6:00 12:00 18:00", "line 2: hour: '0:00' is no number. Number the rows 0, 1, 2, ..., or give"),
        ("time", "0 6 12 18", "line 2: time: '0' is no time of day. Write it as 19:15 or 2026-06-01T19:15."),
        (
            "time",
            "06:00 12:00 18:00 24:00",
            "row 1: time = 06:00, but 00:00 of the same day belongs there. Times tell when",
        ),
        (
            "time",
            "00:00 06:00 12:00 17:30",
            "row 4: time = 17:30, but 18:00 of the same day belongs there. Times tell wh",
        ),
        (
            "time",
            "2026-06-01T00:00 2026-06-01T06:00 2026-06-02T12:00 2026-06-01T18:00",
            "row 3: time = 2026-06-02T12:00",
        ),
        ("when", "0 1 2 3", "unknown column 'when'."),
        (
            "hour,time",
            "0,0:00 1,6:00 2,12:00 3,18:00",
            "both the columns hour and time tell when a row begins. Remove one",
        ),
        ("wind_pu", "0 1 2 3", "missing column 'hour'. The header must contain it, or time instead."),
    ],
)
def test_what_tells_no_day_is_refused_by_file_and_row_with_the_way_out(
    tmp_path: Path, name: str, cells: str, message: str
) -> None:
    path = table(tmp_path / "profiles.csv", name, cells.split())
    told = complaint(path, 6.0)
    assert told.startswith(str(path)) and message in told, told


@pytest.mark.parametrize("name", ["hour", "time"])
def test_an_empty_cell_is_named_with_its_row(tmp_path: Path, name: str) -> None:
    cells = {"hour": ["0", "1", "", "3"], "time": ["0:00", "6:00", "", "18:00"]}[name]
    assert f"profiles.csv, row 3: {name} is empty, but " in complaint(
        table(tmp_path / "profiles.csv", name, cells), 6.0
    )
