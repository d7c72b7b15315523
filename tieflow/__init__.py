"""tieflow: areas of a power distribution feeder agree on a schedule, and OpenDSS confirms it.

Load a case, change it, solve it, look at the result: the functions below, which ``tieflow.launch.api`` defines; the
arrays of a result are described in ``tieflow.common.results``. The folder holds links to the four folders of the
checkout, so that one import path serves a checkout, a wheel and every tool alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tieflow.launch.api import (
        PV,
        Battery,
        BranchLimit,
        Case,
        CaseError,
        Comparison,
        Difference,
        Extreme,
        FlexibleLoad,
        Kpis,
        Result,
        TieflowError,
        Wind,
        benchmark,
        compare,
        kpis,
        load,
        plot,
        read,
        read_study,
        save,
        solve,
        table,
        with_areas,
        with_batteries,
        with_branch_limits,
        with_flexible_loads,
        with_pv,
        with_wind,
    )

__version__ = "0.1.0"
__all__ = [
    "PV",
    "Battery",
    "BranchLimit",
    "Case",
    "CaseError",
    "Comparison",
    "Difference",
    "Extreme",
    "FlexibleLoad",
    "Kpis",
    "Result",
    "TieflowError",
    "Wind",
    "benchmark",
    "compare",
    "kpis",
    "load",
    "plot",
    "read",
    "read_study",
    "save",
    "solve",
    "table",
    "with_areas",
    "with_batteries",
    "with_branch_limits",
    "with_flexible_loads",
    "with_pv",
    "with_wind",
]


def __getattr__(name: str) -> object:
    # What solving needs takes a second to import; a script or notebook waits for it when it first uses it.
    if name not in __all__:
        raise AttributeError(f"module 'tieflow' has no attribute '{name}'")
    from tieflow.launch import api

    return globals().setdefault(name, getattr(api, name))


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
