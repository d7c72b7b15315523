"""The network at a schedule: its AC power flow, the loads' laws as they are, as a ``NetworkState``."""

from __future__ import annotations

import numpy as np

from common.branch_limits import limited_branches
from common.case import Case
from common.feeder import Complexes, Floats
from common.load_law import leg_currents
from common.multiphase import MultiphaseFeeder, connection, multipliers
from common.one_conductor import one_conductor
from common.power_flow import Injections, PowerFlow, branch_losses, two_port
from common.schedule import NetworkState, Schedule, branch_kind, injected


def exact_feeder(case: Case) -> MultiphaseFeeder:
    """The feeder of the exact equations: a balanced one has one conductor."""
    return one_conductor(case.feeder, case.settings) if case.is_balanced else case.network


def flow_state(case: Case, schedule: Schedule, start: Floats | None = None) -> NetworkState:
    """The state of the network at a schedule. ``start`` (node, T) are voltage magnitudes near it, of all nodes.

    Raises SolverError where there is no power flow.
    """
    feeder, settings, horizon = exact_feeder(case), case.settings, case.horizon
    flow = PowerFlow(feeder, multipliers(feeder.legs, horizon.load, horizon.shapes))
    device_s = injected(case, schedule) / settings.base_kva
    v, i = flow.solve(_root_voltage(feeder, len(horizon)), device_injections(case, feeder, device_s))
    across = flow.load_incidence @ v
    served = (across * np.conj(leg_currents(feeder.legs, across, flow.multipliers))).sum(axis=0)
    at = np.flatnonzero(feeder.node_bus == 1)
    substation = (v[at] * np.conj(i[at])).sum(axis=0)
    losses = (substation + device_s.sum(axis=0) - served).real
    if case.is_balanced:
        return _balanced(case, feeder, v, i, substation, losses)
    return _multiphase(case, feeder, v, i, substation, losses)


def device_injections(case: Case, feeder: MultiphaseFeeder, device_s: Complexes) -> Injections:
    """What devices put in, (device, T) pu, leg by leg."""
    none, periods = np.zeros(0, np.int64), len(case.horizon)
    legs = [connection(feeder, unit.bus, unit.phases) for unit in case.devices]
    share = [np.repeat(s[None] / len(leg[0]), len(leg[0]), axis=0) for s, leg in zip(device_s, legs, strict=True)]
    return Injections(
        np.concatenate([none, *(leg[0] for leg in legs)]),
        np.concatenate([none, *(leg[1] for leg in legs)]),
        np.concatenate([np.zeros((0, periods), complex), *share]),
    )


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
