"""What a solve decides and the network state it expects, for the whole feeder, in engineering units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tieflow.common.arrays import Complexes, Floats
from tieflow.common.case import Case
from tieflow.common.feeder.multiphase import TRANSFORMERS
from tieflow.common.inputs.devices import DEVICE_KINDS, PV, Device, FlexibleLoad, Wind


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
    """Voltages of the feeder's ``places``, powers and currents of its ``flows``: of a balanced feeder its buses and
    branches (branch k leads to bus k + 1), of a multi-phase one its nodes, for voltages and flows alike."""

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


def idle_schedule(case: Case) -> Schedule:
    """Devices that nobody controls: at their profile and without reactive power, batteries at rest."""
    return Schedule(**{kind: {name: given(case, kind, name) for name in DEVICE_KINDS[kind]} for kind in DEVICE_KINDS})


def completed(case: Case, schedule: Schedule) -> Schedule:
    """The schedule of an older result with what was not stored then: the real power of PV, and kinds of device that
    it has none of."""
    lacking = {
        kind: {name: given(case, kind, name) for name in names}
        for kind, names in DEVICE_KINDS.items()
        if not getattr(case, kind)
    }
    if case.pv and "p_kw" not in schedule.pv:
        lacking["pv"] = {"p_kw": given(case, "pv", "p_kw"), **schedule.pv}
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


def is_decided(unit: Device, name: str) -> bool:
    """Whether a quantity of a device is a decision."""
    return name != "p_kw" or isinstance(unit, FlexibleLoad) or (isinstance(unit, PV | Wind) and unit.curtailable)


def given(case: Case, kind: str, name: str) -> Floats:
    """(unit, T) what a quantity is without a decision."""
    horizon, units = case.horizon, getattr(case, kind)
    sign = -1 if kind == "flexible_loads" else 1
    rows = [sign * horizon.idle(unit).real if name == "p_kw" else np.zeros(len(horizon)) for unit in units]
    return np.array(rows).reshape(len(units), len(horizon))


def branch_kind(name: str) -> str:
    """Whether a multi-phase branch counts as ``line`` or ``transformer``, by its name; a transformer with anything in
    parallel counts as one."""
    classes = {part.split(".")[0] for part in name.split("+")}
    return "transformer" if classes & TRANSFORMERS else "line" if "line" in classes else "other"
