"""Cutting a case into areas: whatever the cut, nothing is lost, nothing is doubled, and the areas hang together."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from feeders import random_cases
from hypothesis import given
from hypothesis import strategies as st

from tieflow.common.case import AreaRow, Case, read_case
from tieflow.common.errors import CaseError
from tieflow.common.ties.area_case import AreaCase, Partition
from tieflow.common.ties.cutting import one_area, partition, without_thevenin


def owned(area: AreaCase) -> tuple[str, ...]:
    """The buses of an area without the copy at its root."""
    return area.feeder.buses if area.has_substation else area.feeder.buses[1:]


def branches(area: AreaCase) -> list[str]:
    return [area.feeder.branch_name(k) for k in range(len(area.feeder.parent))]


def complaint(case: Case, rows: list[AreaRow]) -> str:
    with pytest.raises(CaseError) as caught:
        partition(replace(case, areas=tuple(rows)))
    return str(caught.value)


@given(case=random_cases())
def test_every_bus_is_owned_by_the_one_area_that_its_line_says(case: Case) -> None:
    area_of = {row.bus: row.area for row in case.areas}
    parts = partition(case)
    found = [(bus, area.name) for area in parts.areas for bus in owned(area)]
    assert sorted(found) == sorted(area_of.items())


@given(case=random_cases())
def test_every_branch_and_device_belongs_to_one_area(case: Case) -> None:
    parts = partition(case)
    whole = [case.balanced_feeder.branch_name(k) for k in range(len(case.balanced_feeder.parent))]
    assert sorted(name for area in parts.areas for name in branches(area)) == sorted(whole)
    for kind in ("pv", "batteries"):
        assert Counter(unit for area in parts.areas for unit in getattr(area, kind)) == Counter(getattr(case, kind))
        assert all({unit.bus for unit in getattr(area, kind)} <= set(owned(area)) for area in parts.areas)


@given(case=random_cases())
def test_every_area_is_a_tree_with_parents_before_children(case: Case) -> None:
    for area in partition(case).areas:
        assert len(area.feeder.parent) == len(area.feeder.buses) - 1
        # Each bus hangs on an earlier one, so all of them on the first.
        assert all(0 <= parent <= k for k, parent in enumerate(area.feeder.parent))


@given(case=random_cases())
def test_there_is_a_tie_less_than_there_are_areas_and_each_child_has_one(case: Case) -> None:
    parts = partition(case)
    assert len(parts.ties) == len(parts.areas) - 1
    assert sorted(tie.child for tie in parts.ties) == list(range(1, len(parts.areas)))
    assert [area.has_substation for area in parts.areas] == [True] + [False] * len(parts.ties)
    area_of = {row.bus: row.area for row in case.areas}
    for tie in parts.ties:
        assert area_of[tie.bus] == parts.areas[tie.parent].name
        assert parts.areas[tie.child].feeder.buses[0] == tie.bus


@given(case=random_cases())
def test_both_ends_of_a_tie_sit_at_its_bus_with_the_path_impedance_from_the_substation(case: Case) -> None:
    parts = partition(case)
    r_path, x_path = case.balanced_feeder.path_impedance()
    ends = Counter((end.tie, end.side) for area in parts.areas for end in area.tie_ends)
    assert ends == {(i, side): 1 for i in range(len(parts.ties)) for side in ("parent", "child")}
    for number, area in enumerate(parts.areas):
        for end in area.tie_ends:
            tie = parts.ties[end.tie]
            assert (tie.parent if end.side == "parent" else tie.child) == number
            assert [area.feeder.buses[node] for node in end.nodes] == [tie.bus]
            at = case.balanced_feeder.index[tie.bus]
            assert end.z.tolist() == tie.z.tolist() == [[complex(r_path[at], x_path[at])]]
            assert tie.phases == (1,)
        assert area.has_substation or (area.tie_ends[0].side, area.tie_ends[0].nodes.tolist()) == ("child", [0])


@given(case=random_cases())
def test_the_copy_of_a_split_bus_has_no_load_and_the_owner_has_it_all(case: Case) -> None:
    for area in partition(case).areas:
        at = [case.balanced_feeder.index[bus] for bus in area.feeder.buses]
        is_copy = np.array([bus not in owned(area) for bus in area.feeder.buses])
        for field in ("p_load", "q_load", "q_cap"):
            expected = np.where(is_copy, 0, getattr(case.balanced_feeder, field)[at])
            np.testing.assert_array_equal(getattr(area.feeder, field), expected)


@given(case=random_cases())
def test_a_branch_keeps_its_parameters(case: Case) -> None:
    whole = case.balanced_feeder
    for area in partition(case).areas:
        at = [whole.index[bus] - 1 for bus in area.feeder.buses[1:]]
        for field in ("r", "x", "is_switch", "l_max"):
            np.testing.assert_array_equal(getattr(area.feeder, field), getattr(whole, field)[at])


@given(case=random_cases(), shuffle=st.randoms(use_true_random=False))
def test_the_order_of_the_lines_in_the_areas_table_does_not_matter(case: Case, shuffle: random.Random) -> None:
    def shape(parts: Partition) -> object:
        ends = [
            [(end.tie, end.side, end.nodes.tolist(), end.z.tolist()) for end in area.tie_ends] for area in parts.areas
        ]
        ties = [(tie.bus, tie.parent, tie.child, tie.z.tolist()) for tie in parts.ties]
        return [(area.name, area.feeder.buses) for area in parts.areas], ends, ties

    again = replace(case, areas=tuple(shuffle.sample(case.areas, len(case.areas))))
    assert shape(partition(again)) == shape(partition(case))


def test_the_shipped_case_has_the_published_areas_and_ties() -> None:
    parts = partition(read_case("ieee123"))
    assert [area.name for area in parts.areas] == ["1", "2", "3", "4"]
    # Area 1 has the substation; each other has a copy of its parent's bus in front.
    assert [len(area.feeder.buses) for area in parts.areas] == [39, 1 + 17, 1 + 19, 1 + 53]
    assert [len(area.feeder.parent) for area in parts.areas] == [38, 17, 19, 53]
    assert {(tie.bus, tie.parent + 1, tie.child + 1) for tie in parts.ties} == {
        ("15", 1, 2),
        ("20", 1, 3),
        ("62", 2, 4),
    }
    assert {parts.areas[tie.child].feeder.buses[1] for tie in parts.ties} == {"117", "118", "125"}


def test_the_whole_feeder_as_one_area_has_no_ties() -> None:
    case = read_case("ieee123")
    parts = one_area(case)
    (area,) = parts.areas
    assert parts.ties == area.tie_ends == ()
    assert area.has_substation
    assert area.feeder.buses == case.balanced_feeder.buses
    np.testing.assert_array_equal(area.feeder.p_load, case.balanced_feeder.p_load)


def test_a_case_that_names_no_areas_is_one_area() -> None:
    parts = partition(replace(read_case("ieee123"), areas=()))
    assert len(parts.areas) == 1


def test_an_area_of_a_single_bus_has_the_one_branch_that_leads_to_it() -> None:
    case = read_case("ieee123")
    leaf = case.balanced_feeder.buses[-1]
    rows = [AreaRow(bus=row.bus, area="leaf" if row.bus == leaf else "rest") for row in case.buses]
    area = partition(replace(case, areas=tuple(rows))).areas[1]
    assert (owned(area), len(area.feeder.parent)) == ((leaf,), 1)


def test_the_substation_alone_can_be_an_area() -> None:
    case = read_case("ieee123")
    rows = [AreaRow(bus=row.bus, area="source" if row.bus == "1" else "rest") for row in case.buses]
    source = partition(replace(case, areas=tuple(rows))).areas[0]
    assert (source.feeder.buses, len(source.feeder.parent), len(source.tie_ends)) == (("1",), 0, 1)


def test_without_thevenin_the_voltage_itself_is_agreed() -> None:
    parts = partition(read_case("ieee123"))
    plain = without_thevenin(parts)
    assert all(tie.z.real > 0 for tie in parts.ties)
    assert all(tie.z.tolist() == [[0]] for tie in plain.ties)
    assert all(end.z.tolist() == [[0]] for area in plain.areas for end in area.tie_ends)
    assert [tie.bus for tie in plain.ties] == [tie.bus for tie in parts.ties]


def test_an_area_in_two_parts_is_named_with_a_bus_of_each() -> None:
    case = read_case("ieee123")
    rows = [row.model_copy(update={"area": "3"}) if row.area == "4" else row for row in case.areas]
    assert complaint(case, rows).startswith("areas.csv: area 3 is not connected: its parts at buses '118' and '125'")


@given(case=random_cases(max_areas=2), labels=st.lists(st.sampled_from("xyz"), min_size=24, max_size=24))
def test_areas_at_random_are_refused_just_when_one_is_not_connected(case: Case, labels: list[str]) -> None:
    area_of = {row.bus: label for row, label in zip(case.buses, labels, strict=False)}
    # In a forest, every piece has a bus more than it has branches.
    inner = Counter(area_of[row.from_bus] for row in case.branches if area_of[row.from_bus] == area_of[row.to_bus])
    pieces = {area: count - inner[area] for area, count in Counter(area_of.values()).items()}
    rows = [AreaRow(bus=bus, area=area) for bus, area in area_of.items()]
    if max(pieces.values()) > 1:
        named = complaint(case, rows).removeprefix("areas.csv: area ").split(" ")[0]
        assert pieces[named] > 1
    else:
        assert len(partition(replace(case, areas=tuple(rows))).areas) == len(pieces)


def test_a_bus_left_out_is_named() -> None:
    case = read_case("ieee123")
    rows = [row for row in case.areas if row.bus not in ("7", "99")]
    assert complaint(case, rows).startswith("areas.csv: no area for 2 bus(es): 7, 99.")


def test_a_bus_in_two_lines_is_named() -> None:
    case = read_case("ieee123")
    assert complaint(case, [*case.areas, AreaRow(bus="7", area="2")]).startswith("areas.csv: bus '7' appears twice.")


def test_an_unknown_bus_in_the_areas_is_named() -> None:
    case = read_case("ieee123")
    assert complaint(case, [*case.areas, AreaRow(bus="1170", area="2")]).startswith(
        "areas.csv: unknown bus '1170'. Did you mean '117'?"
    )
