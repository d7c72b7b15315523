"""Cutting a multi-phase case into areas, and the operating point that coordination starts from.

A tie has the conductors of the branch that leaves its bus for the child area, at the bus's end of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.branch_limits import limited_branches
from common.case import Case
from common.devices import Battery, devices_at
from common.feeder import Complexes, Ints
from common.multiphase import MultiphaseFeeder, connection, multipliers, part_of
from common.partition import AreaCase, Partition, Tie, TieEnd
from common.power_flow import Injections, PowerFlow, two_port


def cut_multiphase(case: Case, area_of: Ints, names: Sequence[str]) -> Partition:
    """The case in areas, ``area_of`` (bus,) in the order of its feeder. Area 0 holds the source."""
    feeder = case.network
    flow = PowerFlow(feeder, multipliers(feeder.legs, case.horizon.load, case.horizon.shapes))
    v, i = idle_power_flow(case, flow)
    crossing = [k for k, parent in enumerate(feeder.parent) if area_of[parent] != area_of[k + 1]]
    still_v, still_i = flow.linear(feeder.v_no_load[: feeder.roots, None], np.zeros((len(feeder.node_bus), 1), complex))
    ties, forecasts, tie_nodes, no_load_s = [], [], [], []
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
        w = np.log(v[nodes] / no_load[:, None]) + tie.z @ np.conj(s)
        forecasts.append(np.stack([w.real, s.real, s.imag, w.imag], axis=1))
        ties.append(tie)
        tie_nodes.append(nodes)
        no_load_s.append((still_v[nodes] * np.conj(port.c @ still_v[nodes] + port.d @ still_i[children]))[:, 0])
    limit = _flow_limit(case)
    areas = tuple(
        _area(case, area_of, ties, tie_nodes, no_load_s, number, name, limit) for number, name in enumerate(names)
    )
    forecast = np.concatenate([np.zeros((0, 4, len(case.horizon))), *forecasts])
    return Partition(areas=areas, ties=tuple(ties), forecast=forecast)


def idle_power_flow(case: Case, flow: PowerFlow) -> tuple[Complexes, Complexes]:
    """(node, T) voltages and currents of the whole feeder with idle devices: as nobody controls them."""
    feeder, horizon = case.network, case.horizon
    none = np.zeros(0, np.int64)
    a, b, s = [none], [none], [np.zeros((0, len(horizon)), complex)]
    for unit in case.devices:
        if isinstance(unit, Battery):
            continue
        legs = connection(feeder, unit.bus, unit.phases)
        share = horizon.idle(unit) / case.settings.base_kva / len(legs[0])
        a.append(legs[0])
        b.append(legs[1])
        s.append(np.repeat(share[None].astype(complex), len(legs[0]), axis=0))
    v_root = np.repeat(feeder.v_no_load[: feeder.roots, None], len(horizon), axis=1)
    return flow.solve(v_root, Injections(np.concatenate(a), np.concatenate(b), np.concatenate(s)))


def _area(
    case: Case,
    area_of: Ints,
    ties: Sequence[Tie],
    tie_nodes: Sequence[Ints],
    no_load_s: Sequence[Complexes],
    number: int,
    name: str,
    flow_limit: float,
) -> AreaCase[MultiphaseFeeder]:
    feeder = case.network
    own = np.flatnonzero(area_of == number)
    own_nodes = np.flatnonzero(np.isin(feeder.node_bus, own))
    # A branch belongs to the area of the bus that it leads to.
    leads_to = limited_branches(feeder, case.branch_limits) + 1
    root = next((i for i, tie in enumerate(ties) if tie.child == number), None)
    roots = 0 if root is None else len(tie_nodes[root])
    ends = [] if root is None else [TieEnd(root, "child", np.arange(roots), ties[root].z, no_load_s[root])]
    ends += [
        TieEnd(i, "parent", roots + np.searchsorted(own_nodes, tie_nodes[i]), tie.z, no_load_s[i])
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
    )


def _flow_limit(case: Case) -> float:
    """Three times all loads, shunts and devices of the feeder at their ratings, pu."""
    feeder, horizon = case.network, case.horizon
    loads = float(
        (np.abs(feeder.legs.s) @ np.abs(multipliers(feeder.legs, horizon.load, horizon.shapes))).max(initial=0)
    )
    shunts = sum(float(np.abs(np.diag(shunt.y)).sum()) for shunt in feeder.shunts)
    devices = sum(horizon.most_kva(unit) for unit in case.devices)
    return 3 * (loads + shunts + devices / case.settings.base_kva) + 1.0
