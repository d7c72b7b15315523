"""A partition in words: every figure is the partition's own, pictures stay narrow, areas.csv is never lost."""

from __future__ import annotations

import errno
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tieflow.common.case import AreaRow, find_case, read_case
from tieflow.common.errors import TieflowError
from tieflow.common.inputs.tables import read_table
from tieflow.common.ties.cuts import Tree, cut, smallest_largest
from tieflow.common.ties.cutting import partition
from tieflow.launch.runs.partition import (
    Areas,
    area_table,
    balance,
    draw,
    draw_buses,
    partition_report,
    summary,
    write_areas,
)

# Substation s; below it a, behind a switch b and c in a row, and below a the lateral d.
SMALL = Areas(
    buses=("s", "a", "b", "c", "d"),
    parent=np.array([0, 1, 2, 1]),
    area_of=np.array([0, 0, 1, 1, 2]),
    work=np.array([3.0, 3.0, 2.0, 2.0, 2.0]),
    allowed=5.0,
    devices=np.array([0, 1, 0, 2, 0]),
    is_switch=np.array([False, True, False, False]),
    nodes=np.array([3, 3, 2, 2, 1]),
    phases=np.array([3, 2, 2, 1]),
)


def shown(*items: object, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    for item in items:
        console.print(item)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def of_tree(tree: Tree, areas: int) -> Areas:
    count = len(tree.work)
    return Areas(
        buses=[f"b{i}" for i in range(count)],
        parent=tree.parent,
        area_of=cut(tree, areas),
        work=tree.work,
        allowed=smallest_largest(tree, areas),
        devices=np.zeros(count, np.int64),
        is_switch=np.zeros(count - 1, np.bool_),
    )


def test_summary_has_every_figure() -> None:
    figures = summary(SMALL)
    assert figures["areas"][0] == {
        "area": 1,
        "buses": 2,
        "nodes": 6,
        "devices": 1,
        "parent": None,
        "children": [2, 3],
        "tie": None,
        "work_to_mean": 1.5,
    }
    assert figures["areas"][1]["parent"] == 1 and figures["areas"][1]["devices"] == 2
    assert figures["areas"][1]["tie"] == "at bus a, switch a-b, 2 phases"
    assert figures["areas"][2]["tie"] == "at bus a, branch a-d, 1 phase"
    assert figures["largest_to_mean"] == 1.5 and figures["smallest_to_mean"] == 0.5
    assert figures["largest_to_mean_allowed"] == 1.25
    assert (figures["ties"], figures["ties_at_switches"], figures["tie_phases"]) == (2, 1, 3)


def test_the_table_has_a_line_for_each_area() -> None:
    lines = [line.split() for line in shown(area_table(SMALL)).splitlines()]
    assert lines[0] == ["area", "buses", "nodes", "devices", "ties", "work", "of", "mean"]
    assert [line[:-1] for line in lines[1:]] == [
        ["1", "2", "6", "1", "2", "50.0", "%", "1.50"],
        ["2", "2", "4", "2", "1", "33.3", "%", "1.00"],
        ["3", "1", "1", "0", "1", "16.7", "%", "0.50"],
    ]


def test_balance_is_stated_beside_what_the_tree_allows() -> None:
    assert balance(SMALL) == (
        "largest area 1.50 x the mean work, the tree allows 1.25; smallest 0.50\n"
        "2 tie(s) of 3 phases in all, 1 at switches"
    )
    assert "phases" not in balance(replace(SMALL, phases=None))


def test_pictures_show_areas_cuts_and_buses() -> None:
    assert shown(draw(SMALL)).splitlines() == [
        "area 1 substation s",
        "├── area 2 under 1 at bus a, switch a-b, 2 phases, depth 2",
        "└── area 3 under 1 at bus a, branch a-d, 1 phase, depth 2",
    ]
    assert shown(draw_buses(SMALL)).splitlines() == ["[1] s - a", "├── [2] b - c", "└── [3] d"]
    assert "switch sw1, 2 phases" in shown(draw(replace(SMALL, branches=("l1", "sw1", "l2", "l3"))))


@pytest.mark.parametrize("shape", ["chain", "comb", "random"])
def test_the_picture_of_64_areas_names_each_once_and_is_narrow(shape: str) -> None:
    rng = np.random.default_rng(3)
    parent = {
        "chain": list(range(2999)),
        "comb": [k if k < 1499 else k - 1499 for k in range(2999)],
        "random": [int(rng.integers(max(0, k - 5), k + 1)) for k in range(2999)],
    }[shape]
    tree = Tree(np.array(parent), rng.uniform(1, 2, 3000), np.ones(2999))
    picture = shown(draw(of_tree(tree, 64))).splitlines()
    assert len(picture) == 64
    assert sorted(int(line.split("area ")[1].split()[0]) for line in picture) == list(range(1, 65))
    assert max(line.index("area") for line in picture) <= 48


def test_the_report_of_the_shipped_feeder() -> None:
    feeder = read_case(find_case("ieee123")).feeder
    tree = Tree(feeder.parent, np.ones(len(feeder.buses)), np.where(feeder.is_switch, 0.5, 3.0))
    areas = replace(of_tree(tree, 4), buses=feeder.buses, is_switch=feeder.is_switch)
    console = Console(file=io.StringIO(), width=100)
    partition_report(console, areas)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "the tree allows" in text and "area 4 under" in text and "[4]" in text and "nodes" not in text


def test_one_area_is_reported_without_ties() -> None:
    alone = replace(SMALL, area_of=np.zeros(5, np.int64), allowed=12.0)
    assert balance(alone) == "largest area 1.00 x the mean work, the tree allows 1.00; smallest 1.00"
    assert shown(draw(alone)).strip() == "area 1 substation s"


def test_areas_csv_is_read_back_as_the_same_partition(tmp_path: Path) -> None:
    case = read_case(find_case("ieee123"))
    feeder = case.balanced_feeder
    area_of = cut(Tree(feeder.parent, np.ones(len(feeder.buses)), np.ones(len(feeder.parent))), 6)
    write_areas(tmp_path / "areas.csv", feeder.buses, area_of)
    assert (tmp_path / "areas.csv").read_text().splitlines()[:2] == ["bus,area", f"{feeder.buses[0]},1"]
    parts = partition(replace(case, areas=tuple(read_table(tmp_path / "areas.csv", AreaRow))))
    assert [area.name for area in parts.areas] == ["1", "2", "3", "4", "5", "6"]
    assert len(parts.ties) == 5
    sizes = [len(area.feeder.buses) - (not area.has_substation) for area in parts.areas]
    assert sizes == np.bincount(area_of).tolist()


def test_an_edited_areas_csv_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "areas.csv"
    path.write_text("mine")
    with pytest.raises(TieflowError, match="exists, and you may have edited it"):
        write_areas(path, SMALL.buses, SMALL.area_of)
    assert path.read_text() == "mine"
    write_areas(path, SMALL.buses, SMALL.area_of, overwrite=True)
    assert path.read_text() == "bus,area\ns,1\na,1\nb,2\nc,2\nd,3\n"
    assert list(tmp_path.iterdir()) == [path]


def test_names_with_commas_survive(tmp_path: Path) -> None:
    write_areas(tmp_path / "areas.csv", ("a,b", 'c"d'), np.array([0, 1]))
    rows = read_table(tmp_path / "areas.csv", AreaRow)
    assert [(row.bus, row.area) for row in rows] == [("a,b", "1"), ('c"d', "2")]


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TieflowError, match="there is no folder"):
        write_areas(tmp_path / "no" / "areas.csv", SMALL.buses, SMALL.area_of)
    with pytest.raises(TieflowError, match="a folder or device"):
        write_areas(tmp_path, SMALL.buses, SMALL.area_of)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "areas.csv").write_text("mine")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TieflowError, match="Make room there"):
        write_areas(tmp_path / "areas.csv", SMALL.buses, SMALL.area_of, overwrite=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
