"""Variants side by side over real MPI: same numbers as one after the other, nobody left waiting."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from studies import read

from tieflow.common.errors import TieflowError
from tieflow.common.results.study import digest
from tieflow.common.results.study_store import read_study
from tieflow.common.wire.farm import group_count, group_size, run_jobs
from tieflow.launch.report.study_console import Watch
from tieflow.launch.studies.run import run_study
from tieflow.launch.studies.variants import resolve

Mpirun = Callable[..., subprocess.CompletedProcess[str]]

JOBS = """
import sys, time
from tieflow.common.errors import TieflowError
from tieflow.common.wire.farm import run_jobs
from tieflow.common.wire.transport import abort, dismiss, work, world

def do(job, comm, between):
    for _ in range(3):
        between()
    if job == "bad":
        raise RuntimeError("a job failed")
    time.sleep(0.02)
    return job, comm.size if comm else 1

def done(job, answer):
    assert answer[0] == job, (job, answer)
    told.append(answer)
    if job == "stop":
        raise TieflowError("no room")

if __name__ == "__main__":
    import farm_jobs
    comm = world()
    groups, size, jobs = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    farm_jobs.told = told = []
    try:
        if comm.rank > 0:
            work(comm, None)
        else:
            run_jobs(comm, groups, size, jobs, farm_jobs.do, lambda job: None, farm_jobs.done)
            dismiss(comm)
    except TieflowError as error:
        print("ended:", error)
        dismiss(comm)
    except RuntimeError:
        abort(comm)
    if comm.rank == 0:
        print(sorted(told))
"""


def test_ranks_make_as_many_groups_as_can_give_each_area_its_own() -> None:
    assert [group_count(ranks, 4) for ranks in (1, 4, 5, 9, 10, 16)] == [1, 1, 1, 1, 2, 3]
    assert group_count(7, 1) == 7
    assert group_count(8, 4, asked=4) == 4
    assert [group_size(ranks, groups, 4) for ranks, groups in ((5, 1), (8, 1), (8, 2), (8, 3), (8, 8))] == [
        *(5, 5, 4, 2, 1)
    ]
    with pytest.raises(TieflowError, match=r"--groups 3, but there are 2 rank\(s\)"):
        group_count(2, 4, asked=3)


def test_without_mpi_jobs_are_done_in_their_order() -> None:
    told: list[object] = []
    run_jobs(None, 1, 1, ["a", "b"], lambda job, comm, between: job * 2, told.append, lambda *done: told.append(done))
    assert told == ["a", ("a", "aa"), "b", ("b", "bb")]


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    path = tmp_path / "farm_jobs.py"
    path.write_text(JOBS)
    return path


def test_groups_take_jobs_when_they_are_free_and_a_rank_left_over_waits(mpirun: Mpirun, jobs: Path) -> None:
    # Two groups of two; a fifth rank has nothing to do.
    ended = mpirun(5, jobs, 2, 2, *"abcde")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str([(job, 2) for job in "abcde"])


def test_an_error_on_rank_0_ends_the_farm_and_lets_all_ranks_go(mpirun: Mpirun, jobs: Path) -> None:
    ended = mpirun(3, jobs, 3, 1, "stop", "a", "b", "c", "d", "e", "f")
    assert ended.returncode == 0, ended.stderr
    assert "ended: no room" in ended.stdout


def test_an_unexpected_error_in_a_job_of_another_rank_ends_all(mpirun: Mpirun, jobs: Path) -> None:
    ended = mpirun(2, jobs, 2, 1, *["bad"] * 4)
    assert ended.returncode != 0
    assert "a job failed" in ended.stderr


def test_a_study_over_mpi_gives_the_numbers_of_one_process(mpirun: Mpirun, small: Path) -> None:
    file = read(small.parent)
    run_study(file, resolve(file), small.parent / "alone.h5", Watch(Console(stderr=True)))
    ended = mpirun(4, "-m", "tieflow", "study", "study.toml", "--json", "--groups", 2)
    assert ended.returncode == 0, ended.stderr
    assert "2 groups of 2 ranks side by side" in ended.stderr
    alone, farmed = (read_study(small.parent / name).variants for name in ("alone.h5", "study.h5"))
    assert list(farmed) == ["base", "with PV", "full"]
    for name, run in farmed.items():
        assert run.optimized is not None and run.optimized.ranks == 2
        assert digest(alone[name].optimized.schedule, alone[name].rule and alone[name].rule.state) == digest(  # type: ignore[union-attr]
            run.optimized.schedule, run.rule and run.rule.state
        )
