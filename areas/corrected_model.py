"""A multi-phase area's model, corrected at one operating point after another, and held against the power flow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from areas.conic import ConicProblem
from areas.curvature import convex, nodal_prices
from areas.limits import Parts
from areas.lindist3 import linearize_flat
from areas.linearization import Linearization, linearize
from areas.multiphase import (
    MultiphaseModel,
    beyond_here,
    predicted_loads,
    predicted_power,
    predicted_voltages,
    with_network,
)
from areas.network import Point, area_network
from areas.prices import first_prices, network_prices
from common.boundary import ANGLE, P, Q, W
from common.branch_limits import limited_branches
from common.errors import SolverError
from common.feeder import Complexes, Floats
from common.load_law import leg_currents, rounded_off
from common.multiphase import GROUND, MultiphaseFeeder, multipliers
from common.objective import prices
from common.partition import AreaCase
from common.power_flow import Injections, PowerFlow
from common.schedule import AreaSolution

SAME_POINT = 1e-8
"""pu by which voltages must have moved for the model to be corrected"""
LEAST_WIDTH, MOST_ROUNDED = 1e-4, 2e-6
"""width per rated voltage over which loads' kinks stay rounded, unless that changes more power than this, pu"""
NARROWER = 0.3
"""factor on the width where it does"""
STRIDE, MEMORY = 3.0, 0.5
"""how far a leg's voltage is expected to move at most, over its last step and over what was expected before"""
FARTHEST, NEAREST = 0.02, 10.0
"""bounds of that: per rated voltage, and over the width"""
LEAST_CURVATURE = 0.1
"""of all that the network costs, over that of its losses alone"""
VOLTAGE_SCALE = 0.01
"""logarithm of the root's voltage that counts as much as one per unit of power where curvature is made convex"""


class CorrectedModel:
    """An area's factorized feeder, and its linearization at the last point where a power flow was found."""

    def __init__(self, area: AreaCase[MultiphaseFeeder], compiled: MultiphaseModel) -> None:
        self.area, self._compiled = area, compiled
        feeder, horizon = area.feeder, area.horizon
        self._flow = PowerFlow(feeder, multipliers(feeder.legs, horizon.load, horizon.shapes))
        limited = limited_branches(feeder, area.branch_limits)
        self._network = area_network(self._flow, compiled.inputs, limited)
        self._at: Linearization | None = None
        self._here = np.zeros(compiled.input_columns.shape)
        self.loss_price = prices(area.settings, horizon).curvature
        """(T,) of losses in all, $ per pu"""
        self.prices = first_prices(area, compiled)
        """of the network at the last answer"""
        self.width = np.inf
        """over which loads' kinks were last rounded"""
        self._least_width = LEAST_WIDTH
        self._reach: Floats = np.full((len(feeder.legs), len(horizon)), FARTHEST)
        self._answer: Point | None = None
        self.root_s = np.zeros((0, len(horizon)), complex)
        """(root node, T) power drawn at the root at the last answer"""
        self._scale = np.ones(compiled.input_columns.shape[1])
        if not area.has_substation:
            self._scale[: 2 * feeder.roots] = VOLTAGE_SCALE
        self.roots = 0 if area.has_substation else feeder.roots
        self.is_flat = area.settings.model == "lindist3"

    @property
    def at(self) -> Linearization:
        """The present linearization."""
        assert self._at is not None
        return self._at

    def correct_at_target(self, target: Floats, device_s: Complexes, width: float) -> bool:
        """Correct at boundary values (conductor, quantity, T) and devices' powers; see ``correct``."""
        s = target[:, P] + 1j * target[:, Q]
        w = np.zeros((0, s.shape[1]), complex)
        if self.roots:
            # A child's own root is its first tie end.
            ends = target[: self.roots]
            w = ends[:, W] + 1j * ends[:, ANGLE] - self.area.tie_ends[0].z @ np.conj(s[: self.roots])
        return self._correct(w, device_s, s[self.roots :], width)

    def correct(self, inputs: Floats, width: float) -> bool:
        """Linearize at the power flow of inputs (T, input), the loads' kinks rounded over a width; False where there is
        none, and the model stays as it is. A flat model always does. Raises SolverError the first time."""
        return self._correct(*self.split(inputs), width)

    def is_placed(self) -> bool:
        """Whether there is a linearization yet."""
        return self._at is not None

    def problem(self, parts: Parts) -> tuple[ConicProblem, float]:
        """The area's problem at the present linearization, and the constant that its cost leaves out."""
        return with_network(self.area, self._compiled, self.at, self._here, parts)

    def beyond(self, inputs: Floats | None = None) -> Floats:
        """(limit, T) what inputs (T, input), or the present point, are beyond each limit by, as predicted."""
        if inputs is None:
            return beyond_here(self._compiled, self.at)
        v, load = (predicted(self.at, self._here, inputs) for predicted in (predicted_voltages, predicted_loads))
        return self._compiled.limits.beyond(v, load)

    def price(self, inputs: Floats, parts: Parts, equality_dual: Floats, dual: Floats) -> None:
        """Note what the network costs at an answer (T, input), as predicted, by the duals of the problem's rows."""
        v = predicted_voltages(self.at, self._here, inputs)
        self.prices = network_prices(self.area, self._compiled, parts, v, equality_dual, dual)

    def verify(self, inputs: Floats) -> float:
        """Run the power flow of an answer (T, input) and compare: the largest difference of voltages, of the power
        at the root and of that of limited branches, pu. A flat model is taken at its word here: its error is told of
        the schedule as a whole."""
        predicted_s = predicted_power(self.at, self._here, inputs)
        w, device_s, tie_s = self.split(inputs)
        if self.is_flat:
            moved = np.einsum("tni,ti->nt", self.at.voltage, inputs - self._here)
            self._answer = Point(self.at.point.v * np.exp(moved), self.at.point.i, device_s, tie_s)
            self.root_s = predicted_s
            return 0.0
        try:
            self._find(w, device_s, tie_s, self.width)
        except SolverError:
            return np.inf
        assert self._answer is not None
        limited = self.area.feeder.limited
        voltage = np.abs(self._answer.v) - predicted_voltages(self.at, self._here, inputs)
        power = self.root_s - predicted_s
        load = self._loads(self._answer) - predicted_loads(self.at, self._here, inputs)
        return max(float(np.abs(off).max(initial=0.0)) for off in (voltage[limited], power, load))

    def replay(self, device_s: Complexes) -> None:
        """Run the power flow of a whole feeder with given powers (device, T) of its devices. Raises SolverError when
        there is none."""
        self._find(np.zeros((0, device_s.shape[1]), complex), device_s, device_s[:0])

    def nodal_prices(self) -> Complexes:
        """(node, T) of power drawn at the last answer; see ``areas.curvature.nodal_prices``."""
        assert self._answer is not None
        return nodal_prices(self._network, self._answer, self.prices)

    def solution(self, values: dict[str, Floats]) -> AreaSolution:
        """Values of variables, with the power flow of the last answer, per unit, no kink rounded."""
        point = self._answer
        assert point is not None
        if not self.is_flat:
            w = np.log(point.v[: self.roots] / self.area.feeder.v_no_load[: self.roots, None])
            point = self._find(w, point.device_s, point.tie_s)
        given, drawn = (self._network.shares @ point.device_s).sum(axis=0), point.tie_s.sum(axis=0)
        v = self._flow.load_incidence @ point.v
        served = (v * np.conj(leg_currents(self.area.feeder.legs, v, self._flow.multipliers))).sum(axis=0)
        losses = (self.root_s.sum(axis=0) + given - drawn - served).real
        return AreaSolution(
            values={
                **values,
                "v": point.v,
                "i": point.i,
                "root_s": self.root_s,
                "losses": losses,
                "branch_load": self._loads(point),
            },
            relaxation_gap=np.zeros((0, len(self.area.horizon))),
        )

    def split(self, inputs: Floats) -> tuple[Complexes, Complexes, Complexes]:
        """(T, input) inputs as the root's voltage, the devices' powers and those that the children draw."""
        roots, devices, ties = self.roots, len(self.area.devices), len(self._compiled.inputs.tie_nodes)
        parts = np.split(inputs.T, np.cumsum([roots, roots, devices, devices, ties]))
        return parts[0] + 1j * parts[1], parts[2] + 1j * parts[3], parts[4] + 1j * parts[5]

    def _loads(self, point: Point) -> Floats:
        """(branch, T) apparent power of limited branches."""
        return np.abs(self._network.ends.power(point.v, point.i))

    def _merge(self, w: Complexes, device_s: Complexes, tie_s: Complexes) -> Floats:
        """What ``split`` splits."""
        return np.concatenate([part(s) for s in (w, device_s, tie_s) for part in (np.real, np.imag)]).T

    def _correct(self, w: Complexes, device_s: Complexes, tie_s: Complexes, width: float) -> bool:
        if self.is_flat:
            if self._at is None:
                flat = linearize_flat(self._network)
                self._at = replace(flat, curvature=self.loss_price[:, None, None] * flat.losses)
                root = np.zeros((self.roots, len(self.area.horizon)), complex)
                self._here = self._merge(root, self._at.point.device_s, self._at.point.tie_s)
            return True
        width = max(width, self._least_width)
        try:
            point = self._power_flow(w, device_s, tie_s, width)
        except SolverError:
            if self._at is None:
                raise
            return False
        if self._at is None or width != self.width or np.abs(point.v - self._at.point.v).max() > SAME_POINT:
            self._expect_steps(point, width)
            found = linearize(self._network, point, self.prices, width, self._reach)
            least = LEAST_CURVATURE * self.loss_price[:, None, None] * found.losses
            self._at = replace(found, curvature=convex(found.curvature, least, self._scale))
            self._here = self._merge(w, device_s, tie_s)
            self.width = width
        return True

    def _expect_steps(self, point: Point, width: float) -> None:
        """How far legs' voltages may move next, and whether the rounding of kinks may stay as wide."""
        legs, across = self.area.feeder.legs, self._flow.load_incidence @ point.v
        if self._at is not None:
            moved = np.abs(across) - np.abs(self._flow.load_incidence @ self._at.point.v)
            stride = STRIDE * np.abs(moved) / legs.v_rated[:, None]
            self._reach = np.clip(np.maximum(stride, MEMORY * self._reach), NEAREST * width, FARTHEST)
        if rounded_off(legs, across, self._flow.multipliers, self._least_width) > MOST_ROUNDED:
            self._least_width *= NARROWER

    def _find(self, w: Complexes, device_s: Complexes, tie_s: Complexes, width: float = 0.0) -> Point:
        """The power flow of an answer."""
        self._answer = self._power_flow(w, device_s, tie_s, width)
        self.root_s = self._network.intake.power(self._answer.v, self._answer.i)
        return self._answer

    def _power_flow(self, w: Complexes, device_s: Complexes, tie_s: Complexes, width: float) -> Point:
        """At the root's voltage ln(V / V_no_load) (root, T), the devices' powers and those that the children draw."""
        feeder, inputs = self.area.feeder, self._compiled.inputs
        v_root = np.repeat(feeder.v_no_load[: feeder.roots, None], len(self.area.horizon), axis=1)
        if len(w):
            v_root = v_root * np.exp(w)
        a, b = self._network.device_ends
        injections = Injections(
            a=np.concatenate([a, inputs.tie_nodes]),
            b=np.concatenate([b, np.full(len(inputs.tie_nodes), GROUND)]),
            s=np.concatenate([self._network.shares @ device_s, -tie_s]),
        )
        start = None if self._answer is None else self._answer.v
        v, i = self._flow.solve(v_root, injections, start, width)
        return Point(v, i, device_s, tie_s)
