"""LinDist3Flow: a multi-phase area linearized once, where nothing is drawn; losses are in the cost, not in the flows.

Source: Arnold, Sankur, Dobbe, Brady, Callaway and von Meier, "Optimal dispatch of reactive power for voltage regulation
and balancing in unbalanced distribution systems" (2016). There voltages are also taken as balanced; here the no-load
voltages stand in their place, and line charging, capacitors and transformers are in them. Loads count with the power
that they draw at no-load voltage.
"""

from __future__ import annotations

import numpy as np

from areas.linearization import Linearization
from areas.network import Network, Point, input_currents, root_changes
from common.load_law import leg_currents


def linearize_flat(network: Network) -> Linearization:
    """The same derivatives in every period, around a feeder to which nothing is connected."""
    flow, inputs, system = network.flow, network.inputs, network.system
    feeder = flow.feeder
    nodes, periods = len(feeder.node_bus), flow.multipliers.shape[1]
    v_root = feeder.v_no_load[: feeder.roots, None]
    tie_s = inputs.tie_s_no_load[:, None]
    drawn_below = np.zeros((nodes, 1), complex)
    # Several children may hang on one bus.
    np.add.at(drawn_below, inputs.tie_nodes, np.conj(tie_s / feeder.v_no_load[inputs.tie_nodes, None]))
    v, i = flow.linear(v_root, drawn_below)
    idle = Point(v, i, np.zeros((len(inputs.device_legs), 1), complex), tie_s)
    pushed, pulled = (per_unit[0] for per_unit in input_currents(network, idle))
    dv_root, drawn = root_changes(network, v[:, 0], pushed, pulled)
    # Only what children draw at no load depends on the voltage, as a power that is given.
    by_v = np.zeros(system.legs, complex)
    by_conjugate = by_v.copy()
    by_conjugate[system.legs - len(tie_s) :] = -np.conj(tie_s[:, 0] / v[inputs.tie_nodes, 0] ** 2)
    factors = system.at(by_v, by_conjugate)
    dv, di = factors.respond(dv_root, drawn)
    load = flow.load_incidence.T @ leg_currents(feeder.legs, flow.load_incidence @ v, flow.multipliers)
    dv_load, di_load = factors.respond(np.zeros((feeder.roots, periods), complex), load)
    size = inputs.count(feeder.roots)
    # The load of a period beside the inputs: what it loses by itself, and what an input adds to that.
    forms = [
        network.lost.of_changes(np.column_stack([dv, dv_load[:, t]]), np.column_stack([di, di_load[:, t]]))
        for t in range(periods)
    ]
    losses = np.array(forms).reshape(periods, size + 1, size + 1)
    device_s, child_s = (np.repeat(s, periods, axis=1) for s in (idle.device_s, idle.tie_s))
    point = Point(v * np.exp(dv_load / v), i + di_load, device_s, child_s)
    measured = network.intake
    return Linearization(
        point=point,
        voltage=np.broadcast_to(dv / v, (periods, nodes, size)),
        root_s=np.broadcast_to(measured.change(v, i, dv, di), (periods, len(measured.at), size)),
        root_s_here=measured.power(v, i) + measured.change(v, i, dv_load, di_load),
        losses=losses[:, :-1, :-1],
        losses_slope=2 * losses[:, :-1, -1],
        losses_here=losses[:, -1, -1],
        curvature=np.zeros((periods, size, size)),
        load=np.zeros((periods, 0, size)),
        load_here=np.zeros((0, periods)),
        is_lossless=True,
    )
