"""Limits on the apparent power through branches of a multi-phase feeder: the rows of ``branch_limits.csv``.

A limit counts all phases together, at the branch's end nearer the substation, charging currents included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from tieflow.common.arrays import Ints
from tieflow.common.errors import CaseError, did_you_mean
from tieflow.common.feeder.multiphase import MultiphaseFeeder
from tieflow.common.inputs.numbers import Positive
from tieflow.common.inputs.tables import Row

TABLE = "branch_limits.csv"


class BranchLimit(Row):
    """A line of branch_limits.csv."""

    branch: Annotated[str, Field(min_length=1)]
    """OpenDSS name of an element, such as ``line.l115``. Elements in parallel, as a bank of single-phase regulators,
    are one branch, with one limit on all of them together: any of their names means it"""
    s_max_kva: Positive

    @property
    def place(self) -> str:
        """Its branch; no two limits share one."""
        return self.branch.lower()


def branch_numbers(feeder: MultiphaseFeeder) -> dict[str, int]:
    """Number of the branch that each OpenDSS name means, of a single element or of all that are in parallel."""
    single = {name: k for k, branch in enumerate(feeder.branches) for name in branch.name.split("+")}
    return single | {branch.name: k for k, branch in enumerate(feeder.branches)}


def limited_branches(feeder: MultiphaseFeeder, limits: Sequence[BranchLimit]) -> Ints:
    """(limit,) number of the branch of each limit, in a feeder that has them all."""
    known = branch_numbers(feeder) if limits else {}
    return np.array([known[limit.place] for limit in limits], np.int64)


def check_branch_limits(feeder: MultiphaseFeeder, limits: Sequence[BranchLimit], where: str = TABLE) -> None:
    """Raises CaseError as ``numbers_of`` does."""
    # Power through the source impedance is the substation's, which has a cap of its own.
    numbers_of({name: k for name, k in branch_numbers(feeder).items() if k} if limits else {}, limits, where)


def numbers_of(known: Mapping[str, int], limits: Sequence[BranchLimit], where: str) -> list[int]:
    """The number of each limit's branch, by the names ``known``. Raises CaseError, beginning with ``where`` the limits
    stand, for one of a branch that the feeder lacks, and for a second one of the same branch."""
    taken: dict[int, str] = {}
    for limit in limits:
        name = limit.branch if limit.branch in known else limit.place
        if name not in known:
            raise CaseError(f"{where}: unknown branch '{limit.branch}'.{did_you_mean(name, known)}")
        number = known[name]
        if number in taken:
            raise CaseError(
                f"{where}: '{limit.branch}' is the same branch as '{taken[number]}', which has a limit. Keep one for a "
                "branch and all that is in parallel with it."
            )
        taken[number] = limit.branch
    return list(taken)
