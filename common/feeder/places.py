"""What a user sees of a feeder, balanced or multi-phase: its buses, and the places that have a voltage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from tieflow.common.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class Places:
    """Buses of a balanced feeder, nodes of a multi-phase one; in the order of a network state's voltages."""

    noun: str
    """bus or node"""
    names: Sequence[str]
    """(place,)"""
    bus: Ints
    """(place,) index in ``AnyFeeder.own_buses``"""
    limited: Bools
    """(place,) whether voltage limits hold there"""

    @property
    def plural(self) -> str:
        return "buses" if self.noun == "bus" else "nodes"

    @property
    def looked_at(self) -> Bools:
        """(place,) whose voltages are told: those with limits; of a feeder of one bus, whose voltage is given, all."""
        return self.limited if self.limited.any() else np.ones_like(self.limited)

    @cached_property
    def index(self) -> dict[str, int]:
        """Place index of each name."""
        return {name: i for i, name in enumerate(self.names)}


class AnyFeeder(Protocol):
    """Both feeders' face. A tree of the user's buses: the ideal source behind a circuit's source impedance is none."""

    @property
    def own_buses(self) -> Sequence[str]:
        """(bus,) names, the substation first."""

    @property
    def own_parent(self) -> Ints:
        """(branch,) bus index of the end nearer the substation of the branch that leads to bus k + 1, parents first."""

    @property
    def own_branches(self) -> Sequence[str]:
        """(branch,) names."""

    @property
    def own_phases(self) -> Ints:
        """(branch,) how many conductors it has at the end nearer the substation."""

    @property
    def own_switches(self) -> Bools:
        """(branch,) whether it is a switch."""

    @property
    def own_coordinates(self) -> Floats:
        """(bus, 2) NaN where unknown."""

    @property
    def flows(self) -> Sequence[str]:
        """Names of what a network state's powers and currents flow through."""

    @property
    def flow_noun(self) -> str:
        """branch or node"""

    @property
    def places(self) -> Places: ...
