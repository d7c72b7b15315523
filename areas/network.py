"""The equations of an area's network, exact, and where everything enters them.

In every period the unknowns are V and I of every node, with the two-ports' voltage drops and the current balances of
``common.power_flow`` as equations: linear but for the currents of legs. Powers that cost something or are limited
(``Tap``) are unknowns of their own, equal to the sum of V conj(I) over conductors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from common.area_case import AreaCase
from common.feeder import Bools, Complexes, Floats, Ints
from common.multiphase import GROUND, MultiphaseFeeder, connection
from common.power_flow import PowerFlow, two_port


@dataclass(frozen=True)
class Taps:
    """Products that add up to metered powers: V at a node times the conjugate of k u, u another V or I. All (tap,)."""

    meter: Ints
    node: Ints
    """of the feeder"""
    other: Ints
    """node of the feeder"""
    is_current: Bools
    """whether u is the current into that node from its branch, not its voltage"""
    k: Complexes

    @property
    def meters(self) -> int:
        return int(self.meter.max(initial=-1)) + 1


@dataclass(frozen=True)
class Network:
    """All of an area's network that no period changes."""

    flow: PowerFlow
    unfed: Ints
    a: Ints
    """(leg,) node from 0 after those of bus 0, -1: none. Loads, then devices, then what children draw where it is an
    unknown power"""
    b: Ints
    laws: Floats
    """(load leg, 12), see ``areas.leg_kernel``"""
    owner: Ints
    """(device leg,)"""
    share: Floats
    """(device leg,) of its device's power"""
    taps: Taps


def area_network(area: AreaCase[MultiphaseFeeder], flow: PowerFlow, tie_nodes: Ints, taps: Taps) -> Network:
    """The network of an area whose children draw unknown powers at ``tie_nodes`` (they have legs after those of the
    devices), metered by ``taps``."""
    feeder, roots = area.feeder, area.feeder.roots
    legs = [connection(feeder, unit.bus, unit.phases) for unit in area.devices]
    legs += [(np.array([node]), np.array([GROUND])) for node in tie_nodes]
    none = np.zeros(0, np.int64)
    a = np.concatenate([feeder.legs.a, none, *(leg[0] for leg in legs)])
    b = np.concatenate([feeder.legs.b, none, *(leg[1] for leg in legs)])
    counts = np.array([len(leg[0]) for leg in legs], np.int64)
    owner = np.repeat(np.arange(len(counts)), counts)
    return Network(
        flow=flow,
        unfed=np.setdiff1d(np.arange(roots, len(feeder.node_bus)), flow.ports.z.row) - roots,
        a=np.where(a >= roots, a - roots, -1),
        b=np.where(b >= roots, b - roots, -1),
        laws=flow.laws,
        owner=owner,
        share=1 / counts[owner],
        taps=taps,
    )


def substation_taps(feeder: MultiphaseFeeder) -> Taps:
    """Of the power behind the source impedance."""
    return delivered_taps(feeder, 0)


def delivered_taps(feeder: MultiphaseFeeder, k: int) -> Taps:
    """Of the power that branch k delivers at its end away from the source."""
    nodes = np.flatnonzero(feeder.node_bus == k + 1)
    return Taps(0 * nodes, nodes, nodes, np.ones(len(nodes), bool), np.ones(len(nodes), complex))


def branch_taps(feeder: MultiphaseFeeder, k: int) -> Taps:
    """Of the power into branch k at its end nearer the source, charging included."""
    branch, port = feeder.branches[k], two_port(feeder, k)
    at_child = feeder.node_bus[branch.nodes] == k + 1
    parents, children = branch.nodes[~at_child], branch.nodes[at_child]
    return _taps(0 * parents, parents, [(parents, port.c, False), (children, port.d, True)])


def root_taps(flow: PowerFlow) -> Taps:
    """Of the power drawn at each node of bus 0."""
    roots, nodes = np.arange(flow.feeder.roots), np.arange(flow.ports.nodes)
    at_root = slice(len(roots)), slice(None)
    c, d = (part.part(*at_root).matrix(len(roots), len(nodes)).toarray() for part in (flow.ports.c, flow.ports.d))
    return _taps(roots, roots, [(nodes, c, False), (nodes, d, True)])


def joined_taps(parts: Sequence[Taps]) -> Taps:
    """All of them, the meters numbered one part after the other."""
    firsts = np.cumsum([0, *(part.meters for part in parts)])
    meter = [part.meter + first for part, first in zip(parts, firsts[:-1], strict=True)]
    columns = [
        np.concatenate([np.zeros(0, kind), *(getattr(part, name) for part in parts)])
        for name, kind in (("node", np.int64), ("other", np.int64), ("is_current", bool), ("k", complex))
    ]
    return Taps(np.concatenate([np.zeros(0, np.int64), *meter]), *columns)


def _taps(meter: Ints, node: Ints, terms: Sequence[tuple[Ints, Complexes, bool]]) -> Taps:
    """``meter`` and ``node`` (row,); terms of other nodes (n,), factors (row, n) and whether they are currents."""
    found = []
    for other, k, is_current in terms:
        row, column = np.nonzero(k)
        kinds = np.full(len(row), is_current)
        found.append(Taps(meter[row], node[row], other[column], kinds, np.asarray(k[row, column], complex)))
    columns = [np.concatenate([getattr(part, field.name) for part in found]) for field in fields(Taps)]
    return Taps(*columns)
