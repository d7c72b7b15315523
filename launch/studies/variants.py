"""A study's variants as cases to solve: devices placed and rated, loads scaled, settings and profiles put over."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from tieflow.common.case import Case, check_devices, find_case, read_case
from tieflow.common.circuit.text import quoted
from tieflow.common.errors import CaseError, TieflowError, did_you_mean
from tieflow.common.feeder.multiphase import multipliers
from tieflow.common.inputs.devices import Device, FlexibleLoad, labelled
from tieflow.common.inputs.horizon import PRICE, ProfileRow
from tieflow.common.inputs.tables import explain, read_header
from tieflow.common.results.study import Placement, digest
from tieflow.coordinator.methods import find_method
from tieflow.launch.runs.branch_limits import with_limits
from tieflow.launch.runs.partition import in_areas_of
from tieflow.launch.runs.plain_rule import Rule
from tieflow.launch.runs.solve import Options, library_versions
from tieflow.launch.studies.file import KINDS, AnyRow, StudyFile, Variant, device_row, place_of
from tieflow.launch.studies.placement import check_bus, placed_bus, shown_phases

PRICES = ("price_high_per_kwh", "price_low_per_kwh")


@dataclass(frozen=True)
class Resolved:
    """A variant as it will be solved."""

    name: str
    case: Case
    options: Options
    rule: Rule
    placements: tuple[Placement, ...]

    @property
    def digest(self) -> str:
        """Of all that its run depends on: words about its devices do not count."""
        rule = self.rule if self.case.devices else None
        # Whether a setting is case.toml's or was given in its place, the run is the same.
        return digest(replace(self.case, overrides=()), self.options, rule, library_versions()["tieflow"])

    @property
    def areas(self) -> int:
        """How many areas work on it at once."""
        if self.options.method is not None and find_method(self.options.method).whole:
            return 1
        return max(1, len({row.area for row in self.case.areas}))


@dataclass(frozen=True)
class Unresolved:
    """A variant that does not fit its case, and why."""

    name: str
    error: TieflowError


@dataclass(frozen=True)
class Asked:
    """What the command line puts over a study file."""

    case: str | None = None
    settings: Mapping[str, object] | None = None
    areas: str | None = None


def resolve(study: StudyFile, asked: Asked | None = None) -> list[Resolved | Unresolved]:
    """All variants, those that do not fit with their errors. Raises CaseError where the study has no case at all."""
    asked = asked or Asked()
    folder = case_folder(study, asked)
    found: list[Resolved | Unresolved] = []
    for variant in study.variants:
        try:
            found.append(resolve_variant(study, variant, folder, asked))
        except TieflowError as error:
            found.append(Unresolved(variant.name, error))
    return found


def case_folder(study: StudyFile, asked: Asked) -> Path:
    """The folder of the study's case, or of the one that is asked for instead. Raises CaseError for neither."""
    if asked.case is not None:
        return find_case(asked.case)
    if study.case:
        beside = study.path.parent / study.case
        return beside if os.path.isfile(beside / "case.toml") else find_case(study.case)
    hint = f" {study.case_hint.rstrip('.')}." if study.case_hint else ""
    raise CaseError(
        f"{study.path}: the study names no case, for its feeder is not shipped.{hint} Name your copy with --case "
        "FOLDER. To make that folder of an OpenDSS model: tieflow import Master.dss --out FOLDER"
    )


def resolve_variant(study: StudyFile, variant: Variant, folder: Path, asked: Asked) -> Resolved:
    """Raises CaseError, naming file, variant and device, for what does not fit the case."""
    where = f"{study.path}, variant '{variant.name}'"
    case = commanded(_read(study, variant, folder, asked, where), study.commands, f"{study.path}, commands")
    try:
        case = scaled(case, variant.load_factor)
        if not case.is_balanced:
            case.multiphase_feeder  # noqa: B018 - a power that no load has is found while reading the circuit
    except CaseError as error:
        raise CaseError(f"{where}: {error}") from None
    case = with_limits(case, study.branch_limits, f"{study.path}, branch_limits")
    case = with_limits(case, variant.branch_limits, f"{where}, branch_limits")
    monitored = study.monitored_bus
    if monitored:
        check_bus(case, monitored, f"{study.path}, monitored_bus")
    placed = [_placed(study, variant, case, name) for name in variant.devices]
    units: dict[str, Any] = {field: getattr(case, field) for field, _ in KINDS.values()}
    for unit, placement in placed:
        kind = KINDS[placement.kind][0]
        units[kind] = labelled([*units[kind], _factored(unit, variant.load_factor, where)])
    scale, scaled_by = 1.0, ""
    if variant.pv_penetration is not None:
        rated = sum(unit.p_rated_kw for unit in units["pv"])
        if not rated:
            raise CaseError(f"{where}: pv_penetration, but the variant has no PV. Add a device of kind pv.")
        scale = variant.pv_penetration / 100 * peak_load_kw(case) / rated
        scaled_by = f"pv_penetration = {variant.pv_penetration:g}"
        units["pv"] = tuple(_rated(unit, scale, f"{where}: {scaled_by}") for unit in units["pv"])
    case = replace(case, **units)
    try:
        check_devices(case)
    except CaseError as error:
        raise CaseError(f"{where}: {error}") from None
    areas = asked.areas if asked.areas is not None else variant.areas or study.areas
    base = None if asked.areas is not None else study.path.parent
    try:
        case = in_areas_of(case, None if areas is None else str(areas), base)
    except CaseError as error:
        raise CaseError(f"{where}: {error}") from None
    factors = {
        "pv": (scale, scaled_by),
        "flexible_load": (variant.load_factor, f"load_factor = {variant.load_factor:g}"),
    }
    return Resolved(
        name=variant.name,
        case=case,
        options=Options(
            variant.method or study.method or case.settings.default_method, study.tolerance, study.max_rounds
        ),
        rule=study.rule,
        placements=tuple(
            _told(placement, *factors[placement.kind]) if placement.kind in factors else placement
            for _, placement in placed
        ),
    )


def peak_load_kw(case: Case) -> float:
    """The largest load of a period of the horizon at rated voltage, without devices; per phase in a balanced case."""
    horizon = case.horizon
    if case.is_balanced:
        return sum(row.p_load_kw for row in case.buses) * float(horizon.load.max())
    legs = case.multiphase_feeder.legs
    power = legs.s.real[:, None] * multipliers(legs, horizon.load, horizon.shapes) * case.settings.base_kva
    is_load = np.array([name.startswith("load.") for name in legs.name], bool)
    return float(power[is_load].sum(axis=0).max(initial=0.0))


def commanded(case: Case, commands: Sequence[str], where: str) -> Case:
    """The case with its circuit changed by OpenDSS commands. Raises CaseError for what OpenDSS refuses."""
    if not commands:
        return case
    if case.is_balanced:
        raise CaseError(f"{where}: case {case.name} is balanced and has no circuit. Remove them.")
    # Loads OpenDSS.
    from tieflow.common.circuit.engine import changed_circuit

    return replace(case, circuit=changed_circuit(case.circuit, commands, where))


def scaled(case: Case, factor: float) -> Case:
    """The case with the rated power of every load of its feeder multiplied. Raises CaseError for a power that no load
    has."""
    if factor == 1.0:
        return case
    if case.is_balanced:
        rows = [_times(row, factor, f"load_factor = {factor:g}", "p_load_kw", "q_load_kvar") for row in case.buses]
        return replace(case, buses=tuple(rows))
    # Loads OpenDSS.
    from tieflow.common.circuit.extraction import compiled

    loads = compiled(case.circuit).Loads
    edits = []
    for name in loads.AllNames():
        if name.lower() != "none":
            loads.Name(name)
            kw, kvar = loads.kW() * factor, loads.kvar() * factor
            edits.append(f"edit {quoted('load.' + name)} kw={kw!r} kvar={kvar!r}")
    return replace(case, circuit="\n".join([case.circuit, f"! all loads times {factor:g}", *edits, ""]))


def _read(study: StudyFile, variant: Variant, folder: Path, asked: Asked, where: str) -> Case:
    settings = {**study.settings, **variant.settings, **(asked.settings or {})}
    own = study.profiles_path
    if own is not None and PRICE in read_header(own):
        for name in PRICES:
            if name in settings:
                raise CaseError(f"{where}: {name}, but {own} has the column {PRICE}. Remove one of the two.")
    keep = study.keep_devices if variant.keep_devices is None else variant.keep_devices
    case = read_case(str(folder), settings, where, own, with_devices=keep)
    find_method(case.settings.default_method, where)  # for its errors
    if own is not None:
        _check_shapes(study, case, own)
    return case


def _check_shapes(study: StudyFile, case: Case, own: Path) -> None:
    """Raises CaseError for a column that nothing follows: most likely a profile's name with a slip in it."""
    followed = {str(fields.get("profile", "")) for v in study.variants for fields in _entries(study, v)}
    followed |= {getattr(unit, "profile", "") for unit in case.devices}
    followed |= set() if case.is_balanced else set(case.multiphase_feeder.legs.shape)
    for name in read_header(own):
        if name not in ProfileRow.model_fields and name not in followed:
            near = did_you_mean(name, ProfileRow.model_fields)
            raise CaseError(f"{own}: column '{name}' is no profile of a case, and no device follows it.{near}")


def _entries(study: StudyFile, variant: Variant) -> list[dict[str, Any]]:
    return [study.device(name, variant) for name in variant.devices]


def _placed(study: StudyFile, variant: Variant, case: Case, name: str) -> tuple[Device, Placement]:
    """A device of the catalogue at its bus, before any factor."""
    fields, where = study.device(name, variant), f"{study.path}, variant '{variant.name}', device '{name}'"
    asked, note = place_of(fields, where), str(fields.get("note", ""))
    if isinstance(asked, str):
        bus = check_bus(case, asked, where)
    else:
        bus, by_rule = placed_bus(case, asked)
        note = "; ".join(text for text in (by_rule, note) if text)
    unit = device_row(fields, bus, where)
    rated = unit.p_kw if isinstance(unit, FlexibleLoad) else unit.p_rated_kw
    named = str(fields.get("named", ""))
    return unit, Placement(name, fields["kind"], rated, named, bus, shown_phases(case, unit, where), note)


def _told(placement: Placement, factor: float, reason: str) -> Placement:
    """The placement after a factor, which its note tells."""
    if factor == 1.0:
        return placement
    note = f"{placement.rated_kw:g} kW times {factor:.4g}: {reason}"
    note = "; ".join(text for text in (placement.note, note) if text)
    return replace(placement, rated_kw=placement.rated_kw * factor, note=note)


def _factored(unit: Device, factor: float, where: str) -> Device:
    """A flexible load is a load too."""
    if not isinstance(unit, FlexibleLoad):
        return unit
    return _times(unit, factor, f"{where}: load_factor = {factor:g}", "p_kw", "q_kvar")


def _rated(unit: AnyRow, factor: float, where: str) -> AnyRow:
    return _times(unit, factor, where, "p_rated_kw", "s_rated_kva")


def _times(row: AnyRow, factor: float, where: str, *names: str) -> AnyRow:
    """The row with some of its numbers multiplied. Raises CaseError for one that leaves its range."""
    fields = row.model_dump()
    try:
        return type(row).model_validate(fields | {name: factor * fields[name] for name in names})
    except ValidationError as error:
        raise CaseError(f"{where}: bus '{fields['bus']}': {explain(error)}") from None


def to_run(variants: Sequence[Resolved | Unresolved], stored: Mapping[str, str]) -> list[Resolved]:
    """Those whose stored run, by its digest, is missing or of other inputs."""
    return [
        variant for variant in variants if isinstance(variant, Resolved) and stored.get(variant.name) != variant.digest
    ]
