"""The ways to agree, by name: what each needs of the areas and who takes over when it gives up.

Besides those of ``METHODS``, any installed package may register more: docs/methods.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points

from tieflow.common.errors import CaseError, did_you_mean
from tieflow.coordinator.loop import Task, agree
from tieflow.coordinator.methods import admm, dlmp, enapp, newton
from tieflow.coordinator.record import Outcome

GROUP = "tieflow.methods"
"""entry points by which packages register methods, each a ``Method`` or its ``solve``"""
CENTRALIZED = "centralized"


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
    whole: bool = False
    """whether the feeder is one area, whatever areas the case has; it is then solved in the coordinator's process"""


METHODS: dict[str, Method] = {
    "newton": Method(newton.solve, exact=True, sliced=True, starts=True),
    "admm": Method(
        partial(agree, "admm", admm.start, admm.update, patience=admm.PATIENCE, refuses=True), successor="newton"
    ),
    "dlmp": Method(partial(agree, "dlmp", dlmp.start, dlmp.update, patience=dlmp.PATIENCE), successor="admm"),
    "enapp": Method(partial(agree, "enapp", enapp.start, enapp.update), thevenin=False, optimal=False),
    CENTRALIZED: Method(newton.solve, exact=True, starts=True, whole=True),
}
"""tieflow's own, whose names no other package can take"""


def method_names() -> list[str]:
    """Of all methods: tieflow's own, then those of other packages."""
    return [*METHODS, *sorted(entry_points(group=GROUP).names - METHODS.keys())]


def find_method(name: str, where: str = "") -> Method:
    """The method of that name, here or in an installed package. Raises CaseError, beginning with ``where`` the name
    stands, where there is none or the package's cannot be used."""
    if name in METHODS:
        return METHODS[name]
    named = f"{where}: method '{name}'" if where else f"method '{name}'"
    entries = {entry.value: entry for entry in entry_points(group=GROUP, name=name)}
    if not entries:
        raise CaseError(f"{named} is unknown.{did_you_mean(name, method_names())}")
    if len(entries) > 1:
        raise CaseError(f"{named} is registered by several packages: {', '.join(sorted(entries))}. Keep one.")
    (value,) = entries
    named += f" ({value})"
    try:
        found = entries[value].load()
    except Exception as error:  # whatever importing other people's code may raise
        raise CaseError(f"{named} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found) and not isinstance(found, Method):
        raise CaseError(f"{named} is neither a Method nor a function of a Task.")
    method = found if isinstance(found, Method) else Method(found)
    if method.successor is not None and method.successor not in method_names():
        raise CaseError(f"{named}: its successor '{method.successor}' is unknown.")
    return method
