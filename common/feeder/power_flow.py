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

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from tieflow.common.arrays import Complexes, Floats, Ints
from tieflow.common.errors import SolverError
from tieflow.common.feeder.load_law import leg_currents
from tieflow.common.feeder.multiphase import MultiphaseFeeder, admittance, connection, incidence
from tieflow.common.inputs.devices import Device

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


@dataclass(frozen=True)
class TwoPorts:
    """The branches' two-ports as (node, node) matrices, by the nodes of both ends."""

    a: sp.csr_array
    z: sp.csr_array
    c: sp.csr_array
    """shunts of the buses included"""
    d: sp.csr_array


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
    a, z, c, d = _Blocks(), _Blocks(), _Blocks(), _Blocks()
    for alike in alike_branches(feeder):
        at_p, at_c = alike.nodes[:, : alike.parents], alike.nodes[:, alike.parents :]
        try:
            port = _as_two_port(alike.y, alike.parents)
        except np.linalg.LinAlgError:
            for k in range(len(feeder.branches)):
                two_port(feeder, k)  # Raises for the first that floats.
            raise
        a.append((alike.k, at_c, at_p, port.a))
        z.append((alike.k, at_c, at_c, port.z))
        c.append((alike.k, at_p, at_p, port.c))
        d.append((alike.k, at_p, at_c, port.d))
    size = len(feeder.node_bus)
    shunts = admittance(feeder, feeder.shunts)
    return TwoPorts(_scatter(a, size), _scatter(z, size), _scatter(c, size) + shunts.tocsr(), _scatter(d, size))


class _Blocks(list[tuple[Ints, Ints, Ints, Complexes]]):
    """Dense blocks of a sparse matrix: stacks of them, by their branches (m,), rows (m, r) and columns (m, c)."""


def _scatter(blocks: _Blocks, size: int) -> sp.csr_array:
    if not blocks:
        return sp.csr_array((size, size), dtype=complex)
    # In the order of the branches: what several of them add up to must not depend on how they are stacked.
    order = np.argsort(np.concatenate([np.repeat(k, v[0].size) for k, _, _, v in blocks]), kind="stable")
    rows = np.concatenate([np.broadcast_to(r[:, :, None], v.shape).ravel() for _, r, _, v in blocks])
    columns = np.concatenate([np.broadcast_to(c[:, None, :], v.shape).ravel() for _, _, c, v in blocks])
    values = np.concatenate([v.ravel() for _, _, _, v in blocks])
    return sp.csr_array((values[order], (rows[order], columns[order])), shape=(size, size))


class PowerFlow:
    """A feeder factorized once, for many power flows."""

    def __init__(self, feeder: MultiphaseFeeder, multipliers: Floats) -> None:
        """``multipliers`` (leg, T) scale the feeder's legs. Raises SolverError for a feeder with a floating part."""
        self.feeder = feeder
        self.multipliers = multipliers
        self.ports = two_ports(feeder)
        roots = feeder.roots
        self.load_incidence = incidence(feeder.legs.a, feeder.legs.b, len(feeder.node_bus))
        self.system = tableau(self.ports, roots)
        self.from_root = self.ports.a[roots:, :roots]
        try:
            self._factors = spla.splu(self.system)
        except RuntimeError as error:
            raise SolverError(f"the feeder's equations are singular: part of it floats ({error}).") from None

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
        feeder = self.feeder
        devices = incidence(injections.a, injections.b, len(feeder.node_bus))
        nothing = np.zeros((len(feeder.node_bus), v_root.shape[1]), complex)
        v = self.linear(v_root, nothing)[0] if start is None else start
        change = np.inf
        with np.errstate(all="ignore"):
            for _ in range(ITERATIONS):
                currents = leg_currents(feeder.legs, self.load_incidence @ v, self.multipliers, width)
                drawn = self.load_incidence.T @ currents - devices.T @ np.conj(injections.s / (devices @ v))
                following, i = self.linear(v_root, drawn)
                moved, v = following - v, following
                # Where nothing fixes the voltage to ground, only differences of voltages mean something.
                parts = (moved[feeder.grounded], self.load_incidence @ moved, devices @ moved)
                change = max(float(np.abs(part).max(initial=0.0)) for part in parts)
                if change < TOLERANCE:
                    return v, i
                if not np.isfinite(change):
                    break
        raise SolverError(
            f"the power flow did not converge in {ITERATIONS} iterations (last change {change:.1e} pu). There may be "
            "more load than the feeder can carry: lower it."
        )


def tableau(ports: TwoPorts, roots: int) -> sp.csc_array:
    """The equations of V and I at all nodes but the roots: voltage drops first, then current balances."""
    a, z, c, d = (matrix[roots:, roots:] for matrix in (ports.a, ports.z, ports.c, ports.d))
    one = sp.eye_array(a.shape[0])
    # A node that its bus's branch does not reach, such as a neutral brought out below, is not fed: there I = 0.
    fed = np.diff(ports.z[roots:].indptr) > 0
    return sp.block_array(
        [[sp.diags_array(1.0 * fed) - a, z + sp.diags_array(1.0 * ~fed)], [-c, one - d]], format="csc"
    )
