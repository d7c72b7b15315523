"""A case in areas, as data: what each area owns, where areas meet, what each has solved.

``common.ties.cutting`` cuts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from tieflow.common.arrays import Complexes, Floats, Ints
from tieflow.common.feeder.balanced import Feeder
from tieflow.common.feeder.branch_limits import BranchLimit
from tieflow.common.feeder.multiphase import MultiphaseFeeder
from tieflow.common.inputs.devices import PV, Battery, Device, FlexibleLoad, Wind, devices_of
from tieflow.common.inputs.horizon import Horizon
from tieflow.common.inputs.settings import Settings

Side = Literal["parent", "child"]
AnyFeeder = TypeVar("AnyFeeder", Feeder, MultiphaseFeeder)


@dataclass(frozen=True)
class Tie:
    """Where two areas meet."""

    bus: str
    """the bus that is split in two"""
    parent: int
    """area nearer the substation"""
    child: int
    """area rooted at the tie"""
    z: Complexes
    """(conductor, conductor) Thevenin impedance seen at the tie from the substation's side, pu; in a multi-phase feeder
    over the no-load voltages of its row and, conjugated, of its column"""
    phases: tuple[int, ...] = (1,)
    """(conductor,)"""


@dataclass(frozen=True)
class TieEnd:
    """One area's side of a tie."""

    tie: int
    """position in Partition.ties"""
    side: Side
    nodes: Ints
    """(conductor,) of the split bus: node index in the area's feeder, in a balanced feeder the bus index"""
    z: Complexes
    """(conductor, conductor) impedance of the tie in its boundary variable w; see ``common.ties.boundary``"""


@dataclass(frozen=True)
class Rating:
    """What a branch of a balanced feeder's exact model may carry, at either end."""

    branch: int
    """in the area's feeder"""
    i_max: float | None
    """pu"""
    s_max: float | None
    """pu"""


@dataclass(frozen=True)
class AreaCase(Generic[AnyFeeder]):
    """All that one area needs to build and solve its part."""

    name: str
    feeder: AnyFeeder
    pv: tuple[PV, ...]
    batteries: tuple[Battery, ...]
    horizon: Horizon
    settings: Settings
    has_substation: bool
    tie_ends: tuple[TieEnd, ...]
    """the area's own root first, where it is a child"""
    flow_limit: float
    """real and reactive power that no tie of a sensible schedule carries, pu; it keeps every area's answer finite"""
    flexible_loads: tuple[FlexibleLoad, ...] = ()
    wind: tuple[Wind, ...] = ()
    branch_limits: tuple[BranchLimit, ...] = ()
    """of the area's own branches, multi-phase"""
    ratings: tuple[Rating, ...] = ()
    """of the area's own branches, of a balanced feeder's exact model"""

    @property
    def devices(self) -> tuple[Device, ...]:
        """Every device, kind by kind."""
        return devices_of(self)

    @property
    def is_exact(self) -> bool:
        """Whether it has the exact equations, else the relaxation of a balanced feeder."""
        return isinstance(self.feeder, MultiphaseFeeder)

    @property
    def tie_nodes(self) -> Ints:
        """(conductor,) nodes of the ties to the area's children, one tie after the other."""
        return np.concatenate([np.zeros(0, np.int64), *(end.nodes for end in self.tie_ends if end.side == "parent")])


@dataclass(frozen=True)
class Partition:
    """A case in areas. Area 0 holds the substation, and every area comes after its parent."""

    areas: tuple[AreaCase[Any], ...]
    ties: tuple[Tie, ...]
    forecast: Floats | None = None
    """(conductor, quantity, T) the boundary with idle devices, where the whole feeder's power flow is known"""

    @property
    def is_exact(self) -> bool:
        """Whether areas have their exact equations, else the relaxation of a balanced feeder."""
        return self.areas[0].is_exact


@dataclass(frozen=True)
class AreaSolution:
    """One area's part of a solution, per unit, as its solver knows it."""

    values: Mapping[str, NDArray[Any]]
    """every variable by name: ``pv.q_kvar``, ... (``p_kw`` where some unit may be curtailed); of a relaxation: ``v``
    (squared), ``p``, ``q``, ``l``, ``substation``, ``boundary``; of exact equations: ``v`` (magnitude) by node;
    ``price`` of power by bus or node where it is known. A variable of size zero is left out."""
    relaxation_gap: Floats
    """(branch, T)"""
