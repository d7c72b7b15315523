"""A schedule in OpenDSS, which has the last word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tieflow.common.case import Case
    from tieflow.common.replay.balanced import Replay
    from tieflow.common.results.schedule import Schedule


def replay(case: Case, schedule: Schedule) -> Replay:
    """What OpenDSS makes of a schedule. Raises what ``replay`` of the feeder's kind raises."""
    # OpenDSS is loaded here.
    from tieflow.common.replay import balanced, multiphase

    return balanced.replay(case, schedule) if case.is_balanced else multiphase.replay(case, schedule)


def write_circuit(case: Case, schedule: Schedule, path: Path) -> None:
    """Write the circuit of a case and its schedule, period by period, as OpenDSS commands."""
    from tieflow.common.replay import balanced, multiphase

    (balanced.write_circuit if case.is_balanced else multiphase.write_circuit)(case, schedule, path)
