"""What an area minimizes, by name. Every objective is a sum over areas, so that areas can minimize their own share."""

from __future__ import annotations

from collections.abc import Callable

import cvxpy as cp
import numpy as np

from areas.branch_flow import BranchFlow
from common.feeder import Feeder
from common.partition import AreaCase


def energy_cost(area: AreaCase[Feeder], network: BranchFlow, substation_p: cp.Expression | None) -> cp.Expression:
    """Price of substation energy, $."""
    if substation_p is None:
        return cp.Constant(0.0)
    horizon = area.horizon
    return cp.sum(cp.multiply(horizon.price * horizon.dt * area.settings.base_kva, substation_p))


def losses(area: AreaCase[Feeder], network: BranchFlow, substation_p: cp.Expression | None) -> cp.Expression:
    """Energy lost in the branches, kWh."""
    r = area.feeder.r[~area.feeder.is_switch]
    if not len(r):
        return cp.Constant(0.0)
    return area.horizon.dt * area.settings.base_kva * cp.sum(r @ network.l)


def voltage_deviation(area: AreaCase[Feeder], network: BranchFlow, substation_p: cp.Expression | None) -> cp.Expression:
    """Energy cost plus the weighted sum of (v - 1)^2 over buses and periods, v the squared voltage.

    A tie's bus counts in the area that owns it. The energy cost keeps the cone relaxation tight.
    """
    owned = network.v if area.has_substation else network.v[1:]
    deviation = area.settings.voltage_deviation_weight * cp.sum_squares(owned - np.ones(owned.shape))
    return energy_cost(area, network, substation_p) + deviation


OBJECTIVES: dict[str, Callable[[AreaCase[Feeder], BranchFlow, cp.Expression | None], cp.Expression]] = {
    "cost": energy_cost,
    "losses": losses,
    "voltage_deviation": voltage_deviation,
    "peak": energy_cost,
}
"""``peak`` is the energy cost under the cap that the settings demand with it."""
