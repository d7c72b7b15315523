"""A case folder from a user's OpenDSS model."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tieflow.common.circuit.engine import name_list
from tieflow.common.circuit.extraction import extract_feeder, solved
from tieflow.common.circuit.importing import import_circuit
from tieflow.common.errors import CaseError, TieflowError
from tieflow.common.feeder.multiphase import MultiphaseFeeder
from tieflow.common.inputs.devices import PV, Battery

LOAD_PU = (
    *(0.58, 0.54, 0.51, 0.50, 0.51, 0.55, 0.63, 0.70, 0.74, 0.76, 0.77, 0.78),
    *(0.78, 0.77, 0.76, 0.77, 0.81, 0.89, 0.97, 1.00, 0.97, 0.89, 0.78, 0.67),
)
PV_PU = (*(0.0,) * 6, 0.05, 0.20, 0.41, 0.62, 0.80, 0.93, 1.0, 0.98, 0.88, 0.72, 0.52, 0.30, 0.11, 0.02, *(0.0,) * 4)
PRICE_PER_KWH = (*(0.08,) * 6, *(0.14,) * 10, *(0.26,) * 5, *(0.10,) * 3)
"""a placeholder day: a load with an evening peak, a clear sky, three price levels; hours 0 to 23"""


@dataclass(frozen=True)
class Imported:
    """What an import made of a model."""

    folder: Path
    feeder: MultiphaseFeeder
    pv: int
    batteries: int
    notes: tuple[str, ...]


def import_feeder(
    master: Path, folder: Path, commands: Sequence[str] = (), keep_taps: bool = False, overwrite: bool = False
) -> Imported:
    """Make a multi-phase case folder of an OpenDSS model: circuit.dss, case.toml, profiles.csv and, where the model has
    them, pv.csv and batteries.csv.

    Raises CaseError for a model that cannot be carried, TieflowError for a folder that is in use or cannot be written.
    """
    if os.path.exists(folder) and (not folder.is_dir() or any(folder.iterdir())) and not overwrite:
        raise TieflowError(f"{folder}: exists and is not empty. Choose another folder, or allow it with --force.")
    circuit = import_circuit(master, commands, keep_taps)
    try:
        feeder = extract_feeder(solved(circuit.engine), base_kva=1000.0)
    except CaseError as error:
        raise CaseError(f"{master}: {error}") from None
    profiles = zip(range(24), LOAD_PU, PV_PU, PRICE_PER_KWH, strict=True)
    files = {
        "circuit.dss": circuit.text,
        "case.toml": _case_toml(master),
        "profiles.csv": _csv(["hour", "load_pu", "pv_pu", "price_per_kwh"], profiles),
    }
    for name, row_type, units in (("pv.csv", PV, circuit.pv), ("batteries.csv", Battery, circuit.batteries)):
        if units:
            columns = list(row_type.model_fields)
            files[name] = _csv(columns, ([getattr(unit, column) for column in columns] for unit in units))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise TieflowError(f"{error.filename or folder}: cannot be written ({error.strerror}).") from error
    notes = (*circuit.notes, *_length_notes(feeder))
    return Imported(folder, feeder, len(circuit.pv), len(circuit.batteries), notes)


def _length_notes(feeder: MultiphaseFeeder) -> list[str]:
    unknown = [branch.name for branch in feeder.branches if np.isnan(branch.length_km)]
    if not unknown:
        return []
    return [
        f"{len(unknown)} line(s) have a length without a unit, so pictures count branches in place of km: "
        f"{name_list(unknown, 3)}. Import with a command such as 'edit {unknown[0].split('+')[0]} units=kft', or "
        "'batchedit line..* units=kft' where no line has a unit."
    ]


def _case_toml(master: Path) -> str:
    title = master.stem.replace('"', "'").replace("\\", "/")
    return f'''# Made by "tieflow import" from {master.name}. Every setting: see "Case format" in the README.
title = "{title}"
model = "multiphase"
v_min_pu = 0.95
v_max_pu = 1.05

periods = 24
dt_hours = 1.0
objective = "cost"
'''


def _csv(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
