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
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from common.area_case import AreaCase
from common.boundary import AreaProposal
from common.errors import EXIT_ERROR, TieflowError
from common.feeder import Floats
from common.messages import EXCHANGES, Command, Layout, longest_ask, message_size, pack, unpack
from common.schedule import AreaSolution

if TYPE_CHECKING:
    from mpi4py.MPI import Comm, Request

SPINS = 100
"""polls of a pending message before a waiting rank starts to sleep between them"""
NAP_S = 1e-4
"""sleep between polls: ranks may outnumber cores, and a spinning rank would starve a solving one"""
LOCAL_SIZES = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")
"""environment variables in which launchers tell how many ranks share the machine"""
WORLD_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
WORLD_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
"""environment variables in which launchers tell what they started, the innermost first"""


class Solver(Protocol):
    """An area in a span of its periods, at work: besides these it has a method for every command of
    ``common.messages.EXCHANGES`` that its coordinator will send, called as the command."""

    def solution(self) -> AreaSolution: ...

    def diagnosis(self, proposal: AreaProposal) -> dict[str, float]: ...


@dataclass(frozen=True)
class Part:
    """An area in a span of its periods: what one rank works on."""

    area: int
    span: slice


@dataclass(frozen=True)
class Spent:
    """What the last exchange took, (part,) each."""

    wall_s: Floats
    cpu_s: Floats
    """of the thread that worked on the part"""
    rank: tuple[int, ...]
    """(part,) who worked on it"""

    def critical_s(self) -> tuple[float, float]:
        """Wall and CPU time of the busiest rank."""
        wall, cpu = (max(np.bincount(self.rank, own).tolist(), default=0.0) for own in (self.wall_s, self.cpu_s))
        return wall, cpu


class Transport(Protocol):
    """The coordinator's way to all parts, in their order."""

    parts: Sequence[Part]
    spent: Spent

    def exchange(self, command: Command, asks: Sequence[Any]) -> list[Any]:
        """One exchange: what each part is asked, what it answers; see ``common.messages.EXCHANGES``."""

    def solutions(self) -> list[AreaSolution]:
        """The parts' last answers in full."""

    def diagnoses(self, proposals: Sequence[AreaProposal]) -> list[dict[str, float]]:
        """Each part's least cost at its proposal without one kind of limit, by kind; inf where it is infeasible."""


class InProcess:
    """All parts in this process, one after the other."""

    def __init__(self, parts: Sequence[Part], solvers: Sequence[Solver]) -> None:
        self.parts, self._solvers = parts, solvers
        self.spent = _nothing_spent(parts, [0] * len(parts))

    def exchange(self, command: Command, asks: Sequence[Any]) -> list[Any]:
        answers, times = _answered(self._solvers, command, asks)
        self.spent = Spent(times[:, 0], times[:, 1], tuple(range(len(times))))
        return answers

    def solutions(self) -> list[AreaSolution]:
        return [solver.solution() for solver in self._solvers]

    def diagnoses(self, proposals: Sequence[AreaProposal]) -> list[dict[str, float]]:
        return [solver.diagnosis(proposal) for solver, proposal in zip(self._solvers, proposals, strict=True)]


class OverMpi:
    """Rank 0's end: every exchange is one scatter and one gather of float64 buffers."""

    def __init__(
        self, comm: Comm, areas: Sequence[AreaCase[Any]], parts: Sequence[Part], owned: Sequence[Sequence[int]]
    ) -> None:
        """``owned`` tells the parts of each rank; rank 0 has none."""
        self._comm, self._owned, self.parts = comm, owned, parts
        self._layouts = [[Layout.of(areas[parts[i].area], parts[i].span) for i in own] for own in owned]
        rank_of = {i: rank for rank, own in enumerate(owned) for i in own}
        self._ranks = tuple(rank_of[i] for i in range(len(parts)))
        self.spent = _nothing_spent(parts, self._ranks)
        self._sent = {command: self._vector(ask, 1) for command, (ask, _) in EXCHANGES.items()}
        self._got = {command: self._vector(answer, 0) for command, (_, answer) in EXCHANGES.items()}
        self._bare = _Vectors([1] * len(owned))

    def _vector(self, kind: type, more: int) -> _Vectors:
        times = 0 if more else 2
        return _Vectors([more + times * len(own) + message_size(own, kind) for own in self._layouts])

    def exchange(self, command: Command, asks: Sequence[Any]) -> list[Any]:
        self._tell(command, asks)
        kind, vector = EXCHANGES[command][1], self._got[command]
        wait(self._comm.Igatherv(np.zeros(0), [vector.data, vector.counts, vector.starts, _double()], root=0))
        answers: dict[int, Any] = {}
        times = np.zeros((len(self.parts), 2))
        for own, layouts, message in zip(self._owned, self._layouts, vector.parts(), strict=True):
            first = 2 * len(own)
            times[list(own)] = message[:first].reshape(-1, 2)
            answers |= dict(zip(own, unpack(message[first:], layouts, kind), strict=True))
        self.spent = Spent(times[:, 0], times[:, 1], self._ranks)
        return [answers[i] for i in range(len(self.parts))]

    def solutions(self) -> list[AreaSolution]:
        return self._collect(Command.SOLUTION, [])

    def diagnoses(self, proposals: Sequence[AreaProposal]) -> list[dict[str, float]]:
        return self._collect(Command.DIAGNOSIS, proposals)

    def stop(self) -> None:
        """Let all ranks go."""
        self._tell(Command.STOP, [])

    def _tell(self, command: Command, asks: Sequence[Any]) -> None:
        vector = self._sent.get(command, self._bare)
        for own, layouts, message in zip(self._owned, self._layouts, vector.parts(), strict=True):
            message[0] = command
            if command in EXCHANGES:
                pack(message[1:], layouts, [asks[i] for i in own])
        wait(self._comm.Iscatterv([vector.data, vector.counts, vector.starts, _double()], np.zeros(1), root=0))

    def _collect(self, command: Command, asks: Sequence[Any]) -> list[Any]:
        # Rare: pickled.
        self._tell(command, [])
        if command == Command.DIAGNOSIS:
            self._comm.scatter([[asks[i] for i in own] for own in self._owned], root=0)
        gathered = self._comm.gather([], root=0) or []
        found = {
            i: item
            for own, items in zip(self._owned, gathered, strict=True)
            for i, item in zip(own, items, strict=True)
        }
        return [found[i] for i in range(len(self.parts))]


def _answered(solvers: Sequence[Solver], command: Command, asks: Sequence[Any]) -> tuple[list[Any], Floats]:
    """Each solver's answer, and its wall and CPU time (part, 2)."""
    name, answers, times = command.name.lower(), [], []
    for solver, ask in zip(solvers, asks, strict=True):
        wall, cpu = time.perf_counter(), time.thread_time()
        answers.append(getattr(solver, name)(ask))
        times.append((time.perf_counter() - wall, time.thread_time() - cpu))
    return answers, np.array(times).reshape(-1, 2)


def _nothing_spent(parts: Sequence[Part], ranks: Sequence[int]) -> Spent:
    return Spent(np.zeros(len(parts)), np.zeros(len(parts)), tuple(ranks))


MakeSolver = Callable[[AreaCase[Any], slice], Solver]
"""makes the solver of an area in a span of its periods"""


@contextmanager
def areas_at_work(
    comm: Comm | None, areas: Sequence[AreaCase[Any]], make_solver: MakeSolver, sliced: bool = False
) -> Iterator[Transport]:
    """All areas ready to answer: in this process without a communicator, else on its ranks, which must ``work``.

    ``sliced`` lets an area span ranks over time where there are more ranks than areas. Whatever ends the block, the
    ranks are released. Raises TieflowError for more ranks than can have a part.
    """
    if comm is None:
        whole = [Part(k, slice(0, len(area.horizon))) for k, area in enumerate(areas)]
        yield InProcess(whole, [make_solver(areas[part.area], part.span) for part in whole])
        return
    parts = cut_time(areas, comm.size - 1, sliced)
    owned = share_out(areas, parts, comm.size)
    hand_out(comm, [[(areas[parts[i].area], parts[i].span) for i in own] for own in owned])
    transport = OverMpi(comm, areas, parts, owned)
    wait(comm.Ibarrier())
    try:
        yield transport
    finally:
        transport.stop()


def work(comm: Comm, make_solver: MakeSolver) -> None:
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


def _serve(comm: Comm, given: Sequence[tuple[AreaCase[Any], slice]], make_solver: MakeSolver) -> None:
    layouts = [Layout.of(area, span) for area, span in given]
    solvers = [make_solver(area, span) for area, span in given]
    wait(comm.Ibarrier())
    message = np.zeros(longest_ask(layouts))
    answers = {
        command: np.zeros(2 * len(given) + message_size(layouts, answer)) for command, (_, answer) in EXCHANGES.items()
    }
    while True:
        wait(comm.Iscatterv(None, message, root=0))
        command = Command(int(message[0]))
        if command in EXCHANGES:
            asks = unpack(message[1:], layouts, EXCHANGES[command][0])
            found, times = _answered(solvers, command, asks)
            answer = answers[command]
            answer[: times.size] = times.ravel()
            pack(answer[times.size :], layouts, found)
            wait(comm.Igatherv(answer, None, root=0))
        elif command == Command.SOLUTION:
            comm.gather([solver.solution() for solver in solvers], root=0)
        elif command == Command.DIAGNOSIS:
            asks = comm.scatter(None, root=0)
            comm.gather([solver.diagnosis(ask) for solver, ask in zip(solvers, asks, strict=True)], root=0)
        else:
            return


def cut_time(areas: Sequence[AreaCase[Any]], workers: int, sliced: bool) -> list[Part]:
    """All areas, cut in time into as many parts as there are workers where that is allowed and there are more of them
    than areas: the largest ones first, into spans as even as can be."""
    size = [len(area.feeder.buses) for area in areas]
    slices = [1] * len(areas)
    periods = len(areas[0].horizon)
    for _ in range(workers - len(areas) if sliced else 0):
        open_ = [k for k in range(len(areas)) if slices[k] < periods]
        if not open_:
            break
        slices[max(open_, key=lambda k: (size[k] / slices[k], -k))] += 1
    found = []
    for k, count in enumerate(slices):
        edges = np.linspace(0, periods, count + 1).round().astype(int).tolist()
        found += [Part(k, slice(first, last)) for first, last in zip(edges[:-1], edges[1:], strict=True)]
    return found


def share_out(areas: Sequence[AreaCase[Any]], parts: Sequence[Part], ranks: int) -> list[list[int]]:
    """The parts of each rank, largest first to the least loaded; rank 0 coordinates and has none.

    Raises TieflowError when there are more ranks than can have a part.
    """
    if ranks > len(parts) + 1:
        whole = len(parts) == len(areas) and len(areas[0].horizon) > 1
        raise TieflowError(
            f"{ranks} ranks for {len(areas)} area(s) and one coordinator: at most {len(parts) + 1} can work. "
            f"Run: mpirun -n {len(parts) + 1} tieflow ..."
            + (" (with --method newton areas can span ranks over time)" if whole else "")
        )
    size = [len(areas[part.area].feeder.buses) * (part.span.stop - part.span.start) for part in parts]
    owned: list[list[int]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for i in sorted(range(len(parts)), key=lambda i: (-size[i], i)):
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


class _Vectors:
    """One contiguous buffer with a part for each rank."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.counts = np.array(sizes)
        self.starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        self.data = np.zeros(int(self.counts.sum()))

    def parts(self) -> list[np.ndarray]:
        return [self.data[start : start + count] for start, count in zip(self.starts, self.counts, strict=True)]


def wait(request: Request) -> None:
    """Wait for a message: as MPI does where every rank has a core, else after a short while asleep between looks."""
    if not is_crowded():
        request.Wait()
        return
    for _ in range(SPINS):
        if request.Test():
            return
        os.sched_yield()
    while not request.Test():
        time.sleep(NAP_S)


@lru_cache
def is_crowded() -> bool:
    """Whether this machine has more ranks than cores for them."""
    told = next((int(os.environ[name]) for name in LOCAL_SIZES if os.environ.get(name, "").isdigit()), launched_ranks())
    return told > len(os.sched_getaffinity(0))


def _double() -> object:
    from mpi4py import MPI

    return MPI.DOUBLE
