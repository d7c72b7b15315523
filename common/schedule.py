"""What a solve decides and the network state it expects, for the whole feeder, in engineering units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.feeder import Floats


@dataclass(frozen=True)
class Schedule:
    """All setpoints over the horizon; units in the order of the case's tables, (unit, T) each."""

    pv: Mapping[str, Floats]
    """``q_kvar``: reactive power injected into the feeder"""
    batteries: Mapping[str, Floats]
    """``charge_kw``, ``discharge_kw`` (at the terminals, both >= 0), ``q_kvar`` (injected), ``energy_kwh`` (end of
    period)"""


@dataclass(frozen=True)
class NetworkState:
    """Voltages and flows; buses and branches in the order of ``case.feeder`` (branch k leads to bus k + 1)."""

    v_pu: Floats
    """(bus, T) voltage magnitude"""
    p_kw: Floats
    """(branch, T) real power into the branch at the end nearer the substation"""
    q_kvar: Floats
    """(branch, T)"""
    i_a: Floats
    """(branch, T) current magnitude"""
    substation_p_kw: Floats
    """(T,) real power from the substation into the feeder"""
    substation_q_kvar: Floats
    """(T,)"""
    losses_kw: Floats
    """(T,) real power lost in all branches"""
