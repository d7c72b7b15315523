"""An area of a multi-phase feeder at work, its equations exact: what it answers to the commands of its coordinator."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from areas.devices import setpoints
from areas.joint_area import JointArea
from areas.own_ends import asked, offered
from areas.values import values
from common.area_case import AreaCase
from common.boundary import FAILED, SOLVED, AreaProposal, AreaReport, AreaResponse
from common.errors import SolverError
from common.interior_point.algorithm import Settings, minimize
from common.interior_point.joint_system import JointSystem
from common.joint_step import Opened
from common.messages import Command, Open
from common.multiphase import MultiphaseFeeder
from common.objective import prices
from common.schedule import AreaSolution

SETTINGS = Settings()
"""of an area by itself"""


def _at_work(step: str) -> Callable[[ExactArea, Any], Any]:
    """A step's part, by the area at work."""
    return lambda area, ask: getattr(area.at_work, step)(ask)


class ExactArea:
    """An area in a span of its periods."""

    reduce, predict, expand, trial, stores = map(_at_work, ("reduce", "predict", "expand", "trial", "stores"))

    def __init__(self, area: AreaCase[MultiphaseFeeder], span: slice) -> None:
        self.area, self.span = area, span
        self._joint: JointArea | None = None
        self._alone: JointArea | None = None

    def open(self, ask: Open) -> Opened:
        """Begin joint steps."""
        direction = ask.direction if ask.direction.any() else None
        self._joint = JointArea(self.area, self.span, direction=direction)
        self._joint.begin(ask.forecast[:, :, self.span], ask.barrier, start=int(ask.start))
        return self._joint.opened()

    def optimum(self, proposal: AreaProposal) -> AreaResponse:
        """The area's own optimum at a proposal, by the interior point that joint steps are those of."""
        started = time.perf_counter()
        if self._alone is None:
            self._alone = JointArea(self.area, self.span, joint=False)
        alone, rows = self._alone, self._alone.problem.ends.rows
        offer = offered(proposal, alone.problem.scale)
        try:
            alone.begin(proposal.target, SETTINGS.first_barrier, offer)
            system = alone_system(alone, SETTINGS.first_barrier)
            result = minimize(system, alone.problem.periods, SETTINGS)
            status = SOLVED if result.converged else FAILED
        except SolverError:
            # No power flow to begin with.
            spent = time.perf_counter() - started
            failed = AreaReport(FAILED, solve_s=spent, area_s=spent)
            return AreaResponse(proposal.target, 0 * proposal.target, np.zeros((0, 0)), failed)
        n, at = alone.problem.periods, alone.point
        found = values(alone.problem, at.x, at.multiplier, result.width, offer)
        pull = alone.problem.limits.gradient(at.slacks.z, found.magnitude[1:3], alone.problem.layout.rows)
        slope, cost = asked(alone.problem, offer, at.x)
        own = system.objective() - alone.problem.scale * cost
        spent = time.perf_counter() - started
        # No dual objective: an optimum of equations that are not convex bounds nothing.
        report = AreaReport(
            status, spent, spent, system.energy_cost(), objective=own, iterations=float(result.iterations)
        )
        # The gradient of the Lagrangian without what the proposal adds.
        own_slope = alone.problem.scale * ((found.gradient - pull)[rows] - slope)
        return AreaResponse(at.x[rows][..., :n], own_slope[..., :n], np.zeros((0, 0)), report)

    def solution(self) -> AreaSolution:
        """The setpoints of the present point, the voltages and what power costs there, per unit."""
        solved = self.at_work
        problem, layout, x = solved.problem, solved.problem.layout, solved.point.x
        n, periods = layout.nodes, problem.periods
        v = x[:n, :periods] + 1j * x[2 * n : 3 * n, :periods]
        multiplier = solved.point.multiplier[layout.multiplier["network"], :periods]
        # Of current drawn, then of power: a unit of it draws v / |v|^2.
        of_current = -(multiplier[n : 2 * n] + 1j * multiplier[3 * n :])
        lost = prices(self.area.settings, self.area.horizon).losses[self.span]
        price = problem.scale * (np.conj(of_current) * v).real / np.abs(v) ** 2 - lost
        # The feeder's first nodes are no unknowns.
        first = ((layout.given_nodes, 0), (0, 0))
        told = {"v": np.pad(np.abs(v), first), "price": np.pad(price, first)}
        # What holds a fixed control leaves it a rounding error.
        controls = np.where(problem.fixed, problem.first_control, x[layout.x["control"]])[:, :periods]
        return AreaSolution({**setpoints(self.area, controls, self.span), **told}, np.zeros((0, periods)))

    def diagnosis(self, proposal: AreaProposal) -> dict[str, float]:
        """Nothing: limits of the network are elastic, and those of devices leave them a schedule each."""
        return {}

    @property
    def at_work(self) -> JointArea:
        solved = self._joint or self._alone
        assert solved is not None
        return solved


def alone_system(area: JointArea, barrier: float) -> JointSystem:
    """The Newton system of an area by itself, the only part of it."""
    none, periods = np.zeros(0, np.int64), area.problem.periods

    def exchange(command: Command, asks: Sequence[Any]) -> list[Any]:
        return [getattr(area, command.name.lower())(ask) for ask in asks]

    return JointSystem([(none, none)], periods, exchange, [(0, slice(0, periods))], [area.opened()], barrier)
