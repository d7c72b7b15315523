"""What a user is told when something is wrong. Every message names the file, row or key and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_CONVERGED = 0
EXIT_ERROR = 1
EXIT_NOT_CONVERGED = 2
EXIT_INFEASIBLE = 3
EXIT_NOT_CONFIRMED = 4
EXIT_OVERSTEPPED = 5


class TieflowError(Exception):
    """An error whose message is meant for the user; ``exit_code`` is what the command ends with."""

    exit_code = EXIT_ERROR


class CaseError(TieflowError):
    """The case folder, a setting or a table in it cannot be used."""


class InfeasibleError(TieflowError):
    """No schedule satisfies an area's limits."""

    exit_code = EXIT_INFEASIBLE


class SolverError(TieflowError):
    """The conic solver ended without an answer that can be trusted."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest of the known names, or the whole list when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(names)}."
