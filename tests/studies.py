"""A study of the small case for several test files, to be changed by replacing its text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tieflow.launch.studies.file import StudyFile, read_study_file

# Two periods of six hours, from 06:00; dear energy in the second.
STUDY = """\
title = "A small study"
case = "small"

[rule]
charge_hours = [6, 11]
discharge_hours = [12, 17]

[devices.sun]
kind = "pv"
bus = "c"
p_rated_kw = 30
s_rated_kva = 36
named = "70"
note = "the source's bus is not here"

[devices.store]
kind = "battery"
bus = "d"
p_rated_kw = 20
s_rated_kva = 24
energy_kwh = 200

[devices.flex]
kind = "flexible_load"
bus = "b"
p_kw = 10
q_kvar = 4
down = 0.4
up = 0.2

[[variants]]
name = "base"

[[variants]]
name = "with PV"
devices = ["sun"]

[[variants]]
name = "full"
devices = ["sun", "store", "flex"]
"""
Write = Callable[..., Path]


def write_study(folder: Path, old: str = "", new: str = "", extra: str = "") -> Path:
    """The study beside its case, with one text replaced and another added at the end."""
    assert old in STUDY
    path = folder / "study.toml"
    path.write_text((STUDY.replace(old, new, 1) if old else STUDY) + extra)
    return path


def read(folder: Path, old: str = "", new: str = "", extra: str = "") -> StudyFile:
    return read_study_file(str(write_study(folder, old, new, extra)))
