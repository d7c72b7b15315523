"""Which limits of the network enter an area's problem, and how.

A feeder has thousands of voltage limits in every period, and few that decide anything. A limit that a problem's answer
keeps is left out; one that it oversteps by far counts as a cost only, linear in what is limited; one near which the
answer lies is a row with a slack. The problem with all limits has the same answer as soon as that answer bears out
every one's part.

Limits have one axis: the upper voltage limit of every node, then the lower one of every node, then the apparent power
of limited branches. What is beyond a voltage limit is a logarithm of voltage, beyond a branch's a power, pu.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from areas.linearization import Linearization
from common.feeder import Bools, Floats, Ints
from common.multiphase import MultiphaseFeeder
from common.partition import AreaCase

LEFT_OUT, ROW, COST = 0, 1, 2
TOLERANCE = 1e-7
"""distance by which an answer may contradict the part of a limit"""
FAR = 0.01
"""distance between a limit and an answer beyond which the limit is expected not to turn"""
NEAR = 0.02
"""distance about a limit within which it becomes a row where limits are softened"""
LOAD_DISTANCE = 0.05
"""of a branch without load from its limit. Distances are logarithms of voltage"""
NEW_ROWS = 30
"""rows that are added at a time in each period: the worst ones; then twice as many each time"""

Parts = NDArray[np.int8]
"""(limit, T) LEFT_OUT, ROW or COST"""


@dataclass(frozen=True)
class Limits:
    """The limits of an area's network."""

    v_min: float
    v_max: float
    s_max: Floats
    """(branch,)"""
    exists: Bools
    """(limit,)"""
    price: Floats
    """(limit,) $ of a unit beyond it in a period"""
    distance: Floats
    """(limit,) distance that a unit beyond it counts as"""

    def beyond(self, v: Floats, load: Floats) -> Floats:
        """(limit, T) what magnitudes of voltage (node, T) and power (branch, T) are beyond each; negative inside."""
        log_v = np.log(v)
        above, below = log_v - np.log(self.v_max), np.log(self.v_min) - log_v
        return np.concatenate([above, below, load - self.s_max[:, None]])


def area_limits(area: AreaCase[MultiphaseFeeder]) -> Limits:
    settings, nodes = area.settings, len(area.feeder.node_bus)
    s_max = np.array([limit.s_max_kva for limit in area.branch_limits]) / settings.base_kva
    prices = settings.voltage_slack_price, settings.overload_price_per_kvah * settings.base_kva
    kinds = [2 * nodes, len(s_max)]
    return Limits(
        v_min=settings.v_min_pu,
        v_max=settings.v_max_pu,
        s_max=s_max,
        exists=np.concatenate([area.feeder.limited, area.feeder.limited, np.ones(len(s_max), bool)]),
        price=np.repeat(prices, kinds) * area.horizon.dt,
        distance=np.concatenate([np.ones(2 * nodes), LOAD_DISTANCE / s_max]),
    )


def derivatives(at: Linearization, limit: Ints, period: Ints) -> Floats:
    """(row, input) of what is beyond chosen limits."""
    nodes = at.voltage.shape[1]
    of_branch = limit >= 2 * nodes
    node, sign = limit[~of_branch] % nodes, np.where(limit[~of_branch] < nodes, 1, -1)
    found = np.empty((len(limit), at.voltage.shape[2]))
    found[~of_branch] = sign[:, None] * at.voltage[period[~of_branch], node].real
    found[of_branch] = at.load[period[of_branch], limit[of_branch] - 2 * nodes]
    return found


def slope(at: Linearization, price: Floats) -> Floats:
    """(T, input) derivative of what is beyond all limits at a price (limit, T) each."""
    of_ln_v, of_load = split(at.voltage.shape[1], price)
    found: Floats = np.einsum("tni,nt->ti", at.voltage.real, of_ln_v) + np.einsum("tbi,bt->ti", at.load, of_load)
    return found


def split(nodes: int, price: Floats) -> tuple[Floats, Floats]:
    """Prices of what is beyond limits (limit, T) as prices of ln |V| (node, T) and of power (branch, T)."""
    upper, lower, of_load = np.split(price, [nodes, 2 * nodes])
    return upper - lower, of_load


def revised(parts: Parts, beyond: Floats, limits: Limits, attempt: int) -> Parts | None:
    """The parts that an answer ``beyond`` its limits (limit, T) calls for; None when it bears out the present ones."""
    beyond = beyond * limits.distance[:, None]
    overstepped = (parts == LEFT_OUT) & (beyond > TOLERANCE) & limits.exists[:, None]
    kept = (parts == COST) & (beyond < -TOLERANCE)
    if not (overstepped.any() or kept.any()):
        return None
    found = parts.copy()
    found[overstepped & (beyond > FAR)] = COST
    near = np.where(overstepped & (beyond <= FAR) | kept, np.abs(beyond), 0.0)
    rows = min(NEW_ROWS * 2**attempt, len(near))
    order = np.argsort(-near, axis=0)[:rows]
    chosen = np.zeros_like(near, dtype=bool)
    np.put_along_axis(chosen, order, np.take_along_axis(near, order, axis=0) > 0, axis=0)
    found[chosen] = ROW
    return found


def approached(parts: Parts, beyond: Floats, limits: Limits) -> Parts:
    """The parts that limits softened by a barrier need at a point ``beyond`` them (limit, T): rows, before the point
    gets to them."""
    beyond = beyond * limits.distance[:, None]
    open_ = (parts != ROW) & limits.exists[:, None]
    found = parts.copy()
    found[open_ & (beyond > NEAR)] = COST
    found[open_ & (np.abs(beyond) <= NEAR) | (parts == COST) & (beyond < 0)] = ROW
    return found
