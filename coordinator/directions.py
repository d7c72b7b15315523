"""Which way batteries go in periods in which they would charge and discharge at once.

Wasting energy pays where power has a negative price at a battery. There the optimum of the equations charges and
discharges at once, which no battery does. Each battery is given one direction in such periods: that of the schedule
that would be best for it at the prices of that optimum,

    minimize sum of a_t g_t + b_t l_t    e_t = e_(t-1) + g_t - l_t within its limits, back at its start at the end,
    0 <= g_t <= G,   0 <= l_t <= L,   g_t l_t = 0

with g and l what it gains and loses, a and b what a unit of them costs; wasting pays where a_t + b_t < 0. With levels
on a grid that is a shortest path (dynamic programming). The direction alone is kept: how much is for the feeder's
problem to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.wire.joint_step import Opened, StoresTold

PAYS = 1e-6
"""over the scale, what a unit of wasted energy must earn to count: as exact as prices are"""
LEVELS = 240
"""steps of the grid between the limits of a level"""


def directions(opened: Opened, told: StoresTold, before: Floats) -> Floats:
    """(store, T) of an area, as ``common.wire.messages.Open.direction``: those decided ``before``, and where a store
    has still gained and lost at once, all periods of it in which that pays."""
    found = before.copy()
    for k in np.flatnonzero(told.both.any(axis=1)):
        gain_cost, loss_cost = told.gain_cost[k], told.loss_cost[k]
        undecided = (before[k] == 0) & (told.both[k] | (gain_cost + loss_cost < -PAYS))
        step = (opened.high[k] - opened.low[k]) / LEVELS
        below = int(round((opened.start[k] - opened.low[k]) / step))
        moves = best_moves(
            gain_cost, loss_cost, told.most_gain[k, 0] / step, told.most_loss[k, 0] / step, below, before[k]
        )
        # One that rests may do what costs less.
        gains = np.where(moves == 0, gain_cost < loss_cost, moves > 0)
        found[k, undecided] = np.where(gains, 1.0, -1.0)[undecided]
    return found


def best_moves(
    gain_cost: Floats, loss_cost: Floats, most_gain: float, most_loss: float, start: int, direction: Floats
) -> Floats:
    """(T,) the cheapest rises of a level from ``start`` back to it, between 0 and ``LEVELS``; in steps, as all is."""
    level = np.arange(LEVELS + 1)
    rise = level[None] - level[:, None]
    # A battery may be too small for a step of the grid.
    cannot = (rise > max(most_gain, 1.0)) | (-rise > max(most_loss, 1.0))
    to_go = np.where(level == start, 0.0, np.inf)
    chosen = np.zeros((len(gain_cost), len(level)), np.int64)
    for t in range(len(gain_cost) - 1, -1, -1):
        cost = np.where(rise > 0, gain_cost[t], -loss_cost[t]) * rise
        cost[cannot | (direction[t] * rise < 0)] = np.inf
        total = cost + to_go
        chosen[t] = total.argmin(axis=1)
        to_go = total.min(axis=1)
    moves, at = np.zeros(len(gain_cost)), start
    for t in range(len(moves)):
        moves[t], at = chosen[t, at] - at, chosen[t, at]
    return moves


def first_parts(parts: Sequence[Opened], spans: Sequence[tuple[int, slice]]) -> list[Opened]:
    """By area, what its first part in time told: the others told the same."""
    return [part for part, (_, span) in zip(parts, spans, strict=True) if span.start == 0]


def in_whole(told: Sequence[StoresTold], spans: Sequence[tuple[int, slice]]) -> list[StoresTold]:
    """By area, what its parts in time told."""
    areas: dict[int, list[StoresTold]] = {}
    for part, (area, _) in zip(told, spans, strict=True):
        areas.setdefault(area, []).append(part)
    names = [one.name for one in fields(StoresTold)]
    return [
        StoresTold(*(np.concatenate([getattr(part, name) for part in parts], axis=1) for name in names))
        for parts in areas.values()
    ]
