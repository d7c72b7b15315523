"""How the network of a multi-phase area answers to its inputs: where they enter, what is measured, and the equations.

Inputs of the area in each period, in this order: real parts, then imaginary parts, of ln(V / V_no_load) at the nodes of
a child's root, p and q of each device, p and q of each conductor of the ties to its own children. Of the equations of
``common.power_flow``, linear in V and I, only the currents of legs, devices and ties are not; with V and I split into
real and imaginary parts their derivatives, which need the conjugates, are exact too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from scipy.linalg import block_diag

from common.feeder import Complexes, Floats, Ints
from common.load_law import leg_sensitivities
from common.multiphase import GROUND, MultiphaseFeeder, incidence
from common.power_flow import PowerFlow, two_port


@dataclass(frozen=True)
class Inputs:
    """Where an area's inputs enter it."""

    device_legs: tuple[tuple[Ints, Ints], ...]
    """(device,) legs (a, b) among which a device's power is shared out evenly"""
    tie_nodes: Ints
    """(tie conductor,) of the ties to the area's own children"""
    root_varies: bool
    """whether the root's voltage is an input; at the substation it is given"""
    tie_s_no_load: Complexes
    """(tie conductor,) what the children draw when nothing is connected to the feeder"""

    def count(self, roots: int) -> int:
        return (2 * roots if self.root_varies else 0) + 2 * len(self.device_legs) + 2 * len(self.tie_nodes)


@dataclass(frozen=True)
class Point:
    """An AC operating point of an area, a solution of its power flow."""

    v: Complexes
    """(node, T)"""
    i: Complexes
    """(node, T) into each node from its branch"""
    device_s: Complexes
    """(device, T) injected"""
    tie_s: Complexes
    """(tie conductor, T) drawn"""


def power_legs(inputs: Inputs) -> tuple[Ints, Ints, sp.csr_array]:
    """Legs (a, b) of all devices, and the (leg, device) matrix that shares a device's power out among its own."""
    none = np.zeros(0, np.int64)
    a = np.concatenate([none, *(legs[0] for legs in inputs.device_legs)])
    b = np.concatenate([none, *(legs[1] for legs in inputs.device_legs)])
    counts = [len(legs[0]) for legs in inputs.device_legs]
    owner = np.repeat(np.arange(len(counts)), counts)
    shares = 1 / np.repeat(np.array(counts, float), counts)
    return a, b, sp.csr_array((shares, (np.arange(len(a)), owner)), shape=(len(a), len(counts)))


@dataclass(frozen=True)
class Network:
    """An area's feeder and where its inputs enter it: all that does not depend on the operating point."""

    flow: PowerFlow
    inputs: Inputs
    device_ends: tuple[Ints, Ints]
    """(device leg,) nodes between which devices inject"""
    shares: sp.csr_array
    """(device leg, device) of a device's power"""
    devices: sp.csr_array
    """(device leg, node) voltages across them"""
    across: sp.csr_array
    """(leg, node) voltages across the legs of loads, devices and ties to children, whose power is constant or nearly"""
    drawn: Complexes
    """(leg, input) power that a leg draws more for a unit of each input"""
    intake: Meters
    """where the area's power is measured"""
    ends: BranchEnds
    """of the limited branches"""
    lost: Dissipation
    system: System


def area_network(flow: PowerFlow, inputs: Inputs, limited: Ints) -> Network:
    """The network of an area whose branches ``limited`` (branch,) have limits."""
    nodes, legs = len(flow.feeder.node_bus), flow.feeder.legs
    a, b, shares = power_legs(inputs)
    ground = np.full(len(inputs.tie_nodes), GROUND)
    ends = np.concatenate([legs.a, a, inputs.tie_nodes]), np.concatenate([legs.b, b, ground])
    of_device, of_tie = shares.toarray(), np.eye(len(inputs.tie_nodes))
    own = block_diag(np.hstack([-of_device, -1j * of_device]), np.hstack([of_tie, 1j * of_tie]))
    drawn = np.zeros((len(ends[0]), inputs.count(flow.feeder.roots)), complex)
    drawn[len(legs) :, drawn.shape[1] - own.shape[1] :] = own
    return Network(
        flow=flow,
        inputs=inputs,
        device_ends=(a, b),
        shares=shares,
        devices=incidence(a, b, nodes),
        across=incidence(*ends, nodes),
        drawn=drawn,
        intake=intake(flow, inputs),
        ends=branch_ends(flow.feeder, limited),
        lost=dissipation(flow, inputs),
        system=System(flow, *ends),
    )


def root_changes(network: Network, v: Complexes, pushed: Complexes, pulled: Complexes) -> tuple[Complexes, Complexes]:
    """What a unit of each input does by itself: (root, input) to the roots' voltages, (node, input) to the currents
    drawn from the nodes; ``pushed`` and ``pulled`` as ``input_currents`` tells."""
    inputs, roots = network.inputs, network.flow.feeder.roots
    size = inputs.count(roots)
    dv_root = np.zeros((roots, size), complex)
    if inputs.root_varies:
        dv_root[:, : 2 * roots] = np.hstack([np.diag(v[:roots]), 1j * np.diag(v[:roots])])
    rooted = np.zeros((len(v), size - 2 * (pushed.shape[1] + pulled.shape[1])))
    # A unit of p takes 1 / conj(v), a unit of q conj(j) / conj(v); devices push what children pull.
    return dv_root, np.hstack([rooted, -pushed, 1j * pushed, pulled, -1j * pulled])


@dataclass(frozen=True)
class Meters:
    """Nodes at which power is measured, and the currents drawn there as a linear function of all V and I."""

    at: Ints
    """(meter,) a node may have several"""
    from_v: sp.csr_array
    from_i: sp.csr_array

    def power(self, v: Complexes, i: Complexes) -> Complexes:
        """(meter, T) power drawn, at voltages and currents (node, T)."""
        drawn: Complexes = v[self.at] * np.conj(self.from_v @ v + self.from_i @ i)
        return drawn

    def change(self, v: Complexes, i: Complexes, dv: Complexes, di: Complexes) -> Complexes:
        """(meter, n) derivatives of the power, at (node, 1) in the directions of n changes (node, n)."""
        current = self.from_v @ v + self.from_i @ i
        moved: Complexes = dv[self.at] * np.conj(current) + v[self.at] * np.conj(self.from_v @ dv + self.from_i @ di)
        return moved


def intake(flow: PowerFlow, inputs: Inputs) -> Meters:
    """Where the power of an area is measured: at a child's root, or at the bus behind the source impedance."""
    at = np.flatnonzero(flow.feeder.node_bus == (0 if inputs.root_varies else 1))
    if inputs.root_varies:
        return Meters(at, flow.ports.c[at], flow.ports.d[at])
    nodes = len(flow.feeder.node_bus)
    delivered = sp.csr_array((np.ones(len(at)), (np.arange(len(at)), at)), shape=(len(at), nodes))
    return Meters(at, 0 * delivered, delivered)


@dataclass(frozen=True)
class BranchEnds:
    """The parent's ends of chosen branches."""

    meters: Meters
    """of every conductor"""
    total: sp.csr_array
    """(branch, meter) adds up the conductors of a branch"""

    def power(self, v: Complexes, i: Complexes) -> Complexes:
        """(branch, T) power into the branches, at voltages and currents (node, T)."""
        into: Complexes = self.total @ self.meters.power(v, i)
        return into


def branch_ends(feeder: MultiphaseFeeder, chosen: Ints) -> BranchEnds:
    """Of the branches of the given numbers (branch,), whose currents do without the shunts of their buses."""
    size = len(feeder.node_bus)
    none = sp.csr_array((0, size), dtype=complex)
    at, owner, by_v, by_i = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [none], [none]
    for row, k in enumerate(chosen):
        nodes, port = feeder.branches[k].nodes, two_port(feeder, k)
        is_child = feeder.node_bus[nodes] == k + 1
        parents, children = nodes[~is_child], nodes[is_child]
        at.append(parents)
        owner.append(np.full(len(parents), row))
        by_v.append(sp.csr_array(port.c) @ incidence(parents, np.full(len(parents), GROUND), size))
        by_i.append(sp.csr_array(port.d) @ incidence(children, np.full(len(children), GROUND), size))
    meters = Meters(np.concatenate(at), sp.vstack(by_v, format="csr"), sp.vstack(by_i, format="csr"))
    of = np.concatenate(owner)
    total = sp.csr_array((np.ones(len(of)), (of, np.arange(len(of)))), shape=(len(chosen), len(of)))
    return BranchEnds(meters, total)


def direction(s: Complexes) -> Complexes:
    """s / |s|, and 1 where that is nothing."""
    magnitude = np.abs(s)
    found: Complexes = np.ones_like(s)
    np.divide(s, magnitude, out=found, where=magnitude > 0)
    return found


def joined(one: Meters, other: Meters) -> Meters:
    """All meters of both."""
    return Meters(
        np.concatenate([one.at, other.at]),
        sp.vstack([one.from_v, other.from_v], format="csr"),
        sp.vstack([one.from_i, other.from_i], format="csr"),
    )


@dataclass(frozen=True)
class Dissipation:
    """Losses of all branches and shunts as a quadratic form in V and I. In V alone, the admittances of switches would
    drown them in rounding. The source impedance is left out: substation power is measured after it."""

    resistance: sp.csr_array
    conductance: sp.csr_array
    cross: sp.csr_array
    """between the voltages at parent ends and the currents out of child ends"""

    def at(self, v: Complexes, i: Complexes) -> Floats:
        """(T,) losses at voltages and currents (node, T)."""
        by_voltage = self.conductance @ v + self.cross @ i
        lost: Floats = (np.conj(i) * (self.resistance @ i) + np.conj(v) * by_voltage).real.sum(axis=0)
        return lost

    def gradient(self, v: Complexes, i: Complexes) -> tuple[Complexes, Complexes]:
        """(node, T) each, at voltages and currents (node, T): losses move by the real part of their products with dV
        and dI."""
        by_v = 2 * (self.conductance @ v) + self.cross @ i
        by_i = 2 * (self.resistance @ i) + self.cross.conj().T @ v
        return np.conj(by_v), np.conj(by_i)

    def of_changes(self, dv: Complexes, di: Complexes) -> Floats:
        """(n, n) symmetric form of n changes, (node, n) each."""
        by_voltage = self.conductance @ dv + self.cross @ di
        found = (np.conj(di).T @ (self.resistance @ di) + np.conj(dv).T @ by_voltage).real
        symmetric: Floats = (found + found.T) / 2
        return symmetric


def dissipation(flow: PowerFlow, inputs: Inputs) -> Dissipation:
    """A two-port loses Re(V_p* I_p - V_c* I_c) with V_c = A V_p - Z I_c and I_p = C V_p + D I_c."""
    ports, z = flow.ports, flow.ports.z
    if not inputs.root_varies:
        z = sp.csr_array(sp.diags_array(1.0 * (flow.feeder.node_bus != 1)) @ z)
    return Dissipation(
        resistance=sp.csr_array((z + z.conj().T) / 2),
        conductance=sp.csr_array((ports.c + ports.c.conj().T) / 2),
        cross=sp.csr_array(ports.d - ports.a.conj().T),
    )


def leg_derivatives(network: Network, point: Point, width: float) -> tuple[Complexes, Complexes]:
    """(leg, T) derivatives of the current that each of all legs draws, by its voltage and its conjugate."""
    flow = network.flow
    by_v, by_conjugate = leg_sensitivities(flow.feeder.legs, flow.load_incidence @ point.v, flow.multipliers, width)
    v_device, v_tie = network.devices @ point.v, point.v[network.inputs.tie_nodes]
    # The current conj(s / v) of a constant power s; devices push it.
    of_devices = np.conj((network.shares @ point.device_s) / v_device**2)
    of_ties = -np.conj(point.tie_s / v_tie**2)
    none = np.zeros((len(of_devices) + len(of_ties), point.v.shape[1]))
    return np.concatenate([by_v, none]), np.concatenate([by_conjugate, of_devices, of_ties])


def input_currents(network: Network, point: Point) -> tuple[Complexes, Complexes]:
    """(T, node, device) and (T, node, tie conductor) current 1 / conj(v) of a unit of real power."""
    tie_nodes, to_nodes = network.inputs.tie_nodes, network.devices.T
    unit = 1 / np.conj(network.devices @ point.v)
    pushed = np.array([(to_nodes @ sp.diags_array(column) @ network.shares).toarray() for column in unit.T])
    pulled = np.zeros((*point.v.T.shape, len(tie_nodes)), complex)
    for k, node in enumerate(tie_nodes):
        pulled[:, node, k] = 1 / np.conj(point.v[node])
    return pushed, pulled


class System:
    """The power flow's equations with V and I split into real and imaginary parts, for any derivatives of its legs."""

    def __init__(self, flow: PowerFlow, a: Ints, b: Ints) -> None:
        self.legs = len(a)
        self._flow = flow
        self._count = len(flow.feeder.node_bus) - flow.feeder.roots
        fixed = flow.system
        real = sp.coo_array(sp.block_array([[fixed.real, -fixed.imag], [fixed.imag, fixed.real]]))
        # Both ends of a leg feel both ends' voltages. Nothing is connected to a root's own copy of its bus.
        ends = [(a, a, 1.0), (a, b, -1.0), (b, a, -1.0), (b, b, 1.0)]
        roots = flow.feeder.roots
        self._kept = [(row >= roots) & (column >= roots) for row, column, _ in ends]
        self._signs = [sign for _, _, sign in ends]
        rows, columns = [real.row], [real.col]
        for (row, column, _), kept in zip(ends, self._kept, strict=True):
            balance, across = self._count + row[kept] - roots, column[kept] - roots
            # Real and imaginary current by real and imaginary voltage.
            for imaginary_row in (0, 2 * self._count):
                for imaginary_column in (0, 2 * self._count):
                    rows.append(balance + imaginary_row)
                    columns.append(across + imaginary_column)
        self._fixed, self._rows, self._columns = real.data, np.concatenate(rows), np.concatenate(columns)

    def at(self, by_v: Complexes, by_conjugate: Complexes) -> Factors:
        """The equations solved for legs whose currents answer to their voltages with given derivatives (leg,)."""
        same, opposite = by_v + by_conjugate, by_v - by_conjugate
        # d Re i = Re(same) dRe v - Im(opposite) dIm v and d Im i = Im(same) dRe v + Re(opposite) dIm v
        parts = (same.real, -opposite.imag, same.imag, opposite.real)
        values = [self._fixed] + [
            -sign * part[kept] for sign, kept in zip(self._signs, self._kept, strict=True) for part in parts
        ]
        shape = (4 * self._count, 4 * self._count)
        system = sp.coo_array((np.concatenate(values), (self._rows, self._columns)), shape=shape).tocsc()
        return Factors(self._flow, spla.splu(system))


class Factors:
    """The equations at an operating point, factorized."""

    def __init__(self, flow: PowerFlow, factors: spla.SuperLU) -> None:
        self._flow, self._factors = flow, factors
        self._count = len(flow.feeder.node_bus) - flow.feeder.roots

    def respond(self, dv_root: Complexes, drawn: Complexes) -> tuple[Complexes, Complexes]:
        """(node, n) changes of V and I when the roots move by ``dv_root`` and ``drawn`` more is taken."""
        if not drawn.shape[1]:
            return drawn.astype(complex), drawn.astype(complex)
        roots, count = self._flow.feeder.roots, self._count
        right = np.concatenate([self._flow.from_root @ dv_root, drawn[roots:]])
        found = self._factors.solve(np.concatenate([right.real, right.imag]))
        moved = found[: 2 * count] + 1j * found[2 * count :]
        return np.concatenate([dv_root, moved[:count]]), np.concatenate([0 * dv_root, moved[count:]])

    def worth(self, of_v: Complexes, of_i: Complexes) -> tuple[Complexes, Complexes]:
        """Of a quantity that moves by Re(of_v dV + of_i dI), (node,) each: the same as Re(at_root dV_root + of_drawn
        drawn), (root node,) and (node,). One solution of the transposed equations."""
        roots, count = self._flow.feeder.roots, self._count
        given = np.concatenate([of_v[roots:], of_i[roots:]])
        found = self._factors.solve(np.concatenate([given.real, -given.imag]), "T")
        multipliers = found[: 2 * count] - 1j * found[2 * count :]
        at_root = of_v[:roots] + self._flow.from_root.T @ multipliers[:count]
        return at_root, np.concatenate([np.zeros(roots), multipliers[count:]])
