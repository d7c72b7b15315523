"""The areas' answers as one result: the only place where per unit becomes kW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.case import Case
from tieflow.common.feeder.balanced import Feeder
from tieflow.common.feeder.multiphase import MultiphaseFeeder
from tieflow.common.inputs.devices import DEVICE_KINDS
from tieflow.common.results.schedule import NetworkState, Schedule, given, is_decided, told_apart
from tieflow.common.ties.area_case import AreaCase, AreaSolution, Partition


def join_schedule(case: Case, parts: Partition, solutions: Sequence[AreaSolution]) -> Schedule:
    """The areas' setpoints as one schedule."""
    scheduled: dict[str, dict[str, Floats]] = {}
    for kind, names in DEVICE_KINDS.items():
        position = {unit.label: i for i, unit in enumerate(getattr(case, kind))}
        scheduled[kind] = {name: given(case, kind, name) for name in names}
        for area, solution in zip(parts.areas, solutions, strict=True):
            units = getattr(area, kind)
            for name, array in scheduled[kind].items():
                if name == "energy_kwh":
                    continue
                decided = [i for i, unit in enumerate(units) if is_decided(unit, name)]
                # Without sun or wind in any hour there is nothing to curtail.
                if decided and (name != "p_kw" or f"{kind}.{name}" in solution.values):
                    rows = [position[units[i].label] for i in decided]
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
    return v if parts.is_exact else np.sqrt(v)


def _by_node(case: Case, parts: Partition, solutions: Sequence[AreaSolution], name: str) -> Floats:
    """(place, T) a quantity of the feeder's places, joined from the areas that own them."""
    places = case.feeder.places
    found = np.zeros((len(places.names), len(case.horizon)))
    for area, solution in zip(parts.areas, solutions, strict=True):
        own = _own_places(area, places.noun)
        # The copy of the parent's bus comes first.
        found[[places.index[place] for place in own]] = solution.values[name][-len(own) :]
    return found


def _own_places(area: AreaCase[Any], noun: str) -> Sequence[str]:
    """The places that an area owns, by the names of the feeder's."""
    feeder: Feeder | MultiphaseFeeder = area.feeder
    if isinstance(feeder, Feeder):
        return feeder.buses if area.has_substation else feeder.buses[1:]
    if noun == "bus":
        return [feeder.buses[bus] for bus in feeder.node_bus[feeder.roots :]]
    return feeder.places.names


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
    feeder, settings, periods = case.balanced_feeder, case.settings, len(case.horizon)
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


def join_gap(case: Case, parts: Partition, solutions: Sequence[AreaSolution]) -> Floats:
    """(branch, T) l v - p^2 - q^2 of every branch, per unit: zero where the cone relaxation is tight.

    Empty where areas have their exact equations, which relax nothing.
    """
    if parts.is_exact:
        return np.zeros((0, len(case.horizon)))
    gap = np.zeros((len(case.balanced_feeder.parent), len(case.horizon)))
    for area, solution in zip(parts.areas, solutions, strict=True):
        gap[_places(case, area)[1]] = solution.relaxation_gap
    return gap


def _places(case: Case, area: AreaCase[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the whole feeder of the buses that an area owns, and of its branches."""
    index = case.balanced_feeder.index
    branches = np.array([index[bus] - 1 for bus in area.feeder.buses[1:]], np.int64)
    owned = branches + 1
    return (np.concatenate([[0], owned]) if area.has_substation else owned), branches
