"""Cutting a case into areas: who owns which bus, branch and device, and where the areas meet.

Every tie splits a bus in two. The parent area keeps the bus with its load and devices; the child area gets a copy of it
as its root, and owns the branch that leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tieflow.common.arrays import Ints
from tieflow.common.case import Case
from tieflow.common.errors import CaseError, did_you_mean
from tieflow.common.feeder.balanced import Feeder
from tieflow.common.feeder.places import AnyFeeder
from tieflow.common.inputs.devices import DEVICE_KINDS, devices_at
from tieflow.common.ties.area_case import AreaCase, Partition, Tie, TieEnd
from tieflow.common.ties.multiphase_partition import cut_multiphase


def one_area(case: Case, exact: bool = False) -> Partition:
    """The whole feeder as a single area without ties: the centralized problem."""
    return _cut(case, np.zeros(len(case.feeder.own_buses), np.int64), ["all"], exact)


def partition(case: Case, exact: bool = False) -> Partition:
    """Cut the case as its areas.csv says; one area when it says nothing. ``exact`` areas of a balanced feeder are those
    of its one conductor, whose equations are exact.

    Raises CaseError when a bus has no area or two, or an area is not connected.
    """
    if not case.areas:
        return one_area(case, exact)
    area_of, names = area_numbers(case)
    return _cut(case, area_of, names, exact)


def area_numbers(case: Case) -> tuple[Ints, list[str]]:
    """(bus,) area of each bus of the feeder as areas.csv says, numbered in the order of their first bus, and their
    names. Raises CaseError when a bus has no area or two, or an area is not connected."""
    area_of: dict[str, str] = {}
    buses = case.feeder.own_buses
    for row in case.areas:
        if row.bus not in buses:
            raise CaseError(f"areas.csv: unknown bus '{row.bus}'.{did_you_mean(row.bus, buses)}")
        if row.bus in area_of:
            raise CaseError(f"areas.csv: bus '{row.bus}' appears twice. Keep one line for each bus.")
        area_of[row.bus] = row.area
    missing = [bus for bus in buses if bus not in area_of]
    if missing:
        raise CaseError(
            f"areas.csv: no area for {len(missing)} bus(es): {', '.join(missing[:10])}. Add a line for each bus."
        )
    names = list(dict.fromkeys(area_of[bus] for bus in buses))
    _check_connected(case.feeder, area_of)
    return np.array([names.index(area_of[bus]) for bus in buses]), names


def without_thevenin(parts: Partition) -> Partition:
    """The same areas, with v itself as the boundary voltage w."""
    areas = tuple(
        replace(area, tie_ends=tuple(replace(end, z=0 * end.z) for end in area.tie_ends)) for area in parts.areas
    )
    return replace(parts, areas=areas, ties=tuple(replace(tie, z=0 * tie.z) for tie in parts.ties))


def _check_connected(feeder: AnyFeeder, area_of: Mapping[str, str]) -> None:
    """In a tree, an area is connected if and only if one bus only has its parent in another area."""
    head: dict[str, str] = {area_of[feeder.own_buses[0]]: feeder.own_buses[0]}
    for k, parent in enumerate(feeder.own_parent):
        bus = feeder.own_buses[k + 1]
        area = area_of[bus]
        if area == area_of[feeder.own_buses[parent]]:
            continue
        if area in head:
            raise CaseError(
                f"areas.csv: area {area} is not connected: its parts at buses '{head[area]}' and '{bus}' meet only "
                "through other areas. Give one of the parts an area of its own."
            )
        head[area] = bus


def _cut(case: Case, area_of: Ints, names: list[str], exact: bool) -> Partition:
    if exact or not case.is_balanced:
        # The ideal source goes with the substation.
        return cut_multiphase(case, case.exact_feeder, np.concatenate([area_of[:1], area_of]), names)
    feeder = case.balanced_feeder
    r_path, x_path = feeder.path_impedance()
    crossing = [k for k, parent in enumerate(feeder.parent) if area_of[parent] != area_of[k + 1]]
    ties = tuple(
        Tie(
            bus=feeder.buses[feeder.parent[k]],
            parent=int(area_of[feeder.parent[k]]),
            child=int(area_of[k + 1]),
            z=np.array([[complex(r_path[feeder.parent[k]], x_path[feeder.parent[k]])]]),
        )
        for k in crossing
    )
    areas = tuple(_area(case, area_of, ties, crossing, number, name) for number, name in enumerate(names))
    return Partition(areas=areas, ties=ties)


def _area(
    case: Case, area_of: np.ndarray, ties: tuple[Tie, ...], crossing: list[int], number: int, name: str
) -> AreaCase[Feeder]:
    feeder = case.balanced_feeder
    own = np.flatnonzero(area_of == number)
    root_tie = next((i for i, tie in enumerate(ties) if tie.child == number), None)
    root_copy = [] if root_tie is None else [int(feeder.parent[crossing[root_tie]])]
    buses = np.array(root_copy + own.tolist(), np.int64)
    position = {int(bus): i for i, bus in enumerate(buses)}
    branches = buses[1:] - 1
    owned = np.ones(len(buses))
    owned[: len(root_copy)] = 0.0
    area_feeder = Feeder(
        buses=tuple(feeder.buses[bus] for bus in buses),
        parent=np.array([position[int(feeder.parent[k])] for k in branches], np.int64),
        r=feeder.r[branches],
        x=feeder.x[branches],
        is_switch=feeder.is_switch[branches],
        l_max=feeder.l_max[branches],
        s_max=feeder.s_max[branches],
        p_load=feeder.p_load[buses] * owned,
        q_load=feeder.q_load[buses] * owned,
        q_cap=feeder.q_cap[buses] * owned,
    )
    ends = [] if root_tie is None else [TieEnd(root_tie, "child", np.array([0]), ties[root_tie].z)]
    ends += [
        TieEnd(i, "parent", np.array([position[feeder.index[tie.bus]]]), tie.z)
        for i, tie in enumerate(ties)
        if tie.parent == number
    ]
    return AreaCase(
        name=name,
        feeder=area_feeder,
        **devices_at(case, {feeder.buses[bus] for bus in own}),
        horizon=case.horizon,
        settings=case.settings,
        has_substation=number == 0,
        tie_ends=tuple(ends),
        flow_limit=_flow_limit(case),
    )


def _flow_limit(case: Case) -> float:
    """Three times all loads, capacitors and devices of the feeder at their ratings."""
    horizon = case.horizon
    loads = sum(abs(complex(row.p_load_kw, row.q_load_kvar)) for row in case.buses) * np.abs(horizon.load).max()
    capacitors = sum(row.q_cap_kvar for row in case.buses)
    devices = sum(sum(horizon.most_kva(unit) for unit in getattr(case, kind)) for kind in DEVICE_KINDS)
    return float(3 * (loads + capacitors + devices) / case.settings.base_kva)
