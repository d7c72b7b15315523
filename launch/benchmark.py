"""Methods side by side against the centralized baseline, in one run on one machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from common.case import Case
from common.errors import TieflowError
from coordinator.loop import Round
from launch.report import summary
from launch.solve import CENTRALIZED, Options, solve

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


def compare(
    case: Case,
    methods: Sequence[str],
    options: Options,
    comm: Comm | None = None,
    on_round: Callable[[Round], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """The summary of the centralized baseline and of each method, with its gap to the optimum (objective, relative)
    and its critical path over the centralized solve. Raises TieflowError when the baseline does not solve."""
    baseline = summary(solve(case, replace(options, method=CENTRALIZED)))
    if not baseline["converged"]:
        raise TieflowError("the centralized baseline did not solve, so there is nothing to compare with.")
    rows = [baseline] + [
        summary(solve(case, replace(options, method=method), comm, on_round))
        for method in methods
        if method != CENTRALIZED
    ]
    optimum, path = baseline["objective"], baseline["time"]["critical_path_s"]
    for row in rows:
        row["gap_to_optimum"] = (row["objective"] - optimum) / max(abs(optimum), 1e-12)
        row["critical_path_ratio"] = row["time"]["critical_path_s"] / path
    return rows
