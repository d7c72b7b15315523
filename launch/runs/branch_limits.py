"""Limits on the apparent power of branches, from Python or a study, over those that a case has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tieflow.common.case import Case
from tieflow.common.feeder.branch_limits import BranchLimit, branch_numbers, check_branch_limits, numbers_of


def with_limits(case: Case, limits: Sequence[BranchLimit], where: str) -> Case:
    """The case with limits added, or put in place of those that its branches have.

    A branch of a multi-phase case has the name of an element of the circuit, any of those in parallel; one of a
    balanced case is named by its buses, such as ``a-b``, in any order. Raises CaseError, beginning with ``where``, for
    a branch that the feeder lacks, and a second limit of the same branch.
    """
    if not limits:
        return case
    if case.is_balanced:
        return _balanced(case, limits, where)
    check_branch_limits(case.multiphase_feeder, limits, where)
    known = branch_numbers(case.multiphase_feeder)
    replaced = {known[limit.place] for limit in limits}
    kept = (limit for limit in case.branch_limits if known.get(limit.place) not in replaced)
    return replace(case, branch_limits=(*kept, *limits))


def _balanced(case: Case, limits: Sequence[BranchLimit], where: str) -> Case:
    rows = list(case.branches)
    known = {f"{row.to_bus}-{row.from_bus}": k for k, row in enumerate(rows)}
    known |= {f"{row.from_bus}-{row.to_bus}": k for k, row in enumerate(rows)}
    for k, limit in zip(numbers_of(known, limits, where), limits, strict=True):
        rows[k] = rows[k].model_copy(update={"s_max_kva": limit.s_max_kva})
    return replace(case, branches=tuple(rows))
