"""Who gets which area, and that the numbers are the same however they travel. MPI is the real one, under mpirun."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from feeders import random_cases
from hypothesis import given
from hypothesis import strategies as st

from common.case import Case, read_case
from common.errors import TieflowError
from common.partition import partition
from common.transport import WORLD_RANKS, WORLD_SIZES, launched_rank, launched_ranks, share_out, world

# Rank 0 solves the same rounds over MPI and by itself, twice over, and compares bit by bit; the times alone may differ.
SAME_BITS = """
from dataclasses import astuple, replace
from importlib import import_module
import sys
import traceback

import numpy as np

from common.boundary import join, make_boundary
from common.case import read_case
from common.partition import partition
from common.transport import areas_at_work, dismiss, work, world
from coordinator.methods import admm
from launch.solve import make_solver

def rounds(comm, areas, boundary, method):
    with areas_at_work(comm, areas, make_solver) as transport:
        method, told = import_module(f"coordinator.methods.{method}"), []
        state = method.start(boundary)
        for _ in range(3):
            if method is admm:
                state = admm.within_reach(state, lambda proposal: transport.reaches(proposal.split(boundary)))
                told.append([np.array([state.proposal.length])])
            answers = transport.exchange(state.proposal.split(boundary))
            assert transport.busy_s(answers) > 0
            told += [[answer.value, answer.slope] for answer in answers]
            told += [[answer.sensitivity] for answer in answers if state.proposal.sensitivities]
            told += [astuple(replace(answer.report, solve_s=0.0, area_s=0.0)) for answer in answers]
            last, state = state, method.update(state, join(boundary, answers))
        for solution in transport.solutions():
            told.append([solution.values[name] for name in sorted(solution.values)] + [solution.relaxation_gap])
        return told, repr(transport.diagnoses(last.proposal.split(boundary)))

def compare(comm):
    if comm.rank:
        return work(comm, make_solver)
    for name, method in (("ieee123", "admm"), ("ieee123", "dlmp"), ("ieee13", "admm")):
        parts = partition(read_case(name, {"periods": 2}))
        boundary = make_boundary(parts)
        (one, says), (other, also_says) = (rounds(c, parts.areas, boundary, method) for c in (comm, None))
        assert len(one) == len(other) > 0
        for a, b in zip(one, other, strict=True):
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y, strict=True)
        assert says == also_says, (says, also_says)
    dismiss(comm)
    print("same bits on", comm.size)

comm = world()
try:
    compare(comm)
except Exception:
    traceback.print_exc()
    comm.Abort(1)
"""


@pytest.fixture
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*WORLD_SIZES, *WORLD_RANKS):
        monkeypatch.delenv(name, raising=False)


@given(case=random_cases(), ranks=st.integers(2, 7))
def test_each_area_is_given_to_one_rank_and_none_to_the_coordinator(case: Case, ranks: int) -> None:
    areas = partition(case).areas
    ranks = min(ranks, len(areas) + 1)
    owned = share_out(areas, ranks)
    assert len(owned) == ranks
    assert sorted(i for own in owned for i in own) == list(range(len(areas)))
    assert owned[0] == []
    assert all(owned[1:])
    assert all(own == sorted(own) for own in owned)


@given(case=random_cases(), ranks=st.integers(2, 6))
def test_no_rank_has_more_than_a_fair_share_and_one_area_besides(case: Case, ranks: int) -> None:
    areas = partition(case).areas
    ranks = min(ranks, len(areas) + 1)
    size = [len(area.feeder.buses) for area in areas]
    load = [sum(size[i] for i in own) for own in share_out(areas, ranks)[1:]]
    assert max(load) <= sum(size) / (ranks - 1) + max(size)


def test_the_shipped_areas_are_shared_out_by_size() -> None:
    areas = partition(read_case("ieee123")).areas
    # 39, 18, 20 and 54 buses.
    assert share_out(areas, 5) == [[], [3], [0], [2], [1]]
    assert share_out(areas, 3) == [[], [1, 3], [0, 2]]
    assert share_out(areas, 2) == [[], [0, 1, 2, 3]]


def test_one_rank_too_many_is_told_the_right_command() -> None:
    areas = partition(read_case("ieee123")).areas
    with pytest.raises(TieflowError, match=r"6 ranks for 4 area\(s\).*mpirun -n 5 tieflow"):
        share_out(areas, 6)
    with pytest.raises(TieflowError, match="mpirun -n 2 tieflow"):
        share_out(areas[:1], 3)


@pytest.mark.usefixtures("no_launcher")
def test_without_a_launcher_there_is_no_communicator() -> None:
    assert (launched_ranks(), launched_rank()) == (1, 0)
    assert world() is None


@pytest.mark.usefixtures("no_launcher")
@pytest.mark.parametrize(("size", "rank"), list(zip(WORLD_SIZES, WORLD_RANKS, strict=True)))
def test_every_launcher_is_understood(monkeypatch: pytest.MonkeyPatch, size: str, rank: str) -> None:
    monkeypatch.setenv(size, "5")
    monkeypatch.setenv(rank, "3")
    assert (launched_ranks(), launched_rank()) == (5, 3)
    monkeypatch.setenv(size, "")
    monkeypatch.setenv(rank, "2-4")
    assert (launched_ranks(), launched_rank()) == (1, 0)


@pytest.mark.usefixtures("no_launcher")
def test_a_batch_scripts_number_of_tasks_does_not_make_a_plain_command_parallel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "5")
    assert world() is None


def test_rounds_over_mpi_and_in_one_process_give_the_same_bits(
    mpirun: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    script = tmp_path / "same_bits.py"
    script.write_text(SAME_BITS)
    run = mpirun(3, script)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "same bits on 3\n"


def test_areas_of_many_periods_count_as_larger() -> None:
    areas = partition(read_case("ieee123", {"periods": 5})).areas
    day = read_case("ieee123", {"periods": 24}).horizon
    assert share_out([*areas[:3], replace(areas[1], horizon=day)], 3) == [[], [3], [0, 1, 2]]
