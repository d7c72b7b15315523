"""LinDist3Flow: a multi-phase area linearized once, where nothing is drawn, without losses.

Source: Arnold, Sankur, Dobbe, Brady, Callaway and von Meier, "Optimal dispatch of reactive power for voltage regulation
and balancing in unbalanced distribution systems" (2016). There voltages are also taken as balanced; here the no-load
voltages stand in their place, and line charging, capacitors and transformers are in them. Loads count with the power
that they draw at no-load voltage.
"""

from __future__ import annotations

import numpy as np

from areas.linearization import Inputs, Linearization, Point, drawing, input_currents, root_changes
from common.power_flow import PowerFlow, leg_currents


def linearize_flat(flow: PowerFlow, inputs: Inputs) -> Linearization:
    """The same derivatives in every period, around devices and children that give and draw nothing."""
    feeder = flow.feeder
    nodes, periods = len(feeder.node_bus), flow.multipliers.shape[1]
    v_root = feeder.v_no_load[: feeder.roots, None]
    v, i = flow.linear(v_root, np.zeros((nodes, 1), complex))
    idle = Point(
        v,
        i,
        np.zeros((len(inputs.device_legs), 1), complex),
        np.zeros((len(inputs.tie_nodes), 1), complex),
    )
    pushed, pulled = (per_unit[0] for per_unit in input_currents(flow, inputs, idle))
    dv_root, drawn = root_changes(feeder, inputs, v[:, 0], pushed, pulled)
    dv, di = flow.linear(dv_root, drawn)
    load = flow.load_incidence.T @ leg_currents(feeder.legs, flow.load_incidence @ v, flow.multipliers)
    dv_load, di_load = flow.linear(np.zeros((feeder.roots, periods), complex), load)
    at, from_v, from_i = drawing(flow, inputs)
    current = from_v @ v + from_i @ i

    def power(dv: np.ndarray, di: np.ndarray) -> np.ndarray:
        change: np.ndarray = dv[at] * np.conj(current) + v[at] * np.conj(from_v @ dv + from_i @ di)
        return change

    size = inputs.count(feeder.roots)
    none = np.zeros((periods, 1))
    point = Point(v * np.exp(dv_load / v), i + di_load, idle.device_s + none.T, idle.tie_s + none.T)
    return Linearization(
        point=point,
        voltage=np.broadcast_to(dv / v, (periods, nodes, size)),
        root_s=np.broadcast_to(power(dv, di), (periods, len(at), size)),
        root_s_here=v[at] * np.conj(current) + power(dv_load, di_load),
        losses=np.zeros((periods, size, size)),
        losses_slope=np.zeros((periods, size)),
        losses_here=np.zeros(periods),
    )
