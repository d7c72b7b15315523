"""A multi-phase area linearized exactly at an AC operating point: how voltages and powers answer to what is decided.

Inputs of the area in each period, in this order: real parts, then imaginary parts, of ln(V / V_no_load) at the nodes of
a child's root, p and q of each device, p and q of each conductor of the ties to its own children. Of the equations of
``common.power_flow``, linear in V and I, only the currents of legs, devices and ties are not; with V and I split into
real and imaginary parts their derivatives, which need the conjugates, are exact too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from areas.curvature import Curvature, NetworkPrices
from areas.network import Network, Point, direction, input_currents, leg_derivatives, root_changes
from common.feeder import Complexes, Floats


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
    """(T, input, input) losses of a change of inputs by itself, a positive semidefinite quadratic form: the curvature
    of the losses, whose linear part is in ``root_s``"""
    losses_slope: Floats
    """(T, input) that linear part, for an objective made of losses themselves"""
    losses_here: Floats
    """(T,) losses at the point"""
    curvature: Floats
    """(T, input, input) what the network costs beyond its linearization, at given prices, as a quadratic form"""
    load: Floats
    """(T, branch, input) of the apparent power |S| at the parent's end of each limited branch"""
    load_here: Floats
    """(branch, T) that power at the point"""
    is_lossless: bool = False
    """whether ``root_s`` leaves out the losses' linear part"""


def linearize(
    network: Network,
    point: Point,
    prices: NetworkPrices | None = None,
    width: float = 0.0,
    reach: Floats | None = None,
) -> Linearization:
    """All derivatives at a point of the area's power flow, the loads' kinks rounded over ``width``. At ``prices`` also
    the curvature, with that of the kinks within ``reach`` (leg, T) of a leg's voltage."""
    nodes, periods = point.v.shape
    lost, measured, ends = network.lost, network.intake, network.ends
    size = network.drawn.shape[1]
    bent = None if prices is None else Curvature(network, point, prices, width, reach)
    by_v, by_conjugate = leg_derivatives(network, point, width)
    pushed, pulled = input_currents(network, point)
    voltage = np.empty((periods, nodes, size), complex)
    root_s = np.empty((periods, len(measured.at), size), complex)
    losses, losses_slope = np.empty((periods, size, size)), np.empty((periods, size))
    curvature = np.zeros((periods, size, size))
    through = ends.power(point.v, point.i)
    along = np.conj(direction(through))
    load = np.empty((periods, len(through), size))
    of_v, of_i = lost.gradient(point.v, point.i)
    for t in range(periods):
        v, i = point.v[:, t], point.i[:, t]
        factors = network.system.at(by_v[:, t], by_conjugate[:, t])
        dv, di = factors.respond(*root_changes(network, v, pushed[t], pulled[t]))
        voltage[t] = dv / v[:, None]
        root_s[t] = measured.change(v[:, None], i[:, None], dv, di)
        load[t] = (along[:, [t]] * (ends.total @ ends.meters.change(v[:, None], i[:, None], dv, di))).real
        losses[t] = lost.of_changes(dv, di)
        losses_slope[t] = (of_v[:, t] @ dv + of_i[:, t] @ di).real
        if bent is not None:
            curvature[t] = bent.form(t, dv, di, factors)
    here = lost.at(point.v, point.i)
    drawn = measured.power(point.v, point.i)
    return Linearization(point, voltage, root_s, drawn, losses, losses_slope, here, curvature, load, np.abs(through))
