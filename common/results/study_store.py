"""A study on disk: one HDF5 file with a group for each variant, in which every run is as in a result file.

::

    /                      attributes format = "tieflow study", format_version, name, title, case, base, monitored_bus
    /order, /text          names of the variants in their order; the study file
    /variants/NAME         attributes name, digest, exit_code, failure, rule_failure
        placements         table of devices
        optimized, rule    each as a result file, where there is one
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import h5py

from tieflow.common.errors import TieflowError, did_you_mean
from tieflow.common.results.result import Result
from tieflow.common.results.store import (
    FORMAT_VERSION,
    STUDY_FORMAT,
    check_format,
    choices,
    image_of,
    load_result,
    load_table,
    opened,
    read_result,
    replace_file,
    save_result,
    save_table,
)
from tieflow.common.results.study import Placement, StoredStudy, StudyHead, VariantRun

_HEAD = ("name", "title", "case", "base", "monitored_bus")
_PLAIN = ("name", "digest", "exit_code", "failure", "rule_failure")
_RUNS = ("optimized", "rule")


def write_head(path: Path, head: StudyHead, placements: Mapping[str, tuple[Placement, ...]]) -> None:
    """Make a study's file, or put a new head over it; of the variants in it, those named get new ``placements``.

    Raises TieflowError as :func:`write_variant` does.
    """
    _write(path, head, None, placements)


def write_variant(path: Path, head: StudyHead, run: VariantRun) -> None:
    """Put a variant into a study's file, which is made or replaced in one step: whoever kills this keeps all others.

    Other variants in the file stay, also those that the study no longer has. Raises TieflowError when it cannot be
    written, or the file at ``path`` is no study.
    """
    _write(path, head, run, {})


def _write(
    path: Path, head: StudyHead, run: VariantRun | None, placements: Mapping[str, tuple[Placement, ...]]
) -> None:

    def fill(file: h5py.File) -> None:
        file.attrs["format"] = STUDY_FORMAT
        file.attrs["format_version"] = FORMAT_VERSION
        for name in _HEAD:
            file.attrs[name] = getattr(head, name)
        # Not an attribute, which holds 64 kB at most.
        for name, text in (("order", list(head.order)), ("text", head.text)):
            file.create_dataset(name, data=text, dtype=h5py.string_dtype())
        variants = file.create_group("variants")
        own = None if run is None else _group_name(run.name)
        if path.exists():
            with opened(path) as before:
                check_format(path, before, STUDY_FORMAT)
                for name in before["variants"]:
                    if name != own:
                        before.copy(before["variants"][name], variants, name)
        for name, placed in placements.items():
            if (group := variants.get(_group_name(name))) is not None:
                del group["placements"]
                save_table(group, "placements", Placement, placed)
        if run is not None:
            _save_run(variants.create_group(own), run)

    replace_file(path, image_of(path, fill))


def stored_digests(path: Path) -> dict[str, str]:
    """The digest of each stored variant; nothing when there is no file. Raises TieflowError for another's file."""
    if not path.exists():
        return {}
    with opened(path) as file:
        check_format(path, file, STUDY_FORMAT)
        return {str(group.attrs["name"]): str(group.attrs["digest"]) for group in file["variants"].values()}


def stored_head(path: Path) -> StudyHead | None:
    """What a study's file tells besides its variants; None when there is no file. Raises as ``stored_digests``."""
    if not path.exists():
        return None
    with opened(path) as file:
        check_format(path, file, STUDY_FORMAT)
        return _load_head(file)


def read_study(path: Path) -> StoredStudy:
    """All variants of the study file that are stored. Raises TieflowError as ``read_result`` does."""
    with opened(path) as file:
        check_format(path, file, STUDY_FORMAT)
        head = _load_head(file)
        groups = {name: file["variants"].get(_group_name(name)) for name in head.order}
        return StoredStudy(head, {name: _load_run(group) for name, group in groups.items() if group is not None})


def is_study(path: Path) -> bool:
    """Whether a file is a study's. Raises TieflowError when it is not there or not HDF5."""
    with opened(path) as file:
        return str(file.attrs.get("format")) == STUDY_FORMAT


def read_run(path: Path, variant: str | None = None, rule: bool = False) -> Result:
    """A stored result, or that of a study's variant: optimized, or by the plain rule. Raises TieflowError for a file
    or a run that is not there."""
    if not is_study(path):
        if variant is not None or rule:
            raise TieflowError(f"{path}: one result, not a study. Leave --variant and --rule out.")
        return read_result(path)
    with opened(path) as file:
        check_format(path, file, STUDY_FORMAT)
        known = [str(group.attrs["name"]) for group in file["variants"].values()]
        if variant is None:
            raise TieflowError(f"{path}: a study. Say which of its runs: --variant {choices(list(file['variants']))}.")
        if variant not in known:
            raise TieflowError(f"{path}: no variant '{variant}'.{did_you_mean(variant, known)}")
        group = file["variants"][_group_name(variant)]
        name = "rule" if rule else "optimized"
        if name not in group:
            why = str(group.attrs["rule_failure" if rule else "failure"])
            missing = f"variant '{variant}' has no run by the plain rule" if rule else f"variant '{variant}' failed"
            reason = why or "it has no devices, so its run is the same without --rule. Leave that out."
            raise TieflowError(f"{path}: {missing}: {reason}")
        return load_result(group[name])


def _group_name(variant: str) -> str:
    # A dot alone is HDF5's name for the group itself.
    return quote(variant, safe=" ").replace(".", "%2E")


def _load_head(file: h5py.File) -> StudyHead:
    values = {name: str(file.attrs[name]) for name in _HEAD if name != "name"}
    values["name"] = str(file.attrs.get("name", ""))
    return StudyHead(**values, order=tuple(file["order"].asstr()[()].tolist()), text=file["text"].asstr()[()])


def _save_run(group: h5py.Group, run: VariantRun) -> None:
    for name in _PLAIN:
        group.attrs[name] = getattr(run, name)
    save_table(group, "placements", Placement, run.placements)
    for name in _RUNS:
        result: Result | None = getattr(run, name)
        if result is not None:
            save_result(group.create_group(name), result)


def _load_run(group: h5py.Group) -> VariantRun:
    return VariantRun(
        name=str(group.attrs["name"]),
        digest=str(group.attrs["digest"]),
        exit_code=int(group.attrs["exit_code"]),
        failure=str(group.attrs["failure"]),
        rule_failure=str(group.attrs["rule_failure"]),
        placements=load_table(group, "placements", Placement),
        optimized=load_result(group["optimized"]) if "optimized" in group else None,
        rule=load_result(group["rule"]) if "rule" in group else None,
    )
