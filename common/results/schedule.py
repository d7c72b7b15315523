"""What a solve decides and the network state it expects, for the whole feeder, in engineering units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tieflow.common.case import Case
from tieflow.common.feeder.balanced import Bools, Complexes, Feeder, Floats
from tieflow.common.feeder.multiphase import TRANSFORMERS
from tieflow.common.inputs.devices import DEVICE_KINDS, PV, Device, FlexibleLoad, Wind
from tieflow.common.ties.area_case import AreaCase, Partition


@dataclass(frozen=True)
class Schedule:
    """All setpoints over the horizon; units in the order of the case's tables, (unit, T) each."""

    pv: Mapping[str, Floats]
    """``p_kw``, ``q_kvar``: real and reactive power injected into the feeder; p_kw is the profile of a system that may
    not be curtailed"""
    batteries: Mapping[str, Floats]
    """``charge_kw``, ``discharge_kw`` (at the terminals, both >= 0), ``q_kvar`` (injected), ``energy_kwh`` (end of
    period)"""
    flexible_loads: Mapping[str, Floats] = field(default_factory=dict)
    """``p_kw``: drawn, with reactive power in the ratio of the ratings"""
    wind: Mapping[str, Floats] = field(default_factory=dict)
    """as ``pv``"""


@dataclass(frozen=True)
class NetworkState:
    """Voltages and flows. Balanced: buses and branches in the order of ``case.feeder`` (branch k leads to bus k + 1).
    Multi-phase: the nodes of ``case.network`` but those of bus 0, for voltages and flows alike."""

    v_pu: Floats
    """(bus or node, T) voltage magnitude"""
    p_kw: Floats
    """(branch, T) real power into the branch at the end nearer the substation; multi-phase: (node, T) out of the branch
    that feeds the node, into it"""
    q_kvar: Floats
    """(branch or node, T)"""
    i_a: Floats
    """(branch or node, T) current magnitude"""
    substation_p_kw: Floats
    """(T,) real power from the substation into the feeder"""
    substation_q_kvar: Floats
    """(T,)"""
    losses_kw: Floats
    """(T,) real power lost in all branches"""
    line_losses_kw: Floats | None = None
    """(T,) of ``losses_kw``, those of lines, switches among them; None: not told apart, as in older results"""
    transformer_losses_kw: Floats | None = None
    """(T,) those of transformers, regulators among them; the rest is lost in reactors and capacitors"""
    nodal_price: Floats | None = None
    """(bus or node, T) distribution locational marginal price, $ per kWh that is drawn there; None where areas
    have not converged, or not to the optimum (``enapp``), or the cone relaxation is loose"""
    branch_kva: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    """(branch limit, T) multi-phase: apparent power of each limited branch, in the order of ``case.branch_limits``"""


@dataclass(frozen=True)
class AreaSolution:
    """One area's part of a solution, per unit, as its solver knows it."""

    values: Mapping[str, NDArray[Any]]
    """every variable by name: ``pv.q_kvar``, ... (``p_kw`` where some unit may be curtailed); of a relaxation: ``v``
    (squared), ``p``, ``q``, ``l``, ``substation``, ``boundary``; of exact equations: ``v`` (magnitude) by node;
    ``price`` of power by bus or node where it is known. A variable of size zero is left out."""
    relaxation_gap: Floats
    """(branch, T)"""


def join_schedule(case: Case, parts: Partition, solutions: Sequence[AreaSolution]) -> Schedule:
    """The areas' setpoints as one schedule."""
    scheduled: dict[str, dict[str, Floats]] = {}
    for kind, names in DEVICE_KINDS.items():
        position = {unit.place: i for i, unit in enumerate(getattr(case, kind))}
        scheduled[kind] = {name: _given(case, kind, name) for name in names}
        for area, solution in zip(parts.areas, solutions, strict=True):
            units = getattr(area, kind)
            for name, array in scheduled[kind].items():
                if name == "energy_kwh":
                    continue
                decided = [i for i, unit in enumerate(units) if _decides(unit, name)]
                # Without sun or wind in any hour there is nothing to curtail.
                if decided and (name != "p_kw" or f"{kind}.{name}" in solution.values):
                    rows = [position[units[i].place] for i in decided]
                    array[rows] = solution.values[f"{kind}.{name}"][decided] * case.settings.base_kva
    if case.batteries:
        battery = scheduled["batteries"]
        battery["energy_kwh"] = np.array(
            [
                unit.stored_kwh(charge, discharge, case.horizon.dt)
                for unit, charge, discharge in zip(
                    case.batteries, battery["charge_kw"], battery["discharge_kw"], strict=True
                )
            ]
        )
    return Schedule(**scheduled)


def idle_schedule(case: Case) -> Schedule:
    """Devices that nobody controls: at their profile and without reactive power, batteries at rest."""
    return Schedule(**{kind: {name: _given(case, kind, name) for name in DEVICE_KINDS[kind]} for kind in DEVICE_KINDS})


def limited(case: Case) -> Bools:
    """(bus or node,) whether voltage limits hold there, in the order of a state's voltages."""
    if not case.is_balanced:
        return case.network.limited[case.network.roots :]
    return np.arange(len(case.feeder.buses)) > 0


def completed(case: Case, schedule: Schedule) -> Schedule:
    """The schedule of an older result with what was not stored then: the real power of PV, and kinds of device that
    it has none of."""
    lacking = {
        kind: {name: _given(case, kind, name) for name in names}
        for kind, names in DEVICE_KINDS.items()
        if not getattr(case, kind)
    }
    if case.pv and "p_kw" not in schedule.pv:
        lacking["pv"] = {"p_kw": _given(case, "pv", "p_kw"), **schedule.pv}
    return replace(schedule, **lacking)


def told_apart(case: Case, state: NetworkState) -> NetworkState:
    """The state of an older result with its losses by kind of branch where that is known: balanced, all are lines."""
    if not case.is_balanced or state.line_losses_kw is not None:
        return state
    return replace(state, line_losses_kw=state.losses_kw, transformer_losses_kw=0 * state.losses_kw)


def injected(case: Case, schedule: Schedule) -> Complexes:
    """(device, T) kVA that the devices feed in, in the order of ``Case.devices``."""
    schedule = completed(case, schedule)
    pv, batteries = schedule.pv, schedule.batteries
    drawn = np.array([complex(1, unit.q_kvar / unit.p_kw) for unit in case.flexible_loads])
    return np.concatenate(
        [
            pv["p_kw"] + 1j * pv["q_kvar"],
            batteries["discharge_kw"] - batteries["charge_kw"] + 1j * batteries["q_kvar"],
            -drawn[:, None] * schedule.flexible_loads["p_kw"],
            schedule.wind["p_kw"] + 1j * schedule.wind["q_kvar"],
        ]
    )


def _decides(unit: Device, name: str) -> bool:
    """Whether a quantity of a device is a decision."""
    return name != "p_kw" or isinstance(unit, FlexibleLoad) or (isinstance(unit, PV | Wind) and unit.curtailable)


def _given(case: Case, kind: str, name: str) -> Floats:
    """(unit, T) what a quantity is without a decision."""
    horizon, units = case.horizon, getattr(case, kind)
    sign = -1 if kind == "flexible_loads" else 1
    rows = [sign * horizon.idle(unit).real if name == "p_kw" else np.zeros(len(horizon)) for unit in units]
    return np.array(rows).reshape(len(units), len(horizon))


def join_prices(case: Case, parts: Partition, solutions: Sequence[AreaSolution]) -> Floats | None:
    """(bus or node, T) $ per kWh drawn there, in the order of a state's voltages; None where an area tells none."""
    if not all("price" in solution.values for solution in solutions):
        return None
    found = _by_node(case, parts, solutions, "price")
    found /= case.settings.base_kva * case.horizon.dt
    return found


def join_voltages(case: Case, parts: Partition, solutions: Sequence[AreaSolution]) -> Floats:
    """(bus or node, T) voltage magnitudes that the areas tell; a tie's bus is told by the area that owns it."""
    v = _by_node(case, parts, solutions, "v")
    return np.sqrt(v) if isinstance(parts.areas[0].feeder, Feeder) else v


def _by_node(case: Case, parts: Partition, solutions: Sequence[AreaSolution], name: str) -> Floats:
    """A quantity of buses (balanced) or of nodes but those of the source, joined from the areas that own them."""
    periods = len(case.horizon)
    if isinstance(parts.areas[0].feeder, Feeder):
        found = np.zeros((len(case.feeder.buses), periods))
        for area, solution in zip(parts.areas, solutions, strict=True):
            buses, _ = _places(case, area)
            found[buses] = solution.values[name][len(area.feeder.buses) - len(buses) :]
        return found
    whole = {name: k for k, name in enumerate(case.feeder.buses if case.is_balanced else case.network.node_names)}
    size = len(whole) - (0 if case.is_balanced else case.network.roots)
    first = len(whole) - size
    found = np.zeros((size, periods))
    for area, solution in zip(parts.areas, solutions, strict=True):
        feeder = area.feeder
        names = [feeder.buses[bus] for bus in feeder.node_bus] if case.is_balanced else feeder.node_names
        own = feeder.node_bus >= 1
        rows = [whole[names[node]] - first for node in np.flatnonzero(own)]
        found[rows] = solution.values[name][own]
    return found


def joined_in_time(spans: Sequence[tuple[int, slice]], solutions: Sequence[AreaSolution]) -> list[AreaSolution]:
    """Each area's solution from those of its spans, (area, periods) each, in order."""
    areas = sorted({area for area, _ in spans})
    found = []
    for area in areas:
        own = [solution for (number, _), solution in zip(spans, solutions, strict=True) if number == area]
        names = own[0].values
        values = {name: np.concatenate([part.values[name] for part in own], axis=-1) for name in names}
        found.append(AreaSolution(values, np.concatenate([part.relaxation_gap for part in own], axis=-1)))
    return found


def join_relaxed_state(case: Case, parts: Partition, solutions: Sequence[AreaSolution]) -> NetworkState:
    """The voltages and flows of a balanced feeder as the areas' relaxations tell them; a tie's bus is told by the area
    that owns it."""
    feeder, settings, periods = case.feeder, case.settings, len(case.horizon)
    p, q, squared_current = np.zeros((3, len(feeder.parent), periods))
    for area, solution in zip(parts.areas, solutions, strict=True):
        _, branches = _places(case, area)
        if len(branches):
            p[branches], q[branches] = solution.values["p"], solution.values["q"]
        with_current = branches[~area.feeder.is_switch]
        if len(with_current):
            squared_current[with_current] = solution.values["l"]
    v = join_voltages(case, parts, solutions)
    switches = np.flatnonzero(feeder.is_switch)
    squared_current[switches] = (p[switches] ** 2 + q[switches] ** 2) / v[feeder.parent[switches]] ** 2
    losses = feeder.r[~feeder.is_switch] @ squared_current[~feeder.is_switch]
    substation = solutions[0].values["substation"] * settings.base_kva
    state = NetworkState(
        v_pu=v,
        p_kw=p * settings.base_kva,
        q_kvar=q * settings.base_kva,
        i_a=np.sqrt(np.maximum(squared_current, 0.0)) * settings.base_kva / (settings.voltage_kv / np.sqrt(3)),
        substation_p_kw=substation[0],
        substation_q_kvar=substation[1],
        losses_kw=losses * settings.base_kva,
    )
    return told_apart(case, state)


def branch_kind(name: str) -> str:
    """Whether a multi-phase branch counts as ``line`` or ``transformer``, by its name; a transformer with anything in
    parallel counts as one."""
    classes = {part.split(".")[0] for part in name.split("+")}
    return "transformer" if classes & TRANSFORMERS else "line" if "line" in classes else "other"


def join_gap(case: Case, parts: Partition, solutions: Sequence[AreaSolution]) -> Floats:
    """(branch, T) l v - p^2 - q^2 of every branch, per unit: zero where the cone relaxation is tight.

    Empty where areas have their exact equations, which relax nothing.
    """
    if not isinstance(parts.areas[0].feeder, Feeder):
        return np.zeros((0, len(case.horizon)))
    gap = np.zeros((len(case.feeder.parent), len(case.horizon)))
    for area, solution in zip(parts.areas, solutions, strict=True):
        gap[_places(case, area)[1]] = solution.relaxation_gap
    return gap


def _places(case: Case, area: AreaCase[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the whole feeder of the buses that an area owns, and of its branches."""
    index = case.feeder.index
    branches = np.array([index[bus] - 1 for bus in area.feeder.buses[1:]], np.int64)
    owned = branches + 1
    return (np.concatenate([[0], owned]) if area.has_substation else owned), branches
