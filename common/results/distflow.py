"""Power flow of a balanced feeder by the equations that its optimizer relaxes (DistFlow), with given devices.

Source: Baran and Wu, "Optimal capacitor placement on radial distribution systems" (1989): branch flows are summed up
from the leaves, voltages follow from the root, until neither moves.
"""

from __future__ import annotations

import numpy as np

from tieflow.common.arrays import Complexes
from tieflow.common.case import Case
from tieflow.common.errors import SolverError
from tieflow.common.results.joining import join_relaxed_state
from tieflow.common.results.schedule import NetworkState
from tieflow.common.ties.area_case import AreaSolution
from tieflow.common.ties.cutting import one_area

TOLERANCE = 1e-12
"""pu of squared voltage by which the last sweep may move it"""
SWEEPS = 200


def balanced_flow(case: Case, device_kva: Complexes) -> NetworkState:
    """The network's state at what the devices feed in, (device, T) kVA in the order of ``Case.devices``. Raises
    SolverError where there is none."""
    feeder, settings = case.balanced_feeder, case.settings
    shape = len(feeder.buses), len(case.horizon)
    drawn = np.outer(feeder.p_load + 1j * feeder.q_load, case.horizon.load)
    for unit, s in zip(case.devices, device_kva, strict=True):
        drawn[feeder.index[unit.bus]] -= s / settings.base_kva
    given, fixed = 1j * feeder.q_cap[:, None], settings.capacitor_model == "constant_power"
    z = feeder.r + 1j * feeder.x
    v = np.full(shape, settings.substation_v_pu**2)
    squared = np.zeros((len(z), shape[1]))
    for _ in range(SWEEPS):
        below = drawn - given * (1.0 if fixed else v)
        flow = np.zeros(squared.shape, complex)
        for k in reversed(range(len(z))):
            flow[k] = below[k + 1] + z[k] * squared[k]
            below[feeder.parent[k]] += flow[k]
        before = v.copy()
        for k, parent in enumerate(feeder.parent):
            v[k + 1] = v[parent] - 2 * (np.conj(z[k]) * flow[k]).real + abs(z[k]) ** 2 * squared[k]
        if not (v > 0).all():
            break
        squared = np.where(feeder.is_switch[:, None], 0.0, np.abs(flow) ** 2 / v[feeder.parent])
        if np.abs(v - before).max(initial=0.0) < TOLERANCE:
            values = {"v": v, "p": flow.real, "q": flow.imag, "l": squared[~feeder.is_switch]}
            values["substation"] = np.stack([below[0].real, below[0].imag])
            return join_relaxed_state(case, one_area(case), [AreaSolution(values, np.zeros(squared.shape))])
    raise SolverError("the feeder has no power flow with these devices: its voltages collapse. Lower loads or devices.")
