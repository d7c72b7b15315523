"""An area's problem: its unknowns, equations, costs and limits.

Minimize the cost of power at the substation, of controls, of the loads' power where losses count, and of voltages off
their rating, under the network's equations and all limits. The Lagrangian is cost + multiplier' equations - z' margins.
All per unit, costs over ``scale``.
"""

from __future__ import annotations

from dataclasses import dataclass

import scipy.sparse as sp

from areas.devices import Controls
from areas.layout import Layout
from areas.network import Network
from common.feeder import Bools, Complexes, Floats, Ints
from common.interior_point.limits import Limits


@dataclass(frozen=True)
class Ends:
    """Where the boundary stands, conductor by conductor of the area's tie ends."""

    voltage: tuple[Ints, Ints]
    """(end,) rows of the real and imaginary voltage"""
    no_load: Complexes
    """(end,)"""
    rows: Ints
    """(end, quantity) rows of w, p, q and a"""
    z: sp.csr_array
    """(end, end) impedance of the ties"""
    losses: Floats
    """(2 roots, 2 roots) what a power drawn at the own root loses upstream, as a form in p, then q"""


@dataclass(frozen=True)
class Problem:
    """All of an area's problem that no point changes."""

    layout: Layout
    network: Network
    controls: Controls
    limits: Limits
    tables: dict[str, slice]
    """rows of the table of varying values"""
    linear: sp.csr_array
    """(multiplier, row) the equations' linear part"""
    source: Floats
    """(multiplier, T) what a given voltage of bus 0 adds"""
    given: tuple[Floats, Floats]
    """(leg group, T) real and reactive power into the feeder of devices, then of children with unknown powers, at
    controls of 0"""
    control_rows: Ints
    control_unit: Ints
    """(control,) device or child conductor, also of those that children draw"""
    control_p: Floats
    """(control,) what a unit of it adds to its unit's power"""
    control_q: Floats
    load_scale: Floats
    """(load leg, T)"""
    load_price: Floats
    """(T,) what the loads' real power costs"""
    cost: Floats
    """(row, T) of a unit of each unknown"""
    constant: float
    deviation: Floats
    """(pair,) what (|V|^2 - 1)^2 costs"""
    tap_rows: tuple[tuple[Ints, Ints], tuple[Ints, Ints]]
    """(tap,) rows of the real and imaginary parts of both factors"""
    firm: slice
    """elastic limits beyond which there is no schedule at any price; what follows them are no limits, but prices of
    exported power"""
    scale: float
    """$ that all costs are over"""
    periods: int
    first_control: Floats
    """(control, T) where to begin"""
    fixed: Bools
    """(control, T) whether it stays there"""
    ends: Ends
    """the boundary, of an area that is solved by itself; of others none"""
