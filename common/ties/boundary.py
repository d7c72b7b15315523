"""What crosses the ties: the arrays that a coordination method proposes and the areas answer.

Every conductor of a tie has boundary quantities in this order: w, p, q (power from the parent area into the child) and,
in a multi-phase feeder, the angle a; see ``common.ties.thevenin`` for w and a. Axes: conductor, side (parent, child),
quantity, period. All per unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from tieflow.common.arrays import Complexes, Floats, Ints
from tieflow.common.feeder.balanced import Feeder
from tieflow.common.inputs.devices import FlexibleLoad, Wind
from tieflow.common.inputs.objective import factors, prices
from tieflow.common.ties.area_case import AreaCase, Partition, Tie
from tieflow.common.ties.thevenin import tie_voltage

PARENT, CHILD = 0, 1
W, P, Q, ANGLE = 0, 1, 2, 3
BALANCED = ("voltage", "real power", "reactive power")
MULTIPHASE = (*BALANCED, "angle")
"""names of the quantities"""


@dataclass(frozen=True)
class Boundary:
    """What a coordination method knows of the feeder."""

    ties: tuple[Tie, ...]
    ends: tuple[tuple[Ints, Ints], ...]
    """for each area, conductor and side of its tie ends, conductor by conductor"""
    quantities: tuple[str, ...]
    """BALANCED or MULTIPHASE"""
    conductors: tuple[tuple[int, int], ...]
    """(conductor,) tie and phase"""
    drop: sp.csr_array
    """(conductor, conductor) complex: w is the voltage (squared magnitude, or logarithm) plus drop conj(s)"""
    times: tuple[str, ...]
    """(T,) for messages"""
    energy_price: Floats
    """(T,) what a unit of power costs at the substation; zero where the objective does not pay for energy"""
    loss_price: Floats
    """(T,) what a unit of losses costs"""
    forecast: Floats
    """(conductor, quantity, T) the boundary if devices idled; in a balanced feeder also as if lines lost nothing"""
    cost_ceiling: float
    """an objective that no schedule worth having reaches; inf where limits can be overstepped at a price"""

    @property
    def periods(self) -> int:
        return len(self.loss_price)

    def zeros(self) -> Floats:
        """An array of shape (conductor, side, quantity, T)."""
        return np.zeros((len(self.conductors), 2, len(self.quantities), self.periods))

    def physical(self, value: Floats) -> Floats:
        """(conductor, side, quantity, T) with w and a replaced by the voltage and its angle."""
        has_angle = len(self.quantities) > ANGLE
        source = np.zeros_like(value[:, :, W], complex)
        source.real = value[:, :, W]
        if has_angle:
            source.imag = value[:, :, ANGLE]
        s = value[:, :, P] + 1j * value[:, :, Q]
        flat = (len(value), 2 * self.periods)
        voltage = tie_voltage(source.reshape(flat), self.drop, s.reshape(flat)).reshape(s.shape)
        found = value.copy()
        found[:, :, W] = voltage.real
        if has_angle:
            found[:, :, ANGLE] = voltage.imag
        return found

    def energy_prices(self) -> Floats:
        """(conductor, quantity, T) real power at what it costs at the substation, all else for nothing."""
        found = np.zeros_like(self.forecast)
        found[:, P] = self.energy_price
        return found

    @property
    def tells_sensitivities(self) -> bool:
        """Whether areas can tell how their answers move with prices: those of a balanced feeder's relaxation can."""
        return len(self.quantities) == len(BALANCED)

    @property
    def voltages(self) -> list[int]:
        """Positions of the quantities that tell the voltage."""
        return [W, ANGLE][: len(self.quantities) - 2]


@dataclass(frozen=True)
class AreaProposal:
    """One area's part of a round: it minimizes its own cost + price'b + 1/2 (b - target)' curvature (b - target), plus
    ``upstream`` times the losses that a change of its own power from the target makes on the way from the substation.
    """

    price: Floats
    """(end, quantity, T)"""
    target: Floats
    """(end, quantity, T)"""
    curvature: Floats
    """(end, quantity, T), >= 0"""
    fixed: NDArray[np.bool_]
    """(end, quantity) held at its target"""
    upstream: Floats
    """(T,) >= 0"""
    sensitivities: bool = False
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
    solve_s: float
    """conic solver and sensitivities"""
    area_s: float
    """the whole step"""
    energy_cost: float = 0.0
    """$, not zero in the substation's area only"""
    objective: float = np.inf
    """the area's own cost, boundary terms left out"""
    dual_objective: float = -np.inf
    """lower bound on own cost and boundary terms together"""
    relaxation_gap: float = 0.0
    """largest l v - p^2 - q^2"""
    iterations: float = 0.0


STATUSES = ("solved", "solved at the second attempt", "infeasible", "failed")
SOLVED, SOLVED_AGAIN, INFEASIBLE, FAILED = range(4)


@dataclass(frozen=True)
class Proposal:
    """A round's proposal to all areas; arrays (conductor, side, quantity, T), see AreaProposal."""

    price: Floats
    target: Floats
    curvature: Floats
    fixed: NDArray[np.bool_]
    """(conductor, side, quantity)"""
    upstream: Floats | None = None
    """(T,)"""
    sensitivities: bool = False

    @classmethod
    def alone(cls, boundary: Boundary, price: Floats) -> Proposal:
        """Every area alone, nothing held, where a unit into the child is worth the price (conductor, quantity, T)."""
        free = boundary.zeros()
        return cls(np.stack([-price, price], axis=1), free, free, np.zeros(free.shape[:3], bool))

    def split(self, boundary: Boundary) -> list[AreaProposal]:
        """Each area's part."""
        upstream = np.zeros(boundary.periods) if self.upstream is None else self.upstream
        return [
            AreaProposal(
                self.price[end],
                self.target[end],
                self.curvature[end],
                self.fixed[end],
                upstream,
                sensitivities=self.sensitivities,
            )
            for end in boundary.ends
        ]


@dataclass(frozen=True)
class Response:
    """A round's answers of all areas."""

    value: Floats
    """(conductor, side, quantity, T)"""
    slope: Floats
    sensitivities: tuple[Floats, ...]
    """of each area; see AreaResponse"""
    reports: tuple[AreaReport, ...]

    def prices(self) -> Floats:
        """(conductor, quantity, T) what a unit into the child is worth to the parent: the mean of both opinions."""
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
    balanced = not parts.is_exact
    counts = [len(tie.phases) for tie in parts.ties]
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    horizon, settings = area.horizon, area.settings
    price = prices(settings, horizon)
    return Boundary(
        ties=parts.ties,
        ends=tuple(
            (
                _joined([np.arange(first[end.tie], first[end.tie + 1]) for end in part.tie_ends]),
                _joined([np.full(counts[end.tie], PARENT if end.side == "parent" else CHILD) for end in part.tie_ends]),
            )
            for part in parts.areas
        ),
        quantities=BALANCED if balanced else MULTIPHASE,
        conductors=tuple((i, phase) for i, tie in enumerate(parts.ties) for phase in tie.phases),
        drop=_block_diagonal([(2 if balanced else 1) * tie.z for tie in parts.ties]),
        times=horizon.times,
        energy_price=price.energy,
        loss_price=price.in_all,
        forecast=_forecast(parts) if parts.forecast is None else parts.forecast,
        cost_ceiling=_cost_ceiling(parts, price.energy + price.losses) if balanced else np.inf,
    )


def _joined(parts: Sequence[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _block_diagonal(blocks: Sequence[Complexes]) -> sp.csr_array:
    empty = sp.csr_array((0, 0), dtype=complex)
    return sp.csr_array(sp.block_diag(blocks)) if blocks else empty


def _cost_ceiling(parts: Partition, price: Floats) -> float:
    """Ten times the price of all load and full charging in every period, at 1 $ per kWh at least, of all that devices
    may charge for it, and of every voltage being 0.3 off."""
    settings, horizon = parts.areas[0].settings, parts.areas[0].horizon
    counts = factors(settings)
    price = np.maximum(np.abs(price), horizon.dt * settings.base_kva)
    charging = sum(unit.p_rated_kw for area in parts.areas for unit in area.batteries) / settings.base_kva
    load = sum(np.abs(area.feeder.p_load).sum() * np.abs(area.horizon.load) for area in parts.areas)
    buses = sum(len(area.feeder.buses) for area in parts.areas)
    deviation = counts.voltage_deviation * buses * len(price) * 0.1
    units = [unit for area in parts.areas for unit in area.devices]
    flexible = sum(horizon.most_kva(unit) for unit in units if isinstance(unit, FlexibleLoad)) / settings.base_kva
    # What a device's kWh costs, over all of it that can move.
    most = counts.battery_use + counts.flexibility
    dearest = [counts.device_prices * getattr(unit, "cost_per_kwh", 0) + most for unit in units]
    moved = [2 * horizon.dt * len(price) * horizon.most_kva(unit) for unit in units]
    own = sum(cost * kwh for cost, kwh in zip(dearest, moved, strict=True))
    return 10 * float(price @ (load + charging + flexible)) + 10 * (deviation + own)


def _forecast(parts: Partition) -> Floats:
    forecast = np.zeros((len(parts.ties), len(BALANCED), len(parts.areas[0].horizon)))
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


def _net_load(area: AreaCase[Feeder]) -> tuple[Floats, Floats]:
    """(T,) real and reactive load less what capacitors and, as nobody controls them, devices give."""
    feeder, horizon = area.feeder, area.horizon
    pv = sum(unit.p_rated_kw for unit in area.pv) / area.settings.base_kva
    units: tuple[FlexibleLoad | Wind, ...] = (*area.flexible_loads, *area.wind)
    others = sum((horizon.idle(unit) for unit in units), np.zeros(1)) / area.settings.base_kva
    return (
        feeder.p_load.sum() * horizon.load - pv * horizon.pv - others.real,
        feeder.q_load.sum() * horizon.load - feeder.q_cap.sum() - others.imag,
    )
