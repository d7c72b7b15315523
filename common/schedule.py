"""What a solve decides and the network state it expects, for the whole feeder, in engineering units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.case import Case
from common.devices import DEVICE_KINDS, PV, Device, FlexibleLoad, Wind
from common.feeder import Bools, Complexes, Floats
from common.multiphase import TRANSFORMERS
from common.partition import AreaCase, Partition
from common.power_flow import branch_losses


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
    """every variable by name: ``pv.q_kvar``, ... (``p_kw`` where some unit may be curtailed); balanced: ``v``,
    ``p``, ``q``, ``l``, ``substation``, ``boundary``; multi-phase: complex ``v`` and ``i`` by node, ``root_s``,
    ``losses``, ``branch_load`` by branch limit; ``price`` of power by bus or node where it is known.
    A variable of size zero is left out."""
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
                decided = [i for i, unit in enumerate(units) if _decides(unit, name)]
                # Without sun or wind in any hour there is nothing to curtail.
                if decided and (name != "p_kw" or f"{kind}.{name}" in solution.values):
                    rows = [position[units[i].place] for i in decided]
                    array[rows] = solution.values[f"{kind}.{name}"][decided] * case.settings.base_kva
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
    added = {
        kind: {name: _given(case, kind, name) for name in DEVICE_KINDS[kind]} for kind in ("flexible_loads", "wind")
    }
    lacking = {kind: values for kind, values in added.items() if not getattr(case, kind)}
    if "p_kw" not in schedule.pv:
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


def join_state(case: Case, parts: Partition, solutions: Sequence[AreaSolution]) -> NetworkState:
    """The areas' voltages and flows as one network state; a tie's bus is told by the area that owns it."""
    if not case.is_balanced:
        return _join_multiphase(case, parts, solutions)
    feeder, settings, periods = case.feeder, case.settings, len(case.horizon)
    v = np.zeros((len(feeder.buses), periods))
    p, q, squared_current = np.zeros((3, len(feeder.parent), periods))
    price, priced = np.zeros(v.shape), all("price" in solution.values for solution in solutions)
    for area, solution in zip(parts.areas, solutions, strict=True):
        buses, branches = _places(case, area)
        own = slice(len(area.feeder.buses) - len(buses), None)
        v[buses] = solution.values["v"][own]
        if priced:
            price[buses] = solution.values["price"][own]
        if len(branches):
            p[branches], q[branches] = solution.values["p"], solution.values["q"]
        with_current = branches[~area.feeder.is_switch]
        if len(with_current):
            squared_current[with_current] = solution.values["l"]
    switches = np.flatnonzero(feeder.is_switch)
    squared_current[switches] = (p[switches] ** 2 + q[switches] ** 2) / v[feeder.parent[switches]]
    losses = feeder.r[~feeder.is_switch] @ squared_current[~feeder.is_switch]
    substation = solutions[0].values["substation"] * settings.base_kva
    state = NetworkState(
        v_pu=np.sqrt(v),
        p_kw=p * settings.base_kva,
        q_kvar=q * settings.base_kva,
        i_a=np.sqrt(np.maximum(squared_current, 0.0)) * settings.base_kva / (settings.voltage_kv / np.sqrt(3)),
        substation_p_kw=substation[0],
        substation_q_kvar=substation[1],
        losses_kw=losses * settings.base_kva,
        nodal_price=price / (settings.base_kva * case.horizon.dt) if priced else None,
    )
    return told_apart(case, state)


def _join_multiphase(case: Case, parts: Partition, solutions: Sequence[AreaSolution]) -> NetworkState:
    feeder, base_kva = case.network, case.settings.base_kva
    v, i = np.zeros((2, len(feeder.node_bus), len(case.horizon)), complex)
    position = {limit.place: row for row, limit in enumerate(case.branch_limits)}
    branch_load = np.zeros((len(position), len(case.horizon)))
    price, priced = np.zeros(v.shape), all("price" in solution.values for solution in solutions)
    for area, solution in zip(parts.areas, solutions, strict=True):
        own = area.feeder.node_bus >= (0 if area.has_substation else 1)
        buses = [feeder.index[bus] for bus in area.feeder.buses]
        nodes = [
            feeder.node_index[buses[bus], phase]
            for bus, phase in zip(area.feeder.node_bus[own], area.feeder.node_phase[own].tolist(), strict=True)
        ]
        v[nodes], i[nodes] = solution.values["v"][own], solution.values["i"][own]
        if priced:
            price[nodes] = solution.values["price"][own]
        if area.branch_limits:
            rows = [position[limit.place] for limit in area.branch_limits]
            branch_load[rows] = solution.values["branch_load"]
    lost = branch_losses(feeder, v, i) * base_kva
    kinds = np.array([_kind(branch.name) for branch in feeder.branches])
    v, i = v[feeder.roots :], i[feeder.roots :]
    s = v * np.conj(i) * base_kva
    substation = solutions[0].values["root_s"].sum(axis=0) * base_kva
    return NetworkState(
        v_pu=np.abs(v),
        p_kw=s.real,
        q_kvar=s.imag,
        i_a=np.abs(i) * (base_kva * 1000 / feeder.v_base[feeder.roots :])[:, None],
        substation_p_kw=substation.real,
        substation_q_kvar=substation.imag,
        losses_kw=np.sum([solution.values["losses"] for solution in solutions], axis=0) * base_kva,
        line_losses_kw=lost[kinds == "line"].sum(axis=0),
        transformer_losses_kw=lost[kinds == "transformer"].sum(axis=0),
        nodal_price=price[feeder.roots :] / (base_kva * case.horizon.dt) if priced else None,
        branch_kva=branch_load * base_kva,
    )


def _kind(name: str) -> str:
    """Whether a multi-phase branch counts as ``line`` or ``transformer``, by its name; a transformer with anything in
    parallel counts as one."""
    classes = {part.split(".")[0] for part in name.split("+")}
    return "transformer" if classes & TRANSFORMERS else "line" if "line" in classes else "other"


def join_gap(case: Case, parts: Partition, solutions: Sequence[AreaSolution]) -> Floats:
    """(branch, T) l v - p^2 - q^2 of every branch, per unit: zero where the cone relaxation is tight.

    Empty for a multi-phase case, whose model relaxes nothing.
    """
    if not case.is_balanced:
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
