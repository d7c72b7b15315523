"""The network at a schedule: its AC power flow, the loads' laws as they are, as a ``NetworkState``."""

from __future__ import annotations

import numpy as np

from tieflow.common.arrays import Complexes, Floats
from tieflow.common.case import Case
from tieflow.common.feeder.branch_limits import limited_branches
from tieflow.common.feeder.load_law import leg_currents
from tieflow.common.feeder.multiphase import MultiphaseFeeder, multipliers
from tieflow.common.feeder.power_flow import PowerFlow, branch_losses, device_injections, two_port
from tieflow.common.results.schedule import NetworkState, Schedule, branch_kind, injected


def flow_state(case: Case, schedule: Schedule) -> NetworkState:
    """The state of the network at a schedule. Raises SolverError where there is no power flow."""
    feeder, settings, horizon = case.exact_feeder, case.settings, case.horizon
    flow = PowerFlow(feeder, multipliers(feeder.legs, horizon.load, horizon.shapes))
    device_s = injected(case, schedule) / settings.base_kva
    v, i = flow.solve(_root_voltage(feeder, len(horizon)), device_injections(feeder, case.devices, device_s))
    across = flow.load_incidence @ v
    served = (across * np.conj(leg_currents(feeder.legs, across, flow.multipliers))).sum(axis=0)
    at = np.flatnonzero(feeder.node_bus == 1)
    substation = (v[at] * np.conj(i[at])).sum(axis=0)
    losses = (substation + device_s.sum(axis=0) - served).real
    if case.is_balanced:
        return _balanced(case, feeder, v, i, substation, losses)
    return _multiphase(case, feeder, v, i, substation, losses)


def _root_voltage(feeder: MultiphaseFeeder, periods: int) -> Complexes:
    found: Complexes = np.repeat(feeder.v_no_load[: feeder.roots, None], periods, axis=1)
    return found


def _multiphase(
    case: Case, feeder: MultiphaseFeeder, v: Complexes, i: Complexes, substation: Complexes, losses: Floats
) -> NetworkState:
    base_kva, first = case.settings.base_kva, feeder.roots
    lost = branch_losses(feeder, v, i) * base_kva
    kinds = np.array([branch_kind(branch.name) for branch in feeder.branches])
    loads = [np.abs(_into(feeder, k, v, i)) for k in limited_branches(feeder, case.branch_limits)]
    s = v[first:] * np.conj(i[first:]) * base_kva
    return NetworkState(
        v_pu=np.abs(v[first:]),
        p_kw=s.real,
        q_kvar=s.imag,
        i_a=np.abs(i[first:]) * (base_kva * 1000 / feeder.v_base[first:])[:, None],
        substation_p_kw=substation.real * base_kva,
        substation_q_kvar=substation.imag * base_kva,
        losses_kw=losses * base_kva,
        line_losses_kw=lost[kinds == "line"].sum(axis=0),
        transformer_losses_kw=lost[kinds == "transformer"].sum(axis=0),
        branch_kva=np.array(loads).reshape(len(loads), v.shape[1]) * base_kva,
    )


def _into(feeder: MultiphaseFeeder, k: int, v: Complexes, i: Complexes) -> Complexes:
    """(T,) power into branch k at its end nearer the source."""
    branch, port = feeder.branches[k], two_port(feeder, k)
    at_child = feeder.node_bus[branch.nodes] == k + 1
    parents, children = branch.nodes[~at_child], branch.nodes[at_child]
    found: Complexes = (v[parents] * np.conj(port.c @ v[parents] + port.d @ i[children])).sum(axis=0)
    return found


def _balanced(
    case: Case, feeder: MultiphaseFeeder, v: Complexes, i: Complexes, substation: Complexes, losses: Floats
) -> NetworkState:
    """Branch k of the balanced feeder is branch k + 1 of one conductor, bus k node k + 1."""
    base_kva = case.settings.base_kva
    s = v[feeder.parent[1:]] * np.conj(i[2:]) * base_kva
    return NetworkState(
        v_pu=np.abs(v[1:]),
        p_kw=s.real,
        q_kvar=s.imag,
        i_a=np.abs(i[2:]) * base_kva / (case.settings.voltage_kv / np.sqrt(3)),
        substation_p_kw=substation.real * base_kva,
        substation_q_kvar=substation.imag * base_kva,
        losses_kw=losses * base_kva,
        line_losses_kw=losses * base_kva,
        transformer_losses_kw=0 * losses,
    )
