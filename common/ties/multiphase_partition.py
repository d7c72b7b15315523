"""Cutting a multi-phase case into areas, and the operating point that coordination starts from.

A tie has the conductors of the branch that leaves its bus for the child area, at the bus's end of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tieflow.common.arrays import Complexes, Ints
from tieflow.common.case import Case
from tieflow.common.feeder.branch_limits import limited_branches
from tieflow.common.feeder.load_law import FIRST_WIDTH
from tieflow.common.feeder.multiphase import MultiphaseFeeder, multipliers, part_of
from tieflow.common.feeder.one_conductor import current_limits, power_limits
from tieflow.common.feeder.power_flow import PowerFlow, device_injections, two_port
from tieflow.common.inputs.devices import Battery, devices_at
from tieflow.common.ties.area_case import AreaCase, Partition, Rating, Tie, TieEnd
from tieflow.common.ties.thevenin import source_voltage


def cut_multiphase(case: Case, feeder: MultiphaseFeeder, area_of: Ints, names: Sequence[str]) -> Partition:
    """The case in areas of its exact feeder, ``area_of`` (bus,) in that order. Area 0 holds the source."""
    flow = PowerFlow(feeder, multipliers(feeder.legs, case.horizon.load, case.horizon.shapes))
    # Areas begin where one area would.
    v, i = idle_power_flow(case, flow, FIRST_WIDTH)
    crossing = [k for k, parent in enumerate(feeder.parent) if area_of[parent] != area_of[k + 1]]
    ties, forecasts, tie_nodes = [], [], []
    for k in crossing:
        branch, port = feeder.branches[k], two_port(feeder, k)
        nodes = branch.nodes[feeder.node_bus[branch.nodes] != k + 1]
        children = branch.nodes[feeder.node_bus[branch.nodes] == k + 1]
        no_load = feeder.v_no_load[nodes]
        tie = Tie(
            bus=feeder.buses[feeder.parent[k]],
            parent=int(area_of[feeder.parent[k]]),
            child=int(area_of[k + 1]),
            z=flow.impedance(nodes) / np.outer(no_load, np.conj(no_load)),
            phases=tuple(int(phase) for phase in feeder.node_phase[nodes]),
        )
        s = v[nodes] * np.conj(port.c @ v[nodes] + port.d @ i[children])
        w = source_voltage(np.log(v[nodes] / no_load[:, None]), tie.z, s)
        forecasts.append(np.stack([w.real, s.real, s.imag, w.imag], axis=1))
        ties.append(tie)
        tie_nodes.append(nodes)
    limit = _flow_limit(case, feeder)
    areas = tuple(
        _area(case, feeder, area_of, ties, tie_nodes, number, name, limit) for number, name in enumerate(names)
    )
    forecast = np.concatenate([np.zeros((0, 4, len(case.horizon))), *forecasts])
    return Partition(areas=areas, ties=tuple(ties), forecast=forecast)


def idle_power_flow(case: Case, flow: PowerFlow, width: float = 0.0) -> tuple[Complexes, Complexes]:
    """(node, T) voltages and currents of the whole feeder with idle devices, as nobody controls them; load laws blended
    over a ``width``."""
    feeder, horizon = flow.feeder, case.horizon
    units = [unit for unit in case.devices if not isinstance(unit, Battery)]
    idle = [horizon.idle(unit) / case.settings.base_kva for unit in units]
    s = np.array(idle, complex).reshape(len(units), len(horizon))
    v_root = np.repeat(feeder.v_no_load[: feeder.roots, None], len(horizon), axis=1)
    return flow.solve(v_root, device_injections(feeder, units, s), None, width)


def _area(
    case: Case,
    feeder: MultiphaseFeeder,
    area_of: Ints,
    ties: Sequence[Tie],
    tie_nodes: Sequence[Ints],
    number: int,
    name: str,
    flow_limit: float,
) -> AreaCase[MultiphaseFeeder]:
    own = np.flatnonzero(area_of == number)
    own_nodes = np.flatnonzero(np.isin(feeder.node_bus, own))
    # A branch belongs to the area of the bus that it leads to.
    leads_to = limited_branches(feeder, case.branch_limits) + 1
    root = next((i for i, tie in enumerate(ties) if tie.child == number), None)
    roots = 0 if root is None else len(tie_nodes[root])
    ends = [] if root is None else [TieEnd(root, "child", np.arange(roots), ties[root].z)]
    ends += [
        TieEnd(i, "parent", roots + np.searchsorted(own_nodes, tie_nodes[i]), tie.z)
        for i, tie in enumerate(ties)
        if tie.parent == number
    ]
    return AreaCase(
        name=name,
        feeder=part_of(feeder, own, None if root is None else tie_nodes[root]),
        **devices_at(case, {feeder.buses[bus] for bus in own}),
        horizon=case.horizon,
        settings=case.settings,
        has_substation=root is None,
        tie_ends=tuple(ends),
        flow_limit=flow_limit,
        branch_limits=tuple(
            limit for limit, bus in zip(case.branch_limits, leads_to, strict=True) if area_of[bus] == number
        ),
        ratings=_ratings(case, own),
    )


def _ratings(case: Case, own: Ints) -> tuple[Rating, ...]:
    """Of the branches of a balanced feeder that lead to an area's own buses, in the numbers of the area."""
    if not case.is_balanced:
        return ()
    # Branch k of the whole leads to bus k + 1; the first branch of an area leads to its first bus but bus 0.
    number = {bus - 1: k for k, bus in enumerate(own[own > 0].tolist())}
    currents, powers = current_limits(case.balanced_feeder), power_limits(case.balanced_feeder)
    i_max, s_max = (dict(zip(k.tolist(), most.tolist(), strict=True)) for k, most in (currents, powers))
    return tuple(Rating(number[k], i_max.get(k), s_max.get(k)) for k in sorted({*i_max, *s_max}) if k in number)


def _flow_limit(case: Case, feeder: MultiphaseFeeder) -> float:
    """Three times all loads, shunts and devices of the feeder at their ratings, pu."""
    horizon = case.horizon
    loads = float(
        (np.abs(feeder.legs.s) @ np.abs(multipliers(feeder.legs, horizon.load, horizon.shapes))).max(initial=0)
    )
    shunts = sum(float(np.abs(np.diag(shunt.y)).sum()) for shunt in feeder.shunts)
    devices = sum(horizon.most_kva(unit) for unit in case.devices)
    return 3 * (loads + shunts + devices / case.settings.base_kva) + 1.0
