"""Methods side by side against the centralized baseline, in one run on one machine."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tieflow.common.case import Case, read_case
from tieflow.common.errors import TieflowError
from tieflow.coordinator.methods import CENTRALIZED
from tieflow.coordinator.record import Round
from tieflow.launch.figures.summary import summary
from tieflow.launch.runs.partition import in_areas
from tieflow.launch.runs.solve import Options, solve

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


def benchmark(
    case: Case,
    methods: Sequence[str],
    options: Options,
    comm: Comm | None = None,
    on_round: Callable[[Round], None] = lambda _: None,
    cpu: bool = False,
) -> list[dict[str, Any]]:
    """The summary of the centralized baseline and of each method, with its gap to the optimum (objective, relative)
    and its critical path over the baseline's: of wall time, or of threads' CPU time, which tells the same whether
    ranks have cores of their own or share them. Raises TieflowError when the baseline does not solve."""
    _load_kernels(comm)
    baseline = summary(solve(case, replace(options, method=CENTRALIZED)))
    if not baseline["converged"]:
        raise TieflowError("the centralized baseline did not solve, so there is nothing to compare with.")
    rows = [baseline] + [
        summary(solve(case, replace(options, method=method), comm, on_round))
        for method in methods
        if method != CENTRALIZED
    ]
    clock = "critical_path_cpu_s" if cpu else "critical_path_s"
    optimum, path = baseline["objective"], baseline["time"][clock]
    for row in rows:
        row["gap_to_optimum"] = (row["objective"] - optimum) / max(abs(optimum), 1e-12)
        row["critical_path_ratio"] = row["time"][clock] / path
    return rows


def _load_kernels(comm: Comm | None) -> None:
    """A small case solved first: loading compiled functions, once in each rank, would count for the first method."""
    case = in_areas(read_case("ieee13", {"periods": 24}), 4)
    solve(case, Options("newton", check=False), comm)
    # What is loaded stays: looking through it for garbage, which takes as long as a run, would count for any method.
    gc.freeze()
