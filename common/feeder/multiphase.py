"""A multi-phase radial feeder in per unit: nodes (a phase of a bus), branches as admittance matrices, loads as legs.

Voltages and currents are complex, per unit of each node's line-to-neutral base voltage and of the power base per phase.
Node 0 of OpenDSS is ground and never appears.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from tieflow.common.arrays import Bools, Complexes, Floats, Ints
from tieflow.common.errors import CaseError
from tieflow.common.feeder.places import Places

GROUND = -1
"""the other end of a leg from a phase to ground"""
ENERGIZED_PU = 0.5
"""no-load voltage below which a node counts as dead: it has no voltage limit"""


@dataclass(frozen=True)
class Element:
    """A branch or a shunt, all conductors of it together."""

    name: str
    """its OpenDSS names, ``+`` between those that are in parallel"""
    nodes: Ints
    """(conductor,) nodes; of a branch those of the parent bus first"""
    y: Complexes
    """(conductor, conductor) primitive admittance"""
    is_switch: bool = False
    length_km: float = 0.0
    """of a line; NaN where the circuit gives its length without a unit. 0 of a switch without one and of all else"""


@dataclass(frozen=True)
class Frozen:
    """A transformer or capacitor whose control does not act."""

    element: str
    """its OpenDSS name"""
    control: str
    """the OpenDSS names of its controls in the model that was imported; empty where none is known"""
    state: str
    """``taps (1 1.05)``, per unit by winding, or ``states (1 0)``, 1 for each step of a capacitor that is on"""


@dataclass(frozen=True)
class Legs:
    """Loads by the pair of nodes that they are connected between. All arrays (leg,).

    A leg draws multiplier * (p r^alpha + j q r^beta), r the voltage across it over its rated one. Outside v_min..v_max
    OpenDSS turns it into an impedance, and so does this: above, the one of r^edge at v_max; below, its current falls in
    a line from that of r^edge at v_min to that of the rated impedance at v_low, which it keeps.
    """

    name: tuple[str, ...]
    """OpenDSS name of the load that the leg belongs to"""
    a: Ints
    """node"""
    b: Ints
    """node, or GROUND"""
    s: Complexes
    """p + jq drawn at rated voltage, multiplier 1"""
    v_rated: Floats
    alpha: Floats
    beta: Floats
    edge: Floats
    v_low: Floats
    """per rated voltage, as v_min and v_max"""
    v_min: Floats
    v_max: Floats
    shape: tuple[str, ...]
    """load shape whose multipliers the leg follows; empty: the case's ``load_pu``; FIXED: always 1"""

    def __len__(self) -> int:
        return len(self.name)

    def pick(self, chosen: Ints, node_at: Ints) -> Legs:
        """The chosen legs, their nodes renumbered by ``node_at``."""
        picked = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in picked.items():
            picked[name] = tuple(value[i] for i in chosen) if isinstance(value, tuple) else value[chosen]
        picked["a"] = node_at[picked["a"]]
        picked["b"] = np.where(picked["b"] == GROUND, GROUND, node_at[picked["b"]])
        return Legs(**picked)


TRANSFORMERS = frozenset({"transformer", "autotrans"})
"""OpenDSS's classes of branches that are transformers; regulators are of them too"""
FIXED = "(fixed)"
"""shape of loads and generators that no multiplier scales"""


@dataclass(frozen=True)
class MultiphaseFeeder:
    """A tree of buses. Bus 0 is held at a voltage; branch k leads from bus ``parent[k]`` to bus k + 1, parents first.

    Of a whole feeder, bus 0 is the ideal source behind the source impedance, which is branch 0.
    """

    buses: tuple[str, ...]
    """(bus,)"""
    parent: Ints
    """(branch,)"""
    node_bus: Ints
    """(node,) bus of each node, rising"""
    node_phase: Ints
    """(node,) OpenDSS's node number"""
    v_base: Floats
    """(node,) line-to-neutral base voltage, V"""
    branches: tuple[Element, ...]
    """(branch,)"""
    shunts: tuple[Element, ...]
    legs: Legs
    v_no_load: Complexes
    """(node,) voltage without loads"""
    grounded: Bools
    """(node,) whether the node's voltage to ground means something: false behind an ungrounded secondary"""
    coordinates: Floats
    """(bus, 2) NaN where unknown"""
    frozen: tuple[Frozen, ...] = ()
    """of a whole circuit: an area has none"""

    @cached_property
    def index(self) -> dict[str, int]:
        """Bus index of each bus name."""
        return {bus: i for i, bus in enumerate(self.buses)}

    @cached_property
    def node_index(self) -> dict[tuple[int, int], int]:
        """Node index of each bus index and phase."""
        return {node: i for i, node in enumerate(self._nodes())}

    @cached_property
    def node_names(self) -> tuple[str, ...]:
        """(node,) as OpenDSS writes them: ``bus.phase``."""
        return tuple(f"{self.buses[bus]}.{phase}" for bus, phase in self._nodes())

    def _nodes(self) -> Iterator[tuple[int, int]]:
        return zip(self.node_bus.tolist(), self.node_phase.tolist(), strict=True)

    @property
    def roots(self) -> int:
        """How many nodes bus 0 has; they come first."""
        return int((self.node_bus == 0).sum())

    @cached_property
    def limited(self) -> Bools:
        """(node,) whether voltage limits hold there: not at bus 0, dead nodes and behind ungrounded secondaries."""
        limited: Bools = (np.abs(self.v_no_load) > ENERGIZED_PU) & self.grounded
        limited[: self.roots] = False
        return limited

    @property
    def own_buses(self) -> tuple[str, ...]:
        return self.buses[1:]

    @property
    def own_parent(self) -> Ints:
        return self.parent[1:] - 1

    @cached_property
    def own_branches(self) -> tuple[str, ...]:
        return tuple(branch.name for branch in self.branches[1:])

    @cached_property
    def own_phases(self) -> Ints:
        ends = [self.node_bus[branch.nodes] != k + 1 for k, branch in enumerate(self.branches)]
        return np.array([end.sum() for end in ends[1:]], np.int64)

    @cached_property
    def own_switches(self) -> Bools:
        return np.array([branch.is_switch for branch in self.branches[1:]], bool)

    @property
    def own_coordinates(self) -> Floats:
        return self.coordinates[1:]

    @property
    def flows(self) -> tuple[str, ...]:
        return self.node_names[self.roots :]

    @property
    def flow_noun(self) -> str:
        return "node"

    @cached_property
    def places(self) -> Places:
        """Its nodes but those of bus 0."""
        own = slice(self.roots, None)
        return Places("node", self.node_names[own], self.node_bus[own] - 1, self.limited[own])

    def branch_name(self, k: int) -> str:
        return self.branches[k].name

    def nodes_of(self, bus: str) -> Ints:
        return np.flatnonzero(self.node_bus == self.index[bus])


def admittance(feeder: MultiphaseFeeder, elements: Sequence[Element] | None = None) -> sp.csc_array:
    """(node, node) bus admittance matrix of the given elements, or of all."""
    chosen = (*feeder.branches, *feeder.shunts) if elements is None else elements
    size = len(feeder.node_bus)
    if not chosen:
        return sp.csc_array((size, size), dtype=complex)
    rows = np.concatenate([np.repeat(e.nodes, len(e.nodes)) for e in chosen])
    columns = np.concatenate([np.tile(e.nodes, len(e.nodes)) for e in chosen])
    values = np.concatenate([e.y.ravel() for e in chosen])
    return sp.csc_array((values, (rows, columns)), shape=(size, size))


def incidence(a: Ints, b: Ints, size: int) -> sp.csr_array:
    """(leg, node) matrix that takes a leg's voltage from the nodes': +1 at a, -1 at b unless that is GROUND."""
    rows = np.arange(len(a))
    to_node = b != GROUND
    return sp.csr_array(
        (
            np.concatenate([np.ones(len(a)), -np.ones(to_node.sum())]),
            (np.concatenate([rows, rows[to_node]]), np.concatenate([a, b[to_node]])),
        ),
        shape=(len(a), size),
    )


def connection(feeder: MultiphaseFeeder, bus: str, phases: str) -> tuple[Ints, Ints]:
    """Legs (a, b) of a device at a bus, its power shared out evenly among them; see ``common.inputs.devices.Phases``.

    Raises CaseError when the bus lacks a phase, or a connection to ground.
    """
    if "-" not in phases and not feeder.grounded[feeder.nodes_of(bus)].all():
        raise CaseError(
            f"a device at bus '{bus}' is connected to ground, but nothing grounds the bus. Connect it between two of "
            "its phases, such as 1-2."
        )
    own = feeder.nodes_of(bus)
    if not phases:
        return own, np.full(len(own), GROUND)
    known = dict(zip(feeder.node_phase[own].tolist(), own.tolist(), strict=True))
    wanted = [int(phase) for phase in phases.replace("-", ".").split(".")]
    for phase in wanted:
        if phase not in known:
            has = ".".join(map(str, sorted(known)))
            raise CaseError(f"a device at bus '{bus}' asks for phase {phase}, but the bus has phases {has} only.")
    nodes = np.array([known[phase] for phase in wanted], np.int64)
    if "-" in phases:
        return nodes[:1], nodes[1:]
    return nodes, np.full(len(nodes), GROUND)


def path_impedance(feeder: MultiphaseFeeder) -> Complexes:
    """(bus,) impedance from bus 0 to each bus, per unit: of every branch the mean of its conductors' own
    impedances less that of their mutual ones: the positive-sequence impedance of a transposed three-phase branch."""
    found = np.zeros(len(feeder.buses), complex)
    for k, (parent, branch) in enumerate(zip(feeder.parent, feeder.branches, strict=True)):
        child = np.flatnonzero(feeder.node_bus[branch.nodes] == k + 1)
        # With the parent end held, this is what the branch looks like from its child: the line's own matrix.
        z = np.linalg.inv(branch.y[np.ix_(child, child)])
        n = len(child)
        own = np.trace(z) / n
        mutual = (z.sum() - np.trace(z)) / (n * (n - 1)) if n > 1 else 0.0
        found[k + 1] = found[parent] + own - mutual
    return found


def path_length(feeder: MultiphaseFeeder) -> Floats:
    """(bus,) length of the lines from bus 0 to each bus, km; NaN behind a line of unknown length."""
    found = np.zeros(len(feeder.buses))
    for k, (parent, branch) in enumerate(zip(feeder.parent, feeder.branches, strict=True)):
        found[k + 1] = found[parent] + branch.length_km
    return found


def multipliers(legs: Legs, load: Floats, shapes: Mapping[str, Floats]) -> Floats:
    """(leg, T) what each leg's rated power is multiplied with; ``load`` and each shape are (T,)."""
    known = {"": load, FIXED: np.ones_like(load), **shapes}
    if not len(legs):
        return np.zeros((0, len(load)))
    return np.array([known[name] for name in legs.shape])


def part_of(feeder: MultiphaseFeeder, buses: Ints, root: Ints | None) -> MultiphaseFeeder:
    """The area of the given buses, rising; ``root`` are the nodes that the area's own copy of its tie bus has, which
    come first, or None for the area of bus 0. Loads and shunts of the tie bus stay with the area that owns it."""
    first = np.zeros(0, np.int64) if root is None else root
    own = np.flatnonzero(np.isin(feeder.node_bus, buses))
    nodes = np.concatenate([first, own])
    node_at = np.full(len(feeder.node_bus), GROUND)
    node_at[nodes] = np.arange(len(nodes))
    tie_bus = feeder.node_bus[first[:1]]
    all_buses = np.concatenate([tie_bus, buses])
    bus_at = np.full(len(feeder.buses), GROUND)
    bus_at[all_buses] = np.arange(len(all_buses))
    is_own = np.zeros(len(feeder.node_bus), bool)
    is_own[own] = True
    branches = [k - 1 for k in all_buses[1:]]

    def moved(element: Element) -> Element:
        return replace(element, nodes=node_at[element.nodes])

    return MultiphaseFeeder(
        buses=tuple(feeder.buses[bus] for bus in all_buses),
        parent=bus_at[feeder.parent[branches]],
        node_bus=bus_at[feeder.node_bus[nodes]],
        node_phase=feeder.node_phase[nodes],
        v_base=feeder.v_base[nodes],
        branches=tuple(moved(feeder.branches[k]) for k in branches),
        shunts=tuple(moved(shunt) for shunt in feeder.shunts if is_own[shunt.nodes[0]]),
        legs=feeder.legs.pick(np.flatnonzero(is_own[feeder.legs.a]), node_at),
        v_no_load=feeder.v_no_load[nodes],
        grounded=feeder.grounded[nodes],
        coordinates=feeder.coordinates[all_buses],
    )
