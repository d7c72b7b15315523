"""What crosses the ties: the arrays that a coordination method proposes and the areas answer.

Boundary quantities of a tie, in this order: w = v + 2 r p + 2 x q (v the squared voltage of the split bus, r + jx the
tie's Thevenin impedance), p and q (power from the parent area into the child). Axes: tie, side (parent, child),
quantity, period. All per unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.feeder import Floats, Ints
from common.partition import AreaCase, Partition, Tie

PARENT, CHILD = 0, 1
W, P, Q = 0, 1, 2
QUANTITIES = 3


@dataclass(frozen=True)
class Boundary:
    """What a coordination method knows of the feeder."""

    ties: tuple[Tie, ...]
    ends: tuple[tuple[Ints, Ints], ...]
    """for each area, tie and side of its tie ends"""
    r: Floats
    """(tie, 1, 1) Thevenin resistance"""
    x: Floats
    hours: tuple[int, ...]
    """(T,) for messages"""
    energy_price: Floats
    """(T,) what a unit of power costs at the substation; zero where the objective does not pay for energy"""
    loss_price: Floats
    """(T,) what a unit of losses costs"""
    forecast: Floats
    """(tie, quantity, T) the boundary if devices idled and lines lost nothing"""
    cost_ceiling: float
    """an objective that no schedule worth having reaches"""

    @property
    def periods(self) -> int:
        return len(self.loss_price)

    def zeros(self) -> Floats:
        """An array of shape (tie, side, quantity, T)."""
        return np.zeros((len(self.ties), 2, QUANTITIES, self.periods))

    def physical(self, value: Floats) -> Floats:
        """(tie, side, quantity, T) of (w, p, q) as the same of (v, p, q)."""
        v = value[..., W, :] - 2 * self.r * value[..., P, :] - 2 * self.x * value[..., Q, :]
        return np.stack([v, value[..., P, :], value[..., Q, :]], axis=-2)


@dataclass(frozen=True)
class AreaProposal:
    """One area's part of a round: it minimizes its own cost + price'b + 1/2 (b - target)' curvature (b - target)."""

    price: Floats
    """(end, quantity, T)"""
    target: Floats
    """(end, quantity, T)"""
    curvature: Floats
    """(end, quantity, T), >= 0"""
    fixed: NDArray[np.bool_]
    """(end, quantity) held at its target"""
    sensitivities: bool
    """whether the answer shall tell how it moves with the price"""


@dataclass(frozen=True)
class AreaResponse:
    """One area's answer."""

    value: Floats
    """(end, quantity, T)"""
    slope: Floats
    """(end, quantity, T) derivative of the area's own optimal cost with respect to each boundary quantity"""
    sensitivity: Floats
    """(n, n) derivative of ``value`` with respect to the price, both ravelled; (0, 0) when not asked for"""
    report: AreaReport


@dataclass(frozen=True)
class AreaReport:
    """How an area's solve went."""

    status: int
    """position in STATUSES"""
    energy_cost: float
    """$, not zero in the substation's area only"""
    objective: float
    """the area's own cost, boundary terms left out"""
    dual_objective: float
    """lower bound on own cost and boundary terms together"""
    relaxation_gap: float
    """largest l v - p^2 - q^2"""
    iterations: float
    solve_s: float
    """conic solver and sensitivities"""
    area_s: float
    """the whole step"""


STATUSES = ("solved", "solved at the second attempt", "infeasible", "failed")
SOLVED, SOLVED_AGAIN, INFEASIBLE, FAILED = range(4)


@dataclass(frozen=True)
class Proposal:
    """A round's proposal to all areas; arrays (tie, side, quantity, T), see AreaProposal."""

    price: Floats
    target: Floats
    curvature: Floats
    fixed: NDArray[np.bool_]
    """(tie, side, quantity)"""
    sensitivities: bool = False

    def split(self, boundary: Boundary) -> list[AreaProposal]:
        """Each area's part."""
        return [
            AreaProposal(
                self.price[end],
                self.target[end],
                self.curvature[end],
                self.fixed[end],
                sensitivities=self.sensitivities,
            )
            for end in boundary.ends
        ]


@dataclass(frozen=True)
class Response:
    """A round's answers of all areas."""

    value: Floats
    """(tie, side, quantity, T)"""
    slope: Floats
    sensitivities: tuple[Floats, ...]
    """of each area; see AreaResponse"""
    reports: tuple[AreaReport, ...]

    def prices(self) -> Floats:
        """(tie, quantity, T) what a unit into the child is worth to the parent: the mean of both sides' opinions."""
        return (self.slope[:, PARENT] - self.slope[:, CHILD]) / 2


def join(boundary: Boundary, responses: Sequence[AreaResponse]) -> Response:
    """The areas' answers, by tie."""
    value, slope = boundary.zeros(), boundary.zeros()
    for end, response in zip(boundary.ends, responses, strict=True):
        value[end], slope[end] = response.value, response.slope
    return Response(
        value=value,
        slope=slope,
        sensitivities=tuple(response.sensitivity for response in responses),
        reports=tuple(response.report for response in responses),
    )


def make_boundary(parts: Partition) -> Boundary:
    """The boundary of a partition, with the forecast that every method starts from."""
    area = parts.areas[0]
    horizon, settings = area.horizon, area.settings
    worth = np.full(len(horizon), horizon.dt * settings.base_kva)
    pays_energy = settings.objective != "losses"
    return Boundary(
        ties=parts.ties,
        ends=tuple(
            (
                np.array([end.tie for end in part.tie_ends], np.int64),
                np.array([PARENT if end.side == "parent" else CHILD for end in part.tie_ends], np.int64),
            )
            for part in parts.areas
        ),
        r=np.array([tie.r for tie in parts.ties]).reshape(-1, 1, 1),
        x=np.array([tie.x for tie in parts.ties]).reshape(-1, 1, 1),
        hours=horizon.hour,
        energy_price=worth * horizon.price if pays_energy else np.zeros(len(horizon)),
        loss_price=np.maximum(worth * horizon.price, 1e-3 * worth) if pays_energy else worth,
        forecast=_forecast(parts),
        cost_ceiling=_cost_ceiling(parts, worth * np.maximum(horizon.price, 1.0)),
    )


def _cost_ceiling(parts: Partition, price: Floats) -> float:
    """Ten times the price of all load and full charging in every period, and of every voltage being 0.3 off."""
    settings = parts.areas[0].settings
    charging = sum(unit.p_rated_kw for area in parts.areas for unit in area.batteries) / settings.base_kva
    load = sum(np.abs(area.feeder.p_load).sum() * np.abs(area.horizon.load) for area in parts.areas)
    buses = sum(len(area.feeder.buses) for area in parts.areas)
    deviation = settings.voltage_deviation_weight * buses * len(price) * 0.1
    return 10 * float(price @ (load + charging)) + 10 * deviation


def _forecast(parts: Partition) -> Floats:
    forecast = np.zeros((len(parts.ties), QUANTITIES, len(parts.areas[0].horizon)))
    forecast[:, W] = parts.areas[0].settings.substation_v_pu ** 2
    parent_tie = {tie.child: i for i, tie in enumerate(parts.ties)}
    for number, area in enumerate(parts.areas):
        p, q = _net_load(area)
        tie = parent_tie.get(number)
        while tie is not None:
            forecast[tie, P] += p
            forecast[tie, Q] += q
            tie = parent_tie.get(parts.ties[tie].parent)
    return forecast


def _net_load(area: AreaCase) -> tuple[Floats, Floats]:
    """(T,) real and reactive load less what PV and capacitors give."""
    feeder, horizon = area.feeder, area.horizon
    pv = sum(unit.p_rated_kw for unit in area.pv) / area.settings.base_kva
    return (
        feeder.p_load.sum() * horizon.load - pv * horizon.pv,
        feeder.q_load.sum() * horizon.load - feeder.q_cap.sum(),
    )
