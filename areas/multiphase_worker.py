"""One multi-phase area at work: corrects its model at the proposed point, answers, and checks the answer itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from areas.barrier import CentralPath, CentralPoint, further, longest
from areas.conic import SOLVED as ACCEPTED
from areas.conic import ConicProblem, ConicSolution
from areas.limits import Parts, approached, overstep, revised
from areas.lindist3 import linearize_flat
from areas.linearization import Linearization, Point, linearize, power_legs, root_power
from areas.multiphase import (
    build_multiphase,
    carried,
    overload_price,
    predicted_power,
    predicted_voltages,
    weights,
    with_network,
)
from areas.proposals import attempt, slope_at, solve_at, terms
from common.boundary import ANGLE, INFEASIBLE, SOLVED, AreaProposal, AreaReport, AreaResponse, P, Q, W
from common.errors import SolverError
from common.feeder import Complexes, Floats
from common.multiphase import GROUND, MultiphaseFeeder, multipliers
from common.partition import AreaCase
from common.power_flow import Injections, PowerFlow, leg_currents
from common.schedule import AreaSolution

SAME_POINT = 1e-8
"""pu by which voltages must have moved for the model to be corrected"""

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
    step: float = 1.0
    drift: Floats | None = None


@dataclass(frozen=True)
class _OnPath:
    """Where the area stands on its central path."""

    path: CentralPath
    problem: ConicProblem
    point: CentralPoint
    start: CentralPoint | None
    """the point before it"""
    way: CentralPoint | None
    """the whole step from there"""
    before: Parts
    """parts of the limits there"""


class MultiphaseWorker:
    """An area's factorized feeder, compiled devices, present linearization and last answer."""

    def __init__(self, area: AreaCase[MultiphaseFeeder]) -> None:
        self.area = area
        horizon, feeder = area.horizon, area.feeder
        self._flow = PowerFlow(feeder, multipliers(feeder.legs, horizon.load, horizon.shapes))
        self._model = build_multiphase(area)
        self._a, self._b, self._shares = power_legs(self._model.inputs)
        self._limits: Parts = np.zeros((2, len(feeder.node_bus), len(horizon)), np.int8)
        self._device_s = idle_devices(area)
        self._at: Linearization | None = None
        self._here = np.zeros(self._model.input_columns.shape)
        self._x = np.zeros(len(self._model.devices.c))
        self._loss_price = weights(area)[1]
        self._final: Point | None = None
        self._root_s = np.zeros((0, len(horizon)), complex)
        self._is_flat = area.settings.model == "lindist3"
        self._path: _OnPath | None = None

    def respond(self, proposal: AreaProposal) -> AreaResponse:
        """Solve the area at a proposal, its model corrected at the proposed point."""
        started = time.perf_counter()
        if proposal.barrier:
            self._pay_for_overload(proposal)
            corrected, solved = self._follow(proposal)
        else:
            self._path = None
            corrected = self._correct(proposal)
            solved = self._solve(proposal)
        answer = solved.answer
        self._x = answer.x
        if answer.status in ACCEPTED and self.area.has_substation:
            self._loss_price = weights(self.area)[1] + overload_price(
                self.area, solved.problem, self._model, answer.dual
            )
        value = answer.x[self._model.boundary_columns]
        slope = slope_at(self.area, proposal, answer, value)
        inputs = answer.x[self._model.input_columns]
        model_error = self._verify(inputs) if answer.status in ACCEPTED else np.inf
        report = AreaReport(
            status=solved.status,
            energy_cost=self._energy_cost(),
            objective=solved.problem.cost(answer.x) + solved.constant,
            dual_objective=answer.dual_objective + solved.constant,
            relaxation_gap=0.0,
            model_error=model_error,
            kept=float(not corrected),
            step=solved.step,
            iterations=float(answer.iterations),
            solve_s=solved.seconds,
            area_s=time.perf_counter() - started,
        )
        return AreaResponse(value, slope, answer.sensitivity, report, solved.drift)

    def solution(self) -> AreaSolution:
        """The last answer, every variable by name, and the power flow that it leads to, per unit."""
        values = {name: self._x[columns] for name, columns in self._model.devices.columns.items() if "." in name}
        point = self._final
        assert point is not None
        given, drawn = (self._shares @ point.device_s).sum(axis=0), point.tie_s.sum(axis=0)
        losses = (self._root_s.sum(axis=0) + given - drawn - self._served(point)).real
        return AreaSolution(
            values={**values, "v": point.v, "i": point.i, "root_s": self._root_s, "losses": losses},
            relaxation_gap=np.zeros((0, len(self.area.horizon))),
        )

    def replay(self, device_s: Complexes) -> AreaSolution:
        """The AC power flow of a whole feeder with given powers (device, T) of its devices. Raises SolverError when
        there is none."""
        self._final = self._power_flow(np.zeros((0, len(self.area.horizon)), complex), device_s, device_s[:0])
        self._root_s = root_power(self._flow, self._model.inputs, self._final)
        return self.solution()

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

    def _pay_for_overload(self, proposal: AreaProposal) -> None:
        """A cap on the substation's power makes losses dearer in all areas: what they cost is what power costs."""
        if self._own_roots() and self.area.settings.substation_peak_kw is not None:
            paid = proposal.price[: self._own_roots(), P].mean(axis=0)
            self._loss_price = np.maximum(weights(self.area)[1], paid)

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
        return self._correct_at(w, self._device_s, s[roots:])

    def _correct_at(self, w: Complexes, device_s: Complexes, tie_s: Complexes) -> bool:
        """Linearize at the power flow of given inputs; False where there is none. A flat model stays as it is."""
        if self._is_flat:
            if self._at is None:
                self._at = linearize_flat(self._flow, self._model.inputs)
                root = np.zeros((self._own_roots(), len(self.area.horizon)), complex)
                self._here = self._merge(root, self._at.point.device_s, self._at.point.tie_s)
            return True
        try:
            point = self._power_flow(w, device_s, tie_s)
        except SolverError:
            if self._at is None:
                raise
            return False
        if self._at is None or np.abs(point.v - self._at.point.v).max() > SAME_POINT:
            self._at = linearize(self._flow, self._model.inputs, point)
            self._here = self._merge(w, device_s, tie_s)
        return True

    def _merge(self, w: Complexes, device_s: Complexes, tie_s: Complexes) -> Floats:
        """(T, input) inputs of the root's voltage, the devices' powers and those that the children draw."""
        return np.concatenate([part(s) for s in (w, device_s, tie_s) for part in (np.real, np.imag)]).T

    def _split(self, inputs: Floats) -> tuple[Complexes, Complexes, Complexes]:
        """What ``_merge`` merged."""
        roots, devices = self._own_roots(), len(self.area.devices)
        parts = np.split(inputs.T, np.cumsum([roots, roots, devices, devices, len(self._model.inputs.tie_nodes)]))
        return parts[0] + 1j * parts[1], parts[2] + 1j * parts[3], parts[4] + 1j * parts[5]

    def _solve(self, proposal: AreaProposal) -> _Solved:
        """The answer, with all voltage limits that it calls for."""
        spent, revisions = 0.0, 0
        limited = self.area.feeder.limited
        while True:
            problem, constant = self._problem()
            answer, status = solve_at(self.area, problem, replace(proposal, sensitivities=False))
            spent += answer.seconds
            revision = None
            if answer.status in ACCEPTED:
                revision = revised(self._limits, self._beyond(answer.x), limited, revisions)
            if revision is None:
                break
            self._limits = revision
            revisions += 1
        if proposal.sensitivities and answer.status in ACCEPTED:
            answer, status = solve_at(self.area, problem, proposal)
            spent += answer.seconds
        return _Solved(answer, status, problem, constant, spent)

    def _follow(self, proposal: AreaProposal) -> tuple[bool, _Solved]:
        """One step along the central path, and whether the model could be corrected there. The first time, the path's
        point at the proposal."""
        started = time.perf_counter()
        last = self._path
        if last is None:
            corrected = self._correct(proposal)
            started = time.perf_counter()
            start, way, length, before = None, None, 1.0, self._limits
            problem, constant, linear, path, point, possible = self._first_point(proposal)
        else:
            start, way, length, before = last.start, last.way, proposal.length, last.before
            if length == 1.0:
                before, start = self._limits, last.point
                way = last.path.direction(start, terms(self.area, last.problem, proposal)[0], proposal.barrier)
                length = longest(start, way)
            if start is None or way is None:
                raise SolverError(f"area {self.area.name}: a step is to be taken again before any was taken.")
            self._limits, possible = before, True
            point = further(start, way, length)
            stepped = time.perf_counter()
            corrected = self._correct_at(*self._split(point.x[self._model.input_columns]))
            started += time.perf_counter() - stepped
            beyond = self._beyond(point.x)
            self._limits = approached(before, beyond, self.area.feeder.limited)
            point = carried(self.area, point, before, self._limits, beyond, proposal.barrier)
            problem, constant = self._problem()
            linear, quadratic = terms(self.area, problem, proposal)
            path = CentralPath(problem, quadratic)
        x, drift = path.ahead(point, linear, proposal.barrier)
        columns = self._model.boundary_columns.ravel()
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
        self._path = _OnPath(path, problem, point, start, way, before)
        drift = drift[self._model.boundary_columns]
        status = SOLVED if possible else INFEASIBLE
        return corrected, _Solved(answer, status, problem, constant, answer.seconds, length, drift)

    def _first_point(
        self, proposal: AreaProposal
    ) -> tuple[ConicProblem, float, Floats, CentralPath, CentralPoint, bool]:
        """The central path's point at a proposal, with all voltage limits that it comes near; and whether the area's
        limits can be kept at all."""
        assert self._at is not None
        nearby = overstep(self.area.settings, np.log(np.abs(self._at.point.v)))
        while True:
            self._limits = approached(self._limits, nearby, self.area.feeder.limited)
            problem, constant = self._problem()
            linear, quadratic = terms(self.area, problem, proposal)
            path = CentralPath(problem, quadratic)
            point, reached = path.solve(linear, proposal.barrier)
            nearby = self._beyond(point.x)
            if not reached:
                # The steps to come can start from any point, unless there is nowhere to go.
                possible = solve_at(self.area, problem, proposal)[1] != INFEASIBLE
                return problem, constant, linear, path, point, possible
            if (approached(self._limits, nearby, self.area.feeder.limited) == self._limits).all():
                return problem, constant, linear, path, point, True

    def _beyond(self, x: Floats) -> Floats:
        """(2, node, T) what an answer oversteps each voltage limit by, as the model predicts."""
        assert self._at is not None
        v = predicted_voltages(self._at, self._here, x[self._model.input_columns])
        return overstep(self.area.settings, np.log(v))

    def _problem(self) -> tuple[ConicProblem, float]:
        assert self._at is not None
        return with_network(self.area, self._model, self._at, self._here, self._limits, self._loss_price)

    def _verify(self, inputs: Floats) -> float:
        """Run the power flow of an answer (T, input) and compare: the largest difference of voltages and of the power
        at the root, pu. A flat model is taken at its word here: its error is told of the schedule as a whole."""
        assert self._at is not None
        predicted_s = predicted_power(self._at, self._here, inputs)
        w, device_s, tie_s = self._split(inputs)
        self._device_s = device_s
        if self._is_flat:
            moved = np.einsum("tni,ti->nt", self._at.voltage, inputs - self._here)
            self._final = Point(self._at.point.v * np.exp(moved), self._at.point.i, device_s, tie_s)
            self._root_s = predicted_s
            return 0.0
        try:
            self._final = self._power_flow(w, device_s, tie_s)
        except SolverError:
            return np.inf
        self._root_s = root_power(self._flow, self._model.inputs, self._final)
        limited = self.area.feeder.limited
        voltage = np.abs(self._final.v) - predicted_voltages(self._at, self._here, inputs)
        power = self._root_s - predicted_s
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
        if not self.area.has_substation:
            return 0.0
        horizon = self.area.horizon
        return float(horizon.price @ self._root_s.real.sum(axis=0)) * horizon.dt * self.area.settings.base_kva


def idle_devices(area: AreaCase[MultiphaseFeeder]) -> Complexes:
    """(device, T) power of devices that nobody controls: PV at its profile, batteries at rest."""
    idle = [unit.p_rated_kw * area.horizon.pv_profile(unit) / area.settings.base_kva for unit in area.pv]
    idle += [np.zeros(len(area.horizon))] * len(area.batteries)
    return np.array(idle, complex).reshape(len(area.devices), len(area.horizon))
