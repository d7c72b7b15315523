"""Every number that a case may hold has a range, and what leaves it is refused by name before it can do harm."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from tieflow.common.case import read_case
from tieflow.common.errors import CaseError
from tieflow.common.feeder.balanced import BranchRow, BusRow
from tieflow.common.feeder.branch_limits import BranchLimit
from tieflow.common.inputs.devices import PV, Battery, FlexibleLoad, Wind
from tieflow.common.inputs.horizon import ProfileRow
from tieflow.common.inputs.settings import Settings
from tieflow.common.inputs.weights import Terms
from tieflow.launch.studies.file import Place, StudyFile, Variant

Edit = Callable[[str, str, str], None]
ROWS: tuple[type[BaseModel], ...] = (
    *(BusRow, BranchRow, BranchLimit, PV, Wind, Battery, FlexibleLoad, ProfileRow),
    *(Settings, Terms, Place, StudyFile, Variant),
)
EXTREMES = ("0", "-1", "1e-320", "-1e-320", "1e-300", "-1e300", "1e300", "1e308", "nan", "inf", "true", "1_0")
README = (Path(__file__).parents[1] / "README.md").read_text()


def is_number(annotation: Any) -> bool:
    return annotation in (int, float) or any(is_number(part) for part in get_args(annotation))


NUMBERS = [
    (row, name)
    for row in ROWS
    for name, field in row.model_fields.items()
    if is_number(field.annotation) and name != "areas"
]


def is_refused(row: type[BaseModel], name: str, value: object) -> bool:
    """Whether the field itself complains, whatever others do."""
    with pytest.raises(ValidationError) as caught:
        row.model_validate({"no such field": 1, name: value})
    return any(name in error["loc"] for error in caught.value.errors())


@pytest.mark.parametrize(("row", "name"), NUMBERS, ids=[f"{row.__name__}.{name}" for row, name in NUMBERS])
def test_every_number_has_a_range_and_is_a_number(row: type[BaseModel], name: str) -> None:
    wrong: tuple[object, ...] = (float("nan"), float("inf"), -1e300, True, False, "true", "1_3.3_3", "1_0", [1])
    # A base of the weights may be any sum over a feeder and a day; check_weights has its range.
    wrong += () if row is Terms else (1e300, 10**400)
    assert [value for value in wrong if not is_refused(row, name, value)] == []


def complaint(folder: Path, **overrides: object) -> str:
    with pytest.raises(CaseError) as caught:
        read_case(str(folder), overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("voltage_kv", True, "voltage_kv: must be a number (got true). Write it with digits and a point"),
        ("periods", True, "periods: must be a number (got true)"),
        ("v_min_pu", "1_3.3_3", "v_min_pu: must be a number (got '1_3.3_3')"),
        ("voltage_kv", 1e-320, "voltage_kv: must be 0.01 to 1500 (got 1e-320). Check its unit."),
        ("base_kva", 1e300, "base_kva: must be 1 to 1e+06 (got 1e+300)"),
        ("dt_hours", 1e-300, "dt_hours: must be 0.01667 to 24 (got 1e-300)"),
        ("substation_peak_kw", 1e-320, "substation_peak_kw: must be 1e-06 to 1e+09 (got 1e-320)"),
        ("price_low_per_kwh", 1e308, "price_low_per_kwh: must be -1e+09 to 1e+09 (got 1e+308)"),
        ("eta_charge", 1e-9, "eta_charge: must be 0.01 to 1 (got 1e-09)"),
        ("periods", 10**30, "periods: must be less than or equal to 1440"),
        ("weights", "energy=1e300", "weights: energy = 1e+300 is above 1e+09"),
        ("weights", {"energy": True}, "weights.energy: must be a number (got true)"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(small: Path, key: str, value: object, message: str) -> None:
    assert complaint(small, **{key: value}).startswith(f"--set: {message}")


def test_a_base_of_the_weights_has_a_range(small: Path) -> None:
    for base in ("1e-320", "1e308"):
        message = complaint(small, weights="energy=1", weights_bases=f"energy={base}")
        assert "is no base. Give one of 1e-09 to 1e+30, or leave it out" in message


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("buses.csv", "a,100,40", "a,1e308,40", "buses.csv, line 3: p_load_kw: must be -1e+09 to 1e+09 (got 1e+308)"),
        ("buses.csv", "a,100,40", "a,1_0,40", "buses.csv, line 3: p_load_kw: must be a number (got '1_0')"),
        (
            "branches.csv",
            "s,a,0.05",
            "s,a,1e-320",
            "branches.csv, line 2: r_ohm: must be 1e-09 to 1e+06, or 0 (got 1e-320)",
        ),
        ("branches.csv", "s,a,0.05,0.1", "s,a,0.05,-0.1", "branches.csv, line 2: x_ohm: must be greater than or equal"),
        ("batteries.csv", "20,24,200", "20,24,1e-300", "batteries.csv, line 2: energy_kwh: must be 1e-06 to 1e+09"),
        ("profiles.csv", "0,0.6,0", "0,1e300,0", "profiles.csv, line 2: load_pu: must be -1e+09 to 1e+09 (got 1e+300)"),
    ],
)
def test_a_cell_out_of_range_is_refused_with_its_line_and_column(
    small: Path, edit: Edit, name: str, old: str, new: str, message: str
) -> None:
    edit(name, old, new)
    assert complaint(small).startswith(f"{small}/{message}")


def test_a_rating_that_settings_make_out_of_range_is_refused_with_its_bus(small: Path) -> None:
    message = complaint(small, pv_percent=100, der_fraction=1e-12)
    assert message.startswith("case.toml: the device that it places at bus 'a', by p_load_kw = 100 there: p_rated_kw: ")
    assert "der_fraction" in message


def test_the_small_case_at_random_extremes_is_read_or_refused_by_name(small: Path) -> None:
    draw = random.Random(5)
    settings = [name for row, name in NUMBERS if row is Settings]
    whole = {path: path.read_text() for path in small.glob("*.csv") if path.name != "areas.csv"}
    for _ in range(100):
        value, setting = draw.choice(EXTREMES), draw.choice(settings)
        read_or_refused(small, setting, {setting: value})
        path = draw.choice(sorted(whole))
        header, *rows = (line.split(",") for line in whole[path].split())
        column = draw.choice([name for name in header if name not in ("bus", "from_bus", "to_bus")])
        draw.choice(rows)[header.index(column)] = value
        path.write_text("\n".join(map(",".join, [header, *rows])) + "\n")
        read_or_refused(small, column, {})
        path.write_text(whole[path])


def read_or_refused(folder: Path, name: str, overrides: dict[str, object]) -> None:
    try:
        read_case(str(folder), overrides)
    except CaseError as error:
        # What is placed by settings, and columns that need each other, are told by others of their names.
        assert name in str(error) or "contradict" in str(error) or "case.toml" in str(error), str(error)


def test_the_ranges_are_documented() -> None:
    for words in ("-1e9 to 1e9", "1e-6 to 1e9", "1e-9 to 1e6", "0.01 to 1500", "1 to 1e6", "one minute"):
        assert words in README, words
