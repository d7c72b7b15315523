"""One area at work: answers proposals, tells its solution, explains why it has none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from areas.branch_flow import relaxation_gap
from areas.conic import SOLVED as ACCEPTED
from areas.conic import ConicSolution
from areas.proposals import attempt, boundary_columns, slope_at, solve_at
from areas.subproblem import build
from common.boundary import AreaProposal, AreaReport, AreaResponse
from common.feeder import Feeder, Floats, Ints
from common.objective import energy
from common.partition import AreaCase
from common.schedule import AreaSolution


def _with_settings(**changes: object) -> Callable[[AreaCase[Feeder]], AreaCase[Feeder]]:
    return lambda area: replace(area, settings=area.settings.model_copy(update=changes))


LIMITS: dict[str, Callable[[AreaCase[Feeder]], AreaCase[Feeder]]] = {
    "voltage limits (v_min_pu, v_max_pu)": _with_settings(v_min_pu=0.5, v_max_pu=1.5),
    "the substation power cap (substation_peak_kw)": _with_settings(substation_peak_kw=None),
    "the limit of exported power (substation_export_kw)": _with_settings(substation_export_kw=None),
    "branch current limits (i_max_a)": lambda area: replace(
        area, feeder=replace(area.feeder, l_max=np.full_like(area.feeder.l_max, np.inf))
    ),
    "branch power limits (s_max_kva)": lambda area: replace(
        area, feeder=replace(area.feeder, s_max=np.full_like(area.feeder.s_max, np.inf))
    ),
    "battery limits (batteries.csv, soc_min, soc_max)": lambda area: replace(area, batteries=()),
}
"""kinds of limit, and the area without them"""


class AreaWorker:
    """An area's compiled problem and its last answer. The model is written and compiled once, here."""

    def __init__(self, area: AreaCase[Feeder]) -> None:
        self.area = area
        self._conic = build(area)
        self._x = np.zeros(len(self._conic.c))
        self._dual = np.zeros(len(self._conic.b))

    def optimum(self, proposal: AreaProposal) -> AreaResponse:
        """Solve the area at a proposal."""
        started = time.perf_counter()
        answer, status = solve_at(self.area, self._conic, proposal)
        self._x, self._dual = answer.x, answer.dual
        value = answer.x[boundary_columns(self._conic, proposal)]
        slope = slope_at(self.area, proposal, answer, value)
        return AreaResponse(value, slope, answer.sensitivity, self._report(answer, status, started))

    def solution(self) -> AreaSolution:
        """The last answer, every variable by name, per unit, and what power costs at each bus.

        A unit more that is drawn at a bus raises the optimal cost by the dual of the bus's balance: Papavasiliou,
        "Analysis of distribution locational marginal prices" (2018).
        """
        values = {name: self._x[columns] for name, columns in self._conic.columns.items()}
        values["price"] = -self._dual[self._conic.rows["balance"]]
        return AreaSolution(values=values, relaxation_gap=self._gap())

    def diagnosis(self, proposal: AreaProposal) -> dict[str, float]:
        """The least cost at a proposal without each kind of limit: inf where even that is infeasible, NaN where
        the solver cannot tell."""
        return {kind: _least_cost(lift(self.area), proposal) for kind, lift in LIMITS.items()}

    def _report(self, answer: ConicSolution, status: int, started: float) -> AreaReport:
        conic, x = self._conic, answer.x
        energy_cost = 0.0
        if self.area.has_substation:
            horizon = self.area.horizon
            p = x[conic.columns["substation"]][0]
            base, settings = self.area.settings.base_kva, self.area.settings
            energy_cost = float(energy(horizon, p * base, settings.export_price_per_kwh))
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


def _least_cost(area: AreaCase[Feeder], proposal: AreaProposal) -> float:
    answer = attempt(area, build(area), proposal, careful=True)
    if answer.status in ACCEPTED:
        return answer.dual_objective
    return np.inf if answer.status == "PrimalInfeasible" else np.nan
