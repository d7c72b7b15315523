"""Which voltage limits enter an area's problem, and how.

A feeder has thousands of them in every period, and few that decide anything. A limit that a problem's answer keeps is
left out; one that it oversteps by far counts as a cost only, linear in the voltage; one near which the answer lies is a
row with a slack. The problem with all limits has the same answer as soon as that answer bears out every one's part.

Arrays of limits have the axes (upper or lower, node, T).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.feeder import Bools, Floats
from common.settings import Settings

LEFT_OUT, ROW, COST = 0, 1, 2
SIGNS = (1, -1)
"""direction in which the upper and the lower limit are overstepped"""
TOLERANCE = 1e-7
"""logarithm of voltage by which an answer may contradict the part of a limit"""
FAR = 0.01
"""logarithm of voltage between a limit and an answer beyond which the limit is expected not to turn"""
NEAR = 0.02
"""logarithm of voltage about a limit within which it becomes a row where limits are softened"""
NEW_ROWS = 30
"""rows that are added at a time in each period: the worst ones; then twice as many each time"""

Parts = NDArray[np.int8]
"""(2, node, T) LEFT_OUT, ROW or COST"""


def overstep(settings: Settings, log_v: Floats) -> Floats:
    """(2, node, T) logarithm of voltage beyond each limit; negative inside."""
    return np.stack([log_v - np.log(settings.v_max_pu), np.log(settings.v_min_pu) - log_v])


def revised(parts: Parts, beyond: Floats, limited: Bools, attempt: int) -> Parts | None:
    """The parts that an answer ``beyond`` its limits (2, node, T) calls for; None when it bears out the present ones.

    ``limited`` (node,) are the nodes that have limits at all.
    """
    overstepped = (parts == LEFT_OUT) & (beyond > TOLERANCE) & limited[:, None]
    kept = (parts == COST) & (beyond < -TOLERANCE)
    if not (overstepped.any() or kept.any()):
        return None
    found = parts.copy()
    found[overstepped & (beyond > FAR)] = COST
    near = np.where(overstepped & (beyond <= FAR) | kept, np.abs(beyond), 0.0)
    rows = min(NEW_ROWS * 2**attempt, near.shape[1])
    order = np.argsort(-near, axis=1)[:, :rows]
    chosen = np.zeros_like(near, dtype=bool)
    np.put_along_axis(chosen, order, np.take_along_axis(near, order, axis=1) > 0, axis=1)
    found[chosen] = ROW
    return found


def approached(parts: Parts, beyond: Floats, limited: Bools) -> Parts:
    """The parts that limits softened by a barrier need at a point: rows, before the point gets to them."""
    open_ = (parts != ROW) & limited[:, None]
    found = parts.copy()
    found[open_ & (beyond > NEAR)] = COST
    found[open_ & (np.abs(beyond) <= NEAR) | (parts == COST) & (beyond < 0)] = ROW
    return found
