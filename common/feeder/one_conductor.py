"""A balanced feeder as a multi-phase one with one conductor at every bus: the same physics, for the exact models.

Bus 0 is an ideal source at the substation's voltage and branch 0 leads from it to the substation's bus, so that bus k
of the balanced feeder is bus and node k + 1 and its branch k is branch k + 1. Both are per unit of the same bases.
Switches have their impedance and, as in a replay and unlike in the cone relaxation, their losses.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tieflow.common.arrays import Bools, Complexes, Floats, Ints
from tieflow.common.feeder.balanced import Feeder
from tieflow.common.feeder.multiphase import FIXED, GROUND, Element, Legs, MultiphaseFeeder
from tieflow.common.feeder.power_flow import PowerFlow
from tieflow.common.inputs.settings import Settings

STIFF_PU = 1e-8
"""reactance of the source, and of branches of less impedance: as in ``common.replay.balanced``, whose import would load
OpenDSS"""
V_MIN, V_MAX = 0.01, 9.0
"""pu, voltages between which a load keeps its power: no power flow gets there"""


def one_conductor(feeder: Feeder, settings: Settings) -> MultiphaseFeeder:
    """The whole balanced feeder, with the loads' and capacitors' laws and the voltages of its settings."""
    size = len(feeder.buses) + 1
    parent = np.concatenate([[0], feeder.parent + 1])
    z = _impedance(feeder)
    names = ["vsource.source", *(f"line.{feeder.branch_name(k)}" for k in range(len(feeder.parent)))]
    switches = [False, *feeder.is_switch.tolist()]
    # A balanced feeder does not tell how long its lines are.
    lengths = [0.0, *np.where(feeder.is_switch, 0.0, np.nan).tolist()]
    found = MultiphaseFeeder(
        buses=(_source_name(feeder), *feeder.buses),
        parent=parent,
        node_bus=np.arange(size),
        node_phase=np.ones(size, np.int64),
        v_base=np.full(size, 1000 * settings.voltage_kv / np.sqrt(3)),
        branches=tuple(
            Element(
                names[k], np.array([parent[k], k + 1]), np.array([[1, -1], [-1, 1]]) / z[k], switches[k], lengths[k]
            )
            for k in range(size - 1)
        ),
        shunts=() if settings.capacitor_model == "constant_power" else _capacitors(feeder),
        legs=_legs(feeder, settings),
        v_no_load=np.full(size, complex(settings.substation_v_pu)),
        grounded=np.ones(size, bool),
        coordinates=np.full((size, 2), np.nan),
    )
    flow = PowerFlow(found, np.zeros((len(found.legs), 1)))
    return replace(found, v_no_load=flow.linear(found.v_no_load[:1, None], np.zeros((size, 1), complex))[0][:, 0])


def limited_nodes(feeder: MultiphaseFeeder) -> Bools:
    """(node,) ``limited`` of the feeder that ``one_conductor`` gives, or of the area of it that has bus 0, without the
    substation's bus: its voltage is given, and may be outside the limits."""
    limited = feeder.limited.copy()
    limited[1] = False
    return limited


def current_limits(feeder: Feeder) -> tuple[Ints, Floats]:
    """(limit,) branches of the one-conductor feeder whose current the balanced feeder limits, and the largest current
    magnitude of each, pu."""
    k = np.flatnonzero(np.isfinite(feeder.l_max))
    return k + 1, np.sqrt(feeder.l_max[k])


def power_limits(feeder: Feeder) -> tuple[Ints, Floats]:
    """(limit,) branches of the one-conductor feeder whose apparent power the balanced feeder limits, and the largest
    one of each at either end, pu."""
    k = np.flatnonzero(np.isfinite(feeder.s_max))
    return k + 1, feeder.s_max[k]


def _impedance(feeder: Feeder) -> Complexes:
    """(branch of the one-conductor feeder,)"""
    z = np.concatenate([[0], feeder.r + 1j * feeder.x])
    return np.where(np.abs(z) < STIFF_PU, 1j * STIFF_PU, z)


def _source_name(feeder: Feeder) -> str:
    """A name that no bus has."""
    name = "source"
    while name in feeder.buses:
        name += "_"
    return name


def _capacitors(feeder: Feeder) -> tuple[Element, ...]:
    """Capacitors as susceptances to ground, which give their rated power times the squared voltage."""
    return tuple(
        Element(f"capacitor.{feeder.buses[bus]}", np.array([bus + 1]), np.array([[1j * feeder.q_cap[bus]]]))
        for bus in np.flatnonzero(feeder.q_cap).tolist()
    )


def _legs(feeder: Feeder, settings: Settings) -> Legs:
    """Loads, and after them the capacitors that give their rated power at any voltage."""
    s_load = feeder.p_load + 1j * feeder.q_load
    loads = np.flatnonzero(s_load)
    fixed = settings.capacitor_model == "constant_power"
    capacitors = np.flatnonzero(feeder.q_cap) if fixed else np.zeros(0, np.int64)
    buses = np.concatenate([loads, capacitors])
    count = len(buses)
    return Legs(
        name=tuple(f"load.{feeder.buses[bus]}" for bus in loads)
        + tuple(f"load.{feeder.buses[bus]}_capacitor" for bus in capacitors),
        a=buses + 1,
        b=np.full(count, GROUND),
        s=np.concatenate([s_load[loads], -1j * feeder.q_cap[capacitors]]),
        v_rated=np.ones(count),
        alpha=np.zeros(count),
        beta=np.zeros(count),
        edge=np.zeros(count),
        v_low=np.zeros(count),
        v_min=np.full(count, V_MIN),
        v_max=np.full(count, V_MAX),
        shape=("",) * len(loads) + (FIXED,) * len(capacitors),
    )
