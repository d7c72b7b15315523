"""A partition in words and pictures, and as the areas.csv that a user may edit."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree as Drawing

from tieflow.common.arrays import Floats, Ints
from tieflow.common.case import AreaRow, Case
from tieflow.common.errors import CaseError, TieflowError, counted
from tieflow.common.inputs.tables import read_table
from tieflow.common.results.store import beside
from tieflow.common.ties.cuts import Tree, cut, smallest_largest

SMALL_FEEDER = 150
CONDUCTOR_WORK = 3.0
"""that a conductor of a tie adds, in nodes. To a multi-phase area it is 1.3, but conductors are what the coordinator's
work grows with"""


@dataclass(frozen=True)
class Work:
    """Of an area, in nodes."""

    pv: float
    battery: float
    flexible: float
    """load"""
    wind: float
    switch: float
    """share of a tie's work that counts where the tie is a switch"""


BALANCED_WORK = Work(pv=2.0, battery=5.0, flexible=3.0, wind=2.0, switch=0.3)
"""variables in the conic problems of an area"""
MULTIPHASE_WORK = Work(pv=0.0, battery=1.0, flexible=0.5, wind=0.0, switch=1.0)
"""regression of the CPU time of ``newton``'s areas on what they hold, ieee123_unbalanced in 2 to 10 areas over a day;
a flexible load, of which it has none, is taken for half a battery. A switch is a tie like any other to ``newton``"""
_DEEPEST = 6
_BAR = 20
_COLOURS = ("cyan", "yellow", "green", "magenta", "bright_blue", "bright_red", "bright_green", "bright_yellow")


@dataclass(frozen=True)
class Areas:
    """A feeder cut into areas, in plain numbers. Bus 0 is the substation; branch k leads to bus k + 1."""

    buses: Sequence[str]
    """(bus,) names"""
    parent: Ints
    """(branch,) bus index of the end nearer the substation, parents first"""
    area_of: Ints
    """(bus,) area of each bus, from 0 in the order of their first buses"""
    work: Floats
    """(bus,) what the areas were balanced by"""
    allowed: float
    """the smallest possible work of the largest area, ``common.ties.cuts.smallest_largest``"""
    devices: Ints
    """(bus,) PV systems, batteries and whatever else is scheduled"""
    is_switch: NDArray[np.bool_]
    """(branch,)"""
    nodes: Ints | None = None
    """(bus,) phases of each bus; None for a balanced feeder"""
    phases: Ints | None = None
    """(branch,) phases of each branch; None for a balanced feeder"""
    branches: Sequence[str] | None = None
    """(branch,) names; None: they are called by their buses"""

    @cached_property
    def count(self) -> int:
        return int(self.area_of.max()) + 1

    @cached_property
    def head(self) -> Ints:
        """(area,) the first bus of each area, below the branch that was cut."""
        return np.unique(self.area_of, return_index=True)[1]

    @cached_property
    def above(self) -> Ints:
        """(area,) the parent area; -1 for area 0."""
        return np.concatenate(([-1], self.area_of[self.parent[self.head[1:] - 1]]))

    @cached_property
    def depth(self) -> Ints:
        """(bus,) branches between the substation and each bus."""
        depth = [0]
        for parent in self.parent.tolist():
            depth.append(depth[parent] + 1)
        return np.array(depth, np.int64)

    def total(self, per_bus: Floats | Ints) -> Floats:
        """(area,) sum over the area's buses."""
        return np.bincount(self.area_of, per_bus, self.count).astype(np.float64)

    def children(self) -> list[list[int]]:
        """For each area, the areas below it."""
        below: list[list[int]] = [[] for _ in range(self.count)]
        for area, above in enumerate(self.above.tolist()):
            if above >= 0:
                below[above].append(area)
        return below

    def tie(self, area: int) -> str:
        """Where an area was cut off: bus, branch or switch, phases."""
        k = int(self.head[area]) - 1
        bus = self.buses[self.parent[k]]
        name = f"{bus}-{self.buses[k + 1]}" if self.branches is None else self.branches[k]
        phases = "" if self.phases is None else f", {counted(self.phases[k], 'phase')}"
        return f"at bus {bus}, {'switch' if self.is_switch[k] else 'branch'} {name}{phases}"


def in_areas(case: Case, count: int) -> Case:
    """The case cut into so many areas of even work, whatever areas it has. Raises CaseError for too many."""
    found = describe(replace(case, areas=()), areas=count)
    rows = [AreaRow(bus=bus, area=str(area + 1)) for bus, area in zip(found.buses, found.area_of.tolist(), strict=True)]
    return replace(case, areas=tuple(rows))


def in_areas_of(case: Case, areas: str | None, folder: Path | None = None) -> Case:
    """The case cut into a number of areas, or as a file (in ``folder``) says, instead of by its own areas.csv."""
    if areas is None:
        return case
    if areas.isdecimal():
        return in_areas(case, int(areas))
    if not areas.strip():
        raise CaseError("--areas is empty. Give a number of areas, or an areas.csv.")
    path = (folder or Path()) / areas
    if not os.path.isfile(path):
        raise CaseError(f"areas: {path}: no such file. Give a number of areas, or the path of an areas.csv.")
    return replace(case, areas=tuple(read_table(path, AreaRow)))


def describe(case: Case, area_of: Ints | None = None, areas: int = 1) -> Areas:
    """A case's feeder cut into ``areas`` even areas, or as ``area_of`` (bus,) says.

    Work is counted in nodes, beside which devices have the weights of the constants above; a tie costs its conductors,
    and less at a switch of a balanced feeder. Raises CaseError when the feeder cannot be cut into as many.
    """
    feeder, places = case.feeder, case.feeder.places
    index = {bus: i for i, bus in enumerate(feeder.own_buses)}
    nodes = np.bincount(places.bus, minlength=len(index))
    devices, work = np.zeros(len(index), np.int64), nodes.astype(np.float64)
    own = BALANCED_WORK if case.is_balanced else MULTIPHASE_WORK
    for units, variables in (
        (case.pv, own.pv),
        (case.batteries, own.battery),
        (case.flexible_loads, own.flexible),
        (case.wind, own.wind),
    ):
        at = [index[unit.bus] for unit in units]
        np.add.at(devices, at, 1)
        np.add.at(work, at, variables)
    cost = CONDUCTOR_WORK * np.where(feeder.own_switches, own.switch, 1.0) * feeder.own_phases
    tree = Tree(feeder.own_parent, work, cost)
    area_of = cut(tree, areas) if area_of is None else area_of
    allowed = smallest_largest(tree, int(area_of.max()) + 1)
    told = (nodes, feeder.own_phases, feeder.own_branches) if places.noun == "node" else (None, None, None)
    return Areas(feeder.own_buses, feeder.own_parent, area_of, work, allowed, devices, feeder.own_switches, *told)


def summary(areas: Areas) -> dict[str, Any]:
    """The figures of a partition, by name; work relative to the mean of the areas."""
    relative, allowed = _balance(areas)
    buses, devices, below = areas.total(np.ones(len(areas.buses))), areas.total(areas.devices), areas.children()
    nodes = None if areas.nodes is None else areas.total(areas.nodes)
    cut = areas.head[1:] - 1
    return {
        "areas": [
            {
                "area": area + 1,
                "buses": int(buses[area]),
                "nodes": None if nodes is None else int(nodes[area]),
                "devices": int(devices[area]),
                "parent": int(areas.above[area]) + 1 if area else None,
                "children": [child + 1 for child in below[area]],
                "tie": areas.tie(area) if area else None,
                "work_to_mean": float(relative[area]),
            }
            for area in range(areas.count)
        ],
        "largest_to_mean": float(relative.max()),
        "largest_to_mean_allowed": allowed,
        "smallest_to_mean": float(relative.min()),
        "ties": len(cut),
        "ties_at_switches": int(areas.is_switch[cut].sum()),
        "tie_phases": None if areas.phases is None else int(areas.phases[cut].sum()),
    }


def partition_report(console: Console, areas: Areas) -> None:
    """Each area's size, the expected balance, and where the cuts are."""
    console.print(area_table(areas))
    console.print(Text(balance(areas)))
    console.print(draw(areas))
    if len(areas.buses) <= SMALL_FEEDER:
        console.print(draw_buses(areas))


def area_table(areas: Areas) -> Table:
    """One line for each area: sizes, ties (to its parent and to its children) and work."""
    table = Table(title=None, box=None, pad_edge=False)
    names = ["area", "buses", *([] if areas.nodes is None else ["nodes"]), "devices", "ties", "work", "of mean"]
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("")
    relative, _ = _balance(areas)
    for area, row in enumerate(summary(areas)["areas"]):
        table.add_row(
            Text(str(row["area"]), style=_colour(area)),
            str(row["buses"]),
            *([] if areas.nodes is None else [str(row["nodes"])]),
            str(row["devices"]),
            str(len(row["children"]) + (area > 0)),
            f"{100 * relative[area] / areas.count:.1f} %",
            f"{relative[area]:.2f}",
            Text("#" * max(1, round(_BAR * relative[area] / relative.max())), style=_colour(area)),
        )
    return table


def balance(areas: Areas) -> str:
    """One sentence: how even the areas are and how even this tree lets them be; and one about the ties."""
    figures = summary(areas)
    text = (
        f"largest area {figures['largest_to_mean']:.2f} x the mean work, the tree allows "
        f"{figures['largest_to_mean_allowed']:.2f}; smallest {figures['smallest_to_mean']:.2f}"
    )
    if not figures["ties"]:
        return text
    phases = "" if figures["tie_phases"] is None else f" of {figures['tie_phases']} phases in all"
    return f"{text}\n{figures['ties']} tie(s){phases}, {figures['ties_at_switches']} at switches"


def draw(areas: Areas) -> Drawing:
    """The tree of areas: which hangs below which, and where the cut is.

    Where the tree is deep, the deepest of an area's children continues its line without indenting, so that a chain of
    64 areas is a list and every picture stays narrow.
    """
    below = areas.children()
    height = [0] * areas.count
    for area in range(areas.count - 1, 0, -1):
        height[areas.above[area]] = max(height[areas.above[area]], height[area] + 1)
    root = Drawing(Text(""))
    waiting = [(root, 0)]
    while waiting:
        node, area = waiting.pop()
        lines, side = [], []
        while True:
            lines.append(_area_line(areas, area))
            deepest = max(below[area], key=height.__getitem__, default=-1)
            straight = height[area] > _DEEPEST
            side += [child for child in below[area] if not (straight and child == deepest)]
            if not straight:
                break
            area = deepest
        node.label = Text("\n").join(lines)
        waiting += [(node.add(""), child) for child in sorted(side)]
    return root


def draw_buses(areas: Areas) -> Drawing:
    """The tree of buses, coloured and bracketed by area; buses in a row stand in one line. For small feeders."""
    below: list[list[int]] = [[] for _ in areas.buses]
    for k, parent in enumerate(areas.parent.tolist()):
        below[parent].append(k + 1)
    root = Drawing("")
    waiting = [(root, 0)]
    while waiting:
        node, bus = waiting.pop()
        area = int(areas.area_of[bus])
        row = [areas.buses[bus]]
        while len(below[bus]) == 1 and areas.area_of[below[bus][0]] == area:
            bus = below[bus][0]
            row.append(areas.buses[bus])
        node.label = Text(f"[{area + 1}] {' - '.join(row)}", style=_colour(area))
        waiting += [(node.add(""), child) for child in below[bus]]
    return root


def write_areas(path: Path, buses: Sequence[str], area_of: Ints, overwrite: bool = False) -> None:
    """Write areas.csv, whole or not at all: the area of each bus, from 1, in the order of ``buses``.

    Raises TieflowError when the file is there and may not be replaced, or cannot be written.
    """
    if os.path.isfile(path) and not overwrite:
        raise TieflowError(
            f"{path}: exists, and you may have edited it. Move it away, choose another path, or allow it to be "
            "overwritten."
        )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [("bus", "area"), *((bus, str(area + 1)) for bus, area in zip(buses, area_of.tolist(), strict=True))]
    )
    with beside(path, text.getvalue().encode()) as temporary:
        os.replace(temporary, os.path.realpath(path))


def _balance(areas: Areas) -> tuple[Floats, float]:
    """(area,) work relative to the mean, and the least possible of the largest one."""
    work = areas.total(areas.work)
    mean = float(work.mean()) or 1.0
    return work / mean, areas.allowed / mean


def _area_line(areas: Areas, area: int) -> Text:
    line = Text(f"area {area + 1}", style=_colour(area))
    if not area:
        return line.append(f" substation {areas.buses[0]}", style="default")
    depth = areas.depth[areas.head[area]]
    return line.append(f" under {areas.above[area] + 1} {areas.tie(area)}, depth {depth}", style="default")


def _colour(area: int) -> str:
    return _COLOURS[area % len(_COLOURS)]
