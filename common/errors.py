"""What a user is told when something is wrong. Every message names the file, row or key and the way out."""

from __future__ import annotations

import difflib
import errno
import reprlib
from collections.abc import Iterable

EXIT_CONVERGED = 0
EXIT_ERROR = 1
EXIT_NOT_CONVERGED = 2
EXIT_INFEASIBLE = 3
EXIT_NOT_CONFIRMED = 4
EXIT_OVERSTEPPED = 5
SHOWN_NAMES = 60
"""of a list of known names: a feeder can have thousands of buses"""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 100


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


def way_out(error: OSError, what: str = "path") -> str:
    """What to do about a ``path`` or ``folder`` that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"Make room there (see df, quota, ulimit -f) or choose a {what} on another disk."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"Get permission to write there or choose another {what}."
    if error.errno == errno.ENOENT:
        return f"Make the folder above it first (mkdir -p), or choose another {what}."
    return f"Choose another {what}."


def shown(value: object) -> str:
    """A value of the user's, in short: one may be long, or nested deeply."""
    if isinstance(value, bool):
        return str(value).lower()
    return _SHORT.repr(value)


def counted(number: int, noun: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest of the known names, or a list of them when none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f" Did you mean '{near[0]}'?"
    more = len(names) - SHOWN_NAMES
    return f" Known: {', '.join(names[:SHOWN_NAMES])}{f', and {more} more' if more > 0 else ''}."
