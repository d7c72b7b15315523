"""A user's script under a real mpirun: every rank calls ``solve`` with its communicator, and always gets away."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from mpi_runs import Run, mpirun, run

import tieflow

START = """
from mpi4py import MPI
import tieflow
comm = MPI.COMM_WORLD
"""


def run_script(folder: Path, ranks: int, script: str) -> Run:
    (folder / "script.py").write_text(START + script)
    ended = run(mpirun(ranks, sys.executable, "script.py"), folder)
    assert not ended.left_over
    return ended


@pytest.mark.parametrize("name", ["ieee123", "ieee13"])
def test_a_solve_on_a_communicator_is_the_one_in_process(tmp_path: Path, name: str) -> None:
    ended = run_script(
        tmp_path,
        3,
        f"""
case = tieflow.load({name!r}, periods=2)
# A message of the user's that is under way, with any tag, must neither be taken nor disturb.
message = comm.isend("mine", dest=(comm.rank + 1) % comm.size)
result = tieflow.solve(case, comm=comm)
assert comm.recv() == "mine"
message.wait()
assert (result is None) == (comm.rank > 0)
if result is not None:
    assert result.ranks == 3
    state = dict(item for item in vars(result.state).items() if item[1] is not None)
    arrays = result.schedule.pv | result.schedule.batteries | state
    import numpy
    numpy.savez("arrays.npz", cost=result.cost, passed=result.check.passed, **arrays)
""",
    )
    assert ended.code == 0, ended.text
    here = tieflow.solve(tieflow.load(name, periods=2))
    assert here is not None and here.ranks == 1
    state = dict(item for item in vars(here.state).items() if item[1] is not None)
    expected = {**here.schedule.pv, **here.schedule.batteries, **state, "cost": here.cost, "passed": True}
    with np.load(tmp_path / "arrays.npz") as there:
        assert set(there) == set(expected)
        for key in there:
            np.testing.assert_allclose(there[key], expected[key], rtol=1e-9, atol=1e-9, err_msg=key)


def test_an_error_is_raised_on_rank_0_only_and_the_ranks_can_solve_again(tmp_path: Path) -> None:
    ended = run_script(
        tmp_path,
        3,
        """
case = tieflow.load("ieee123", periods=1)
def fail(round_):
    raise KeyError("of the user's callback")
for given, options in (
    (tieflow.load("ieee123", periods=1, v_min_pu=1.04), {}),
    (case, {"method": "amdm"}),
    (case, {"max_rounds": 0}),
    (tieflow.with_areas(case, 1), {}),
    (case, {"on_round": fail}),
    (case, {"method": "centralized", "check": False}),
    (case, {"check": False}),
):
    try:
        result = tieflow.solve(given, comm=comm, **options)
        answer = "nothing" if result is None else result.method
    except Exception as error:
        answer = f"{type(error).__name__}: {str(error)[:50]}"
    answers = comm.gather(answer)
    if comm.rank == 0:
        print(*answers, sep=" | ")
""",
    )
    assert ended.code == 0, ended.text
    lines = ended.stdout.splitlines()
    starts = ["InfeasibleError: ", "CaseError: method 'amdm'", "CaseError: tolerance_pu", "TieflowError: 3 ranks for 1"]
    starts += ["KeyError: ", "centralized", "admm"]
    assert len(lines) == len(starts), ended.text
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start) and line.endswith(" | nothing | nothing"), line


def test_methods_are_benchmarked_on_a_communicator(tmp_path: Path) -> None:
    ended = run_script(
        tmp_path,
        3,
        """
rows = tieflow.benchmark(tieflow.load("ieee13", periods=1), ["newton", "centralized"], comm=comm)
assert (rows is None) == (comm.rank > 0)
if rows is not None:
    print([(row["method"], row["ranks"], row["converged"]) for row in rows])
""",
    )
    assert ended.code == 0, ended.text
    assert ended.stdout.strip() == "[('centralized', 1, True), ('newton', 3, True)]"


@pytest.mark.parametrize("case", ['"ieee123", periods=1, v_min_pu=1.04', '"small"'])
def test_a_script_that_does_not_catch_an_error_ends(tmp_path: Path, case: str) -> None:
    ended = run_script(tmp_path, 3, f"tieflow.solve(tieflow.load({case}), comm=comm)")
    assert ended.code != 0
    assert "InfeasibleError" in ended.stderr or "no such folder" in ended.stderr


def test_an_unexpected_error_of_another_rank_ends_all_ranks_with_its_traceback(tmp_path: Path) -> None:
    ended = run_script(
        tmp_path,
        3,
        """
import tieflow.launch.runs.solve
def fail(area, span):
    raise MemoryError("no room for this area")
if comm.rank == 1:
    tieflow.launch.runs.solve.make_solver = fail
tieflow.solve(tieflow.load("ieee123", periods=1), comm=comm)
print("came back")
""",
    )
    assert ended.code != 0
    assert "came back" not in ended.stdout
    assert "MemoryError: no room for this area" in ended.stderr
    assert "tieflow: rank 1 failed; all ranks end." in ended.stderr
