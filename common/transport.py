"""How proposals reach the areas and answers come back: over MPI, or by plain calls in one process.

The only module that knows MPI. Both transports have the same calls, so that the coordinator cannot tell them apart; the
same inputs give the same numbers with any number of ranks.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import numpy as np

from common.boundary import AreaProposal, AreaResponse
from common.errors import EXIT_ERROR, TieflowError
from common.messages import (
    HEADER,
    Command,
    Layout,
    pack_proposals,
    pack_responses,
    proposal_message_size,
    response_message_size,
    unpack_command,
    unpack_proposals,
    unpack_responses,
)
from common.partition import AreaCase
from common.schedule import AreaSolution

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

SPINS = 100
"""polls of a pending message before a waiting rank starts to sleep between them"""
NAP_S = 1e-4
"""sleep between polls: ranks may outnumber cores, and a spinning rank would starve a solving one"""
WORLD_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
WORLD_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
"""environment variables in which launchers tell what they started, the innermost first"""


Item = TypeVar("Item")


class Solver(Protocol):
    """What a transport needs of an area; ``areas.worker.AreaWorker`` is one."""

    def reach(self, proposal: AreaProposal) -> float: ...

    def respond(self, proposal: AreaProposal) -> AreaResponse: ...

    def solution(self) -> AreaSolution: ...

    def diagnosis(self, proposal: AreaProposal) -> dict[str, float]: ...


class Transport(Protocol):
    """The coordinator's way to all areas, in the order of the partition."""

    def exchange(self, proposals: Sequence[AreaProposal]) -> list[AreaResponse]:
        """One round."""

    def reaches(self, proposals: Sequence[AreaProposal]) -> list[float]:
        """The share of a step towards its proposal that each area could take."""

    def busy_s(self, responses: Sequence[AreaResponse]) -> float:
        """Time that the busiest rank spent on these answers."""

    def solutions(self) -> list[AreaSolution]:
        """The areas' last answers in full."""

    def diagnoses(self, proposals: Sequence[AreaProposal]) -> list[dict[str, float]]:
        """Each area's least cost at its proposal without one kind of limit, by kind; inf where it is infeasible."""


class InProcess:
    """All areas in this process, one after the other."""

    def __init__(self, solvers: Sequence[Solver]) -> None:
        self._solvers = solvers

    def exchange(self, proposals: Sequence[AreaProposal]) -> list[AreaResponse]:
        return [solver.respond(proposal) for solver, proposal in zip(self._solvers, proposals, strict=True)]

    def reaches(self, proposals: Sequence[AreaProposal]) -> list[float]:
        return [solver.reach(proposal) for solver, proposal in zip(self._solvers, proposals, strict=True)]

    def busy_s(self, responses: Sequence[AreaResponse]) -> float:
        return sum(response.report.area_s for response in responses)

    def solutions(self) -> list[AreaSolution]:
        return [solver.solution() for solver in self._solvers]

    def diagnoses(self, proposals: Sequence[AreaProposal]) -> list[dict[str, float]]:
        return [solver.diagnosis(proposal) for solver, proposal in zip(self._solvers, proposals, strict=True)]


class OverMpi:
    """Rank 0's end: every round is one scatter and one gather of float64 buffers."""

    def __init__(self, comm: Comm, areas: Sequence[AreaCase[Any]], owned: Sequence[Sequence[int]]) -> None:
        """``owned`` tells the areas of each rank; rank 0 has none."""
        self._comm = comm
        self._owned = owned
        self._layouts = [[Layout.of(areas[i]) for i in own] for own in owned]
        self._sent = _Vectors([proposal_message_size(layouts) for layouts in self._layouts])
        self._got = _Vectors([response_message_size(layouts) for layouts in self._layouts])
        self._shares = _Vectors([len(own) for own in owned])

    def exchange(self, proposals: Sequence[AreaProposal]) -> list[AreaResponse]:
        self._tell(Command.SOLVE, proposals)
        parts = self._gather(self._got)
        answers = [unpack_responses(part, layouts) for part, layouts in zip(parts, self._layouts, strict=True)]
        return _by_area(self._owned, answers)

    def reaches(self, proposals: Sequence[AreaProposal]) -> list[float]:
        self._tell(Command.REACH, proposals)
        return _by_area(self._owned, [part.tolist() for part in self._gather(self._shares)])

    def busy_s(self, responses: Sequence[AreaResponse]) -> float:
        return max(sum(responses[i].report.area_s for i in own) for own in self._owned)

    def solutions(self) -> list[AreaSolution]:
        return self._collect(Command.SOLUTION, [])

    def diagnoses(self, proposals: Sequence[AreaProposal]) -> list[dict[str, float]]:
        return self._collect(Command.DIAGNOSIS, proposals)

    def stop(self) -> None:
        """Let all ranks go."""
        self._tell(Command.STOP, [])

    def _tell(self, command: Command, proposals: Sequence[AreaProposal]) -> None:
        for own, part in zip(self._owned, self._sent.parts(), strict=True):
            pack_proposals(part, command, [proposals[i] for i in own] if proposals else [])
        vector = self._sent
        wait(
            self._comm.Iscatterv([vector.data, vector.counts, vector.starts, _double()], np.zeros(len(HEADER)), root=0)
        )

    def _gather(self, vector: _Vectors) -> list[np.ndarray]:
        wait(self._comm.Igatherv(np.zeros(0), [vector.data, vector.counts, vector.starts, _double()], root=0))
        return vector.parts()

    def _collect(self, command: Command, proposals: Sequence[AreaProposal]) -> list[Any]:
        # Once, after the rounds: pickled.
        self._tell(command, proposals)
        gathered = self._comm.gather([], root=0) or []
        return _by_area(self._owned, gathered)


@contextmanager
def areas_at_work(
    comm: Comm | None, areas: Sequence[AreaCase[Any]], make_solver: Callable[[AreaCase[Any]], Solver]
) -> Iterator[Transport]:
    """All areas ready to answer: in this process without a communicator, else on its ranks, which must ``work``.

    Whatever ends the block, the ranks are released. Raises TieflowError for more ranks than can have an area.
    """
    if comm is None:
        yield InProcess([make_solver(area) for area in areas])
        return
    owned = share_out(areas, comm.size)
    hand_out(comm, [[areas[i] for i in own] for own in owned])
    transport = OverMpi(comm, areas, owned)
    wait(comm.Ibarrier())
    try:
        yield transport
    finally:
        transport.stop()


def work(comm: Comm, make_solver: Callable[[AreaCase[Any]], Solver]) -> None:
    """An area rank's life: take areas from rank 0 and serve them, again and again, until dismissed.

    Instead of areas rank 0 may hand out an errand: a function that the rank calls with both arguments of this one.
    """
    while (given := hand_out(comm, None)) is not None:
        if callable(given):
            given(comm, make_solver)
        else:
            _serve(comm, given, make_solver)


def dismiss(comm: Comm | None) -> None:
    """Rank 0 sends all ranks home. They must not be at work."""
    if comm is not None:
        hand_out(comm, [None] * comm.size)


def hand_out(comm: Comm, items: Sequence[Any] | None) -> Any:
    """Rank 0 gives each rank an item; the others call this with None and sleep until it does."""
    wait(comm.Ibarrier())
    return comm.scatter(items, root=0)


def abort(comm: Comm) -> NoReturn:
    """Tell the unexpected error that is being handled, and end all ranks: the others would wait forever."""
    traceback.print_exc()
    print(f"tieflow: rank {comm.rank} failed; all ranks end.", file=sys.stderr, flush=True)
    end_all(comm)


def end_all(comm: Comm) -> NoReturn:
    """End all ranks at once, whatever they are at."""
    # A launcher may drop what it has not passed on yet when it is told to abort.
    time.sleep(0.5)
    # MPI's own words about an abort would bury the message.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    comm.Abort(EXIT_ERROR)


def _serve(comm: Comm, areas: Sequence[AreaCase[Any]], make_solver: Callable[[AreaCase[Any]], Solver]) -> None:
    layouts = [Layout.of(area) for area in areas]
    solvers = [make_solver(area) for area in areas]
    wait(comm.Ibarrier())
    message = np.zeros(proposal_message_size(layouts))
    answer = np.zeros(response_message_size(layouts))
    while True:
        wait(comm.Iscatterv(None, message, root=0))
        match unpack_command(message):
            case Command.SOLVE:
                proposals = unpack_proposals(message, layouts)
                responses = [solver.respond(proposal) for solver, proposal in zip(solvers, proposals, strict=True)]
                pack_responses(answer, layouts, responses)
                wait(comm.Igatherv(answer, None, root=0))
            case Command.REACH:
                proposals = unpack_proposals(message, layouts)
                shares = [solver.reach(proposal) for solver, proposal in zip(solvers, proposals, strict=True)]
                wait(comm.Igatherv(np.array(shares), None, root=0))
            case Command.SOLUTION:
                comm.gather([solver.solution() for solver in solvers], root=0)
            case Command.DIAGNOSIS:
                proposals = unpack_proposals(message, layouts)
                told = [solver.diagnosis(proposal) for solver, proposal in zip(solvers, proposals, strict=True)]
                comm.gather(told, root=0)
            case Command.STOP:
                return


def share_out(areas: Sequence[AreaCase[Any]], ranks: int) -> list[list[int]]:
    """The areas of each rank, largest first to the least loaded; rank 0 coordinates and has none.

    An area never spans ranks. Raises TieflowError when there are more ranks than can have an area.
    """
    if ranks > len(areas) + 1:
        raise TieflowError(
            f"{ranks} ranks for {len(areas)} area(s) and one coordinator: at most {len(areas) + 1} can work. "
            f"Run: mpirun -n {len(areas) + 1} tieflow ..."
        )
    size = [len(area.feeder.buses) * len(area.horizon) for area in areas]
    owned: list[list[int]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for i in sorted(range(len(areas)), key=lambda i: (-size[i], i)):
        rank = min(range(1, ranks), key=lambda rank: (load[rank], rank))
        owned[rank].append(i)
        load[rank] += size[i]
    return [sorted(own) for own in owned]


def launched_ranks() -> int:
    """How many ranks a launcher says it started; 1 without a launcher.

    SLURM_NTASKS is not asked: it is set in every batch script, also for a plain command in it.
    """
    for name in WORLD_SIZES:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 1


def launched_rank() -> int:
    """This process's rank as its launcher tells it, known before MPI is."""
    return next((int(os.environ[name]) for name in WORLD_RANKS if os.environ.get(name, "").isdigit()), 0)


def world() -> Comm | None:
    """The communicator of a run under mpirun or srun; None for a plain run, which does not even load MPI.

    Raises TieflowError when the launcher does not belong to this environment's MPI library, so that every rank would
    believe to be alone.
    """
    expected = launched_ranks()
    if expected == 1:
        return None
    try:
        import mpi4py

        mpi4py.rc.initialize = False
        mpi4py.rc.finalize = True
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise TieflowError(f"mpi4py finds no MPI library ({error}). Install one: pip install 'tieflow[mpi]'.") from None
    library = MPI.Get_library_version().split(",")[0].split("\n")[0].strip()
    by_open_mpi = "OMPI_COMM_WORLD_SIZE" in os.environ
    foreign = by_open_mpi != library.startswith("Open MPI") and (by_open_mpi or "PMI_SIZE" in os.environ)
    # A foreign launcher can end the process in MPI_Init, with no chance of a message.
    if not foreign:
        MPI.Init()
    if foreign or MPI.COMM_WORLD.size != expected:
        advice = (
            "Use srun --mpi=pmi2 with the mpich wheel, or the mpirun of this environment."
            if "SLURM_STEP_ID" in os.environ
            else f"Use the mpirun of this environment ({Path(sys.executable).with_name('mpirun')}), or see 'Which MPI' "
            "in the README."
        )
        raise TieflowError(
            f"the launcher started {expected} ranks, but they cannot see each other: it does not belong to this MPI "
            f"library ({library}). {advice}"
        )
    return MPI.COMM_WORLD


def _by_area(owned: Sequence[Sequence[int]], items: Sequence[Sequence[Item]]) -> list[Item]:
    """Each rank's items, one for each of its areas, in the order of the areas."""
    found: dict[int, Item] = {}
    for own, of_rank in zip(owned, items, strict=True):
        found |= dict(zip(own, of_rank, strict=True))
    return [found[i] for i in range(len(found))]


class _Vectors:
    """One contiguous buffer with a part for each rank."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.counts = np.array(sizes)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        self.data = np.zeros(int(self.counts.sum()))

    def parts(self) -> list[np.ndarray]:
        return [self.data[start : start + count] for start, count in zip(self.starts, self.counts, strict=True)]


def wait(request: Request) -> None:
    """Wait for a message, after a short while asleep between looks."""
    for _ in range(SPINS):
        if request.Test():
            return
        os.sched_yield()
    while not request.Test():
        time.sleep(NAP_S)


def _double() -> object:
    from mpi4py import MPI

    return MPI.DOUBLE
