"""What was solved: everything that somebody else needs to know of a run to judge it or to make it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tieflow.common.errors import counted
from tieflow.common.feeder.multiphase import Frozen
from tieflow.common.inputs.devices import KINDS
from tieflow.common.inputs.settings import Settings
from tieflow.common.inputs.weights import Terms
from tieflow.common.results.result import Result

UNKNOWN = "not stored: the result is of an earlier version"
PYTHON = "none: made from Python"
SHOWN_NAMES = 12
SHOWN_FROZEN = 4
"""beyond which the rest is counted"""


@dataclass(frozen=True)
class Setting:
    """A setting that is not at its default."""

    name: str
    value: str
    default: str
    """empty where there is none"""
    is_override: bool
    """given in place of case.toml's, as by --set; false of all in results of earlier versions"""


@dataclass(frozen=True)
class DeviceKind:
    """All devices of a kind."""

    kind: str
    count: int
    rated_kw: float
    """together; of a balanced case per phase"""
    energy_kwh: float | None
    """of batteries, together"""
    places: tuple[str, ...]


@dataclass(frozen=True)
class Solved:
    """What was solved, when, by which command."""

    date: str
    command: str
    settings: tuple[Setting, ...]
    devices: tuple[DeviceKind, ...]
    frozen: tuple[Frozen, ...]


def what_was_solved(result: Result) -> Solved:
    """Of a stored run; what files of earlier versions lack is empty."""
    case = result.case
    kinds = [(kind, getattr(case, kind)) for kind in KINDS if getattr(case, kind)]
    return Solved(
        date=result.date,
        command=result.command,
        settings=tuple(_settings(case.settings, case.overrides)),
        devices=tuple(
            DeviceKind(
                kind,
                len(units),
                float(sum(unit.p_kw if kind == "flexible_loads" else unit.p_rated_kw for unit in units)),
                float(sum(unit.energy_kwh for unit in units)) if kind == "batteries" else None,
                tuple(unit.label for unit in units),
            )
            for kind, units in kinds
        ),
        frozen=() if case.is_balanced else case.multiphase_feeder.frozen,
    )


def as_json(result: Result) -> dict[str, Any]:
    """The same by name, with the versions of what made it."""
    solved = what_was_solved(result)
    return asdict(solved) | {"versions": dict(result.versions)}


def date_and_command(solved: Solved) -> list[tuple[str, str]]:
    """In words, also where they are not stored."""
    if not solved.date:
        return [("date", UNKNOWN), ("command", UNKNOWN)]
    return [("date", solved.date), ("command", solved.command or PYTHON)]


def in_short(result: Result) -> list[tuple[str, str]]:
    """A line for each part: what a terminal shows."""
    solved = what_was_solved(result)
    rows = date_and_command(solved)
    changed = [f"{setting.name} = {setting.value}" for setting in solved.settings if setting.is_override]
    rows.append(("changed settings", (", ".join(changed) or "none") if solved.date else UNKNOWN))
    per_phase = ", per phase" if result.case.is_balanced else ""
    devices = ", ".join(map(device_words, solved.devices))
    rows.append(("devices", devices + per_phase if devices else "none"))
    if not result.case.is_balanced:
        rows.append(("frozen controls", frozen_words(solved.frozen)))
    rows.append(("version", f"tieflow {result.versions.get('tieflow', 'unknown')}"))
    return rows


def device_words(devices: DeviceKind) -> str:
    """``3 batteries (400 kW, 1600 kWh)``."""
    energy = "" if devices.energy_kwh is None else f", {devices.energy_kwh:,.6g} kWh"
    return f"{devices.count} {KINDS[devices.kind].noun[devices.count != 1]} ({devices.rated_kw:,.6g} kW{energy})"


def listed(names: Sequence[str], shown: int = SHOWN_NAMES) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def frozen_words(frozen: tuple[Frozen, ...]) -> str:
    """How many stand where, the first ones by name."""
    told = []
    banks = [item for item in frozen if item.element.startswith("capacitor.")]
    taps = [item for item in frozen if item not in banks]
    # Without a control known it may be any transformer off its nominal tap.
    name = "regulator" if all(item.control for item in taps) else "transformer"
    for items, one in ((taps, name), (banks, "capacitor")):
        if items:
            states = listed([f"{item.element} {item.state}" for item in items], SHOWN_FROZEN)
            told.append(f"{counted(len(items), one)} frozen at {states}")
    return "; ".join(told) or "none"


def _settings(settings: Settings, overrides: tuple[str, ...]) -> list[Setting]:
    found = []
    for name, field in Settings.model_fields.items():
        value, is_override = getattr(settings, name), name in overrides
        if name != "title" and (is_override or value != field.default):
            default = "" if field.default in (None, "") else _text(field.default)
            found.append(Setting(name, _text(value), default, is_override))
    return found


def _text(value: object) -> str:
    if isinstance(value, Terms):
        return ", ".join(f"{name}={number:g}" for name, number in value.given().items())
    return "none" if value is None else str(value)
