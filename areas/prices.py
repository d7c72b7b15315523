"""What the network of an area costs at an answer, by the multipliers of the rows in which it stands."""

from __future__ import annotations

import numpy as np

from areas.curvature import NetworkPrices
from areas.limits import COST, ROW, Parts, split
from areas.multiphase import MultiphaseModel
from common.feeder import Floats
from common.multiphase import MultiphaseFeeder
from common.objective import factors, prices
from common.partition import AreaCase


def first_prices(area: AreaCase[MultiphaseFeeder], model: MultiphaseModel) -> NetworkPrices:
    """Before there is any answer: power costs the same at all roots, voltages nothing."""
    feeder, costs = area.feeder, prices(area.settings, area.horizon)
    count = feeder.roots if model.inputs.root_varies else int((feeder.node_bus == 1).sum())
    return NetworkPrices(
        voltage=np.zeros((len(feeder.node_bus), len(area.horizon)), complex),
        power=np.repeat(costs.energy[None], count, axis=0).astype(complex),
        losses=costs.losses,
        load=np.zeros((len(area.branch_limits), len(area.horizon))),
    )


def network_prices(
    area: AreaCase[MultiphaseFeeder],
    model: MultiphaseModel,
    parts: Parts,
    v: Floats,
    equality_dual: Floats,
    dual: Floats,
) -> NetworkPrices:
    """At voltage magnitudes (node, T), by the duals of the equalities and inequalities of
    ``areas.multiphase.with_network``, in their order there."""
    periods, first = len(area.horizon), first_prices(area, model)
    voltage, power = np.zeros_like(first.voltage), np.zeros_like(first.power)
    at = 0

    def of_ends(conductors: int) -> Floats:
        """(conductor, T)"""
        nonlocal at
        at += conductors * periods
        return equality_dual[at - conductors * periods : at].reshape(periods, conductors).T

    for end in area.tie_ends:
        count = len(end.nodes)
        if end.side == "child":
            power -= of_ends(count) + 1j * of_ends(count)
        np.subtract.at(voltage, end.nodes, of_ends(count) + 1j * of_ends(count))
    if area.has_substation:
        power += first.power
    own = model.devices.counts[1]
    if "overload" in model.devices.columns:
        # A cap on substation power makes all of it dearer.
        power += dual[own : own + periods]
        own += periods
    of_limits = model.limits.price[:, None] * (parts == COST)
    limit, period = np.nonzero(parts == ROW)
    of_limits[limit, period] = dual[own : own + len(limit)]
    of_ln_v, of_load = split(len(voltage), of_limits)
    # (|V|^2 - 1)^2 by ln |V|
    deviation = np.where(area.feeder.limited[:, None], 4 * v**2 * (v**2 - 1), 0.0)
    of_ln_v = of_ln_v + factors(area.settings).voltage_deviation * deviation
    return NetworkPrices(voltage + of_ln_v, power, first.losses, of_load)
