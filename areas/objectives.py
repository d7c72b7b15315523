"""What an area's network counts in the objective: its own share of each term, so that areas can minimize their own."""

from __future__ import annotations

import cvxpy as cp

from areas.branch_flow import BranchFlow
from common.feeder import Feeder
from common.objective import energy, factors, losses, voltage_deviation
from common.partition import AreaCase


def network_cost(area: AreaCase[Feeder], network: BranchFlow, substation_p: cp.Expression | None) -> cp.Expression:
    """Energy, losses and voltage deviation, by what they count, $; ``substation_p`` (T,) where the area has it.

    Energy is a price of losses too, which keeps the cone relaxation tight.
    """
    counts, base, horizon = factors(area.settings), area.settings.base_kva, area.horizon
    cost: cp.Expression = cp.Constant(0.0)
    if counts.energy and substation_p is not None:
        cost = cost + counts.energy * energy(horizon, base * substation_p)
    r = area.feeder.r[~area.feeder.is_switch]
    if counts.losses and len(r):
        cost = cost + counts.losses * losses(horizon, base * (r @ network.l))
    # The first bus is the substation's, whose voltage is given, or the parent area's.
    if counts.voltage_deviation and len(area.feeder.buses) > 1:
        cost = cost + counts.voltage_deviation * voltage_deviation(network.v[1:])
    return cost
