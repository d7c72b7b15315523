"""One multi-phase area at work: corrects its model at the proposed point, answers, and checks the answer itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from areas.barrier import SOFT_SHARE, CentralPath, CentralPoint, further, longest
from areas.conic import SOLVED as ACCEPTED
from areas.conic import ConicProblem, ConicSolution
from areas.corrected_model import CorrectedModel
from areas.limits import Parts, approached, revised
from areas.multiphase import build_multiphase, carried
from areas.proposals import attempt, slope_at, solve_at, terms
from common.boundary import INFEASIBLE, SOLVED, AreaProposal, AreaReport, AreaResponse
from common.errors import SolverError
from common.feeder import Complexes, Floats
from common.multiphase import MultiphaseFeeder
from common.partition import AreaCase
from common.schedule import AreaSolution

FIRST_WIDTH, WIDTH_FALL = 0.03, 0.3
"""width over which loads' kinks are rounded at first, per rated voltage, and its factor in every correction"""
WIDTH_ON_PATH = 0.3
"""the same on a central path, over barrier over price of losses"""

SETTLED = 0.1
"""relative change of a single area's objective that counts as much as a change of 1 pu"""

LIMITS: dict[str, Callable[[AreaCase[MultiphaseFeeder]], AreaCase[MultiphaseFeeder]]] = {
    "battery limits (batteries.csv, soc_min, soc_max)": lambda area: replace(area, batteries=()),
}
"""kinds of limit that can make an area infeasible, and the area without them; others have a priced slack"""


@dataclass(frozen=True)
class _Solved:
    answer: ConicSolution
    status: int
    problem: ConicProblem
    constant: float
    """cost that the problem leaves out"""
    seconds: float
    drift: Floats | None = None


@dataclass(frozen=True)
class _OnPath:
    """Where the area stands on its central path."""

    path: CentralPath
    problem: ConicProblem
    point: CentralPoint
    way: CentralPoint | None = None
    """the whole step to what was proposed last"""


class MultiphaseWorker:
    """An area's compiled devices, present model and last answer."""

    def __init__(self, area: AreaCase[MultiphaseFeeder]) -> None:
        self.area = area
        self._compiled = build_multiphase(area)
        self._model = CorrectedModel(area, self._compiled)
        self._limits = self._compiled.limits
        self._parts: Parts = np.zeros((len(self._limits.exists), len(area.horizon)), np.int8)
        self._device_s = idle_devices(area)
        self._x = np.zeros(len(self._compiled.devices.c))
        self._path: _OnPath | None = None
        self._objective = np.inf
        self._asked_s = 0.0

    def reach(self, proposal: AreaProposal) -> float:
        """The share of a Newton step towards a proposal with softened limits that these allow."""
        started = time.perf_counter()
        on = self._path
        if on is None:
            raise SolverError(f"area {self.area.name}: asked for a step before it has a point to go from.")
        way = on.path.direction(on.point, terms(self.area, on.problem, proposal)[0], proposal.barrier)
        self._path = replace(on, way=way)
        self._asked_s += time.perf_counter() - started
        return longest(on.point, way)

    def respond(self, proposal: AreaProposal) -> AreaResponse:
        """Solve the area at a proposal, its model corrected at the proposed point."""
        started = time.perf_counter()
        if proposal.barrier:
            corrected, solved = self._follow(proposal)
        else:
            self._path = None
            corrected = self._correct(proposal)
            solved = self._solve(proposal)
        answer = solved.answer
        self._x = answer.x
        is_answered = answer.status in ACCEPTED
        value = answer.x[self._compiled.boundary_columns]
        slope = slope_at(self.area, proposal, answer, value)
        model_error = self._verify(answer.x[self._compiled.input_columns]) if is_answered else np.inf
        objective = solved.problem.cost(answer.x) + solved.constant
        asked_s, self._asked_s = self._asked_s, 0.0
        report = AreaReport(
            status=solved.status,
            energy_cost=self._energy_cost(),
            objective=objective,
            dual_objective=answer.dual_objective + solved.constant,
            relaxation_gap=0.0,
            model_error=model_error,
            change=self._change_of(objective),
            kept=float(not corrected),
            iterations=float(answer.iterations),
            solve_s=solved.seconds + asked_s,
            area_s=time.perf_counter() - started + asked_s,
        )
        return AreaResponse(value, slope, answer.sensitivity, report, solved.drift)

    def solution(self) -> AreaSolution:
        """The last answer, every variable by name, the power flow that it leads to and what power costs there, per
        unit."""
        values = {name: self._x[at] for name, at in self._compiled.devices.columns.items() if "." in name}
        if not self._model.is_flat:
            values["price"] = self._model.nodal_prices().real
        return self._model.solution(values)

    def replay(self, device_s: Complexes) -> AreaSolution:
        """The AC power flow of a whole feeder with given powers (device, T) of its devices. Raises SolverError when
        there is none."""
        self._model.replay(device_s)
        return self._model.solution({})

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
        """Correct the model at the proposed point, unless it is where it stands."""
        if self._model.is_placed() and not proposal.is_point:
            return True
        width = min(FIRST_WIDTH, WIDTH_FALL * self._model.width)
        return self._model.correct_at_target(proposal.target, self._device_s, width)

    def _solve(self, proposal: AreaProposal) -> _Solved:
        """The answer, with all limits of the network that it calls for."""
        spent, revisions = 0.0, 0
        while True:
            problem, constant = self._problem()
            answer, status = solve_at(self.area, problem, replace(proposal, sensitivities=False))
            spent += answer.seconds
            revision = None
            if answer.status in ACCEPTED:
                revision = revised(self._parts, self._beyond(answer.x), self._limits, revisions)
            if revision is None:
                break
            self._parts = revision
            revisions += 1
        if proposal.sensitivities and answer.status in ACCEPTED:
            answer, status = solve_at(self.area, problem, proposal)
            spent += answer.seconds
        if answer.status in ACCEPTED:
            duals = np.split(answer.dual, [problem.counts[0]])
            self._model.price(answer.x[self._compiled.input_columns], self._parts, *duals)
        return _Solved(answer, status, problem, constant, spent)

    def _follow(self, proposal: AreaProposal) -> tuple[bool, _Solved]:
        """One step along the central path, and whether the model could be corrected there. The first time, the path's
        point at the proposal."""
        started = time.perf_counter()
        last = self._path
        if last is None:
            corrected = self._correct(proposal)
            started = time.perf_counter()
            problem, constant, linear, path, point, possible = self._first_point(proposal)
        else:
            if last.way is None:
                raise SolverError(f"area {self.area.name}: a step is to be taken before its length was asked for.")
            before, possible = self._parts, True
            point = further(last.point, last.way, proposal.length)
            stepped = time.perf_counter()
            inputs = point.x[self._compiled.input_columns]
            self._model.price(inputs, before, point.equality_dual, point.dual)
            corrected = self._model.correct(inputs, self._width_at(proposal.barrier))
            started += time.perf_counter() - stepped
            beyond = self._beyond(point.x)
            self._parts = approached(before, beyond, self._limits)
            point = carried(self._limits, point, before, self._parts, beyond, SOFT_SHARE * proposal.barrier)
            problem, constant = self._problem()
            linear, quadratic = terms(self.area, problem, proposal)
            path = CentralPath(problem, quadratic)
        x, drift = path.ahead(point, linear, proposal.barrier)
        columns = self._compiled.boundary_columns.ravel()
        answer = ConicSolution(
            x=x,
            objective=problem.cost(x),
            # A point on the way proves nothing.
            dual_objective=-np.inf,
            fixed_dual=np.zeros(0),
            dual=np.concatenate([point.equality_dual, point.dual]),
            sensitivity=path.sensitivity(point, columns) if proposal.sensitivities else np.zeros((0, 0)),
            status=ACCEPTED[0],
            iterations=1,
            seconds=time.perf_counter() - started,
        )
        self._path = _OnPath(path, problem, point)
        drift = drift[self._compiled.boundary_columns]
        status = SOLVED if possible else INFEASIBLE
        return corrected, _Solved(answer, status, problem, constant, answer.seconds, drift)

    def _width_at(self, barrier: float) -> float:
        return WIDTH_ON_PATH * barrier / float(self._model.loss_price.mean())

    def _first_point(
        self, proposal: AreaProposal
    ) -> tuple[ConicProblem, float, Floats, CentralPath, CentralPoint, bool]:
        """The central path's point at a proposal, with all limits of the network that it comes near; and whether the
        area's own limits can be kept at all."""
        nearby = self._model.beyond()
        while True:
            self._parts = approached(self._parts, nearby, self._limits)
            problem, constant = self._problem()
            linear, quadratic = terms(self.area, problem, proposal)
            path = CentralPath(problem, quadratic)
            point, reached = path.solve(linear, proposal.barrier)
            nearby = self._beyond(point.x)
            if not reached:
                # The steps to come can start from any point, unless there is nowhere to go.
                possible = solve_at(self.area, problem, proposal)[1] != INFEASIBLE
                return problem, constant, linear, path, point, possible
            if (approached(self._parts, nearby, self._limits) == self._parts).all():
                return problem, constant, linear, path, point, True

    def _beyond(self, x: Floats) -> Floats:
        return self._model.beyond(x[self._compiled.input_columns])

    def _problem(self) -> tuple[ConicProblem, float]:
        return self._model.problem(self._parts)

    def _verify(self, inputs: Floats) -> float:
        self._device_s = self._model.split(inputs)[1]
        return self._model.verify(inputs)

    def _change_of(self, objective: float) -> float:
        """What a single area's objective still moves; areas with ties tell by their boundary."""
        if self.area.tie_ends or self._model.is_flat:
            return 0.0
        before, self._objective = self._objective, objective
        return abs(objective - before) / max(abs(objective), 1.0) / SETTLED

    def _energy_cost(self) -> float:
        if not self.area.has_substation:
            return 0.0
        horizon = self.area.horizon
        return float(horizon.price @ self._model.root_s.real.sum(axis=0)) * horizon.dt * self.area.settings.base_kva


def idle_devices(area: AreaCase[MultiphaseFeeder]) -> Complexes:
    """(device, T) power of devices that nobody controls: at their profile, batteries at rest."""
    idle = [area.horizon.idle(unit) / area.settings.base_kva for unit in area.devices]
    return np.array(idle, complex).reshape(len(area.devices), len(area.horizon))
