"""A case folder: the shipped one to the published numbers, a small one spoilt in every way that there is."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieflow.common.case import find_case, pick_evenly, read_case
from tieflow.common.errors import CaseError
from tieflow.common.feeder.balanced import BusRow

Edit = Callable[[str, str, str], None]
PV_BUSES = (3, 9, 18, 26, 35, 41, 48, 53, 61, 67, 73, 79, 87, 94, 101, 108, 116)
BATTERY_BUSES = (
    *(3, 7, 11, 18, 22, 30, 34, 37, 41, 47, 50, 53, 58),
    *(62, 67, 71, 75, 79, 84, 87, 92, 97, 101, 106, 111, 116),
)


def complaint(folder: Path, **overrides: object) -> str:
    with pytest.raises(CaseError) as caught:
        read_case(str(folder), overrides)
    return str(caught.value)


def test_the_shipped_case_has_the_published_devices() -> None:
    case = read_case("ieee123")
    assert tuple(int(pv.bus) for pv in case.pv) == PV_BUSES
    assert tuple(int(battery.bus) for battery in case.batteries) == BATTERY_BUSES
    assert sum(row.p_load_kw > 0 for row in case.buses) == 85


def test_the_shipped_feeder_has_its_buses_and_branches() -> None:
    case = read_case("ieee123")
    assert (len(case.buses), len(case.branches), len(case.areas)) == (128, 127, 128)
    assert case.balanced_feeder.buses[0] == "1"
    assert case.settings.voltage_kv == 4.16


def test_devices_are_rated_by_the_load_at_their_bus() -> None:
    case = read_case("ieee123", {"der_fraction": "0.35"})
    load = {row.bus: row.p_load_kw for row in case.buses}
    for pv in case.pv:
        assert pv.p_rated_kw == 0.35 * load[pv.bus]
        assert pv.s_rated_kva == pytest.approx(1.2 * pv.p_rated_kw)
    for battery in case.batteries:
        assert battery.p_rated_kw == 0.35 * load[battery.bus]
        assert battery.s_rated_kva == pytest.approx(1.2 * battery.p_rated_kw)
        assert battery.energy_kwh == pytest.approx(4 * battery.p_rated_kw)
        assert (battery.soc_min, battery.soc_initial, battery.soc_max) == (0.30, 0.625, 0.95)
        assert battery.q_max_kvar == pytest.approx(battery.p_rated_kw * math.sqrt(0.44))


def test_settings_of_devices_can_be_overridden() -> None:
    case = read_case("ieee123", {"pv_percent": 10, "battery_percent": "15", "soc_initial": 0.5, "eta_charge": 0.9})
    assert (len(case.pv), len(case.batteries)) == (9, 13)
    assert {(battery.soc_initial, battery.eta_charge) for battery in case.batteries} == {(0.5, 0.9)}


@pytest.mark.parametrize("overrides", [{"der_fraction": 0}, {"pv_percent": 0, "battery_percent": 0}])
def test_a_fraction_or_a_percentage_of_zero_places_no_device(overrides: dict[str, object]) -> None:
    case = read_case("ieee123", overrides)
    assert case.pv == case.batteries == ()


def test_five_periods_are_hours_9_to_13_with_the_high_price_at_11_and_12() -> None:
    horizon = read_case("ieee123", {"periods": 5}).horizon
    assert horizon.hour == (9, 10, 11, 12, 13)
    low, high = 0.04820404, 0.3018066
    assert horizon.price.tolist() == [low, low, high, high, low]
    assert horizon.load.tolist() == [0.75, 0.777, 0.787, 0.796, 0.782]
    assert horizon.pv.tolist() == [0.5, 0.8, 0.9, 1, 1]


@pytest.mark.parametrize("periods", range(1, 25))
def test_a_horizon_is_the_middle_of_the_day_and_pays_the_high_price_at_its_highest_loads(periods: int) -> None:
    horizon = read_case("ieee123", {"periods": periods}).horizon
    first = math.ceil((24 - periods + 1) / 2) - 1
    assert horizon.hour == tuple(range(first, first + periods))
    high = horizon.price == 0.3018066
    assert high.sum() == max(1, math.floor(0.4 * periods))
    assert periods == 1 or horizon.load[high].min() >= horizon.load[~high].max()
    assert set(horizon.price[~high]) <= {0.04820404}


def test_of_two_equal_loads_the_earlier_hour_pays_the_high_price(small: Path, edit: Edit) -> None:
    edit("profiles.csv", "2,1,0.5", "2,0.8,0.5")
    assert read_case(str(small)).horizon.price.tolist() == [0.3, 0.05]


def test_prices_may_come_from_the_profile(small: Path, edit: Edit) -> None:
    edit("case.toml", "price_low_per_kwh = 0.05\nprice_high_per_kwh = 0.3\n", "")
    prices = "hour,load_pu,pv_pu,price_per_kwh\n0,0.6,0,0.1\n1,0.8,1,0.2\n2,1,0.5,0.15\n3,0.7,0,0.1\n"
    (small / "profiles.csv").write_text(prices)
    assert read_case(str(small)).horizon.price.tolist() == [0.2, 0.15]
    assert "Remove one of the two" in complaint(small, price_low_per_kwh=0.05)
    edit("profiles.csv", "0.15", "")
    assert "price_per_kwh is empty in some rows" in complaint(small)


def test_prices_of_the_profile_may_be_negative_but_must_be_numbers(small: Path, edit: Edit) -> None:
    edit("case.toml", "price_low_per_kwh = 0.05\nprice_high_per_kwh = 0.3\n", "")
    prices = "hour,load_pu,pv_pu,price_per_kwh\n0,0.6,0,0.1\n1,0.8,1,-0.2\n2,1,0.5,0\n3,0.7,0,0.1\n"
    (small / "profiles.csv").write_text(prices)
    assert read_case(str(small)).horizon.price.tolist() == [-0.2, 0.0]
    edit("profiles.csv", "-0.2", "-inf")
    assert "line 3: price_per_kwh: must be a finite number (got '-inf')." in complaint(small)


def test_the_hours_of_highest_load_pay_the_high_price_though_it_is_below_zero(small: Path) -> None:
    case = read_case(str(small), {"price_high_per_kwh": -0.1, "price_low_per_kwh": -0.3})
    assert case.horizon.price.tolist() == [-0.3, -0.1]


def test_exported_energy_that_earns_more_than_energy_costs_is_refused_with_the_time(small: Path) -> None:
    assert complaint(small, export_price_per_kwh=0.06) == (
        "export_price_per_kwh = 0.06, but at 06:00 energy costs 0.05 $ per kWh, less than it would earn. Lower "
        "export_price_per_kwh to 0.05 or less, or leave it out: exported energy then earns the price of its period."
    )
    for earned in (0.05, -0.1):
        case = read_case(str(small), {"export_price_per_kwh": earned})
        assert case.settings.export_price_per_kwh == earned
    assert read_case(str(small), {"periods": 1, "export_price_per_kwh": 0.3}).horizon.price.tolist() == [0.3]


def test_the_linear_model_is_refused_while_reading(small: Path) -> None:
    assert complaint(small, model="lindist3").startswith("--set: model: must be 'balanced' or 'multiphase'")


def test_a_case_without_prices_says_where_to_put_them(small: Path, edit: Edit) -> None:
    edit("case.toml", "price_high_per_kwh = 0.3\n", "")
    message = complaint(small)
    assert message.startswith(f"{small / 'profiles.csv'}: no prices.")
    assert "price_per_kwh" in message
    assert "price_high_per_kwh" in message


@given(count=st.integers(1, 200), percent=st.floats(0, 100))
def test_devices_are_spread_evenly_from_the_first_load_to_the_last(count: int, percent: float) -> None:
    loads = [BusRow(bus=str(i), p_load_kw=1) for i in range(count)]
    picks = [int(row.bus) for row in pick_evenly(loads, percent)]
    assert len(picks) == math.ceil(percent / 100 * count - 1e-9)
    assert len(picks) < 1 or picks[0] == 0
    assert len(picks) < 2 or picks[-1] == count - 1
    steps = np.diff(picks)
    assert len(steps) == 0 or (steps.min() >= 1 and steps.max() - steps.min() <= 1)


def test_no_load_gets_no_device() -> None:
    assert pick_evenly([], 100) == []


def test_a_users_folder_is_a_case_named_as_the_folder(small: Path) -> None:
    case = read_case(str(small))
    assert case.name == "small"
    assert [pv.bus for pv in case.pv] == ["c"]
    assert [battery.bus for battery in case.batteries] == ["d"]
    assert (case.horizon.hour, case.horizon.dt) == ((1, 2), 6.0)


def test_a_folder_here_comes_before_a_shipped_case_of_its_name(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_case("ieee123").is_absolute()
    shutil.copytree(small, tmp_path / "ieee123")
    assert len(read_case("ieee123").buses) == 5


def test_a_misspelt_case_suggests_the_nearest() -> None:
    with pytest.raises(CaseError, match="case 'ieee124': no such folder .* Did you mean 'ieee123'"):
        read_case("ieee124")


def test_a_folder_without_a_case_says_what_it_lacks(tmp_path: Path) -> None:
    assert complaint(tmp_path).startswith(f"{tmp_path}: no case.toml in this folder.")


@pytest.mark.parametrize("name", ["buses.csv", "branches.csv", "profiles.csv"])
def test_a_table_that_a_case_needs_is_missed_by_its_name(small: Path, name: str) -> None:
    (small / name).unlink()
    assert complaint(small).startswith(f"{small / name}: no such file.")


def test_areas_and_devices_may_be_left_out(small: Path) -> None:
    for name in ("areas.csv", "pv.csv", "batteries.csv"):
        (small / name).unlink()
    case = read_case(str(small))
    assert case.areas == case.pv == case.batteries == ()


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("buses.csv", "p_load_kw", "p_load", "unknown column 'p_load'. Did you mean 'p_load_kw'?"),
        ("buses.csv", "b,80,", "b,nan,", "line 4: p_load_kw: must be a finite number (got 'nan')."),
        ("buses.csv", "20\nc", "-20\nc", "line 4: q_cap_kvar: must be greater than or equal to 0 (got '-20')."),
        ("branches.csv", ",x_ohm", "", "missing column 'x_ohm'. The header must contain it."),
        ("branches.csv", "a,d,0.2", "a,d,-0.2", "line 5: r_ohm: must be greater than or equal to 0 (got '-0.2')."),
        ("branches.csv", "b,c,0.1,0.1", "b,c,0.1,", "line 4: x_ohm: missing."),
        ("profiles.csv", "1,0.8,1", "1,0.8,-1", "line 3: pv_pu: must be greater than or equal to 0 (got '-1')."),
        ("profiles.csv", "2,1,", "2,one,", "line 4: load_pu: must be a valid number"),
        (
            "profiles.csv",
            "2,1,",
            "2.5,1,",
            "row 3: hour = 2.5, but 2 or 12 belongs there. Number the rows 0, 1, 2, ...",
        ),
        ("profiles.csv", "2,1,", "12:00,1,", "line 4: hour: '12:00' is no number. Number the rows 0, 1, 2, ..., or"),
        ("areas.csv", "d,east", "d,", "line 6: area: missing."),
        ("pv.csv", "30,36", "30,29", "line 2: s_rated_kva = 29.0 is below p_rated_kw = 30.0."),
        ("pv.csv", "30,36", "0,36", "line 2: p_rated_kw: must be greater than 0 (got '0')."),
        ("batteries.csv", "20,24", "20,19", "line 2: s_rated_kva = 19.0 is below p_rated_kw = 20.0."),
    ],
)
def test_a_spoilt_table_is_named_with_its_line_and_column(
    small: Path, edit: Edit, name: str, old: str, new: str, words: str
) -> None:
    edit(name, old, new)
    message = complaint(small)
    assert message.startswith(str(small / name))
    assert words in message


@pytest.mark.parametrize("limits", ["0.95,0.5,0.3", "0.3,0.2,0.95", "0.3,0.96,0.95"])
def test_a_batterys_contradicting_limits_of_stored_energy_are_all_named(small: Path, limits: str) -> None:
    header = "bus,p_rated_kw,s_rated_kva,energy_kwh,soc_min,soc_initial,soc_max"
    (small / "batteries.csv").write_text(f"{header}\nd,20,24,80,{limits}\n")
    message = complaint(small)
    assert message.startswith(f"{small / 'batteries.csv'}, line 2: SOC limits contradict")
    low, initial, high = (float(number) for number in limits.split(","))
    assert f"soc_min = {low}, soc_initial = {initial}, soc_max = {high}" in message


@pytest.mark.parametrize("name", ["pv.csv", "batteries.csv"])
def test_a_device_at_an_unknown_bus_is_named_with_its_table(small: Path, edit: Edit, name: str) -> None:
    edit(name, "\nc," if name == "pv.csv" else "\nd,", "\nzz,")
    assert f"{name}: unknown bus 'zz'." in complaint(small)


@pytest.mark.parametrize("name", ["pv.csv", "batteries.csv"])
def test_any_number_of_devices_of_a_kind_stand_at_a_bus_and_are_told_apart(small: Path, name: str) -> None:
    lines = (small / name).read_text().splitlines()
    bus = lines[1][0]
    (small / name).write_text("\n".join([*lines, lines[1], lines[1]]) + "\n")
    units = getattr(read_case(str(small)), name.removesuffix(".csv"))
    assert [unit.label for unit in units] == [bus, f"{bus} (2)", f"{bus} (3)"]


@pytest.mark.parametrize("name", ["pv.csv", "batteries.csv"])
def test_a_device_may_have_a_name_which_no_other_of_its_kind_has(small: Path, name: str) -> None:
    lines = (small / name).read_text().splitlines()
    named = [f"{lines[0]},name", f"{lines[1]},roof", f"{lines[1]},"]
    (small / name).write_text("\n".join(named) + "\n")
    units = getattr(read_case(str(small)), name.removesuffix(".csv"))
    assert [unit.label for unit in units] == ["roof", lines[1][0]]
    (small / name).write_text("\n".join([*named, f"{lines[1]},roof"]) + "\n")
    assert f"{name}: two devices are called 'roof'. Give each a name of its own." in complaint(small)


def test_a_device_by_file_and_one_by_percentage_may_share_a_bus(small: Path) -> None:
    assert "c (2)" in [unit.label for unit in read_case(str(small), {"pv_percent": 100}).pv]


@pytest.mark.parametrize(
    ("old", "new"),
    [("3,0.7,0\n", ""), ("3,0.7,0\n", "3,0.7,0\n4,0.7,0\n")],
)
def test_a_profile_that_is_no_whole_day_is_named_with_what_it_needs(
    small: Path, edit: Edit, old: str, new: str
) -> None:
    edit("profiles.csv", old, new)
    message = complaint(small)
    rows = len((small / "profiles.csv").read_text().splitlines()) - 1
    assert message.startswith(f"{small / 'profiles.csv'}: {rows} rows, but")
    assert "hour = 0..3, in order" in message


def test_a_horizon_longer_than_the_day_is_refused(small: Path) -> None:
    assert complaint(small, periods=5) == f"periods = 5, but {small / 'profiles.csv'} has 4 rows. Choose fewer periods."


def test_sunshine_beyond_the_inverter_names_the_profile_and_the_bus(small: Path, edit: Edit) -> None:
    edit("profiles.csv", "2,1,0.5", "2,1,1.25")
    message = complaint(small)
    assert message.startswith("profiles.csv: pv_pu = 1.25 asks 37.5 kW of the 36 kVA inverter at bus 'c'.")
    assert read_case(str(small), {"periods": 1}).horizon.pv.tolist() == [1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a,z,0.1,0.1", "branches.csv: branch a-z: unknown bus 'z'"),
        ("c,d,0.1,0.1", "branches.csv: a loop through buses"),
        ("a,s,0.1,0.1", "branches.csv: branch a-s: duplicate branch"),
    ],
)
def test_a_feeder_that_is_no_tree_is_found_while_reading(small: Path, line: str, words: str) -> None:
    path = small / "branches.csv"
    path.write_text(path.read_text() + line + "\n")
    assert words in complaint(small)


def test_a_bus_cut_off_is_found_while_reading(small: Path, edit: Edit) -> None:
    edit("branches.csv", "b,c,0.1,0.1\n", "")
    assert "1 bus(es) not connected to the substation bus 's': c." in complaint(small)


def test_a_wrong_row_of_a_device_table_is_not_blamed_on_the_circuit(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(find_case("ieee13"), folder)
    (folder / "flexible_loads.csv").write_text("bus,p_kw,q_kvar,down,up\n634,60,20,1.4,0.2\n")
    with pytest.raises(CaseError, match="flexible_loads.csv, line 2: down") as caught:
        read_case(str(folder))
    assert "circuit.dss" not in str(caught.value)


@pytest.mark.parametrize("phases", ["1-1", "1.1", "1.2.3.2", "01.1"])
def test_a_phase_that_a_device_has_twice_is_refused(small: Path, phases: str) -> None:
    (small / "pv.csv").write_text(f"bus,p_rated_kw,s_rated_kva,phases\nc,30,36,{phases}\n")
    assert re.search(r"pv\.csv, line 2: phases: phase \d appears twice in '.*'\. Connect it", complaint(small))


def test_a_case_as_a_spreadsheet_with_decimal_commas_saves_it_is_the_same(small: Path) -> None:
    expected = read_case(str(small))
    for path in small.glob("*.csv"):
        text = path.read_text().replace(",", ";").replace(".", ",").replace("\n", ";;\r\n")
        path.write_bytes(("\ufeff" + text).encode())
    found = read_case(str(small))
    for name in ("settings", "buses", "branches", "pv", "batteries", "areas"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.horizon.load.tolist() == expected.horizon.load.tolist()


def test_a_profile_may_have_any_name(small: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("hour,_sun,model_dump,copy,shape_0\n0,1,2,3,4\n1,1,2,3,4\n2,1,2,3,4\n3,1,2,3,4\n")
    shapes = read_case(str(small), profiles=own).horizon.shapes
    found = {name: shape.tolist() for name, shape in shapes.items()}
    assert found == {"_sun": [1, 1], "model_dump": [2, 2], "copy": [3, 3], "shape_0": [4, 4]}
