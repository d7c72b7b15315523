"""One area at work: answers proposals, tells its solution, explains why it has none."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from areas.branch_flow import relaxation_gap
from areas.conic import SOLVED as ACCEPTED
from areas.conic import ConicSolution, solve_conic
from areas.subproblem import build
from common.boundary import FAILED, INFEASIBLE, QUANTITIES, SOLVED, SOLVED_AGAIN, AreaProposal, AreaReport, AreaResponse
from common.feeder import Floats, Ints
from common.partition import AreaCase
from common.schedule import AreaSolution

DIAGNOSES: dict[str, dict[str, object]] = {
    "voltage limits (v_min_pu, v_max_pu)": {"v_min_pu": 0.5, "v_max_pu": 1.5},
    "the substation power cap (substation_peak_kw)": {"substation_peak_kw": None, "objective": "cost"},
}
"""kinds of limit, and the settings that lift them"""


class AreaWorker:
    """An area's compiled problem and its last answer. The model is written and compiled once, here."""

    def __init__(self, area: AreaCase) -> None:
        self.area = area
        self._conic = build(area)
        self._x = np.zeros(len(self._conic.c))

    def respond(self, proposal: AreaProposal) -> AreaResponse:
        """Solve the area at a proposal."""
        started = time.perf_counter()
        conic, shape = self._conic, (len(self.area.tie_ends), QUANTITIES, len(self.area.horizon))
        columns = conic.columns["boundary"].reshape(shape) if shape[0] else np.zeros(shape, np.int64)
        linear, curvature = np.zeros((2, len(conic.c)))
        linear[columns] = proposal.price - proposal.curvature * proposal.target
        curvature[columns] = proposal.curvature
        fixed = np.broadcast_to(proposal.fixed[..., None], shape)
        wanted = columns.ravel() if proposal.sensitivities else None
        held = columns[fixed]
        answer = solve_conic(conic, linear, curvature, held, proposal.target[fixed], wanted)
        status = SOLVED
        if answer.status not in (*ACCEPTED, "PrimalInfeasible"):
            again = solve_conic(conic, linear, curvature, held, proposal.target[fixed], wanted, careful=True)
            answer = replace(again, seconds=again.seconds + answer.seconds)
            status = SOLVED_AGAIN
        if answer.status not in ACCEPTED:
            status = INFEASIBLE if answer.status == "PrimalInfeasible" else FAILED
        self._x = answer.x
        value = answer.x[columns]
        slope = -(proposal.price + proposal.curvature * (value - proposal.target))
        slope[fixed] = answer.fixed_dual - proposal.price[fixed]
        return AreaResponse(value, slope, answer.sensitivity, self._report(answer, status, started))

    def solution(self) -> AreaSolution:
        """The last answer, every variable by name, per unit."""
        values = {name: self._x[columns] for name, columns in self._conic.columns.items()}
        return AreaSolution(values=values, relaxation_gap=self._gap())

    def diagnosis(self) -> str:
        """Why the area by itself, its boundary free, has no schedule: the kind of limit that stands in the way."""
        if _feasible(self.area):
            return "feasible by itself; its limits and those of its neighbours contradict each other"
        for kind, lifted in DIAGNOSES.items():
            if _feasible(replace(self.area, settings=self.area.settings.model_copy(update=lifted))):
                return f"infeasible because of {kind}"
        unlimited = replace(self.area.feeder, l_max=np.full_like(self.area.feeder.l_max, np.inf))
        if _feasible(replace(self.area, feeder=unlimited)):
            return "infeasible because of branch current limits (i_max_a)"
        if _feasible(replace(self.area, batteries=())):
            return "infeasible because of its batteries' limits (batteries.csv)"
        return "infeasible, and no single kind of limit is the reason: more than one must be widened"

    def _report(self, answer: ConicSolution, status: int, started: float) -> AreaReport:
        conic, x = self._conic, answer.x
        energy_cost = 0.0
        if self.area.has_substation:
            horizon = self.area.horizon
            p = x[conic.columns["substation"]][0]
            energy_cost = float(horizon.price @ p) * horizon.dt * self.area.settings.base_kva
        return AreaReport(
            status=status,
            energy_cost=energy_cost,
            objective=conic.cost(x),
            dual_objective=answer.dual_objective,
            relaxation_gap=float(self._gap().max(initial=0.0)),
            iterations=float(answer.iterations),
            solve_s=answer.seconds,
            area_s=time.perf_counter() - started,
        )

    def _gap(self) -> Floats:
        feeder, periods = self.area.feeder, len(self.area.horizon)
        v, p, q, squared_current = (self._value(name, periods) for name in ("v", "p", "q", "l"))
        return relaxation_gap(feeder, v, p, q, squared_current)

    def _value(self, name: str, periods: int) -> Floats:
        columns: Ints | None = self._conic.columns.get(name)
        return np.zeros((0, periods)) if columns is None else self._x[columns]


def _feasible(area: AreaCase) -> bool:
    return solve_conic(build(area)).status in ACCEPTED
