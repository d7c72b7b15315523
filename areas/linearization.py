"""A multi-phase area linearized exactly at an AC operating point: how voltages and powers answer to what is decided.

Inputs of the area in each period, in this order: w_root (real parts, then imaginary parts, of ln(V / V_no_load) at the
nodes of a child's root), p and q of each device, p and q of each conductor of the ties to its own children. Of the
equations of ``common.power_flow``, linear in V and I, only the currents at constant power are not; with V and I split
into real and imaginary parts their derivatives, which need the conjugates, are exact too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from common.feeder import Complexes, Floats, Ints
from common.multiphase import GROUND, admittance, incidence
from common.power_flow import PowerFlow, leg_sensitivities


@dataclass(frozen=True)
class Inputs:
    """Where an area's inputs enter it."""

    device_legs: tuple[tuple[Ints, Ints], ...]
    """(device,) legs (a, b) among which a device's power is shared out evenly"""
    tie_nodes: Ints
    """(tie conductor,) of the ties to the area's own children"""
    root_varies: bool
    """whether the root's voltage is an input; at the substation it is given"""

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


@dataclass(frozen=True)
class Linearization:
    """Derivatives with respect to the inputs, at a point."""

    point: Point
    voltage: Complexes
    """(T, node, input) of ln V"""
    root_s: Complexes
    """(T, root node, input) of the power that the area draws at its root: a child's from its parent, the substation's
    from the source impedance"""
    root_s_here: Complexes
    """(root node, T) that power at the point"""
    losses: Floats
    """(T, input, input) real losses of a change of inputs are the quadratic form with this positive semidefinite
    matrix, besides a linear part that ``root_s`` has"""
    losses_slope: Floats
    """(T, input) that linear part, for an objective made of losses themselves"""
    losses_here: Floats
    """(T,) losses at the point"""


def power_legs(inputs: Inputs) -> tuple[Ints, Ints, sp.csr_array]:
    """Legs (a, b) of all devices, and the (leg, device) matrix that shares a device's power out among its own."""
    none = np.zeros(0, np.int64)
    a = np.concatenate([none, *(legs[0] for legs in inputs.device_legs)])
    b = np.concatenate([none, *(legs[1] for legs in inputs.device_legs)])
    counts = [len(legs[0]) for legs in inputs.device_legs]
    owner = np.repeat(np.arange(len(counts)), counts)
    shares = 1 / np.repeat(np.array(counts, float), counts)
    return a, b, sp.csr_array((shares, (np.arange(len(a)), owner)), shape=(len(a), len(counts)))


def linearize(flow: PowerFlow, inputs: Inputs, point: Point) -> Linearization:
    """All derivatives at a point of the area's power flow."""
    feeder = flow.feeder
    roots, nodes, periods = feeder.roots, len(feeder.node_bus), point.v.shape[1]
    size = inputs.count(roots)
    a, b, shares = power_legs(inputs)
    devices, loads = incidence(a, b, nodes), flow.load_incidence
    ties = incidence(inputs.tie_nodes, np.full(len(inputs.tie_nodes), GROUND), nodes)
    # Losses in the source impedance are not the feeder's: substation power is measured after it.
    elements = (*feeder.branches[0 if inputs.root_varies else 1 :], *feeder.shunts)
    conductance = admittance(feeder, elements)
    conductance = (conductance + conductance.conj().T) / 2
    voltage = np.empty((periods, nodes, size), complex)
    root_s = np.empty((periods, len(drawing_nodes(flow, inputs)), size), complex)
    losses, losses_slope = np.empty((periods, size, size)), np.empty((periods, size))
    for t in range(periods):
        v = point.v[:, t]
        by_v, by_conjugate = leg_sensitivities(feeder.legs, (loads @ v)[:, None], flow.multipliers[:, t : t + 1])
        v_device, v_tie = devices @ v, ties @ v
        # A power s across the voltage v carries the current conj(s / v); loads and children draw it, devices push it.
        by_own_conjugate = (
            loads.T @ sp.diags_array(by_conjugate[:, 0]) @ loads
            + devices.T @ sp.diags_array(np.conj(shares @ point.device_s[:, t] / v_device**2)) @ devices
            - ties.T @ sp.diags_array(np.conj(point.tie_s[:, t] / v_tie**2)) @ ties
        )
        pushed = (devices.T @ sp.diags_array(1 / np.conj(v_device)) @ shares).toarray()
        pulled = (ties.T @ sp.diags_array(1 / np.conj(v_tie))).toarray()
        dv_root = np.zeros((roots, size), complex)
        if inputs.root_varies:
            dv_root[:, : 2 * roots] = np.hstack([np.diag(v[:roots]), 1j * np.diag(v[:roots])])
        drawn = np.hstack([np.zeros((nodes, size - 2 * (pushed.shape[1] + pulled.shape[1]))), -pushed, 1j * pushed])
        drawn = np.hstack([drawn, pulled, -1j * pulled])
        dv, di = _response(flow, loads.T @ sp.diags_array(by_v[:, 0]) @ loads, by_own_conjugate, dv_root, drawn)
        voltage[t] = dv / v[:, None]
        at = drawing_nodes(flow, inputs)
        current = drawn_currents(flow, inputs, v[:, None], point.i[:, t, None])
        root_s[t] = dv[at] * np.conj(current) + v[at, None] * np.conj(drawn_currents(flow, inputs, dv, di))
        quadratic = (np.conj(dv).T @ (conductance @ dv)).real
        losses[t] = (quadratic + quadratic.T) / 2
        losses_slope[t] = 2 * (np.conj(conductance @ v) @ dv).real
    here = (np.conj(point.v) * (conductance @ point.v)).real.sum(axis=0)
    return Linearization(point, voltage, root_s, root_power(flow, inputs, point), losses, losses_slope, here)


def root_power(flow: PowerFlow, inputs: Inputs, point: Point) -> Complexes:
    """(root node, T) power that the area draws at its root, or from the source impedance."""
    at = drawing_nodes(flow, inputs)
    power: Complexes = point.v[at] * np.conj(drawn_currents(flow, inputs, point.v, point.i))
    return power


def drawing_nodes(flow: PowerFlow, inputs: Inputs) -> Ints:
    """Nodes at which the area's power is measured: a child's root, or the bus behind the source impedance."""
    return np.flatnonzero(flow.feeder.node_bus == (0 if inputs.root_varies else 1))


def drawn_currents(flow: PowerFlow, inputs: Inputs, v: Complexes, i: Complexes) -> Complexes:
    """(drawing node, n) currents that the area draws there, or their changes."""
    at = drawing_nodes(flow, inputs)
    if not inputs.root_varies:
        return i[at]
    drawn: Complexes = flow.ports.c[at] @ v + flow.ports.d[at] @ i
    return drawn


def _response(
    flow: PowerFlow, by_v: sp.csr_array, by_conjugate: sp.csr_array, dv_root: Complexes, drawn: Complexes
) -> tuple[Complexes, Complexes]:
    """(node, n) changes of V and I when the roots move by ``dv_root`` and ``drawn`` more current is taken, while all
    drawn currents answer to V with the given derivatives."""
    roots = flow.feeder.roots
    count = len(drawn) - roots
    same, conjugate = by_v[roots:, roots:], by_conjugate[roots:, roots:]
    nothing = sp.csc_array((count, count), dtype=complex)
    m = flow.system - sp.block_array([[nothing, None], [same, nothing]])
    n = -sp.block_array([[nothing, None], [conjugate, nothing]])
    # The roots' voltages move the currents at constant power nowhere: nothing is connected to a root's own copy.
    system = sp.block_array([[m.real + n.real, n.imag - m.imag], [m.imag + n.imag, m.real - n.real]], format="csc")
    right = np.concatenate([flow.from_root @ dv_root, drawn[roots:]])
    if not right.shape[1]:
        return drawn, drawn
    found = spla.splu(system).solve(np.concatenate([right.real, right.imag]))
    moved = found[: 2 * count] + 1j * found[2 * count :]
    return np.concatenate([dv_root, moved[:count]]), np.concatenate([0 * dv_root, moved[count:]])
