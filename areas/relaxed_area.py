"""An area of a balanced feeder at work, relaxed to cones: answers proposals, tells its solution, explains why it has
none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from areas.branch_flow import relaxation_gap
from areas.conic import SOLVED as ACCEPTED
from areas.conic import ConicProblem, ConicSolution, solve_conic
from areas.devices import area_controls, setpoints
from areas.relaxation import build
from common.area_case import AreaCase
from common.boundary import FAILED, INFEASIBLE, SOLVED, SOLVED_AGAIN, AreaProposal, AreaReport, AreaResponse, P, Q
from common.feeder import Feeder, Floats
from common.objective import energy
from common.schedule import AreaSolution


def _with_settings(**changes: object) -> Callable[[AreaCase[Feeder]], AreaCase[Feeder]]:
    return lambda area: replace(area, settings=area.settings.model_copy(update=changes))


def _without_ratings(name: str) -> Callable[[AreaCase[Feeder]], AreaCase[Feeder]]:
    def lift(area: AreaCase[Feeder]) -> AreaCase[Feeder]:
        unlimited: dict[str, Any] = {name: np.full(len(area.feeder.parent), np.inf)}
        return replace(area, feeder=replace(area.feeder, **unlimited))

    return lift


LIMITS: dict[str, Callable[[AreaCase[Feeder]], AreaCase[Feeder]]] = {
    "voltage limits (v_min_pu, v_max_pu)": _with_settings(v_min_pu=0.5, v_max_pu=1.5),
    "the substation power cap (substation_peak_kw)": _with_settings(substation_peak_kw=None),
    "the limit of exported power (substation_export_kw)": _with_settings(substation_export_kw=None),
    "branch current limits (i_max_a)": _without_ratings("l_max"),
    "branch power limits (s_max_kva)": _without_ratings("s_max"),
    "battery limits (batteries.csv, soc_min, soc_max)": lambda area: replace(area, batteries=()),
}
"""kinds of limit, and the area without them"""


class RelaxedArea:
    """An area's compiled problem and its last answer. The model is written and compiled once, here."""

    def __init__(self, area: AreaCase[Feeder]) -> None:
        self.area = area
        self._conic = build(area)
        self._x = np.zeros(len(self._conic.c))
        self._dual = np.zeros(len(self._conic.b))

    def optimum(self, proposal: AreaProposal) -> AreaResponse:
        """Solve the area at a proposal, at the second attempt if need be."""
        started = time.perf_counter()
        proposal = _with_losses(self.area, proposal)
        answer, status = _attempt(self._conic, proposal), SOLVED
        if answer.status not in ACCEPTED:
            # Of infeasibility too the solver is to be sure before it is believed.
            again = _attempt(self._conic, proposal, careful=True)
            answer = replace(again, seconds=again.seconds + answer.seconds)
            failed = INFEASIBLE if answer.status == "PrimalInfeasible" else FAILED
            status = SOLVED_AGAIN if answer.status in ACCEPTED else failed
        self._x, self._dual = answer.x, answer.dual
        value = self._value("boundary").reshape(proposal.price.shape)
        slope = _slope(proposal, answer, value)
        report = AreaReport(
            status=status,
            energy_cost=self._energy_cost(),
            objective=self._conic.cost(answer.x),
            dual_objective=answer.dual_objective,
            relaxation_gap=float(self._gap().max(initial=0.0)),
            iterations=float(answer.iterations),
            solve_s=answer.seconds,
            area_s=time.perf_counter() - started,
        )
        return AreaResponse(value, slope, answer.sensitivity, report)

    def solution(self) -> AreaSolution:
        """The last answer, per unit, and what power costs at each bus.

        A unit more that is drawn at a bus raises the optimal cost by the dual of the bus's balance: Papavasiliou,
        "Analysis of distribution locational marginal prices" (2018).
        """
        values = {name: self._x[columns] for name, columns in self._conic.columns.items() if name != "decided"}
        values["price"] = -self._dual[self._conic.rows["balance"]]
        controls = area_controls(self.area)
        decided = controls.low.copy()
        decided[~controls.fixed] = self._value("decided")
        values |= setpoints(self.area, decided, slice(0, decided.shape[1]))
        return AreaSolution(values=values, relaxation_gap=self._gap())

    def diagnosis(self, proposal: AreaProposal) -> dict[str, float]:
        """The least cost at a proposal without each kind of limit: inf where even that is infeasible, NaN where
        the solver cannot tell."""
        proposal = _with_losses(self.area, proposal)
        return {kind: _least_cost(build(lift(self.area)), proposal) for kind, lift in LIMITS.items()}

    def _energy_cost(self) -> float:
        area = self.area
        if not area.has_substation:
            return 0.0
        p = self._value("substation")[0] * area.settings.base_kva
        return float(energy(area.horizon, p, area.settings.export_price_per_kwh))

    def _gap(self) -> Floats:
        return relaxation_gap(self.area.feeder, *(self._value(name) for name in "vpql"))

    def _value(self, name: str) -> Floats:
        return self._x[self._conic.columns[name]]


def _least_cost(conic: ConicProblem, proposal: AreaProposal) -> float:
    answer = _attempt(conic, proposal, careful=True)
    if answer.status in ACCEPTED:
        return answer.dual_objective
    return np.inf if answer.status == "PrimalInfeasible" else np.nan


def _attempt(conic: ConicProblem, proposal: AreaProposal, careful: bool = False) -> ConicSolution:
    """The problem with what a proposal adds to its cost."""
    columns = conic.columns["boundary"].reshape(proposal.price.shape)
    places, size = columns.ravel(), len(conic.c)
    linear = np.zeros(size)
    linear[columns] = proposal.price - proposal.curvature * proposal.target
    quadratic = sp.csc_matrix((proposal.curvature.ravel(), (places, places)), (size, size))
    fixed = np.broadcast_to(proposal.fixed[..., None], columns.shape)
    wanted = places if proposal.sensitivities else None
    return solve_conic(conic, linear, quadratic, (columns[fixed], proposal.target[fixed]), wanted, careful)


def _slope(proposal: AreaProposal, answer: ConicSolution, value: Floats) -> Floats:
    """(end, quantity, T) derivative of the area's own optimal cost with respect to each boundary quantity."""
    slope: Floats = -(proposal.price + proposal.curvature * (value - proposal.target))
    fixed = np.broadcast_to(proposal.fixed[..., None], value.shape)
    slope[fixed] = answer.fixed_dual - proposal.price[fixed]
    return slope


def _with_losses(area: AreaCase[Feeder], proposal: AreaProposal) -> AreaProposal:
    """The proposal with the losses upstream in its curvature.

    A power p + jq that is drawn at the area's own root, one conductor, loses r (p^2 + q^2) upstream.
    """
    curvature = proposal.curvature.copy()
    for k, end in enumerate(area.tie_ends):
        if end.side == "child":
            curvature[k, P : Q + 1] += 2 * end.z[0, 0].real * proposal.upstream
    return replace(proposal, curvature=curvature)
