"""Parts of joint Newton steps in this process, driven by hand: areas, perhaps in spans of their periods, and the system
that they and the coordinator make. And cases that have everything there is to get wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from multiphase_feeders import grown

from tieflow.areas.joint_area import JointArea
from tieflow.common.arrays import Floats
from tieflow.common.case import AreaRow, Case
from tieflow.common.feeder.branch_limits import BranchLimit
from tieflow.common.feeder.power_flow import two_port
from tieflow.common.inputs.devices import PV, Battery, FlexibleLoad, Wind
from tieflow.common.inputs.horizon import Horizon
from tieflow.common.inputs.settings import Settings as CaseSettings
from tieflow.common.interior_point.algorithm import Iteration, Result, Settings, minimize
from tieflow.common.interior_point.joint_system import JointSystem
from tieflow.common.ties.area_case import AreaCase, Partition
from tieflow.common.ties.boundary import make_boundary
from tieflow.common.ties.cutting import one_area
from tieflow.common.wire.messages import Command, Layout, message_size

BARRIER = Settings().first_barrier


@dataclass
class Parts:
    """Areas in spans, one after the other; counts the numbers that their messages have."""

    areas: list[JointArea]
    spans: list[tuple[int, slice]]
    numbers: int = 0

    def exchange(self, command: Command, asks: Sequence[Any]) -> list[Any]:
        answers = [getattr(area, command.name.lower())(ask) for area, ask in zip(self.areas, asks, strict=True)]
        for area, (_, span), ask, answer in zip(self.areas, self.spans, asks, answers, strict=True):
            layout = [Layout.of(area.area, span)]
            self.numbers += message_size(layout, type(ask)) + message_size(layout, type(answer))
        return answers


@dataclass
class Run:
    """Joint steps of a partition until they end."""

    parts: Parts
    system: JointSystem
    result: Result
    record: list[Iteration] = field(default_factory=list)

    @property
    def objective(self) -> float:
        """$"""
        return self.system.objective()


def begun(area: AreaCase[Any], span: slice, forecast: Floats) -> JointArea:
    """An area at its first point."""
    joint = JointArea(area, span)
    joint.begin(forecast[:, :, span], BARRIER)
    return joint


def as_one_area_starts(case: Case, parts: Partition) -> Partition:
    """The areas, their boundary forecast at the very point where one area begins: from there on nothing tells them
    apart. What a partition forecasts is the power flow of idle devices and of loads whose laws have sharp kinks."""
    feeder = case.exact_feeder
    first, size = feeder.roots, len(feeder.node_bus)
    none = np.zeros((0, 4, len(case.horizon)))
    whole = begun(one_area(case, exact=True).areas[0], slice(0, len(case.horizon)), none)
    x, n = whole.point.x[:, : len(case.horizon)], size - first
    v, i = np.zeros((2, size, x.shape[1]), complex)
    v[:first] = feeder.v_no_load[:first, None]
    v[first:], i[first:] = x[:n] + 1j * x[2 * n : 3 * n], x[n : 2 * n] + 1j * x[3 * n : 4 * n]
    forecasts = [none]
    for tie in parts.ties:
        head = parts.areas[tie.child].feeder.buses[1]
        k = feeder.buses.index(head) - 1
        nodes, port = feeder.branches[k].nodes, two_port(feeder, k)
        at_child = feeder.node_bus[nodes] == k + 1
        parents, children = nodes[~at_child], nodes[at_child]
        s = v[parents] * np.conj(port.c @ v[parents] + port.d @ i[children])
        w = np.log(v[parents] / feeder.v_no_load[parents, None]) + tie.z @ np.conj(s)
        forecasts.append(np.stack([w.real, s.real, s.imag, w.imag], axis=1))
    return replace(parts, forecast=np.concatenate(forecasts))


def opened(parts: Partition, slices: int = 1) -> tuple[Parts, JointSystem]:
    """All areas, each in so many spans, before the first step."""
    boundary = make_boundary(parts)
    edges = np.linspace(0, boundary.periods, slices + 1).round().astype(int).tolist()
    spans = [
        (k, slice(first, last))
        for k in range(len(parts.areas))
        for first, last in zip(edges[:-1], edges[1:], strict=True)
    ]
    forecasts = [boundary.forecast[ends[0]] for ends in boundary.ends]
    areas = [begun(parts.areas[k], span, forecasts[k]) for k, span in spans]
    together = Parts(areas, spans)
    told = [area.opened() for area in areas]
    return together, JointSystem(boundary.ends, boundary.periods, together.exchange, spans, told, BARRIER)


def run(parts: Partition, slices: int = 1, settings: Settings | None = None) -> Run:
    together, system = opened(parts, slices)
    record: list[Iteration] = []
    found = minimize(system, system.periods, settings or Settings(), record.append)
    return Run(together, system, found, record)


def everything(seed: int = 3, buses: int = 14, periods: int = 3, areas: int = 3, **settings: Any) -> Case:
    """A random circuit with kinked loads of every law, every kind of device, branch limits, a cap and priced exports,
    cut into so many areas."""
    rng = np.random.default_rng(seed)
    circuit = grown(rng, buses, smooth=False)
    names = list(circuit.kv)
    cuts = rng.choice(names[2:], size=min(areas, len(names) - 1) - 1, replace=False).tolist()
    area = {"b0": "b0"}
    for bus, parent in circuit.parent.items():
        area[bus] = bus if bus in cuts else area[parent]

    def at(bus: str) -> dict[str, Any]:
        has = circuit.phases[bus]
        options = ["", *map(str, has), *(["-".join(map(str, has[:2]))] * (len(has) > 1))]
        return {"bus": bus, "phases": str(rng.choice(options))}

    def some(count: int) -> list[str]:
        return [str(bus) for bus in rng.choice(names[1:], min(count, len(names) - 1), replace=False)]

    given = {"v_min_pu": 0.98, "v_max_pu": 1.02, "substation_peak_kw": 300.0, "substation_export_kw": 50.0} | settings
    case = Case(
        name="everything",
        settings=CaseSettings(model="multiphase", periods=periods, **given),
        buses=(),
        branches=(),
        pv=tuple(
            PV(**at(bus), p_rated_kw=40, s_rated_kva=44, curtailable=bool(k % 2)) for k, bus in enumerate(some(4))
        ),
        batteries=tuple(
            Battery(**at(bus), p_rated_kw=20, s_rated_kva=24, energy_kwh=60, cost_per_kwh=0.01) for bus in some(3)
        ),
        flexible_loads=tuple(
            FlexibleLoad(**at(bus), p_kw=15, q_kvar=5, down=0.4, up=0.3, cost_per_kwh=0.02) for bus in some(2)
        ),
        wind=tuple(
            Wind(**at(bus), p_rated_kw=25, s_rated_kva=26, curtailable=bool(k)) for k, bus in enumerate(some(2))
        ),
        horizon=Horizon(
            hour=tuple(range(periods)),
            load=rng.uniform(0.5, 1.0, periods),
            pv=rng.uniform(0.2, 1.0, periods),
            price=rng.uniform(0.1, 0.3, periods),
            dt=1.0,
            wind=rng.uniform(0.2, 1.0, periods),
        ),
        areas=tuple(AreaRow(bus=bus, area=area[bus]) for bus in names),
        circuit=circuit.text(),
    )
    branches = case.multiphase_feeder.branches
    chosen = sorted({1, len(branches) // 2, len(branches) - 1})
    limits = tuple(BranchLimit(branch=branches[k].name, s_max_kva=60) for k in chosen)
    return replace(case, branch_limits=limits)
