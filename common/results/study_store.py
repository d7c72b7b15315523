"""A study on disk: one HDF5 file with a group for each variant, in which every run is as in a result file.

::

    /                      attributes format = "tieflow study", format_version, name, title, case, base, monitored_bus,
                           checksum (of all but the runs, which have one each)
    /order, /text          names of the variants in their order; the study file
    /variants/NAME         attributes name, digest, exit_code, failure, rule_failure
        placements         table of devices
        optimized, rule    each as a result file, where there is one
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import h5py
import numpy as np

from tieflow.common.errors import TieflowError, did_you_mean
from tieflow.common.results.checksum import seal
from tieflow.common.results.result import Result
from tieflow.common.results.scales import attach_scales
from tieflow.common.results.store import (
    FORMAT_VERSION,
    STUDY_FORMAT,
    check_format,
    check_whole,
    choices,
    dataset,
    format_version,
    image_of,
    load_plain,
    load_result,
    load_table,
    mark,
    opened,
    read_result,
    replace_file,
    save_result,
    save_table,
    subgroup,
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
    own = None if run is None else _group_name(run.name)

    def fill(file: h5py.File) -> None:
        if "variants" not in file:
            mark(file, STUDY_FORMAT)
            _copy_variants(path, file.create_group("variants"), own)
        variants = file["variants"]
        _save_head(file, head)
        for name, placed in placements.items():
            if (group := variants.get(_group_name(name))) is not None:
                del group["placements"]
                _save_placements(group, placed)
        if run is not None:
            _save_run(variants.create_group(own), run)
        seal(file)

    replace_file(path, image_of(path, fill, _extensible(path, own)))


def _extensible(path: Path, own: str | None) -> bytes | None:
    """The file's content where a variant can be put into it as it is. HDF5 does not fill the gap that a removed one
    leaves, nor brings an older layout up to date: None then, and where there is no file."""
    if not path.exists():
        return None
    with _opened_study(path) as before:
        is_new = format_version(before) == FORMAT_VERSION and (own is None or own not in subgroup(before, "variants"))
    return path.read_bytes() if is_new else None


def _copy_variants(path: Path, variants: h5py.Group, own: str | None) -> None:
    """All that are in the file, but for ``own``."""
    if not path.exists():
        return
    with _opened_study(path) as before:
        for name in subgroup(before, "variants"):
            if name != own:
                before.copy(before["variants"][name], variants, name)
    # HDF5 copies no references.
    attach_scales(variants)


@contextmanager
def _opened_study(path: Path) -> Iterator[h5py.File]:
    """As ``opened``, for a study that is as it was written, its runs left aside."""
    with opened(path) as file:
        check_format(path, file, STUDY_FORMAT)
        check_whole(file)
        yield file


def _groups(file: h5py.File) -> dict[str, h5py.Group]:
    """The group of each variant by the variant's name."""
    variants = subgroup(file, "variants")
    groups = [subgroup(variants, name) for name in variants]
    return {str(group.attrs["name"]): group for group in groups}


def stored_digests(path: Path) -> dict[str, str]:
    """The digest of each stored variant; nothing when there is no file. Raises TieflowError for another's file."""
    if not path.exists():
        return {}
    with _opened_study(path) as file:
        return {name: str(group.attrs["digest"]) for name, group in _groups(file).items()}


def stored_head(path: Path) -> StudyHead | None:
    """What a study's file tells besides its variants; None when there is no file. Raises as ``stored_digests``."""
    if not path.exists():
        return None
    with _opened_study(path) as file:
        return _load_head(file)


def read_study(path: Path) -> StoredStudy:
    """All variants of the study file that are stored. Raises TieflowError as ``read_result`` does."""
    with _opened_study(path) as file:
        head, groups = _load_head(file), _groups(file)
        return StoredStudy(head, {name: _load_run(groups[name]) for name in head.order if name in groups})


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
    with _opened_study(path) as file:
        groups = _groups(file)
        if variant is None:
            raise TieflowError(
                f"{path}: a study. Say which of its runs: --variant {choices(list(subgroup(file, 'variants')))}."
            )
        if variant not in groups:
            raise TieflowError(f"{path}: no variant '{variant}'.{did_you_mean(variant, groups)}")
        group = groups[variant]
        name = "rule" if rule else "optimized"
        if name not in group:
            why = str(group.attrs["rule_failure" if rule else "failure"])
            missing = f"variant '{variant}' has no run by the plain rule" if rule else f"variant '{variant}' failed"
            reason = why or "it has no devices, so its run is the same without --rule. Leave that out."
            raise TieflowError(f"{path}: {missing}: {reason}")
        return load_result(subgroup(group, name))


def _group_name(variant: str) -> str:
    # A dot alone is HDF5's name for the group itself.
    return quote(variant, safe=" ").replace(".", "%2E")


def _load_head(file: h5py.File) -> StudyHead:
    # Older versions told no name.
    values = {"name": "", **load_plain(file, StudyHead, [name for name in _HEAD if name in file.attrs])}
    (text,), order = (np.ravel(dataset(file, name).asstr()[()]).tolist() for name in ("text", "order"))
    return StudyHead(**values, order=tuple(order), text=text)


def _save_head(file: h5py.File, head: StudyHead) -> None:
    if "order" in file:
        if _load_head(file) == head:
            return
        del file["order"], file["text"]
    for name in _HEAD:
        file.attrs[name] = getattr(head, name)
    # Not an attribute, which holds 64 kB at most.
    for name, text in (("order", list(head.order)), ("text", head.text)):
        file.create_dataset(name, data=text, dtype=h5py.string_dtype())
    file["order"].make_scale("order")


def _save_placements(group: h5py.Group, placed: tuple[Placement, ...]) -> None:
    save_table(group, "placements", Placement, placed)
    attach_scales(group["placements"])


def _save_run(group: h5py.Group, run: VariantRun) -> None:
    for name in _PLAIN:
        group.attrs[name] = getattr(run, name)
    _save_placements(group, run.placements)
    for name in _RUNS:
        result: Result | None = getattr(run, name)
        if result is not None:
            save_result(group.create_group(name), result)


def _load_run(group: h5py.Group) -> VariantRun:
    return VariantRun(
        **load_plain(group, VariantRun, _PLAIN),
        placements=load_table(group, "placements", Placement),
        optimized=load_result(subgroup(group, "optimized")) if "optimized" in group else None,
        rule=load_result(subgroup(group, "rule")) if "rule" in group else None,
    )
