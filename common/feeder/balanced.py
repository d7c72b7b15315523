"""A balanced radial feeder: buses, branches, loads and capacitors, checked for everything that a tree must be.

Rows are the tables as the user wrote them; :class:`Feeder` is the same tree as per-unit arrays, ordered from its root.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tieflow.common.arrays import Bools, Floats, Ints
from tieflow.common.errors import CaseError
from tieflow.common.feeder.places import Places
from tieflow.common.inputs.devices import BusName
from tieflow.common.inputs.numbers import NotNegative, Number, Ohm, Positive
from tieflow.common.inputs.settings import Settings
from tieflow.common.inputs.tables import Row


class BusRow(Row):
    """A line of buses.csv: rated load and fixed shunt capacitor, per phase."""

    bus: BusName
    p_load_kw: Number = 0.0
    q_load_kvar: Number = 0.0
    q_cap_kvar: NotNegative = 0.0


class BranchRow(Row):
    """A line of branches.csv: series impedance and, optionally, the largest current and apparent power."""

    from_bus: BusName
    to_bus: BusName
    r_ohm: Ohm
    x_ohm: Ohm
    i_max_a: Positive | None = None
    s_max_kva: Positive | None = None
    """at either end"""


@dataclass(frozen=True)
class Feeder:
    """A tree in per unit. Bus 0 is the root; branch k leads from bus ``parent[k]`` to bus k + 1, parents first."""

    buses: tuple[str, ...]
    """(bus,) names"""
    parent: Ints
    """(branch,) bus index of the end nearer the root"""
    r: Floats
    """(branch,) series resistance"""
    x: Floats
    """(branch,) series reactance"""
    is_switch: Bools
    """(branch,) so little impedance that its losses are neglected"""
    l_max: Floats
    """(branch,) largest squared current magnitude, inf where there is no limit"""
    s_max: Floats
    """(branch,) largest apparent power at either end, inf where there is no limit"""
    p_load: Floats
    """(bus,) rated real load"""
    q_load: Floats
    """(bus,) rated reactive load"""
    q_cap: Floats
    """(bus,) rated reactive power of the shunt capacitor"""

    @cached_property
    def index(self) -> dict[str, int]:
        """Bus index of each bus name."""
        return {bus: i for i, bus in enumerate(self.buses)}

    @property
    def own_buses(self) -> tuple[str, ...]:
        return self.buses

    @property
    def own_parent(self) -> Ints:
        return self.parent

    @cached_property
    def own_branches(self) -> tuple[str, ...]:
        return tuple(self.branch_name(k) for k in range(len(self.parent)))

    @property
    def own_phases(self) -> Ints:
        return np.ones(len(self.parent), np.int64)

    @property
    def own_switches(self) -> Bools:
        return self.is_switch

    @property
    def own_coordinates(self) -> Floats:
        return np.full((len(self.buses), 2), np.nan)

    @property
    def flows(self) -> tuple[str, ...]:
        return self.own_branches

    @property
    def flow_noun(self) -> str:
        return "branch"

    @cached_property
    def places(self) -> Places:
        """Its buses."""
        every = np.arange(len(self.buses))
        return Places("bus", self.buses, every, every > 0)

    def path_impedance(self) -> tuple[Floats, Floats]:
        """Resistance and reactance from the root to each bus, (bus,) each."""
        r, x = np.zeros(len(self.buses)), np.zeros(len(self.buses))
        for k, parent in enumerate(self.parent):
            r[k + 1], x[k + 1] = r[parent] + self.r[k], x[parent] + self.x[k]
        return r, x

    def branch_name(self, k: int) -> str:
        return f"{self.buses[self.parent[k]]}-{self.buses[k + 1]}"


def make_feeder(buses: Sequence[BusRow], branches: Sequence[BranchRow], settings: Settings) -> Feeder:
    """Order the tree from the substation and put it in per unit. Raises CaseError for anything that is not a tree."""
    by_name = _unique_buses(buses)
    _check_branches(branches, by_name, settings)
    ordered = list(_walk(by_name, branches, settings.substation_bus))
    names = [settings.substation_bus] + [child for _, child, _ in ordered]
    position = {bus: i for i, bus in enumerate(names)}
    rows = [row for _, _, row in ordered]
    impedance_base = settings.voltage_kv**2 / 3 / (settings.base_kva / 1000)
    current_base = settings.base_kva / (settings.voltage_kv / np.sqrt(3))

    def per_bus(field: str) -> Floats:
        return np.array([getattr(by_name[bus], field) for bus in names]) / settings.base_kva

    return Feeder(
        buses=tuple(names),
        parent=np.array([position[parent] for parent, _, _ in ordered], np.int64),
        r=np.array([row.r_ohm for row in rows]) / impedance_base,
        x=np.array([row.x_ohm for row in rows]) / impedance_base,
        is_switch=np.array([_is_switch(row, settings) for row in rows], bool),
        l_max=np.array([np.inf if row.i_max_a is None else (row.i_max_a / current_base) ** 2 for row in rows]),
        s_max=np.array([np.inf if row.s_max_kva is None else row.s_max_kva / settings.base_kva for row in rows]),
        p_load=per_bus("p_load_kw"),
        q_load=per_bus("q_load_kvar"),
        q_cap=per_bus("q_cap_kvar"),
    )


def _is_switch(row: BranchRow, settings: Settings) -> bool:
    return abs(complex(row.r_ohm, row.x_ohm)) <= settings.switch_ohm


def _unique_buses(buses: Sequence[BusRow]) -> dict[str, BusRow]:
    by_name: dict[str, BusRow] = {}
    for row in buses:
        if row.bus in by_name:
            raise CaseError(f"buses.csv: duplicate bus '{row.bus}'. Add its loads up in one line.")
        by_name[row.bus] = row
    return by_name


def _check_branches(branches: Sequence[BranchRow], by_name: Mapping[str, BusRow], settings: Settings) -> None:
    if settings.substation_bus not in by_name:
        raise CaseError(f"case.toml: substation_bus '{settings.substation_bus}' is not in buses.csv.")
    seen: set[frozenset[str]] = set()
    for row in branches:
        name = f"branches.csv: branch {row.from_bus}-{row.to_bus}"
        for bus in (row.from_bus, row.to_bus):
            if bus not in by_name:
                raise CaseError(f"{name}: unknown bus '{bus}'. Add it to buses.csv or correct the name.")
        if row.from_bus == row.to_bus:
            raise CaseError(f"{name} begins and ends at the same bus. Remove it.")
        ends = frozenset((row.from_bus, row.to_bus))
        if ends in seen:
            raise CaseError(f"{name}: duplicate branch. Replace parallel branches by one of the same impedance.")
        seen.add(ends)
        if row.r_ohm == 0 and not _is_switch(row, settings):
            raise CaseError(
                f"{name}: r_ohm = 0 with x_ohm = {row.x_ohm:g}. The cone relaxation is exact only where current costs "
                "losses: give the branch its resistance, or set both to 0 for a switch."
            )


def _walk(
    by_name: Mapping[str, BusRow], branches: Sequence[BranchRow], root: str
) -> Iterator[tuple[str, str, BranchRow]]:
    """(parent bus, child bus, branch) from the root outwards, breadth first."""
    neighbours: dict[str, list[tuple[str, BranchRow]]] = defaultdict(list)
    for row in branches:
        neighbours[row.from_bus].append((row.to_bus, row))
        neighbours[row.to_bus].append((row.from_bus, row))
    reached_from: dict[str, str | None] = {root: None}
    queue, used = [root], set[int]()
    for bus in queue:
        for child, row in neighbours[bus]:
            if id(row) in used:
                continue
            used.add(id(row))
            if child in reached_from:
                raise CaseError(
                    f"branches.csv: a loop through buses {', '.join(_loop(reached_from, bus, child))}. tieflow models "
                    "radial feeders: open one of its branches (remove the line)."
                )
            reached_from[child] = bus
            queue.append(child)
            yield bus, child, row
    cut_off = [bus for bus in by_name if bus not in reached_from]
    if cut_off:
        shown = ", ".join(cut_off[:10]) + (", ..." if len(cut_off) > 10 else "")
        raise CaseError(
            f"branches.csv: {len(cut_off)} bus(es) not connected to the substation bus '{root}': {shown}. "
            "Add the missing branch or remove the buses from buses.csv."
        )


def _loop(reached_from: Mapping[str, str | None], one: str, other: str) -> list[str]:
    def to_root(bus: str | None) -> list[str]:
        path = []
        while bus is not None:
            path.append(bus)
            bus = reached_from[bus]
        return path

    a, b = to_root(one), to_root(other)
    while len(a) > 1 and len(b) > 1 and a[-2] == b[-2]:
        a.pop(), b.pop()
    return a + b[-2::-1]
