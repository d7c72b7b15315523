"""A study at work: its variants solved side by side, each also by the plain rule, and stored as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tieflow.common.errors import TieflowError
from tieflow.common.results.store import check_writable
from tieflow.common.results.study import StudyHead, VariantRun
from tieflow.common.results.study_store import stored_digests, stored_head, write_head, write_variant
from tieflow.common.wire.farm import group_count, group_size, run_jobs
from tieflow.launch.figures.summary import exit_code
from tieflow.launch.runs.plain_rule import run_rule
from tieflow.launch.runs.solve import solve
from tieflow.launch.studies.file import StudyFile
from tieflow.launch.studies.variants import Resolved, Unresolved, to_run

if TYPE_CHECKING:
    from mpi4py.MPI import Comm


class Watcher(Protocol):
    """Who is told how a study goes."""

    def begin(self, count: int, kept: Sequence[str], groups: int, size: int) -> None:
        """So many variants will be run, and some are stored already."""

    def started(self, name: str) -> None: ...

    def finished(self, run: VariantRun) -> None: ...


def run_study(
    study: StudyFile,
    variants: Sequence[Resolved | Unresolved],
    path: Path,
    watcher: Watcher,
    comm: Comm | None = None,
    groups: int | None = None,
    force: bool = False,
    command: str = "",
) -> None:
    """Run what is not stored in ``path`` yet, or with ``force`` everything, and store it there with the ``command``.

    Rank 0 of ``comm`` calls this while the other ranks ``work``. A variant that fails is stored with its reason, and
    the others go on. Raises TieflowError for a file that cannot be written, for more groups than ranks, and, unless
    ``force``, before anything is run where the file holds another study, or a variant that does not fit its case would
    replace a stored run.
    """
    check_writable(path)
    stored = stored_digests(path)
    if not force:
        check_same_study(path, study)
        _check_kept(path, variants, stored)
    jobs = to_run(variants, {} if force else stored)
    running = {job.name for job in jobs}
    kept = {v.name: v.placements for v in variants if isinstance(v, Resolved) and v.name not in running}
    areas = max((job.areas for job in jobs), default=1)
    ranks = 1 if comm is None else comm.size
    count = min(group_count(ranks, areas, groups), max(1, len(jobs)))
    size = group_size(ranks, count, areas)
    head = study_head(study, variants)
    write_head(path, head, kept)
    watcher.begin(len(jobs), list(kept), count, size)
    for variant in variants:
        if isinstance(variant, Unresolved):
            run = VariantRun(variant.name, "", variant.error.exit_code, str(variant.error), "", ())
            write_variant(path, head, run)
            watcher.finished(run)

    def done(_: Resolved, run: VariantRun) -> None:
        optimized, rule = (it and replace(it, command=command) for it in (run.optimized, run.rule))
        run = replace(run, optimized=optimized, rule=rule)
        write_variant(path, head, run)
        watcher.finished(run)

    if jobs:
        run_jobs(comm, count, size, jobs, run_variant, lambda job: watcher.started(job.name), done)


def check_same_study(path: Path, study: StudyFile) -> None:
    """Raises TieflowError where the file at ``path`` holds another study, whose variants may have the same names."""
    stored, name = stored_head(path), study.path.stem
    if stored is not None and stored.name not in ("", name):
        raise TieflowError(
            f"{path}: holds the study '{stored.name}' ({stored.title or 'no title'}), not '{name}' "
            f"({study.title or 'no title'}): variants of the same names would be replaced. Name another file with "
            "--output, or write over them with --force."
        )


def _check_kept(path: Path, variants: Sequence[Resolved | Unresolved], stored: Mapping[str, str]) -> None:
    """A slip in a study file costs no stored run."""
    for variant in variants:
        # What never ran has no digest.
        if isinstance(variant, Unresolved) and stored.get(variant.name):
            raise TieflowError(
                f"{path}: nothing was run, for variant '{variant.name}', whose run is stored there, would be lost: "
                f"{variant.error} Then run again, or name another file with --output, or give up the run with --force."
            )


def run_variant(job: Resolved, comm: Comm | None, between: Callable[[], None]) -> VariantRun:
    """A variant's optimized run, and the same devices by the plain rule if it has any; ``between`` is called after
    every round. What makes a run impossible is part of the answer. A variant of fewer areas than there are ranks for
    is solved in this process."""
    own = comm if comm is not None and comm.size <= job.areas + 1 else None
    optimized, rule, failure, rule_failure, code = None, None, "", "", 0
    try:
        optimized = solve(job.case, job.options, own, lambda _: between())
        code = exit_code(optimized)
    except TieflowError as error:
        failure, code = str(error), error.exit_code
    if job.case.devices:
        between()
        try:
            rule = run_rule(job.case, job.rule)
        except TieflowError as error:
            rule_failure = str(error)
    return VariantRun(job.name, job.digest, code, failure, rule_failure, job.placements, optimized, rule)


def study_head(study: StudyFile, variants: Sequence[Resolved | Unresolved]) -> StudyHead:
    """What the file tells about the study."""
    cases = [variant.case.name for variant in variants if isinstance(variant, Resolved)]
    return StudyHead(
        name=study.path.stem,
        title=study.title,
        case=cases[0] if cases else study.case,
        base=study.base_name,
        monitored_bus=study.monitored_bus,
        order=tuple(variant.name for variant in study.variants),
        text=study.text,
    )
