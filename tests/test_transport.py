"""Who gets which area, and that the numbers are the same however they travel. MPI is the real one, under mpirun."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feeders import random_cases
from hypothesis import given
from hypothesis import strategies as st

from tieflow.common.case import Case, read_case
from tieflow.common.errors import TieflowError
from tieflow.common.results.joining import joined_in_time
from tieflow.common.ties.area_case import AreaCase
from tieflow.common.ties.boundary import make_boundary
from tieflow.common.ties.cutting import partition
from tieflow.common.wire.transport import (
    LOCAL_SIZES,
    WORLD_RANKS,
    WORLD_SIZES,
    InProcess,
    Part,
    cut_time,
    is_crowded,
    launched_rank,
    launched_ranks,
    share_out,
    world,
)
from tieflow.coordinator.loop import Task
from tieflow.coordinator.methods import METHODS
from tieflow.launch.runs.solve import make_solver

# Rank 0 solves the same rounds over MPI and by itself, and compares bit by bit; the times alone may differ.
SAME_BITS = """
from dataclasses import is_dataclass, replace
import traceback

import numpy as np

from tieflow.common.ties.boundary import AreaResponse, make_boundary
from tieflow.common.case import read_case
from tieflow.common.ties.cutting import partition
from tieflow.common.wire.transport import InProcess, areas_at_work, cut_time, dismiss, work, world
from tieflow.coordinator.loop import Task
from tieflow.coordinator.methods import METHODS
from tieflow.launch.runs.solve import make_solver

class Watched:
    def __init__(self, transport):
        self.transport, self.told = transport, []

    def __getattr__(self, name):
        return getattr(self.transport, name)

    def exchange(self, command, asks):
        answers = self.transport.exchange(command, asks)
        wall, cpu = self.transport.spent.critical_s()
        assert wall > 0 and 0 < cpu and len(self.transport.spent.rank) == len(self.parts)
        for answer in answers:
            if isinstance(answer, AreaResponse):
                answer = replace(answer, report=replace(answer.report, solve_s=0.0, area_s=0.0))
                if not asks[0].sensitivities:
                    answer = replace(answer, sensitivity=np.zeros((0, 0)))
            self.told += [(type(answer), value) for value in leaves(answer)]
        return answers

def leaves(item):
    for name in item.__dataclass_fields__:
        value = getattr(item, name)
        yield from leaves(value) if is_dataclass(value) else [value]

def rounds(transport, parts, method):
    transport = Watched(transport)
    names = [area.name for area in parts.areas]
    outcome = METHODS[method].solve(Task(make_boundary(parts), transport, names, 1e-5, 4))
    for solution in transport.solutions():
        transport.told += [(name, solution.values[name]) for name in sorted(solution.values)]
        transport.told += [("gap", solution.relaxation_gap)]
    proposals = [None] * len(transport.parts)
    if method != "newton":
        boundary = make_boundary(parts)
        method = __import__("tieflow.coordinator.methods." + method, fromlist=["start"])
        proposals = method.start(boundary).proposal.split(boundary)
    return transport.told, repr(transport.diagnoses(proposals)), outcome

def compare(comm):
    if comm.rank:
        return work(comm, make_solver)
    for name, method in CASES:
        parts = partition(read_case(name, {"periods": 3}), METHODS[method].exact)
        sliced = METHODS[method].sliced
        with areas_at_work(comm, parts.areas, make_solver, sliced) as transport:
            one, says, outcome = rounds(transport, parts, method)
            spans = transport.parts
        assert spans == cut_time(parts.areas, comm.size - 1, sliced)
        alone = InProcess(spans, [make_solver(parts.areas[part.area], part.span) for part in spans])
        other, also_says, also = rounds(alone, parts, method)
        assert len(one) == len(other) > 0
        for (what, x), (also_what, y) in zip(one, other, strict=True):
            assert what == also_what
            np.testing.assert_array_equal(x, y, strict=True, err_msg=str(what))
        assert says == also_says, (says, also_says)
        for field in ("objective", "gap", "optimality"):
            assert getattr(outcome, field) == getattr(also, field)
    dismiss(comm)
    print("same bits on", comm.size, "by", len(spans))

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


def whole(areas: Sequence[AreaCase[Any]]) -> list[Part]:
    """Every area in all of its periods."""
    return [Part(k, slice(0, len(area.horizon))) for k, area in enumerate(areas)]


@given(case=random_cases(), ranks=st.integers(2, 7))
def test_each_area_is_given_to_one_rank_and_none_to_the_coordinator(case: Case, ranks: int) -> None:
    areas = partition(case).areas
    ranks = min(ranks, len(areas) + 1)
    owned = share_out(areas, whole(areas), ranks)
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
    load = [sum(size[i] for i in own) for own in share_out(areas, whole(areas), ranks)[1:]]
    assert max(load) <= sum(size) / (ranks - 1) + max(size)


@given(case=random_cases(), workers=st.integers(1, 30))
def test_areas_are_cut_in_time_only_where_there_are_more_workers_and_then_evenly(case: Case, workers: int) -> None:
    areas = partition(case).areas
    periods = len(case.horizon)
    assert cut_time(areas, workers, sliced=False) == whole(areas)
    parts = cut_time(areas, workers, sliced=True)
    assert len(parts) == max(len(areas), min(workers, len(areas) * periods))
    for k in range(len(areas)):
        spans = [part.span for part in parts if part.area == k]
        # In order, without a hole, none of them empty.
        assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])]
        assert spans[-1].stop == periods
        lengths = [span.stop - span.start for span in spans]
        assert 1 <= max(lengths) <= min(lengths) + 1
    assert [part.area for part in parts] == sorted(part.area for part in parts)
    ranks = min(workers, len(parts)) + 1
    owned = share_out(areas, parts, ranks)
    assert owned[0] == [] and all(owned[1:])
    assert sorted(i for own in owned for i in own) == list(range(len(parts)))


def test_the_largest_area_is_cut_in_time_first() -> None:
    areas = partition(read_case("ieee123")).areas
    # 39, 18, 20 and 54 buses.
    parts = cut_time(areas, 6, sliced=True)
    assert [part.area for part in parts] == [0, 0, 1, 2, 3, 3]
    assert share_out(areas, parts, 7) == [[], [5], [1], [4], [3], [2], [0]]


def test_the_shipped_areas_are_shared_out_by_size() -> None:
    areas = partition(read_case("ieee123")).areas
    # 39, 18, 20 and 54 buses.
    assert share_out(areas, whole(areas), 5) == [[], [3], [0], [2], [1]]
    assert share_out(areas, whole(areas), 3) == [[], [1, 3], [0, 2]]
    assert share_out(areas, whole(areas), 2) == [[], [0, 1, 2, 3]]


def test_one_rank_too_many_is_told_the_right_command() -> None:
    areas = partition(read_case("ieee123")).areas
    spans = r" \(with --method newton areas can span ranks over time\)$"
    with pytest.raises(TieflowError, match=r"6 ranks for 4 area\(s\).*mpirun -n 5 tieflow \.\.\." + spans):
        share_out(areas, whole(areas), 6)
    with pytest.raises(TieflowError, match="mpirun -n 2 tieflow"):
        share_out(areas[:1], whole(areas[:1]), 3)
    # All of newton's spans are single periods: it cannot use more either.
    parts = cut_time(areas, 100, sliced=True)
    with pytest.raises(TieflowError, match=r"22 ranks for 4 area\(s\).*at most 21 .*mpirun -n 21 tieflow \.\.\.$"):
        share_out(areas, parts, 22)


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


@pytest.mark.parametrize(
    ("ranks", "cases", "parts"),
    [
        (3, [("ieee123", "admm"), ("ieee123", "dlmp"), ("ieee123", "newton"), ("ieee13", "newton")], 4),
        # More ranks than areas: they share out the hours too.
        (8, [("ieee123", "newton"), ("ieee13", "newton")], 7),
    ],
)
def test_rounds_over_mpi_and_in_one_process_give_the_same_bits(
    mpirun: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    ranks: int,
    cases: list[tuple[str, str]],
    parts: int,
) -> None:
    script = tmp_path / "same_bits.py"
    script.write_text(f"CASES = {cases}\n{SAME_BITS}")
    run = mpirun(ranks, script)
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"same bits on {ranks} by {parts}\n"


def test_rounds_of_multiphase_admm_over_mpi_and_in_one_process_give_the_same_bits(
    mpirun: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    script = tmp_path / "same_bits.py"
    script.write_text(f"CASES = {[('ieee13', 'admm'), ('ieee13', 'dlmp')]}\n{SAME_BITS}")
    run = mpirun(3, script)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "same bits on 3 by 4\n"


@pytest.mark.parametrize("workers", [4, 7, 12])
def test_areas_cut_in_time_take_the_same_steps_as_whole_ones(workers: int) -> None:
    parts = partition(read_case("ieee13", {"periods": 3}))
    found = []
    for cut in (cut_time(parts.areas, workers, sliced=True), whole(parts.areas)):
        transport = InProcess(cut, [make_solver(parts.areas[part.area], part.span) for part in cut])
        outcome = METHODS["newton"].solve(Task(make_boundary(parts), transport, list("1234"), 1e-5, 200))
        solutions = joined_in_time([(part.area, part.span) for part in cut], transport.solutions())
        found.append((outcome, solutions))
    (one, sliced), (other, plain) = found
    assert one.converged and len(one.rounds) == len(other.rounds)
    assert one.objective == pytest.approx(other.objective, rel=1e-10)
    for a, b in zip(sliced, plain, strict=True):
        assert a.values.keys() == b.values.keys()
        for name, array in a.values.items():
            np.testing.assert_allclose(array, b.values[name], rtol=1e-7, atol=1e-7, err_msg=name)


def test_areas_of_many_periods_count_as_larger() -> None:
    areas = partition(read_case("ieee123", {"periods": 5})).areas
    day = read_case("ieee123", {"periods": 24}).horizon
    longer = [*areas[:3], replace(areas[1], horizon=day)]
    assert share_out(longer, whole(longer), 3) == [[], [3], [0, 1, 2]]


def test_ranks_that_fit_the_cores_wait_without_naps(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = len(os.sched_getaffinity(0))
    for name in (*LOCAL_SIZES, *WORLD_SIZES):
        monkeypatch.delenv(name, raising=False)
    for told, crowded in ((None, False), (cores, False), (cores + 1, True)):
        if told is not None:
            monkeypatch.setenv(LOCAL_SIZES[0], str(told))
        is_crowded.cache_clear()
        assert is_crowded() == crowded
    is_crowded.cache_clear()
