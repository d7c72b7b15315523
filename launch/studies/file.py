"""The study file: a case, a catalogue of devices and variants that have some of them; keys are in docs/studies.md."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from tieflow.common.errors import CaseError, did_you_mean, shown
from tieflow.common.feeder.branch_limits import BranchLimit
from tieflow.common.inputs.devices import KINDS as DEVICES
from tieflow.common.inputs.devices import Device
from tieflow.common.inputs.numbers import Positive, Rounds, Share, Tolerance
from tieflow.common.inputs.settings import check_names
from tieflow.common.inputs.tables import Row, explain
from tieflow.common.inputs.toml import read_toml
from tieflow.coordinator.methods import find_method
from tieflow.launch.runs.plain_rule import Rule

AnyRow = TypeVar("AnyRow", bound=Row)
Word = Annotated[str, Field(min_length=1)]

KINDS = {kind.word: (name, kind.row) for name, kind in DEVICES.items()}
"""of devices, as study files call them: the field of ``Case`` and the row class"""
ABOUT = ("kind", "place", "named", "note")
"""keys of a device that its row class does not have"""


def _number_or_file(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not is_number and not (isinstance(value, str) and value):
        raise ValueError(f"must be a number of areas, or the path of an areas.csv (got {shown(value)}).")
    return value


Areas = Annotated[int | str, BeforeValidator(_number_or_file)]


class Place(Row):
    """A rule that finds a device's bus: see ``launch.studies.variants.placed_bus``."""

    rule: Literal["three_phase_primary"]
    distance: Share


class Variant(Row):
    """One variant as the file tells it."""

    name: Word
    devices: tuple[str, ...] = ()
    change: dict[str, dict[str, Any]] = {}
    """keys of the catalogue's devices that are different in this variant, by device"""
    branch_limits: tuple[BranchLimit, ...] = ()
    settings: dict[str, Any] = {}
    load_factor: Positive = 1.0
    pv_penetration: Positive | None = None
    """rated power of all PV, percent of the peak load"""
    keep_devices: bool | None = None
    method: str | None = None
    areas: Areas | None = None


class Profiles(Row):
    csv: Word


class StudyFile(Row):
    """A study file, checked as far as it can be without its case."""

    path: Path
    text: str
    title: str = ""
    case: str = ""
    """empty: the command line must name it"""
    case_hint: str = ""
    """where to get such a feeder"""
    commands: tuple[Word, ...] = ()
    """of OpenDSS, that change the case's circuit"""
    method: str | None = None
    """None: the case's own"""
    areas: Areas | None = None
    tolerance: Tolerance = 1e-5
    max_rounds: Rounds = 200
    monitored_bus: str = ""
    base: str = ""
    """the variant that others are compared with; empty: the first"""
    keep_devices: bool = False
    branch_limits: tuple[BranchLimit, ...] = ()
    settings: dict[str, Any] = {}
    rule: Rule = Rule()
    devices: dict[str, dict[str, Any]] = {}
    profiles: Profiles | None = None
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]

    @property
    def base_name(self) -> str:
        return self.base or self.variants[0].name

    @property
    def profiles_path(self) -> Path | None:
        return None if self.profiles is None else self.path.parent / self.profiles.csv

    def device(self, name: str, variant: Variant) -> dict[str, Any]:
        """The keys of a device in a variant. One that moves is no longer where its source had put it."""
        entry, change = self.devices[name], variant.change.get(name, {})
        moves = {"bus", "place"} & change.keys()
        outdated = {"bus", "place", "named", "note"} if moves else set()
        return {key: value for key, value in entry.items() if key not in outdated} | change


def read_study_file(name: str) -> StudyFile:
    """Read a study file or a shipped study. Raises CaseError naming the file and the key that is wrong."""
    path = find_study(name)
    text, given = read_toml(path)
    keys = [key for key in StudyFile.model_fields if key not in ("path", "text")]
    _check_keys(given, keys, str(path))
    nested: dict[str, Any] = {}
    for key, kind in (("rule", Rule), ("profiles", Profiles)):
        if key in given:
            nested[key] = _parsed(kind, given[key], f"{path}, [{key}]")
    tables = given.get("variants")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise CaseError(f"{path}: variants: missing. A study needs at least one [[variants]] with a name.")
    nested["variants"] = [
        _parsed(Variant, table, f"{path}, variant {shown(table.get('name', i + 1))}") for i, table in enumerate(tables)
    ]
    study = _parsed(StudyFile, {**given, **nested, "path": path, "text": text}, str(path))
    _check_study(study)
    return study


def find_study(name: str) -> Path:
    """A study file, or that of a shipped study. Raises CaseError when there is neither."""
    # Of a name that is too long for one, a Path would raise.
    if os.path.isfile(name):
        return Path(name)
    known = shipped_studies()
    if name in known:
        return known[name]
    raise CaseError(f"study '{name}': no such file and no shipped study of that name.{did_you_mean(name, known)}")


def shipped_studies() -> dict[str, Path]:
    """The files of shipped studies by name."""
    folder = Path(str(resources.files("tieflow.launch") / "studies"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def device_row(fields: Mapping[str, Any], bus: str, where: str) -> Device:
    """A device at a bus, from the keys of its entry. Raises CaseError saying ``where`` the entry is."""
    values = {key: value for key, value in fields.items() if key not in ABOUT} | {"bus": bus}
    # A phase alone looks like a number.
    if isinstance(values.get("phases"), int | float) and not isinstance(values["phases"], bool):
        values["phases"] = str(values["phases"])
    return _parsed(KINDS[fields["kind"]][1], values, where)


def place_of(fields: Mapping[str, Any], where: str) -> str | Place:
    """A device's bus, or the rule that finds it. Raises CaseError for neither or both."""
    if ("bus" in fields) == ("place" in fields):
        raise CaseError(f"{where}: needs either bus or place, the rule that finds a bus. Give one of them.")
    if "place" in fields:
        return _parsed(Place, fields["place"], f"{where}, place")
    bus = fields["bus"]
    if isinstance(bus, bool) or not isinstance(bus, str | int):
        raise CaseError(f"{where}: bus: must be a name (got {shown(bus)}). Put it in quotes.")
    return str(bus)


def _check_study(study: StudyFile) -> None:
    path, names = study.path, [variant.name for variant in study.variants]
    check_names(study.settings, f"{path}, [settings]")
    _check_device_entries(study)
    own = study.profiles_path
    if own is not None and not os.path.isfile(own):
        raise CaseError(f"{path}, [profiles]: csv: {own}: no such file. The path begins at the study file.")
    for name in names:
        if names.count(name) > 1:
            raise CaseError(f"{path}: two variants are called '{name}'. Give each its own name.")
    if study.base and study.base not in names:
        raise CaseError(f"{path}: base = '{study.base}' is no variant.{did_you_mean(study.base, names)}")
    _check_method(study.method, str(path))
    for variant in study.variants:
        where = f"{path}, variant '{variant.name}'"
        check_names(variant.settings, where)
        _check_method(variant.method or study.method, where)
        for name in variant.devices:
            if name not in study.devices:
                raise CaseError(f"{where}: no device '{name}' in [devices].{did_you_mean(name, study.devices)}")
            if variant.devices.count(name) > 1:
                raise CaseError(f"{where}: device '{name}' is there twice. Leave one out.")
        for name, change in variant.change.items():
            if name not in variant.devices:
                raise CaseError(
                    f"{where}: change of '{name}', which is not among its devices.{did_you_mean(name, variant.devices)}"
                )
            if "kind" in change:
                raise CaseError(f"{where}: change of the kind of '{name}'. Make another device of it in [devices].")
            _check_device(study.device(name, variant), f"{where}, change of '{name}'")


def _check_device_entries(study: StudyFile) -> None:
    for name, fields in study.devices.items():
        where = f"{study.path}, device '{name}'"
        kind = fields.get("kind")
        if kind is None:
            raise CaseError(f"{where}: kind: missing. Give it one of {', '.join(KINDS)}.")
        if not isinstance(kind, str):
            raise CaseError(f"{where}: kind: must be one of {', '.join(KINDS)}, in quotes (got {shown(kind)}).")
        if kind not in KINDS:
            raise CaseError(f"{where}: kind '{kind}' is unknown.{did_you_mean(kind, KINDS)}")
        _check_device(fields, where)


def _check_device(fields: Mapping[str, Any], where: str) -> None:
    row = KINDS[fields["kind"]][1]
    _check_keys(fields, (*ABOUT, *row.model_fields), where)
    for key in ("named", "note"):
        if not isinstance(fields.get(key, ""), str):
            raise CaseError(f"{where}: {key}: must be text (got {shown(fields[key])}). Put it in quotes.")
    bus = place_of(fields, where)
    device_row(fields, bus if isinstance(bus, str) else "(placed)", where)


def _check_method(method: str | None, where: str) -> None:
    if method is not None:
        find_method(method, where)  # for its errors


def _check_keys(given: Mapping[str, Any], known: tuple[str, ...] | list[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise CaseError(f"{where}: unknown key '{key}'.{did_you_mean(key, known)}")


def _parsed(kind: type[AnyRow], values: Any, where: str) -> AnyRow:
    if not isinstance(values, dict):
        raise CaseError(f"{where}: must be a table of keys (got {shown(values)}).")
    _check_keys(values, list(kind.model_fields), where)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise CaseError(f"{where}: {explain(error)}") from None
