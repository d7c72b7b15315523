"""The ways to agree, by name: what each needs of the areas and who takes over when it gives up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from coordinator.loop import Task, agree
from coordinator.methods import admm, dlmp, enapp, newton
from coordinator.record import Outcome


@dataclass(frozen=True)
class Method:
    """A way to agree."""

    solve: Callable[[Task], Outcome]
    exact: bool = False
    """whether areas must have their exact equations, or may have the relaxation of a balanced feeder"""
    successor: str | None = None
    """who takes over"""
    sliced: bool = False
    """whether an area may span ranks over time"""
    starts: bool = False
    """whether it has several starting points"""
    thevenin: bool = True
    """whether boundary voltages are told in the form that hardly moves for the parent"""
    optimal: bool = True
    """whether its fixed point is the optimum"""


METHODS: dict[str, Method] = {
    "newton": Method(newton.solve, exact=True, sliced=True, starts=True),
    "admm": Method(
        partial(agree, "admm", admm.start, admm.update, patience=admm.PATIENCE, refuses=True), successor="newton"
    ),
    "dlmp": Method(partial(agree, "dlmp", dlmp.start, dlmp.update, patience=dlmp.PATIENCE), successor="admm"),
    "enapp": Method(partial(agree, "enapp", enapp.start, enapp.update), thevenin=False, optimal=False),
}
