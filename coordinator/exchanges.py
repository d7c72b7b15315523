"""Exchanges with all parts, and what they take: the times of the record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.wire.messages import Command
from tieflow.common.wire.transport import Transport
from tieflow.coordinator.convergence import Residuals
from tieflow.coordinator.record import Round


class Exchanges:
    """With all parts; times count from the last ``clear``."""

    def __init__(self, transport: Transport) -> None:
        self._transport, self._started = transport, time.perf_counter()
        self._areas = np.array([part.area for part in transport.parts], np.int64)
        self.clear()

    def clear(self) -> None:
        self._wall_s = self._critical_s = self._critical_cpu_s = self._parts_cpu_s = 0.0
        self._by_part: Floats | float = 0.0
        """(part,) wall time"""
        self._clock = time.perf_counter(), time.thread_time()

    def ask(self, command: Command, asks: Sequence[Any]) -> list[Any]:
        started = time.perf_counter()
        answers = self._transport.exchange(command, asks)
        self._wall_s += time.perf_counter() - started
        spent = self._transport.spent
        wall, cpu = spent.critical_s()
        self._critical_s += wall
        self._critical_cpu_s += cpu
        self._by_part = self._by_part + spent.wall_s
        if 0 in spent.rank:
            # Parts in this process: their time is none of the coordinator's.
            self._parts_cpu_s += float(spent.cpu_s.sum())
        return answers

    def round(
        self, number: int, method: str, residuals: Residuals, cost: float, solve_s: Sequence[float] | None = None
    ) -> Round:
        """A line of the record; ``solve_s`` of each area, where that is not all of its time."""
        now, cpu = time.perf_counter(), time.thread_time()
        by_area = np.zeros(self._areas.max() + 1)
        np.maximum.at(by_area, self._areas, np.broadcast_to(self._by_part, self._areas.shape))
        in_process = 0 in self._transport.spent.rank
        return Round(
            number=number,
            method=method,
            residuals=residuals,
            cost=cost,
            elapsed_s=now - self._started,
            coordinator_s=now - self._clock[0] - self._wall_s,
            communication_s=0.0 if in_process else max(self._wall_s - self._critical_s, 0.0),
            solve_s=tuple(by_area.tolist() if solve_s is None else solve_s),
            area_s=tuple(by_area.tolist()),
            cpu_s=(self._critical_cpu_s, cpu - self._clock[1] - self._parts_cpu_s),
        )
