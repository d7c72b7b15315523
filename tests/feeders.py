"""Feeders for tests: random radial ones, and the shipped case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tieflow.common.case import AreaRow, Case
from tieflow.common.feeder.balanced import BranchRow, BusRow
from tieflow.common.inputs.devices import PV, Battery
from tieflow.common.inputs.horizon import Horizon
from tieflow.common.inputs.settings import Settings
from tieflow.common.ties.area_case import Partition
from tieflow.common.ties.boundary import Boundary, Response, join, make_boundary
from tieflow.common.ties.cutting import one_area, partition, without_thevenin
from tieflow.common.wire.messages import Command
from tieflow.common.wire.transport import InProcess, Part
from tieflow.coordinator.loop import Task
from tieflow.coordinator.methods import METHODS
from tieflow.coordinator.record import Outcome
from tieflow.launch.runs.solve import make_solver


@st.composite
def random_cases(draw: st.DrawFn, max_areas: int = 6) -> Case:
    """A random tree with loads, capacitors, PV and batteries, cut into 2 to ``max_areas`` areas at random."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(6, 24))
    periods = draw(st.integers(1, 4))
    parents = [int(rng.integers(max(0, k - 4), k + 1)) for k in range(count - 1)]
    cuts = rng.choice(np.arange(1, count), size=draw(st.integers(1, min(max_areas, count - 1) - 1)), replace=False)
    area = [0] * count
    for bus in range(1, count):
        area[bus] = bus if bus in cuts else area[parents[bus - 1]]
    load = rng.uniform(0, 60, count) * (rng.random(count) < 0.7)
    load[0] = 0
    at_pv, at_battery = (np.flatnonzero((load > 0) & (rng.random(count) < share)) for share in (0.4, 0.4))
    return Case(
        name="random",
        settings=Settings(
            voltage_kv=4.16, substation_bus="b0", substation_v_pu=1.02, v_min_pu=0.9, v_max_pu=1.1, periods=periods
        ),
        buses=tuple(
            BusRow(bus=f"b{i}", p_load_kw=p, q_load_kvar=p * rng.uniform(0.1, 0.6), q_cap_kvar=20.0 * (i % 7 == 3))
            for i, p in enumerate(load)
        ),
        branches=tuple(
            BranchRow(from_bus=f"b{p}", to_bus=f"b{k + 1}", r_ohm=rng.uniform(0.02, 0.12), x_ohm=rng.uniform(0.02, 0.2))
            for k, p in enumerate(parents)
        ),
        pv=tuple(PV(bus=f"b{i}", p_rated_kw=load[i] * 0.5, s_rated_kva=load[i] * 0.6) for i in at_pv),
        batteries=tuple(
            Battery(bus=f"b{i}", p_rated_kw=load[i] * 0.4, s_rated_kva=load[i] * 0.5, energy_kwh=load[i] * 1.6)
            for i in at_battery
        ),
        horizon=Horizon(
            hour=tuple(range(periods)),
            load=rng.uniform(0.5, 1.0, periods),
            pv=rng.uniform(0.0, 1.0, periods),
            price=rng.uniform(0.05, 0.3, periods),
            dt=1.0,
        ),
        areas=tuple(AreaRow(bus=f"b{i}", area=f"area{a}") for i, a in enumerate(area)),
    )


class Watched(InProcess):
    """Areas in this process that can be asked for their last answers."""

    answers: Sequence[Any] = ()

    def exchange(self, command: Command, asks: Sequence[Any]) -> list[Any]:
        self.answers = super().exchange(command, asks)
        return self.answers


def in_process(parts: Partition) -> Watched:
    """The areas of a partition at work in this process."""
    whole = slice(0, len(parts.areas[0].horizon))
    areas = [Part(k, whole) for k in range(len(parts.areas))]
    return Watched(areas, [make_solver(area, whole) for area in parts.areas])


def task(parts: Partition, tolerance: float = 1e-5, max_rounds: int = 200) -> Task:
    """To bring the areas of a partition to agreement in this process."""
    names = [area.name for area in parts.areas]
    return Task(make_boundary(parts), in_process(parts), names, tolerance, max_rounds)


def areas_for(case: Case, method: str) -> Partition:
    """The case's areas as a method needs them."""
    parts = partition(case, METHODS[method].exact)
    return parts if METHODS[method].thevenin else without_thevenin(parts)


def agree(
    case: Case, method: str, tolerance: float = 1e-5, max_rounds: int = 200
) -> tuple[Outcome, Boundary, Response]:
    """Run a method of proposals, and no other, on the case's areas in this process; also their last answers."""
    asked = task(areas_for(case, method), tolerance, max_rounds)
    outcome = METHODS[method].solve(asked)
    return outcome, asked.boundary, join(asked.boundary, asked.transport.answers)  # type: ignore[attr-defined]


def optimum(case: Case) -> float:
    """The objective of the centralized problem, in a balanced case of its relaxation."""
    method = "admm" if case.is_balanced else "newton"
    return METHODS[method].solve(task(one_area(case, METHODS[method].exact))).objective


def with_settings(case: Case, **changes: object) -> Case:
    """The case with other settings; devices stay as they are."""
    return replace(case, settings=case.settings.model_copy(update=changes))
