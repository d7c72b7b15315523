"""The feeder: any tree comes out ordered and in per unit; whatever is not a tree is refused by name."""

from __future__ import annotations

import random

import numpy as np
import pytest
from feeders import random_cases
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tieflow.common.case import Case
from tieflow.common.errors import CaseError
from tieflow.common.feeder.balanced import BranchRow, BusRow, Feeder, make_feeder
from tieflow.common.inputs.settings import Settings

SETTINGS = Settings(voltage_kv=4.16, substation_bus="s")


def buses(*names: str) -> list[BusRow]:
    return [BusRow(bus=name) for name in names]


def branch(from_bus: str, to_bus: str, r_ohm: float = 0.1, x_ohm: float = 0.1) -> BranchRow:
    return BranchRow(from_bus=from_bus, to_bus=to_bus, r_ohm=r_ohm, x_ohm=x_ohm)


def complaint(bus_rows: list[BusRow], branch_rows: list[BranchRow], settings: Settings = SETTINGS) -> str:
    with pytest.raises(CaseError) as caught:
        make_feeder(bus_rows, branch_rows, settings)
    return str(caught.value)


def shuffled(case: Case, shuffle: random.Random) -> Feeder:
    """The feeder of the same tables with their lines in another order and branches turned around."""
    turned = [
        row.model_copy(update={"from_bus": row.to_bus, "to_bus": row.from_bus}) if shuffle.random() < 0.5 else row
        for row in case.branches
    ]
    return make_feeder(shuffle.sample(case.buses, len(case.buses)), shuffle.sample(turned, len(turned)), case.settings)


@given(case=random_cases(), shuffle=st.randoms(use_true_random=False))
def test_every_tree_is_ordered_from_the_substation_parents_first(case: Case, shuffle: random.Random) -> None:
    feeder = shuffled(case, shuffle)
    assert feeder.buses[0] == case.settings.substation_bus
    assert sorted(feeder.buses) == sorted(row.bus for row in case.buses)
    assert all(parent <= k for k, parent in enumerate(feeder.parent))
    ends = {frozenset(feeder.branch_name(k).split("-")) for k in range(len(feeder.parent))}
    assert ends == {frozenset((row.from_bus, row.to_bus)) for row in case.branches}


@given(case=random_cases(), shuffle=st.randoms(use_true_random=False))
def test_the_order_and_direction_of_lines_do_not_change_what_belongs_to_a_bus(
    case: Case, shuffle: random.Random
) -> None:
    one, other = case.balanced_feeder, shuffled(case, shuffle)
    at = [other.index[bus] for bus in one.buses]
    for field in ("p_load", "q_load", "q_cap"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field)[at])
    np.testing.assert_array_equal(one.path_impedance(), np.array(other.path_impedance())[:, at])


def test_quantities_are_per_phase_in_per_unit() -> None:
    rows = [BusRow(bus="s"), BusRow(bus="a", p_load_kw=50, q_load_kvar=-20, q_cap_kvar=10)]
    limited = BranchRow(from_bus="s", to_bus="a", r_ohm=0.2, x_ohm=0.4, i_max_a=100)
    settings = Settings(voltage_kv=12.47, base_kva=500, substation_bus="s")
    feeder = make_feeder(rows, [limited], settings)
    volts, volt_amperes = 12470 / np.sqrt(3), 500e3
    ohms, amperes = volts**2 / volt_amperes, volt_amperes / volts
    assert feeder.r == pytest.approx([0.2 / ohms])
    assert feeder.x == pytest.approx([0.4 / ohms])
    assert feeder.l_max == pytest.approx([(100 / amperes) ** 2])
    assert feeder.p_load.tolist() == [0, 0.1]
    assert feeder.q_load.tolist() == [0, -0.04]
    assert feeder.q_cap.tolist() == [0, 0.02]


def test_path_impedances_add_up_from_the_substation() -> None:
    feeder = make_feeder(
        buses("s", "a", "b", "c"),
        [branch("s", "a", 0.1, 0.2), branch("a", "b", 0.3, 0.5), branch("a", "c", 0.7, 1.1)],
        Settings(voltage_kv=np.sqrt(3), base_kva=1000, substation_bus="s"),
    )
    r, x = feeder.path_impedance()
    assert r == pytest.approx([0, 0.1, 0.4, 0.8])
    assert x == pytest.approx([0, 0.2, 0.7, 1.3])


def test_a_branch_without_a_current_limit_has_none() -> None:
    assert np.isinf(make_feeder(buses("s", "a"), [branch("s", "a")], SETTINGS).l_max).all()


def test_branches_of_hardly_any_impedance_are_switches() -> None:
    rows = [branch("s", "a", 0, 0), branch("a", "b", 2e-4, 0), branch("b", "c", 2e-4, 2e-4), branch("c", "d", 0, 1e-4)]
    feeder = make_feeder(buses("s", "a", "b", "c", "d"), rows, SETTINGS)
    assert feeder.is_switch.tolist() == [True, True, False, True]
    none = make_feeder(buses("s", "a"), [branch("s", "a", 2e-4, 0)], replace_setting(switch_ohm=0.0))
    assert not none.is_switch.any()


def replace_setting(**changes: object) -> Settings:
    return Settings.model_validate(SETTINGS.model_dump() | changes)


def test_a_substation_alone_is_a_feeder() -> None:
    feeder = make_feeder(buses("s"), [], SETTINGS)
    assert feeder.buses == ("s",)
    assert len(feeder.parent) == 0


def test_a_loop_names_its_buses() -> None:
    rows = [branch("s", "a"), branch("a", "b"), branch("b", "c"), branch("d", "a"), branch("d", "c"), branch("c", "e")]
    message = complaint(buses("s", "a", "b", "c", "d", "e"), rows)
    assert "branches.csv: a loop through buses" in message
    named = message.split("buses ")[1].split(".")[0].split(", ")
    assert sorted(named) == ["a", "b", "c", "d"]


@given(case=random_cases(), shuffle=st.randoms(use_true_random=False))
def test_one_branch_too_many_is_a_loop_of_just_the_buses_between_its_ends(case: Case, shuffle: random.Random) -> None:
    parent = {row.to_bus: row.from_bus for row in case.branches}

    def to_root(bus: str) -> list[str]:
        return [bus] + (to_root(parent[bus]) if bus in parent else [])

    joined = {frozenset((row.from_bus, row.to_bus)) for row in case.branches}
    names = [row.bus for row in case.buses]
    one, other = shuffle.sample(names, 2)
    if {one, other} in joined:
        return
    shared = [bus for bus in to_root(one) if bus in to_root(other)]
    expected = {*to_root(one), *to_root(other)} - set(shared[1:])
    message = complaint(list(case.buses), [branch(one, other), *case.branches], case.settings)
    named = message.split("buses ")[1].split(".")[0].split(", ")
    assert len(named) == len(set(named))
    assert set(named) == expected


def test_a_bus_without_a_way_to_the_substation_is_named() -> None:
    message = complaint(buses("s", "a", "b", "c"), [branch("s", "a"), branch("b", "c")])
    assert message.startswith("branches.csv: 2 bus(es) not connected to the substation bus 's': b, c.")


def test_of_many_cut_off_buses_the_first_ten_are_named() -> None:
    message = complaint(buses("s", *(f"n{i}" for i in range(12))), [])
    assert "12 bus(es)" in message
    assert "n9, ..." in message
    assert "n10" not in message


def test_a_loop_away_from_the_substation_is_cut_off_buses() -> None:
    rows = [branch("s", "a"), branch("b", "c"), branch("c", "d"), branch("d", "b")]
    assert "not connected" in complaint(buses("s", "a", "b", "c", "d"), rows)


def test_a_branch_to_an_unknown_bus_names_both() -> None:
    message = complaint(buses("s", "a"), [branch("s", "a"), branch("a", "zz")])
    assert message.startswith("branches.csv: branch a-zz: unknown bus 'zz'.")


def test_a_bus_listed_twice_is_named() -> None:
    assert complaint(buses("s", "a", "a"), [branch("s", "a")]).startswith("buses.csv: duplicate bus 'a'.")


@pytest.mark.parametrize("again", [branch("s", "a"), branch("a", "s", 0.3)])
def test_a_second_branch_between_the_same_buses_is_a_duplicate(again: BranchRow) -> None:
    message = complaint(buses("s", "a"), [branch("s", "a"), again])
    assert f"branches.csv: branch {again.from_bus}-{again.to_bus}: duplicate branch" in message


def test_a_branch_from_a_bus_to_itself_is_named() -> None:
    assert "branch a-a begins and ends at the same bus" in complaint(
        buses("s", "a"), [branch("s", "a"), branch("a", "a")]
    )


def test_a_substation_that_is_no_bus_is_named_with_its_key() -> None:
    assert complaint(buses("a"), []) == "case.toml: substation_bus 's' is not in buses.csv."


def test_reactance_without_resistance_is_refused_by_name() -> None:
    message = complaint(buses("s", "a"), [branch("s", "a", 0, 0.5)])
    assert message.startswith("branches.csv: branch s-a: r_ohm = 0 with x_ohm = 0.5.")
    assert make_feeder(buses("s", "a"), [branch("s", "a", 0.5, 0)], SETTINGS).r[0] > 0


@pytest.mark.parametrize("field", ["r_ohm", "x_ohm"])
def test_negative_impedance_is_refused(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        BranchRow.model_validate({"from_bus": "s", "to_bus": "a", "r_ohm": 1, "x_ohm": 1} | {field: -0.1})


def test_bus_names_are_compared_as_text_not_as_numbers() -> None:
    case = Settings(voltage_kv=4.16, substation_bus="1")
    assert "unknown bus '01'" in complaint(buses("1", "2"), [branch("01", "2")], case)
