"""A schedule as a folder for others: a circuit that OpenDSS itself runs, and tables for a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from tieflow.common.case import Case
from tieflow.common.errors import TieflowError, way_out
from tieflow.common.inputs.devices import DEVICE_KINDS
from tieflow.common.replay import write_circuit
from tieflow.common.results.schedule import NetworkState, Schedule

MASTER = "Master.dss"


def export(case: Case, schedule: Schedule, state: NetworkState, folder: Path) -> None:
    """Write ``Master.dss``, which OpenDSS solves period by period to the answer of the replay, and CSV tables.

    ``pv.csv`` and ``batteries.csv``: the setpoints, a line per period and device; ``voltages.csv``: ``state``'s
    voltages, pu, a line per bus or node and a column per period; ``substation.csv``: its power into the feeder and
    losses. ``hour`` is a period's row of profiles.csv, ``time`` when it begins, as the head of a column too.
    Powers of a balanced case are per phase. The folder is made if need be and must be empty. Raises TieflowError when
    it is not or cannot be written, ValueError for a setpoint that is not finite; then nothing is left behind.
    """
    made: list[Path] = []
    try:
        if not folder.is_dir():
            folder.mkdir()
            made.append(folder)
        elif any(folder.iterdir()):
            raise TieflowError(f"{folder}: not empty. Name a new folder, or empty this one first.")
        made.append(folder / MASTER)
        write_circuit(case, schedule, folder / MASTER)
        for name, lines in _tables(case, schedule, state).items():
            made.append(folder / name)
            with made[-1].open("w", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows(lines)
    except BaseException as error:
        for path in reversed(made):
            if path == folder:
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise TieflowError(f"{folder}: cannot be written ({error.strerror}). {way_out(error, 'folder')}") from error
        raise


def _tables(case: Case, schedule: Schedule, state: NetworkState) -> dict[str, Iterable[Sequence[object]]]:
    """The lines of each CSV file, its header first."""
    hours, times, places = case.horizon.hour, case.horizon.times, case.feeder.places
    substation = (state.substation_p_kw, state.substation_q_kvar, state.losses_kw)
    return {
        **{f"{kind}.csv": _devices(case, schedule, kind) for kind in DEVICE_KINDS},
        "voltages.csv": [
            (places.noun, *times),
            *((place, *v.tolist()) for place, v in zip(places.names, state.v_pu, strict=True)),
        ],
        "substation.csv": [
            ("hour", "time", "p_kw", "q_kvar", "losses_kw"),
            *zip(hours, times, *(values.tolist() for values in substation), strict=True),
        ],
    }


def _devices(case: Case, schedule: Schedule, kind: str) -> list[Sequence[object]]:
    names, arrays = DEVICE_KINDS[kind], getattr(schedule, kind)
    lines: list[Sequence[object]] = [("hour", "time", "bus", "phases", "name", *names)]
    for t, (hour, time) in enumerate(zip(case.horizon.hour, case.horizon.times, strict=True)):
        for i, unit in enumerate(getattr(case, kind)):
            lines.append((hour, time, unit.bus, unit.phases, unit.name, *(float(arrays[name][i, t]) for name in names)))
    return lines
