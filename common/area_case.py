"""A case in areas, as data: what each area owns, and where areas meet. ``common.partition`` cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from common.branch_limits import BranchLimit
from common.devices import PV, Battery, Device, FlexibleLoad, Wind, devices_of
from common.feeder import Complexes, Feeder, Floats, Ints
from common.horizon import Horizon
from common.multiphase import MultiphaseFeeder
from common.settings import Settings

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
    """(conductor, conductor) the tie's impedance that the boundary variable w is made with; see ``common.boundary``"""


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
