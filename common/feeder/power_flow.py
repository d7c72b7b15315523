"""AC power flow of a multi-phase feeder or an area of it, all periods at once.

Every branch is a two-port from its primitive admittance Y: the voltage at its child end is A V_p - Z I, the current
into its parent end C V_p + D I, where I is what it delivers into the child bus, Z = Y_cc^-1, A = -Z Y_cp, C = Y_pp +
Y_pc A and D = -Y_pc Z. With a current balance at every node this is one sparse linear system in V and I, factorized
once; loads and devices are iterated as current sources (the implicit Z-bus Gauss method, Chen et al., "Distribution
system power flow analysis - a rigid approach" (1991)). Unlike a bus admittance matrix, whose digits drown in the
admittance of switches, it keeps full accuracy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from tieflow.common.arrays import Complexes, Floats, Ints
from tieflow.common.errors import SolverError
from tieflow.common.feeder.load_law import law_currents, law_table
from tieflow.common.feeder.multiphase import GROUND, MultiphaseFeeder, connection, incidence
from tieflow.common.inputs.devices import Device
from tieflow.common.row_kernels import add_rows

TOLERANCE = 1e-10
"""largest change of a voltage, pu, at which the iteration has converged"""
ITERATIONS = 200
ROUNDING = 4e-16
"""a two-port's C below this share of its largest admittance is what rounding left of zero"""


@dataclass(frozen=True)
class Injections:
    """Constant powers put into the feeder between pairs of nodes."""

    a: Ints
    """(leg,)"""
    b: Ints
    """(leg,) node or GROUND"""
    s: Complexes
    """(leg, T)"""


def device_injections(feeder: MultiphaseFeeder, units: Sequence[Device], s: Complexes) -> Injections:
    """What devices put in, (device, T) pu, shared evenly by their legs."""
    none, periods = np.zeros(0, np.int64), s.shape[1]
    legs = [connection(feeder, unit.bus, unit.phases) for unit in units]
    return Injections(
        np.concatenate([none, *(a for a, _ in legs)]),
        np.concatenate([none, *(b for _, b in legs)]),
        np.concatenate(
            [
                np.zeros((0, periods), complex),
                *(np.tile(own / len(a), (len(a), 1)) for own, (a, _) in zip(s, legs, strict=True)),
            ]
        ),
    )


class Terms(NamedTuple):
    """Of a sparse matrix: those of one place add up."""

    row: Ints
    column: Ints
    value: Complexes

    def part(self, rows: slice, columns: slice) -> Terms:
        """Those of some rows and columns, counted from their first."""
        kept = (self.row >= (rows.start or 0)) & (self.column >= (columns.start or 0))
        kept &= (self.row < (rows.stop or np.inf)) & (self.column < (columns.stop or np.inf))
        row, column = self.row[kept] - (rows.start or 0), self.column[kept] - (columns.start or 0)
        return Terms(row, column, self.value[kept])

    def matrix(self, rows: int, columns: int) -> sp.csr_array:
        return sp.csr_array((self.value, (self.row, self.column)), shape=(rows, columns))


@dataclass(frozen=True)
class TwoPorts:
    """The branches' two-ports as matrices (node, node), by the nodes of both ends."""

    a: Terms
    z: Terms
    c: Terms
    """shunts of the buses included"""
    d: Terms
    nodes: int


@dataclass(frozen=True)
class TwoPort:
    """One branch, or a stack of branches: V_c = a V_p - z I and the current into its parent end c V_p + d I, by its own
    nodes."""

    a: Complexes
    z: Complexes
    c: Complexes
    d: Complexes


@dataclass(frozen=True)
class Alike:
    """The branches with as many nodes at either end as each other, to be worked on at once."""

    k: Ints
    """(m,) rising"""
    nodes: Ints
    """(m, n) those of the parent bus first"""
    parents: int
    """how many of a branch's nodes are at its parent bus"""
    y: Complexes
    """(m, n, n)"""


def alike_branches(feeder: MultiphaseFeeder) -> list[Alike]:
    """All branches of the feeder."""
    sizes: dict[tuple[int, int], list[int]] = defaultdict(list)
    branch_of = np.repeat(np.arange(len(feeder.branches)), [len(branch.nodes) for branch in feeder.branches])
    nodes = np.concatenate([np.zeros(0, np.int64), *(branch.nodes for branch in feeder.branches)])
    parents = np.bincount(branch_of[feeder.node_bus[nodes] != branch_of + 1], minlength=len(feeder.branches))
    for k, count in enumerate(parents.tolist()):
        sizes[len(feeder.branches[k].nodes), count].append(k)
    return [
        Alike(
            np.array(ks),
            np.array([feeder.branches[k].nodes for k in ks]),
            count,
            np.array([feeder.branches[k].y for k in ks]),
        )
        for (_, count), ks in sizes.items()
    ]


def branch_losses(feeder: MultiphaseFeeder, v: Complexes, i: Complexes) -> Floats:
    """(branch, T) real power lost, at voltages and currents into each node from its branch, (node, T) each.

    Re(V_p* I_p - V_c* I_c) as a quadratic form in V_p and I_c: from both ends' voltages, a switch's admittance would
    drown it in rounding. Raises LinAlgError for a branch whose child end floats.
    """
    lost = np.zeros((len(feeder.branches), v.shape[1]))
    for alike in alike_branches(feeder):
        port = _as_two_port(alike.y, alike.parents)
        v_p, i_c = v[alike.nodes[:, : alike.parents]], i[alike.nodes[:, alike.parents :]]
        by_current = port.z @ i_c
        by_voltage = port.c @ v_p + (port.d - np.conj(port.a).swapaxes(-1, -2)) @ i_c
        lost[alike.k] = (np.conj(i_c) * by_current).real.sum(axis=1) + (np.conj(v_p) * by_voltage).real.sum(axis=1)
    return lost


def two_port(feeder: MultiphaseFeeder, k: int) -> TwoPort:
    """Branch k as a two-port. Raises SolverError when its child end floats."""
    branch = feeder.branches[k]
    try:
        return _as_two_port(branch.y, int((feeder.node_bus[branch.nodes] != k + 1).sum()))
    except np.linalg.LinAlgError:
        raise SolverError(f"{branch.name}: its end at bus '{feeder.buses[k + 1]}' floats.") from None


def _as_two_port(y: Complexes, parents: int) -> TwoPort:
    """``y`` is (n, n) or (m, n, n), the ``parents`` nodes of the parent end first. LinAlgError: a child end floats."""
    pp, pc = y[..., :parents, :parents], y[..., :parents, parents:]
    cp, cc = y[..., parents:, :parents], y[..., parents:, parents:]
    z = np.linalg.inv(cc).astype(complex)
    a: Complexes = -z @ cp
    c = pp + pc @ a
    c[np.abs(c) < ROUNDING * np.abs(y).max(axis=(-2, -1), keepdims=True)] = 0.0
    d: Complexes = -pc @ z
    return TwoPort(a, z, c, d)


def two_ports(feeder: MultiphaseFeeder) -> TwoPorts:
    """The two-ports of all branches. Raises SolverError for a branch whose child end floats."""
    blocks: dict[str, list[_Block]] = {name: [] for name in "azcd"}
    for alike in alike_branches(feeder):
        at_p, at_c = alike.nodes[:, : alike.parents], alike.nodes[:, alike.parents :]
        try:
            port = _as_two_port(alike.y, alike.parents)
        except np.linalg.LinAlgError:
            for k in range(len(feeder.branches)):
                two_port(feeder, k)  # Raises for the first that floats.
            raise
        blocks["a"].append((alike.k, at_c, at_p, port.a))
        blocks["z"].append((alike.k, at_c, at_c, port.z))
        blocks["c"].append((alike.k, at_p, at_p, port.c))
        blocks["d"].append((alike.k, at_p, at_c, port.d))
    last = len(feeder.branches)
    blocks["c"] += [(np.array([last]), e.nodes[None], e.nodes[None], e.y[None]) for e in feeder.shunts]
    return TwoPorts(**{name: _scattered(own) for name, own in blocks.items()}, nodes=len(feeder.node_bus))


_Block = tuple[Ints, Ints, Ints, Complexes]
"""a stack of dense blocks of a sparse matrix, by their branches (m,), rows (m, r) and columns (m, c)"""


def _scattered(blocks: Sequence[_Block]) -> Terms:
    if not blocks:
        return Terms(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, complex))
    k = np.concatenate([np.repeat(k, v[0].size) for k, _, _, v in blocks])
    rows = np.concatenate([np.broadcast_to(r[:, :, None], v.shape).ravel() for _, r, _, v in blocks])
    columns = np.concatenate([np.broadcast_to(c[:, None, :], v.shape).ravel() for _, _, c, v in blocks])
    values = np.concatenate([v.ravel() for _, _, _, v in blocks])
    # In the order of the branches: what several of them add up to must not depend on how they are stacked.
    order = np.argsort(k, kind="stable")
    order = order[values[order] != 0.0]
    return Terms(rows[order], columns[order], values[order])


class PowerFlow:
    """A feeder factorized once, for many power flows."""

    def __init__(self, feeder: MultiphaseFeeder, multipliers: Floats) -> None:
        """``multipliers`` (leg, T) scale the feeder's legs. Raises SolverError for a feeder with a floating part."""
        self.feeder = feeder
        self.multipliers = multipliers
        self.ports = two_ports(feeder)
        roots, size = feeder.roots, len(feeder.node_bus)
        self.laws = law_table(feeder.legs)
        self.terms = tableau(self.ports, roots)
        places = self.terms.row, self.terms.column
        self.system = sp.csc_array((self.terms.value, places), shape=(2 * (size - roots), 2 * (size - roots)))
        self.root_terms = self.ports.a.part(slice(roots, None), slice(roots))
        self.from_root = self.root_terms.matrix(size - roots, roots)
        try:
            self._factors = spla.splu(self.system)
        except RuntimeError as error:
            raise SolverError(f"the feeder's equations are singular: part of it floats ({error}).") from None

    @cached_property
    def load_incidence(self) -> sp.csr_array:
        return incidence(self.feeder.legs.a, self.feeder.legs.b, len(self.feeder.node_bus))

    def linear(self, v_root: Complexes, drawn: Complexes) -> tuple[Complexes, Complexes]:
        """(node, T) voltages and currents into each node from its branch, ``drawn`` (node, T) taken from the nodes."""
        roots = self.feeder.roots
        count = len(drawn) - roots
        found = self._factors.solve(np.concatenate([self.from_root @ v_root, drawn[roots:]]))
        return np.concatenate([v_root, found[:count]]), np.concatenate([0 * v_root, found[count:]])

    def impedance(self, nodes: Ints) -> Complexes:
        """(n, n) Thevenin impedance matrix seen at the given nodes, loads left out."""
        drawn = np.zeros((len(self.feeder.node_bus), len(nodes)), complex)
        drawn[nodes, np.arange(len(nodes))] = -1.0
        return self.linear(np.zeros((self.feeder.roots, len(nodes)), complex), drawn)[0][nodes]

    def solve(
        self, v_root: Complexes, injections: Injections, start: Complexes | None = None, width: float = 0.0
    ) -> tuple[Complexes, Complexes]:
        """(node, T) voltages and currents into each node from its branch, at ``v_root`` (root node, T), loads' kinks
        rounded over ``width``.

        Raises SolverError when the iteration does not converge.
        """
        feeder, loads = self.feeder, len(self.feeder.legs)
        a, b = np.concatenate([feeder.legs.a, injections.a]), np.concatenate([feeder.legs.b, injections.b])
        between = np.flatnonzero(b != GROUND)
        b = b[between]

        def voltage(v: Complexes) -> Complexes:
            found: Complexes = v[a]
            found[between] -= v[b]
            return found

        nothing = np.zeros((len(feeder.node_bus), v_root.shape[1]), complex)
        v = self.linear(v_root, nothing)[0] if start is None else start
        across = voltage(v)
        change = np.inf
        with np.errstate(all="ignore"):
            for _ in range(ITERATIONS):
                current = law_currents(self.laws, across[:loads], self.multipliers, width)
                current = np.concatenate([current, -np.conj(injections.s / across[loads:])])
                drawn = nothing.copy()
                add_rows(a, current, drawn, 0)
                add_rows(b, -current[between], drawn, 0)
                following, i = self.linear(v_root, drawn)
                after = voltage(following)
                # Where nothing fixes the voltage to ground, only differences of voltages mean something.
                parts = ((following - v)[feeder.grounded], after - across)
                change = max(float(np.abs(part).max(initial=0.0)) for part in parts)
                v, across = following, after
                if change < TOLERANCE:
                    return v, i
                if not np.isfinite(change):
                    break
        raise SolverError(
            f"the power flow did not converge in {ITERATIONS} iterations (last change {change:.1e} pu). There may be "
            "more load than the feeder can carry: lower it."
        )


def tableau(ports: TwoPorts, roots: int) -> Terms:
    """The equations of V and I at all nodes but the roots: voltage drops first, then current balances."""
    own, n = slice(roots, None), ports.nodes - roots
    a, z, c, d = (terms.part(own, own) for terms in (ports.a, ports.z, ports.c, ports.d))
    # A node that its bus's branch does not reach, such as a neutral brought out below, is not fed: there I = 0.
    is_fed = np.zeros(n, bool)
    is_fed[z.row] = True
    fed, unfed, each = np.flatnonzero(is_fed), np.flatnonzero(~is_fed), np.arange(n)
    return Terms(
        np.concatenate([fed, unfed, n + each, a.row, z.row, n + c.row, n + d.row]),
        np.concatenate([fed, n + unfed, n + each, a.column, n + z.column, c.column, n + d.column]),
        np.concatenate([np.ones(2 * n, complex), -a.value, z.value, -c.value, -d.value]),
    )
