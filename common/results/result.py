"""A finished run as data: what was solved, what came out, how it went and what OpenDSS said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.case import Case
from tieflow.common.errors import counted
from tieflow.common.results.schedule import NetworkState, Schedule

LOOSE_PU = 1e-6
"""l v - p^2 - q^2 above which a branch's relaxation counts as loose"""


@dataclass(frozen=True)
class History:
    """One entry a round; a centralized solve is one round."""

    method: tuple[str, ...]
    """(round,) the method that made the round's proposals; it changes when a method hands over"""
    mismatch_pu: Floats
    """(round,) largest difference between two copies of a boundary variable"""
    change_pu: Floats
    """(round,) largest change of a boundary variable since the round before"""
    cost: Floats
    """(round,) energy cost of the round's answers, $"""
    elapsed_s: Floats
    """(round,) wall time since the first proposal"""
    coordinator_s: Floats
    """(round,) time of the method and the bookkeeping on rank 0"""
    communication_s: Floats
    """(round,) exchange less the busiest rank's work"""
    solve_s: Floats
    """(round, area) time in the conic solver"""
    area_s: Floats
    """(round, area) time of the area's whole step, the conic solver included"""
    model_error_pu: Floats = field(default_factory=lambda: np.zeros(0))
    """(round,) of results of earlier versions, whose multi-phase areas had linearized models: the largest difference
    between their voltages and root powers and those of an AC power flow"""
    optimality: Floats = field(default_factory=lambda: np.zeros(0))
    """(round,) scaled first-order residual of the whole feeder's problem; NaN where the method has none"""
    cpu_s: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """(round, 2) thread CPU time of the busiest rank of each exchange, added up, and of the coordinator"""

    def critical_path_s(self) -> float:
        """Sum over rounds of the slowest area, the coordinator and the communication."""
        slowest = self.area_s.max(axis=1) if self.area_s.size else np.zeros(0)
        return float((slowest + self.coordinator_s + self.communication_s).sum())


@dataclass(frozen=True)
class Tolerances:
    """How far OpenDSS and the optimizer may be apart, and a limit overstepped, before a schedule fails its check."""

    voltage_pu: float = 2e-5
    power_kw: float = 0.05
    """substation power and losses, each hour; kvar alike"""
    soc: float = 1e-4
    """stored energy, per energy capacity; energy of flexible loads, per what is due to them"""
    current: float = 1e-4
    """branch current and apparent power, per limit; setpoints of devices, per rating"""
    energy_kwh: float = 0.0
    """the least that counts of a battery's or a flexible load's energy; 0 in results of earlier versions"""
    device_kw: float = 0.0
    """the least that counts of a device's setpoints; 0 in results of earlier versions, which allowed ``power_kw``"""


@dataclass(frozen=True)
class Violation:
    """A limit that the replayed schedule oversteps by more than the tolerance."""

    kind: str
    """``voltage``, ``current``, ``branch load`` (apparent power), ``substation power``, ``SOC``, ``terminal SOC``,
    ``rating`` or ``energy``, that of a flexible load over the horizon"""
    element: str
    """bus or branch name"""
    hour: int
    """row of profiles.csv"""
    value: float
    limit: float
    unit: str
    time: str = ""
    """of day at which that row begins, HH:MM"""


@dataclass(frozen=True)
class Check:
    """The verdict of the OpenDSS replay."""

    passed: bool
    tolerances: Tolerances
    max_voltage_error_pu: float
    max_substation_error_kw: float
    max_substation_error_kvar: float
    max_loss_error_kw: float
    max_soc_error: float
    """per energy capacity, but never less than that of which the tolerance ``soc`` is ``energy_kwh``"""
    """per energy capacity, or per the larger one of which ``tolerances.soc`` is ``tolerances.energy_kwh``"""
    violations: tuple[Violation, ...]
    cost: float
    """energy cost of the replayed substation power, $"""
    state: NetworkState
    """as OpenDSS finds it; ``p_kw`` and ``q_kvar`` at the same branch ends"""
    battery_energy_kwh: Floats
    """(battery, T) stored energy at the end of each period"""
    failed_hours: tuple[int, ...] = ()
    """rows of profiles.csv in which OpenDSS did not converge or collapsed; their state is NaN"""


@dataclass(frozen=True)
class Result:
    """Everything that is stored about a run."""

    case: Case
    method: str
    """as asked for; history.method says which method made each round"""
    areas: tuple[str, ...]
    tolerance_pu: float
    converged: bool
    schedule: Schedule
    state: NetworkState
    history: History
    cost: float
    """energy cost, $, as the optimizer finds it"""
    objective: float
    """value of the case's objective, $"""
    relaxation_gap_pu: float
    """largest l*v - p^2 - q^2 over branches and hours, per unit; zero for a multi-phase model"""
    lower_bound: float | None
    """certified lower bound on the objective, $; None when not asked for"""
    max_mismatch_pu: float
    max_change_pu: float
    total_s: float
    """wall time of the whole run up to the check"""
    ranks: int
    check: Check | None
    versions: Mapping[str, str]
    model_error_pu: float = 0.0
    """largest difference between the voltages that the areas agreed on and those of the AC power flow of the schedule,
    per unit"""
    optimality: float | None = None
    """scaled first-order residual of the whole feeder's problem at the end; None where the method has none"""
    relaxed_objective: float | None = None
    """objective of the optimum in which batteries charge and discharge at once, $; None where it has none do so. If it
    is the global one, no schedule's objective is below it"""
    oversteps: tuple[Violation, ...] = ()
    """limits of voltages and branches of a multi-phase case that the optimizer expects to be overstepped, at their
    prices"""
    notes: tuple[str, ...] = ()
    """what the user should know: hand-overs, repeated solves, loose relaxations"""
    date: str = ""
    """when the run began, ISO 8601 with its zone; empty in results of earlier versions"""
    command: str = ""
    """the command line that made it; empty where that was a Python program"""
    loose_because: str = ""
    """what makes it pay to lose energy where the cone relaxation is loose; empty where it is tight"""

    def __repr__(self) -> str:
        """What was solved and whether it may be used, in a line."""
        rounds, check = len(self.history.cost), self.check
        told = [f"{self.cost:.2f} $", "converged" if self.converged else "NOT CONVERGED"]
        told[-1] += f" in {counted(rounds, 'round')}" if rounds else ""
        if check is None:
            told.append("not checked in OpenDSS")
        else:
            told.append("confirmed by OpenDSS" if check.passed else "NOT CONFIRMED BY OPENDSS")
        told += ["CONE RELAXATION LOOSE"] if self.relaxation_gap_pu > LOOSE_PU else []
        told += [f"{counted(len(self.oversteps), 'limit')} OVERSTEPPED"] if self.oversteps else []
        return f"<Result of {self.case.name} by {self.method}: {', '.join(told)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        # The one call upwards: notebooks ask the value itself, and reports stand above results.
        card: str = import_module("tieflow.launch.report.notebook").result_card(self)
        return card
