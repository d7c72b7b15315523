"""One multi-phase area at work: corrects its model at the proposed point, answers, and checks the answer itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from areas.barrier import CentralPoint
from areas.conic import SOLVED as ACCEPTED
from areas.conic import ConicProblem, ConicSolution
from areas.linearization import Linearization, Point, linearize, power_legs, root_power
from areas.multiphase import build_multiphase, predicted_power, predicted_voltages, with_network
from areas.proposals import attempt, slope_at, soften, solve_at
from common.boundary import ANGLE, FAILED, SOLVED, AreaProposal, AreaReport, AreaResponse, P, Q, W
from common.errors import SolverError
from common.feeder import Bools, Complexes, Floats
from common.multiphase import GROUND, MultiphaseFeeder, multipliers
from common.partition import AreaCase
from common.power_flow import Injections, PowerFlow, leg_currents
from common.schedule import AreaSolution

NEW_ROWS = 30
"""voltage limits that are added at a time in each period: the worst ones; a feeder has thousands, few of which bind"""
LIMIT_SLACK = 1e-7
"""pu by which a predicted voltage may overstep a limit that is not in the problem"""
SAME_POINT = 1e-8
"""pu by which voltages must have moved for the model to be corrected"""

LIMITS: dict[str, Callable[[AreaCase[MultiphaseFeeder]], AreaCase[MultiphaseFeeder]]] = {
    "the substation power cap (substation_peak_kw)": lambda area: replace(
        area, settings=area.settings.model_copy(update={"substation_peak_kw": None})
    ),
    "battery limits (batteries.csv, soc_min, soc_max)": lambda area: replace(area, batteries=()),
}
"""kinds of limit that can make an area infeasible, and the area without them; voltage limits have a priced slack"""


class MultiphaseWorker:
    """An area's factorized feeder, compiled devices, present linearization and last answer."""

    def __init__(self, area: AreaCase[MultiphaseFeeder]) -> None:
        self.area = area
        horizon, feeder = area.horizon, area.feeder
        self._flow = PowerFlow(feeder, multipliers(feeder.legs, horizon.load, horizon.shapes))
        self._model = build_multiphase(area)
        self._a, self._b, self._shares = power_legs(self._model.inputs)
        self._watched = np.zeros((len(feeder.node_bus), len(horizon)), bool)
        self._device_s = idle_devices(area)
        self._at: Linearization | None = None
        self._here = np.zeros(self._model.input_columns.shape)
        self._x = np.zeros(len(self._model.devices.c))
        self._final: Point | None = None
        self._central: CentralPoint | None = None

    def respond(self, proposal: AreaProposal) -> AreaResponse:
        """Solve the area at a proposal, its model corrected at the proposed point."""
        started = time.perf_counter()
        kept = not self._correct(proposal)
        answer, status, problem, constant, solve_s = self._solve(proposal)
        self._x = answer.x
        value = answer.x[self._model.boundary_columns]
        slope = slope_at(self.area, proposal, answer, value)
        inputs = answer.x[self._model.input_columns]
        model_error = self._verify(inputs) if answer.status in ACCEPTED else np.inf
        report = AreaReport(
            status=status,
            energy_cost=self._energy_cost(),
            objective=problem.cost(answer.x) + constant,
            dual_objective=answer.dual_objective + constant,
            relaxation_gap=0.0,
            model_error=model_error,
            kept=float(kept),
            iterations=float(answer.iterations),
            solve_s=solve_s,
            area_s=time.perf_counter() - started,
        )
        return AreaResponse(value, slope, answer.sensitivity, report)

    def solution(self) -> AreaSolution:
        """The last answer, every variable by name, and the power flow that it leads to, per unit."""
        values = {name: self._x[columns] for name, columns in self._model.devices.columns.items() if "." in name}
        point = self._final
        assert point is not None
        given, drawn = (self._shares @ point.device_s).sum(axis=0), point.tie_s.sum(axis=0)
        power = root_power(self._flow, self._model.inputs, point)
        losses = (power.sum(axis=0) + given - drawn - self._served(point)).real
        return AreaSolution(
            values={**values, "v": point.v, "i": point.i, "root_s": power, "losses": losses},
            relaxation_gap=np.zeros((0, len(self.area.horizon))),
        )

    def diagnosis(self, proposal: AreaProposal) -> dict[str, float]:
        """The least cost at a proposal without each kind of limit: inf where even that is infeasible, NaN where the
        solver cannot tell."""
        return {kind: MultiphaseWorker(lift(self.area)).least_cost(proposal) for kind, lift in LIMITS.items()}

    def least_cost(self, proposal: AreaProposal) -> float:
        """A lower bound on the cost at a proposal; inf where it is infeasible, NaN where the solver cannot tell."""
        self._correct(proposal)
        problem, constant = self._problem()
        answer = attempt(self.area, problem, proposal, careful=True)
        if answer.status in ACCEPTED:
            return answer.dual_objective + constant
        return np.inf if answer.status == "PrimalInfeasible" else np.nan

    def _correct(self, proposal: AreaProposal) -> bool:
        """Linearize at the proposed point, unless it is where the model stands; False where there is no power flow."""
        if self._at is not None and not proposal.is_point:
            return True
        target, roots = proposal.target, self._own_roots()
        s = target[:, P] + 1j * target[:, Q]
        w = np.zeros((0, s.shape[1]), complex)
        if roots:
            # A child's own root is its first tie end.
            w = target[:roots, W] + 1j * target[:roots, ANGLE] - self.area.tie_ends[0].z @ np.conj(s[:roots])
        try:
            point = self._power_flow(w, self._device_s, s[roots:])
        except SolverError:
            if self._at is None:
                raise
            return False
        if self._at is None or np.abs(point.v - self._at.point.v).max() > SAME_POINT:
            self._at = linearize(self._flow, self._model.inputs, point)
            parts = [part(s) for s in (w, point.device_s, point.tie_s) for part in (np.real, np.imag)]
            self._here = np.concatenate(parts).T
        return True

    def _solve(self, proposal: AreaProposal) -> tuple[ConicSolution, int, ConicProblem, float, float]:
        """The answer, its status, the problem, its constant and the solver's time. Only voltage limits that an answer
        oversteps enter the problem, and stay."""
        spent = 0.0
        limited = self.area.feeder.limited
        while True:
            problem, constant = self._problem()
            answer, status = self._answer(problem, replace(proposal, sensitivities=False))
            spent += answer.seconds
            if answer.status not in ACCEPTED or not self._watch_more(answer, limited):
                break
        if proposal.sensitivities and answer.status in ACCEPTED:
            answer, status = self._answer(problem, proposal)
            spent += answer.seconds
        return answer, status, problem, constant, spent

    def _answer(self, problem: ConicProblem, proposal: AreaProposal) -> tuple[ConicSolution, int]:
        if not proposal.barrier:
            return solve_at(self.area, problem, proposal)
        answer, central = soften(self.area, problem, proposal, self._central)
        if answer.status not in ACCEPTED:
            # The last point may be of little use; a first one of its own needs more steps, but always gets there.
            answer, central = soften(self.area, problem, proposal, None)
        self._central = central
        return answer, SOLVED if answer.status in ACCEPTED else FAILED

    def _watch_more(self, answer: ConicSolution, limited: Bools) -> bool:
        """Whether limits were missing."""
        assert self._at is not None
        settings = self.area.settings
        v = predicted_voltages(self._at, self._here, answer.x[self._model.input_columns])
        beyond = np.maximum(v - settings.v_max_pu, settings.v_min_pu - v)
        beyond[~limited] = 0.0
        beyond[self._watched] = 0.0
        order = np.argsort(-beyond, axis=0)[:NEW_ROWS]
        worst = np.take_along_axis(beyond, order, axis=0) > LIMIT_SLACK
        chosen = np.zeros_like(self._watched)
        np.put_along_axis(chosen, order, worst, axis=0)
        self._watched |= chosen
        return bool(worst.any())

    def _problem(self) -> tuple[ConicProblem, float]:
        assert self._at is not None
        return with_network(self.area, self._model, self._at, self._here, self._watched)

    def _verify(self, inputs: Floats) -> float:
        """Run the power flow of an answer (T, input) and compare: the largest difference of voltages and of the power
        at the root, pu."""
        assert self._at is not None
        roots, devices = self._own_roots(), len(self.area.devices)
        parts = np.split(inputs.T, np.cumsum([roots, roots, devices, devices, len(self._model.inputs.tie_nodes)]))
        w, device_s, tie_s = (parts[k] + 1j * parts[k + 1] for k in (0, 2, 4))
        self._device_s = device_s
        try:
            self._final = self._power_flow(w, device_s, tie_s)
        except SolverError:
            return np.inf
        limited = self.area.feeder.limited
        voltage = np.abs(self._final.v) - predicted_voltages(self._at, self._here, inputs)
        power = root_power(self._flow, self._model.inputs, self._final) - predicted_power(self._at, self._here, inputs)
        return float(max(np.abs(voltage[limited]).max(initial=0.0), np.abs(power).max(initial=0.0)))

    def _power_flow(self, w: Complexes, device_s: Complexes, tie_s: Complexes) -> Point:
        """At the root's voltage ln(V / V_no_load) (root, T), the devices' powers and those that the children draw."""
        feeder, inputs = self.area.feeder, self._model.inputs
        v_root = np.repeat(feeder.v_no_load[: feeder.roots, None], len(self.area.horizon), axis=1)
        if len(w):
            v_root = v_root * np.exp(w)
        injections = Injections(
            a=np.concatenate([self._a, inputs.tie_nodes]),
            b=np.concatenate([self._b, np.full(len(inputs.tie_nodes), GROUND)]),
            s=np.concatenate([self._shares @ device_s, -tie_s]),
        )
        start = None if self._final is None else self._final.v
        v, i = self._flow.solve(v_root, injections, start)
        return Point(v, i, device_s, tie_s)

    def _own_roots(self) -> int:
        return self.area.feeder.roots if self._model.inputs.root_varies else 0

    def _served(self, point: Point) -> Complexes:
        """(T,) power that all loads draw."""
        v = self._flow.load_incidence @ point.v
        served: Complexes = (v * np.conj(leg_currents(self.area.feeder.legs, v, self._flow.multipliers))).sum(axis=0)
        return served

    def _energy_cost(self) -> float:
        if not self.area.has_substation or self._final is None:
            return 0.0
        horizon = self.area.horizon
        p = root_power(self._flow, self._model.inputs, self._final).real.sum(axis=0)
        return float(horizon.price @ p) * horizon.dt * self.area.settings.base_kva


def idle_devices(area: AreaCase[MultiphaseFeeder]) -> Complexes:
    """(device, T) power of devices that nobody controls: PV at its profile, batteries at rest."""
    idle = [unit.p_rated_kw * area.horizon.pv_profile(unit) / area.settings.base_kva for unit in area.pv]
    idle += [np.zeros(len(area.horizon))] * len(area.batteries)
    return np.array(idle, complex).reshape(len(area.devices), len(area.horizon))
