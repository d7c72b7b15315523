"""Jobs side by side: the ranks in groups, each of which does a job at a time with its areas inside it.

Rank 0 leads the first group and gives jobs to the leaders of the others, who ask for one whenever they are free. It
listens between the rounds of its own job and while it has none. Besides ``common.wire.transport`` the only module that
knows MPI.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tieflow.common.errors import TieflowError
from tieflow.common.wire.transport import NAP_S, MakeSolver, dismiss, hand_out, wait, work

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

Job = TypeVar("Job")
Answer = TypeVar("Answer")
Do = Callable[[Job, "Comm | None", Callable[[], None]], Answer]
"""does a job on the ranks of a communicator (None: in this process), and calls the function between rounds; a function
of a module, for it goes to other ranks"""

_ANSWER, _JOB = 1, 2
"""tags of a leader's answer, which asks for another job, and of a job"""


def group_count(ranks: int, areas: int, asked: int | None = None) -> int:
    """How many groups of ranks work side by side: as many as can give each of ``areas`` areas its own rank, or as many
    as are asked for. Raises TieflowError for more groups than ranks."""
    if asked is None:
        return max(1, ranks // _useful(areas))
    if asked > ranks:
        raise TieflowError(f"--groups {asked}, but there are {ranks} rank(s). Each group needs one at least.")
    return asked


def group_size(ranks: int, groups: int, areas: int) -> int:
    """Ranks of a group, of which no more than one an area and its coordinator have work."""
    return min(ranks // groups, _useful(areas))


def run_jobs(
    comm: Comm | None,
    groups: int,
    size: int,
    jobs: Sequence[Job],
    do: Do[Job, Answer],
    started: Callable[[Job], None],
    done: Callable[[Job, Answer], None],
) -> None:
    """Do all jobs, in so many groups of so many ranks; ``started`` and ``done`` are told on rank 0, the latter as soon
    as an answer is there.

    Rank 0 of ``comm`` calls this while the other ranks ``work``; without ``comm`` one job after the other is done in
    this process. A TieflowError of ``done`` is raised when the jobs under way have ended, and all ranks are back at
    work. Any other error is unexpected: whoever called must end all ranks (``common.wire.transport.abort``).
    """
    if comm is None:
        for job in jobs:
            started(job)
            done(job, do(job, None, lambda: None))
        return
    hand_out(comm, [partial(_join, groups, size, do)] * comm.size)
    group = comm.Split(0, comm.rank)
    waiting, leaders = deque(range(len(jobs))), set(range(size, groups * size, size))

    def listen(is_ending: bool = False) -> None:
        """Take the answers that there are, and give the next jobs."""
        for leader in [rank for rank in leaders if comm.iprobe(rank, _ANSWER)]:
            answered = comm.recv(source=leader, tag=_ANSWER)
            following = waiting.popleft() if waiting else None
            comm.send(None if following is None else (following, jobs[following]), leader, _JOB)
            if following is None:
                leaders.discard(leader)
            else:
                started(jobs[following])
            if answered is not None and not is_ending:
                done(jobs[answered[0]], answered[1])

    def release() -> None:
        dismiss(_own(group))
        group.Free()

    try:
        while waiting:
            job = jobs[waiting.popleft()]
            started(job)
            done(job, do(job, _own(group), listen))
            listen()
        while leaders:
            listen()
            time.sleep(NAP_S)
    except TieflowError:
        waiting.clear()
        while leaders:
            listen(is_ending=True)
            time.sleep(NAP_S)
        release()
        raise
    release()


def _join(groups: int, size: int, do: Do[Any, Any], comm: Comm, make_solver: MakeSolver) -> None:
    """Another rank's part: a leader's, an area's, or none when it is left over."""
    from mpi4py.MPI import UNDEFINED

    is_needed = comm.rank < groups * size
    group = comm.Split(comm.rank // size if is_needed else UNDEFINED, comm.rank)
    if not is_needed:
        return
    if group.rank > 0:
        work(group, make_solver)
    else:
        _lead(comm, _own(group), do)
    group.Free()


def _lead(comm: Comm, group: Comm | None, do: Do[Any, Any]) -> None:
    answer: tuple[int, Any] | None = None
    while True:
        wait(comm.isend(answer, 0, _ANSWER))
        while not comm.iprobe(0, _JOB):
            time.sleep(NAP_S)
        given = comm.recv(source=0, tag=_JOB)
        if given is None:
            break
        number, job = given
        answer = number, do(job, group, lambda: None)
    dismiss(group)


def _own(group: Comm) -> Comm | None:
    """A group of one works without messages."""
    return group if group.size > 1 else None


def _useful(areas: int) -> int:
    """Ranks that have work: a coordinator and one an area; a single area is solved by its coordinator."""
    return areas + 1 if areas > 1 else 1
